using System.Globalization;
using Kernels.Checkpoints;
using Kernels.Imaging;

namespace Kernels.Verification;

/// <summary>A reference pack: inputs, weights and outputs that another implementation recorded, in one safetensors file.</summary>
public sealed class Pack : IDisposable
{
    private readonly Checkpoint _checkpoint;

    private Pack(Checkpoint checkpoint) => _checkpoint = checkpoint;

    /// <summary>The path of the file.</summary>
    public string File => _checkpoint.File;

    /// <summary>What was recorded: unet, superres, classifier, diffusion, sample, bpd, encode, rng or checkpoint.</summary>
    public string Kind => Text("kind");

    /// <summary>The recorded outputs: names without <c>outputs/</c>.</summary>
    public IEnumerable<string> Outputs => _checkpoint.Tensors.Keys.Where(k => k.StartsWith("outputs/", StringComparison.Ordinal)).Select(k => k["outputs/".Length..]);

    /// <summary>Opens a pack.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidFileException">It is no safetensors file, or carries no <c>kind</c>.</exception>
    public static Pack Open(string path)
    {
        Pack pack = new(Checkpoint.Load(path));
        try
        {
            _ = pack.Kind;
            return pack;
        }
        catch
        {
            pack.Dispose();
            throw;
        }
    }

    /// <summary>Whether there is a metadata entry.</summary>
    /// <param name="key">Its name.</param>
    public bool Has(string key) => _checkpoint.Metadata.ContainsKey(key);

    /// <summary>A metadata entry.</summary>
    /// <param name="key">Its name.</param>
    /// <exception cref="InvalidFileException">There is none.</exception>
    public string Text(string key) =>
        _checkpoint.Metadata.TryGetValue(key, out string? value) ? value : throw new InvalidFileException(File, $"metadata '{key}'", "is missing; this is no reference pack");

    /// <summary>A numeric metadata entry.</summary>
    /// <param name="key">Its name.</param>
    /// <exception cref="InvalidFileException">There is none, or it is no number.</exception>
    public double Number(string key) =>
        double.TryParse(Text(key), NumberStyles.Float, CultureInfo.InvariantCulture, out double value)
            ? value
            : throw new InvalidFileException(File, $"metadata '{key}'", $"'{Text(key)}' is no number");

    /// <summary>A tensor.</summary>
    /// <param name="name">Its full name.</param>
    /// <exception cref="InvalidFileException">There is none.</exception>
    public CheckpointTensor Tensor(string name) =>
        _checkpoint.Tensors.TryGetValue(name, out CheckpointTensor? tensor) ? tensor : throw new InvalidFileException(File, name, "this tensor is missing from the reference pack");

    /// <summary>A tensor if it is there.</summary>
    /// <param name="name">Its full name.</param>
    public CheckpointTensor? Find(string name) => _checkpoint.Tensors.GetValueOrDefault(name);

    /// <summary>Images, recorded as <c>[…, C, H, W]</c>, channels last.</summary>
    /// <param name="name">The tensor's full name.</param>
    /// <exception cref="InvalidFileException">It is missing or has fewer than three axes.</exception>
    public float[] Images(string name)
    {
        CheckpointTensor tensor = Tensor(name);
        if (tensor.Shape.Rank < 3)
        {
            throw new InvalidFileException(File, name, $"has shape {tensor.Shape}; images [..., C, H, W] were expected");
        }

        float[] result = new float[tensor.Shape.Elements];
        ChannelOrder.ToChannelsLast(tensor.ToFloat32(), tensor.Shape[-3], tensor.Shape[-2] * tensor.Shape[-1], result);
        return result;
    }

    /// <summary>Labels.</summary>
    /// <param name="name">The tensor's full name.</param>
    /// <exception cref="InvalidFileException">It is missing or holds no labels.</exception>
    public int[] Labels(string name) => [.. Tensor(name).ToInt64().Select(v => v is >= 0 and <= int.MaxValue ? (int)v : throw new InvalidFileException(File, name, $"{v} is no label"))];

    /// <summary>The tensors under a prefix as weights.</summary>
    /// <param name="prefix">For instance <c>weights/</c>.</param>
    public CheckpointWeights Weights(string prefix) => new(_checkpoint, prefix);

    /// <inheritdoc/>
    public void Dispose() => _checkpoint.Dispose();
}

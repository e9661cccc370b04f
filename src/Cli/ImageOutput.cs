using System.Globalization;
using Kernels.Imaging;
using Kernels.Sampling;

namespace Kernels.Cli;

/// <summary>Where images go that no request describes, such as those that a command makes of given ones; chosen by the path: <c>.png</c> for one picture of all, <c>.npz</c> as guided-diffusion writes it, else a folder of pictures.</summary>
/// <param name="path">The path.</param>
/// <param name="format">The images.</param>
internal abstract class ImageOutput(string path, SampleFormat format)
{
    private const long MaxGridBytes = 1L << 30;

    /// <summary>The path.</summary>
    public string Path { get; } = path;

    /// <summary>The images.</summary>
    protected SampleFormat Format { get; } = format;

    /// <summary>Chooses the kind of output, and checks now that it can be written, rather than after an hour of sampling.</summary>
    /// <param name="path">The path.</param>
    /// <param name="format">The images.</param>
    /// <exception cref="ConfigurationException">The folder cannot be made, or the format cannot hold the images.</exception>
    public static ImageOutput Create(string path, SampleFormat format)
    {
        ImageOutput output = System.IO.Path.GetExtension(path).ToLowerInvariant() switch
        {
            ".png" => new GridOutput(path, format),
            ".npz" => new NpzOutput(path, format),
            "" => new FolderOutput(path, format),
            _ => throw new ConfigurationException($"--output {path}: give a .png, a .npz or a folder (a name without extension)"),
        };
        Require(output is NpzOutput || format.Channels is 1 or 3 or 4, $"--output {path}: images of {format.Channels} channels do not fit a PNG; give a .npz");
        Require(output is not GridOutput || (long)format.Count * format.ImageBytes <= MaxGridBytes, $"--output {path}: {format.Count} images are too many for one picture; give a folder or a .npz");
        Require(!Directory.Exists(path) || output is FolderOutput, $"--output {path}: is a folder");
        string? folder = output is FolderOutput ? path : System.IO.Path.GetDirectoryName(path);
        try
        {
            if (!string.IsNullOrEmpty(folder))
            {
                Directory.CreateDirectory(folder);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"--output {path}: {e.Message}");
        }

        return output;

        static void Require(bool condition, string message)
        {
            if (!condition)
            {
                throw new ConfigurationException(message);
            }
        }
    }

    /// <summary>Takes finished images.</summary>
    /// <param name="pixels">Their samples <c>[N, H, W, C]</c>.</param>
    /// <param name="labels">Their labels; empty if they have none.</param>
    public abstract void Add(byte[] pixels, IReadOnlyList<int> labels);

    /// <summary>Writes what has been taken; nothing if nothing has.</summary>
    public abstract void Finish();

    private sealed class GridOutput(string path, SampleFormat format) : ImageOutput(path, format)
    {
        private readonly List<byte> _pixels = [];

        public override void Add(byte[] pixels, IReadOnlyList<int> labels) => _pixels.AddRange(pixels);

        public override void Finish()
        {
            if (_pixels.Count > 0)
            {
                byte[] all = [.. _pixels];
                Png.Save(Path, ImageGrid.Compose(all, all.Length / Format.ImageBytes, Format.Height, Format.Width, Format.Channels, Format.Columns));
            }
        }
    }

    private sealed class FolderOutput(string path, SampleFormat format) : ImageOutput(path, format)
    {
        private int _count;

        public override void Add(byte[] pixels, IReadOnlyList<int> labels)
        {
            for (int i = 0; i < pixels.Length / Format.ImageBytes; i++)
            {
                string label = labels.Count > 0 ? string.Create(CultureInfo.InvariantCulture, $"-class{labels[i]}") : "";
                byte[] image = pixels.AsSpan(i * Format.ImageBytes, Format.ImageBytes).ToArray();
                Png.Save(
                    System.IO.Path.Combine(Path, string.Create(CultureInfo.InvariantCulture, $"{_count++:D6}{label}.png")),
                    new Image(Format.Width, Format.Height, Format.Channels, image));
            }
        }

        public override void Finish()
        {
            // Every image was written when it came.
        }
    }

    private sealed class NpzOutput(string path, SampleFormat format) : ImageOutput(path, format)
    {
        private readonly List<ReadOnlyMemory<byte>> _pixels = [];
        private readonly List<long> _labels = [];

        public override void Add(byte[] pixels, IReadOnlyList<int> labels)
        {
            _pixels.Add(pixels);
            _labels.AddRange(labels.Select(l => (long)l));
        }

        public override void Finish()
        {
            if (_pixels.Count == 0)
            {
                return;
            }

            long images = _pixels.Sum(p => (long)p.Length) / Format.ImageBytes;
            List<KeyValuePair<string, NpyArray>> arrays =
            [
                new("arr_0", new NpyArray(DType.U8, [images, Format.Height, Format.Width, Format.Channels], [.. _pixels])),
            ];
            if (_labels.Count > 0)
            {
                arrays.Add(new("arr_1", NpyArray.Of(_labels.ToArray(), _labels.Count)));
            }

            Npz.Write(Path, arrays);
        }
    }
}

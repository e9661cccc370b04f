using Kernels.Diffusion;
using Kernels.Models;

namespace Kernels.Sampling;

/// <summary>A checkpoint, and what is said about the model in it.</summary>
/// <param name="Path">The file.</param>
public sealed record ModelSource(string Path)
{
    /// <summary>Where the state dict is nested in the file, as <c>ema</c>; null to look for it.</summary>
    public string? Key { get; init; }

    /// <summary>Settings that the file cannot tell, or that are to be checked against it.</summary>
    public ModelOverrides Overrides { get; init; } = new();

    /// <summary>Opens the checkpoint.</summary>
    /// <param name="expected">The model that it must be; null for any.</param>
    internal LoadedModel Load(ModelKind? expected = null) => ModelLoader.Load(Path, Overrides, Key, expected);

    /// <summary>Opens the checkpoint for somebody who keeps it, and closes it again where there comes to be nobody.</summary>
    /// <typeparam name="T">Who keeps it.</typeparam>
    /// <param name="make">Makes them.</param>
    internal T LoadFor<T>(Func<LoadedModel, T> make)
    {
        LoadedModel model = Load();
        try
        {
            return make(model);
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }
}

/// <summary>Everything that a <see cref="Sampler"/> is made of, device apart: plain data. With the seed, the labels and the precision it determines every image.</summary>
public sealed record SamplerOptions
{
    /// <summary>The diffusion model.</summary>
    public required ModelSource Diffusion { get; init; }

    /// <summary>The noisy classifier; not opened where <see cref="SamplerSettings.ClassifierScale"/> is 0.</summary>
    public ModelSource? Classifier { get; init; }

    /// <summary>Sampler and guidance. Without a null label, that of the checkpoint is taken.</summary>
    public SamplerSettings Settings { get; init; } = new();

    /// <summary>Rewrites of the graph to leave out (<see cref="Rewrites.All"/>).</summary>
    public IReadOnlyList<string> DisabledFusions { get; init; } = [];

    /// <summary>Height and width of the low-resolution images, for a super-resolution model.</summary>
    public (int Height, int Width)? LowRes { get; init; }

    /// <summary>The order of the steps where part of every image is known; null for plain sampling.</summary>
    public InpaintingSchedule? Inpainting { get; init; }
}

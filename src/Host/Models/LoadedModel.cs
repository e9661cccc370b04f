using Kernels.Checkpoints;
using Kernels.Diffusion;

namespace Kernels.Models;

/// <summary>A model in an open checkpoint. Its weights are read when they are used, so the file stays open until disposed.</summary>
public sealed class LoadedModel : IDisposable
{
    internal LoadedModel(Checkpoint checkpoint, Model model)
    {
        Checkpoint = checkpoint;
        Model = model;
    }

    /// <summary>The file.</summary>
    public Checkpoint Checkpoint { get; }

    /// <summary>The configuration with its weights.</summary>
    public Model Model { get; }

    /// <summary>The process that the model was trained with; null for a classifier.</summary>
    public DiffusionConfig? Process { get; internal init; }

    /// <summary>The names of the classes, from label 0; null if nothing tells them.</summary>
    public IReadOnlyList<string>? ClassNames { get; internal init; }

    /// <summary>The label that means "no class" to a class-conditional UNet; null if there is none, or nothing tells it.</summary>
    public int? NullLabel { get; internal init; }

    /// <summary>The preset that was asked for, or that the name of the file chose; it may say how to sample.</summary>
    public Preset? Preset { get; internal init; }

    /// <summary>Every setting that matters to this model, and how it was known.</summary>
    public IReadOnlyList<ConfigurationValue> Provenance { get; internal init; } = [];

    /// <summary>
    /// The settings that nothing tells; none after <see cref="ModelLoader.Load"/>. After <see cref="ModelLoader.Inspect"/> their values in the configuration are
    /// placeholders, the image size 0.
    /// </summary>
    public IReadOnlyList<MissingSetting> Missing { get; internal init; } = [];

    /// <summary>The presets whose weights have the shapes of these, whatever else they say.</summary>
    public IReadOnlyList<Preset> LookAlikes { get; internal init; } = [];

    /// <summary>Closes the file; weights cannot be read any more.</summary>
    public void Dispose() => Checkpoint.Dispose();
}

using Kernels.Models;

namespace Kernels.Cli;

/// <summary>The trained pair that comes with the project, and settings under which it shows what it can.</summary>
internal static class DemoPair
{
    public const int ImagesPerClass = 2;

    public static Preset Settings { get; } = Presets.Find("shapes32");

    public static string Diffusion => Path.Combine(AppContext.BaseDirectory, "weights", "shapes32_diffusion.safetensors");

    public static string Classifier => Path.Combine(AppContext.BaseDirectory, "weights", "shapes32_classifier.safetensors");
}

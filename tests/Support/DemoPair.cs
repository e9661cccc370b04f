using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Verification;

namespace Kernels.Tests.Support;

/// <summary>The trained pair that the reference packs carry: a class-conditional UNet and a classifier of 32x32 images of ten shapes.</summary>
internal static class DemoPair
{
    private static readonly Lazy<Pack> s_pack = new(() => Pack.Open(Path.Combine(AppContext.BaseDirectory, "packs", "demo-ddpm-guided.safetensors")));

    public const int NullLabel = 10;

    /// <summary>Bytes of the scales and shifts of one step of one guided image: two per output channel of every residual block.</summary>
    public const int TableBytesPerStep = 2432 * sizeof(float);

    public static Model Diffusion { get; } = new(ModelConfigJson.Read(s_pack.Value.Text("config"), ModelKind.UNet), s_pack.Value.Weights("diffusion/"));

    public static Model Classifier { get; } = new(ModelConfigJson.Read(s_pack.Value.Text("classifier_config"), ModelKind.Encoder), s_pack.Value.Weights("classifier/"));

    public static DiffusionConfig Process(string respacing = "4") => DiffusionConfig.FromJson(s_pack.Value.Text("diffusion")) with { TimestepRespacing = respacing };

    /// <summary>The graph of one guided DDPM step, unfused.</summary>
    public static Graph GuidedStep(int batch)
    {
        SamplerSettings settings = new() { ClassifierScale = 4 };
        StepTable table = new(new GaussianDiffusion(Process()), settings.Sampler, classifierScale: settings.ClassifierScale);
        return Kernels.Diffusion.GuidedStep.Build(Diffusion.Config, Classifier.Config, table, settings, batch, 32, 32);
    }
}

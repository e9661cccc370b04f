using Kernels.Backends.Cpu;
using Kernels.Diffusion;
using Kernels.Models;
using Kernels.Runtime;
using Kernels.Sampling;

namespace Kernels.Tests.Sampling;

/// <summary>The demo pair, opened from its files, with few steps.</summary>
internal sealed class DemoSampler : IDisposable
{
    private readonly Backend _backend;

    public DemoSampler(int steps = 3, int? threads = 1, double classifierScale = 4, Backend? backend = null)
    {
        _backend = backend ?? new CpuBackend(threads);
        Sampler = Sampler.Load(
            new SamplerOptions
            {
                Diffusion = new ModelSource(Weights("diffusion")) { Overrides = new ModelOverrides { TimestepRespacing = FormattableString.Invariant($"{steps}") } },
                Classifier = new ModelSource(Weights("classifier")),
                Settings = new SamplerSettings { ClassifierScale = classifierScale },
            },
            _backend);
    }

    public Sampler Sampler { get; }

    public static string Weights(string model) => Path.Combine(AppContext.BaseDirectory, "weights", $"shapes32_{model}.safetensors");

    public static SampleRequest Request(int count, int batch, ulong seed = 5) => new() { Count = count, BatchSize = batch, Seed = seed };

    public void Dispose()
    {
        Sampler.Dispose();
        _backend.Dispose();
    }
}

using Kernels.Backends.Cpu;
using Kernels.Diffusion;
using Kernels.Imaging;
using Kernels.Models;
using Kernels.Sampling;

// Samples a few images with a model and shows them in one picture: EmbeddedSampler MODEL.safetensors PICTURE.png
if (args is not [string model, string picture])
{
    Console.Error.WriteLine("EmbeddedSampler MODEL.safetensors PICTURE.png");
    return 1;
}

using CancellationTokenSource stop = new();
Console.CancelKeyPress += (_, e) =>
{
    e.Cancel = true;
    stop.Cancel();
};

SamplerOptions options = new()
{
    Diffusion = new ModelSource(model) { Overrides = new ModelOverrides { TimestepRespacing = "ddim10" } },
    Settings = new SamplerSettings { Sampler = SamplerKind.Ddim },
};
try
{
    using CpuBackend backend = new();
    using Sampler sampler = Sampler.Load(options, backend);
    SampleRequest request = new() { Count = 6, BatchSize = 3, Seed = 1 };
    StepCost cost = await sampler.WarmUpAsync(request, stop.Token);
    Console.WriteLine($"{backend.Name}: {cost.StepMilliseconds:0.0} ms a step");

    List<byte> pixels = [];
    await foreach (SampleEvent e in sampler.SampleAsync(request, cancellationToken: stop.Token))
    {
        switch (e)
        {
            case StepEvent step:
                Console.WriteLine($"images {step.First} to {step.First + step.Count - 1}: step {step.Step + 1} of {step.Steps}, timestep {step.Timestep}");
                break;
            case ImagesEvent finished:
                pixels.AddRange(Images.ToBytes(finished.Images.Images));
                Console.WriteLine($"finished: classes {string.Join(", ", finished.Images.Labels.Select(l => sampler.ClassNames?[l] ?? $"{l}"))}");
                break;
        }
    }

    Png.Save(picture, ImageGrid.Compose(pixels.ToArray(), request.Count, sampler.Height, sampler.Width, sampler.Channels));
    Console.WriteLine(picture);
    return 0;
}
catch (OperationCanceledException)
{
    return 130;
}
catch (Kernels.KernelsException e)
{
    Console.Error.WriteLine(e.Message);
    return 2;
}

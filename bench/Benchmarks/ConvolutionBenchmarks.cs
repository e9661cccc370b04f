using BenchmarkDotNet.Attributes;
using Kernels.Backends.Cpu;
using Kernels.Models;

namespace Kernels.Bench.Benchmarks;

/// <summary>Convolutions of the published 64x64 UNet, one image, and of the demo model, a batch of 16.</summary>
public unsafe class ConvolutionBenchmarks
{
    private CpuBackend _backend = null!;
    private NativeBuffer _x = null!;
    private NativeBuffer _y = null!;
    private PackedWeights _weights = null!;
    private CpuKernel _kernel = null!;

    /// <summary>The shapes that most of the time goes to, one per resolution.</summary>
    public static IEnumerable<ConvolutionCase> Cases =>
    [
        new(1, 64, 192, 192, 3),
        new(1, 32, 384, 384, 3),
        new(1, 16, 576, 576, 3),
        new(1, 8, 768, 768, 3),
        new(1, 32, 768, 384, 1),
        new(16, 32, 32, 32, 3),
        new(16, 16, 64, 64, 3),
        new(16, 8, 64, 64, 3),
        new(16, 32, 3, 32, 3),
    ];

    /// <summary>The shape.</summary>
    [ParamsSource(nameof(Cases))]
    public ConvolutionCase Case { get; set; } = null!;

    /// <summary>Packs weights and binds the kernel.</summary>
    [GlobalSetup]
    public void Setup()
    {
        ConvolutionCase c = Case;
        _backend = new CpuBackend();
        _x = Random("x", c.Images * c.Size * c.Size * c.Inputs);
        _y = new NativeBuffer(c.Images * c.Size * c.Size * c.Outputs);
        using NativeBuffer weight = Random("weight", c.Outputs * c.Inputs * c.Window * c.Window);
        _weights = PackedWeights.Forward(weight.Pointer, c.Outputs, c.Inputs, c.Window * c.Window);
        ConvolutionShape shape = new(c.Images, c.Size, c.Size, c.Inputs, 0, c.Outputs, c.Window, c.Window, 1, c.Window / 2);
        _kernel = Convolution.Forward(shape, _weights, _x.Pointer, null, null, null, _y.Pointer, silu: false, _backend.Scratch);
    }

    /// <summary>One convolution on all cores.</summary>
    [Benchmark]
    public void Forward() => _backend.Pool.Run(_kernel);

    /// <summary>Frees the memory.</summary>
    [GlobalCleanup]
    public void Cleanup()
    {
        _weights.Dispose();
        _x.Dispose();
        _y.Dispose();
        _backend.Dispose();
    }

    private static NativeBuffer Random(string name, int elements)
    {
        NativeBuffer buffer = new(elements);
        SyntheticWeights.Fill(name, 1, 0, new Span<float>(buffer.Pointer, elements));
        return buffer;
    }
}

/// <summary>Extents of a "same" convolution of square images.</summary>
/// <param name="Images">Images in the batch.</param>
/// <param name="Size">Height and width.</param>
/// <param name="Inputs">Channels in.</param>
/// <param name="Outputs">Channels out.</param>
/// <param name="Window">Height and width of the filter.</param>
public sealed record ConvolutionCase(int Images, int Size, int Inputs, int Outputs, int Window)
{
    /// <summary>Short enough for a table: images x side, channels in-out, window.</summary>
    public override string ToString() =>
        string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{Images}x{Size} {Inputs}-{Outputs} k{Window}");
}

using BenchmarkDotNet.Attributes;
using Kernels.Backends.Cpu;
using Kernels.Models;

namespace Kernels.Bench.Benchmarks;

/// <summary>Group-norm with SiLU, and the element-wise functions that it spends its time on.</summary>
public unsafe class GroupNormBenchmarks
{
    private const int Pixels = 32 * 32;
    private const int Channels = 64;

    private CpuBackend _backend = null!;
    private NativeBuffer _x = null!;
    private NativeBuffer _y = null!;
    private NativeBuffer _parameters = null!;
    private NativeBuffer _statistics = null!;
    private CpuKernel _norm = null!;

    /// <summary>Binds the kernel: one image of 32x32 pixels and 64 channels on one thread, within the second-level cache.</summary>
    [GlobalSetup]
    public void Setup()
    {
        _backend = new CpuBackend(threads: 1);
        _x = new NativeBuffer(Pixels * Channels);
        _y = new NativeBuffer(Pixels * Channels);
        _parameters = new NativeBuffer(2 * Channels);
        _statistics = new NativeBuffer(2 * 32);
        SyntheticWeights.Fill("x", 8, 0, new Span<float>(_x.Pointer, Pixels * Channels));
        SyntheticWeights.Fill("parameters", 1, 1, new Span<float>(_parameters.Pointer, 2 * Channels));
        _norm = GroupNorm.Forward(
            new GroupNormShape(1, Pixels, Channels, 32), _x.Pointer, _parameters.Pointer, _parameters.Pointer + Channels, null, silu: true, pooledWidth: 0, _y.Pointer, _statistics.Pointer, _backend.Scratch);
    }

    /// <summary>Statistics, normalisation and SiLU of 65536 elements.</summary>
    [Benchmark]
    public void Forward() => _backend.Pool.Run(_norm);

    /// <summary>SiLU alone of as many.</summary>
    [Benchmark]
    public void SiLU() => VectorMath.SiLU<Simd512>(_x.Pointer, _y.Pointer, Pixels * Channels);

    /// <summary>Frees the memory.</summary>
    [GlobalCleanup]
    public void Cleanup()
    {
        _x.Dispose();
        _y.Dispose();
        _parameters.Dispose();
        _statistics.Dispose();
        _backend.Dispose();
    }
}

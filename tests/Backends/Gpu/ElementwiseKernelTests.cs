using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Ops;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>How <c>elementwise.cu</c> reads and writes.</summary>
public sealed class ElementwiseKernelTests
{
    /// <summary>A thread has 16 bytes of the widest type: a warp's load is 512 bytes in 16 sectors, and there are three such instructions per 512 bytes of y.</summary>
    [Theory]
    [InlineData(Precision.Fp32, 4)]
    [InlineData(Precision.Fp16, 8)]
    [InlineData(Precision.Bf16, 8)]
    public void A_thread_moves_16_bytes_at_a_time(Precision precision, int elements)
    {
        using CountedRun run = new(precision);
        Shape shape = [1, 8, 16, 96];
        float[] x = Array.ConvertAll(TestModels.Normals(new Random(2), shape.Elements, 1, 0), v => (float)v);
        OpRun ran = run.Run(new Add(), (shape, x), (shape, x));
        LaunchCounters counters = Assert.Single(ran.Counters);
        int size = precision.Storage().SizeInBytes(), bytes = shape.Elements * size;
        Assert.Equal(shape.Elements / elements / Packs.Threads, ran.Calls[0].Geometry.Blocks);
        Assert.Equal((2L * bytes, (long)bytes), (counters.GlobalReadBytes, counters.GlobalWrittenBytes));
        Assert.Equal((2L * bytes / 32, (long)bytes / 32), (counters.GlobalReadSectors, counters.GlobalWrittenSectors));
        Assert.Equal(3 * (bytes / 16), counters.ByClass["GlobalMemory"]);
    }
}

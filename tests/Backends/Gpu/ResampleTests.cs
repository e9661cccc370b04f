using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Ops;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

public sealed class ResampleTests
{
    [Theory]
    [InlineData(Precision.Fp32, 4)]
    [InlineData(Precision.Fp16, 2)]
    public void Halving_and_doubling_move_every_byte_once_in_whole_sectors(Precision precision, int bytes)
    {
        using CountedRun run = new(precision);
        const int Large = 2 * 8 * 8 * 64, Small = Large / 4;
        LaunchCounters pool = Assert.Single(run.Run(new Pool2x(), ([2, 8, 8, 64], Values(Large))).Counters);
        Assert.Equal((bytes * Large, bytes * Small), (pool.GlobalReadBytes, pool.GlobalWrittenBytes));
        Assert.Equal(1, pool.CoalescingEfficiency);

        // Three sums and a product each.
        Assert.Equal(4 * Small, pool.Flops);

        LaunchCounters upsample = Assert.Single(run.Run(new Upsample2x(8, 8), ([2, 4, 4, 64], Values(Small))).Counters);
        Assert.Equal((bytes * Small, bytes * Large), (upsample.GlobalReadBytes, upsample.GlobalWrittenBytes));
        Assert.Equal(1, upsample.CoalescingEfficiency);

        // A warp takes whole 16-byte packs: 32 of them read, and 4 x 32 written.
        int packs = Small * bytes / 16;
        Assert.Equal(packs, run.Run(new Upsample2x(8, 8), ([2, 4, 4, 64], Values(Small))).Calls[0].Geometry.Blocks * Packs.Threads);
    }

    [Fact]
    public void Blocks_of_four_have_the_bits_of_the_specification()
    {
        using CountedRun run = new();
        float[] x = Values(3 * 2 * 3 * 6);
        float[] blocks = run.Run(new Upsample2x(5, 7, 0.3f), ([3, 2, 3, 6], x)).Outputs[0];
        const int Count = 3 * 5 * 7 * 6;
        ulong y = run.New(4 * Count);
        run.Launch(
            new KernelSpec("resample.cu", "upsample_2x_naive", ("C", 6), ("H", 5), ("W", 7)),
            LaunchGeometry.Linear(5, 128),
            new LaunchArguments().Add(run.Put<float>(x)).Add(y).Add(0.3f).Add(Count).Bytes);
        Assert.Equal(run.Get(y, Count), blocks);
    }

    [Theory]
    [InlineData(4, 4, 16, 16)]
    [InlineData(3, 2, 7, 9)]
    [InlineData(7, 5, 3, 2)]
    [InlineData(16, 16, 64, 64)]
    [InlineData(5, 9, 50, 10)]
    public void Gathering_from_near_pixels_has_the_bits_of_the_specification(int height, int width, int outHeight, int outWidth)
    {
        using CountedRun run = new();
        float[] dy = Values(2 * outHeight * outWidth * 3);
        OpRun near = run.Run(new BilinearUpsampleGradient(height, width), ([2, outHeight, outWidth, 3], dy));
        int count = 2 * height * width * 3;
        ulong dx = run.New(4 * count);
        run.Launch(
            new KernelSpec("resample.cu", "bilinear_backward_naive", ("C", 3), ("H", height), ("W", width), ("OH", outHeight), ("OW", outWidth)),
            LaunchGeometry.Linear((count + 63) / 64, 64),
            new LaunchArguments().Add(run.Put<float>(dy)).Add(dx).Add(count).Bytes);
        Assert.Equal(run.Get(dx, count), near.Outputs[0]);
    }

    private static float[] Values(int count) => Array.ConvertAll(TestModels.Normals(new Random(3), count), v => (float)v);
}

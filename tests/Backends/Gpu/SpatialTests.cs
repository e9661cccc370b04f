using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Ops;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

public sealed class SpatialTests
{
    // A column of ones with small noise: a sum of 4096 of them one after the other loses what a tree keeps.
    [Fact]
    public void Many_positions_are_summed_as_a_tree_and_an_image_does_not_depend_on_its_batch()
    {
        using CountedRun run = new();
        const int Images = 3, Rows = 64 * 64, Channels = 20;
        float[] x = Array.ConvertAll(TestModels.Normals(new Random(1), Images * Rows * Channels, 1e-3, 1), v => (float)v);
        OpRun batch = run.Run(new SpatialSum(1f / Rows), ([Images, 64, 64, Channels], x));
        Assert.Equal(2, batch.Calls.Count);
        double[] expected = Sums(x, Images, Rows, Channels);
        Assert.All(expected.Zip(batch.Outputs[0]), p => Assert.Equal(p.First / Rows, p.Second, 2.5e-7));

        ulong y = run.New(4 * Images * Channels);
        run.Launch(
            new KernelSpec("spatial.cu", "spatial_sum_naive", ("C", Channels), ("ROWS", Rows)),
            LaunchGeometry.Linear(1, 64),
            new LaunchArguments().Add(run.Put<float>(x)).Add(y).Add(1f / Rows).Add(Images * Channels).Bytes);
        float[] naive = run.Get(y, Images * Channels);
        Assert.All(expected.Zip(naive), p => Assert.Equal(p.First / Rows, p.Second, 1e-4));

        for (int n = 0; n < Images; n++)
        {
            float[] alone = run.Run(new SpatialSum(1f / Rows), ([1, 64, 64, Channels], x[(n * Rows * Channels)..((n + 1) * Rows * Channels)])).Outputs[0];
            Assert.Equal(alone, batch.Outputs[0][(n * Channels)..((n + 1) * Channels)]);
        }
    }

    // The classifier's last block: 8 x 8 positions of 512 channels, one launch.
    [Theory]
    [InlineData(Precision.Fp32, 4)]
    [InlineData(Precision.Bf16, 2)]
    public void Every_byte_is_read_once_in_whole_sectors(Precision precision, int bytes)
    {
        using CountedRun run = new(precision);
        const int Rows = 64, Channels = 512;
        LaunchCounters sum = Assert.Single(run.Run(new SpatialSum(1f / Rows), ([2, 8, 8, Channels], new float[2 * Rows * Channels])).Counters);
        Assert.Equal(2 * Rows * Channels * bytes, sum.GlobalReadBytes);
        Assert.Equal(2 * Rows * Channels * bytes / 32, sum.GlobalReadSectors);
        Assert.Equal(2 * Channels * 4, sum.GlobalWrittenBytes);
        Assert.Equal(0, sum.SharedExtraWavefronts);

        LaunchCounters broadcast = Assert.Single(run.Run(new SpatialBroadcast([2, 8, 8, Channels], 2), ([2, Channels], new float[2 * Channels])).Counters);
        Assert.Equal(2 * Rows * Channels * bytes, broadcast.GlobalWrittenBytes);
        Assert.Equal(1, broadcast.CoalescingEfficiency);
        Assert.Equal(2 * Channels * 4, broadcast.DistinctReadBytes);
    }

    private static double[] Sums(float[] x, int images, int rows, int channels)
    {
        double[] sums = new double[images * channels];
        for (int i = 0; i < x.Length; i++)
        {
            sums[(i / (rows * channels) * channels) + (i % channels)] += x[i];
        }

        return sums;
    }
}

using Kernels.Diffusion;
using Xunit;

namespace Kernels.Tests.Diffusion;

public sealed class TorchCudaGeneratorTests
{
    private static readonly TorchCudaDevice s_rtx3060 = new(28, 1536);

    // Random123's known answers for counter 0 and key 0, and what public reports say that PyTorch printed on GPUs: torch.manual_seed(0), randn of 64 values (PyTorch's tutorial on custom kernels),
    // and torch.manual_seed(10), randn(3) (pytorch/pytorch issue 79496).
    [Fact]
    public void Few_values_are_those_that_gpus_printed()
    {
        int[] word = new int[1];
        new TorchCudaGenerator(0, s_rtx3060).RandInt(int.MaxValue, word);
        Assert.Equal(0x6627e8d5, word[0]);
        Near([-0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284, -1.0745, -0.3631, -1.6711, 2.2655, 0.3117, -0.1842, 1.2866, 1.1820], Normals(0, s_rtx3060, 64), 0);
        Near([-0.1029, 1.6810, -0.2708], Normals(10, s_rtx3060, 3), 0);
    }

    // More values than threads, so that the order of the grid shows: seed 42, randn(1, 64, 2048) on a GPU of 28 multiprocessors of 1536 threads (pytorch/pytorch issue 158398).
    [Fact]
    public void A_whole_grid_and_more_is_what_an_rtx_3060_printed()
    {
        float[] values = Normals(42, s_rtx3060, 64 * 2048);
        Near([0.1940, 2.1614, -0.1721], values, 0);
        Near([1.4540, -2.7733, -0.8932], values, 2045);
        Near([-0.4574, 0.8063, 0.1580], values, 2048);
        Near([-0.4861, 0.3358, 1.0578], values, 61 * 2048);
        Near([-0.7282, 0.5087, 0.1318, 0.7881, 0.8339, -1.1424], values, (61 * 2048) + 2045);
        Near([-0.6297, -1.1112, -0.4091, -1.2356, -0.4083, -0.4695], values, (62 * 2048) + 2045);
        Near([-0.4841, 1.2850, -0.0282], values, (63 * 2048) + 2045);
    }

    // randn(1, 49 · 12 · 112 · 144) with seed 1 on an A100 and an H100, first and last values (pytorch/pytorch issue 143086).
    [Theory]
    [InlineData("a100", 0.1549, -0.6797, -0.1656)]
    [InlineData("h100", -0.6970, -0.7780, 0.3267)]
    public void Millions_of_values_are_what_large_gpus_printed(string device, double third, double second, double last)
    {
        const int Count = 49 * 12 * 112 * 144;
        float[] values = Normals(1, TorchCudaDevice.Named[device], Count);
        Near([-0.2963, 2.6764, -0.1408], values, 0);
        Near([third, second, last], values, Count - 3);
    }

    // Thread by thread with a counter that is counted up, as the kernel does it.
    [Theory]
    [InlineData(1, 256, 1)]
    [InlineData(1, 256, 1024)]
    [InlineData(1, 512, 5000)]
    [InlineData(2, 1024, 257)]
    [InlineData(3, 700, 20001)]
    public void Draws_are_those_of_the_threads_one_by_one(int multiprocessors, int threads, int count)
    {
        TorchCudaDevice device = new(multiprocessors, threads);
        TorchCudaGenerator generator = new(0x1234_5678_9abc_def0, device);
        ulong offset = 0;
        for (int draw = 0; draw < 3; draw++)
        {
            int[] words = new int[count];
            generator.RandInt(int.MaxValue, words);
            int blocks = Math.Min(multiprocessors * (threads / 256), (count + 255) / 256), grid = blocks * 256;
            int[] expected = new int[count];
            int most = 0;
            for (int thread = 0; thread < grid; thread++)
            {
                ulong state = offset / 4;
                int calls = 0;
                for (int linear = thread; linear < (((count - 1) / (4 * grid)) + 1) * 4 * grid; linear += 4 * grid)
                {
                    (uint x, uint y, uint z, uint w) = Philox.Words((uint)state, (uint)(state >> 32), (uint)thread, 0, 0x1234_5678_9abc_def0);
                    state++;
                    calls++;
                    foreach ((int k, uint word) in new[] { x, y, z, w }.Index())
                    {
                        if (linear + (k * grid) < count)
                        {
                            expected[linear + (k * grid)] = (int)(word % int.MaxValue);
                        }
                    }
                }

                most = Math.Max(most, calls);
            }

            Assert.Equal(expected, words);
            offset += (ulong)(4 * most);
            if (draw == 1)
            {
                generator.SkipRandn(count);
                offset += (ulong)(4 * most);
            }
        }
    }

    [Fact]
    public void Images_are_drawn_channel_by_channel()
    {
        float[] drawn = Normals(3, s_rtx3060, 2 * 3 * 35), images = new float[drawn.Length];
        new TorchCudaGenerator(3, s_rtx3060).RandnChannelsLast(3, 35, images);
        for (int i = 0; i < drawn.Length; i++)
        {
            Assert.Equal(drawn[i], images[(i / 105 * 105) + (i % 35 * 3) + (i / 35 % 3)]);
        }
    }

    [Theory]
    [InlineData(0, 2048)]
    [InlineData(108, 128)]
    [InlineData(5000, 2048)]
    public void No_such_gpu(int multiprocessors, int threads) => Assert.Throws<ConfigurationException>(() => new TorchCudaGenerator(0, new TorchCudaDevice(multiprocessors, threads)));

    private static float[] Normals(ulong seed, TorchCudaDevice device, int count)
    {
        float[] values = new float[count];
        new TorchCudaGenerator(seed, device).RandnChannelsLast(1, count, values);
        return values;
    }

    private static void Near(double[] expected, float[] values, int at)
    {
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.Equal(expected[i], values[at + i], 6e-5);
        }
    }
}

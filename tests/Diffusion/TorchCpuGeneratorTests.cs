using System.Text.Json;
using Kernels.Diffusion;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Diffusion;

public class TorchCpuGeneratorTests
{
    [Fact]
    public void Randn_equals_the_recorded_draws()
    {
        PackFile pack = new("rng-torch-cpu");
        int checkedCases = 0;
        foreach (JsonElement entry in JsonDocument.Parse(pack.Metadata("cases")).RootElement.EnumerateArray())
        {
            ulong seed = entry[0].GetUInt64();
            int n = entry[1].GetInt32();
            TorchCpuGenerator generator = new(seed);
            foreach (string draw in new[] { "first", "second" })
            {
                float[] values = new float[n];
                generator.Randn(values);
                float[] expected = pack.Read<float>($"outputs/{seed}_{n}_{draw}");
                for (int i = 0; i < n; i++)
                {
                    Assert.Equal(expected[i], values[i], 1e-6f);
                }
            }

            checkedCases++;
        }

        Assert.Equal(7, checkedCases);
    }

    // Printed by torch 1.13 on a CPU: torch.manual_seed(123456789012), then randint(0, 10, (6,)), randn(3), randint(0, 1000, (4,)),
    // randn(2), randn(17), randn(1). Three values leave a fourth behind, which the next short draw takes, over any other draws between.
    [Fact]
    public void Mixed_draws_follow_each_other_as_in_torch()
    {
        TorchCpuGenerator generator = new(123456789012);
        Assert.Equal([5, 0, 7, 1, 1, 9], Integers(10, 6));
        Near([-1.5111931562423706, 0.47685983777046204, -0.3694569170475006], Normals(3));
        Assert.Equal([474, 781, 844, 833], Integers(1000, 4));
        Near([0.19180014729499817, 0.772758424282074], Normals(2));
        Near(
            [
                -0.6417907476425171, -0.49536463618278503, -1.561049222946167, -0.45368626713752747, -0.3212162256240845, 0.15473854541778564, 1.28724205493927,
                -0.6994838118553162, 0.35061395168304443, -2.675056219100952, 0.2733568549156189, -0.37315788865089417, 0.11993245780467987, 0.15289093554019928,
                -1.0016489028930664, -0.4048018157482147, -1.5472561120986938,
            ],
            Normals(17));
        Near([-1.6136749982833862], Normals(1));
        generator.ManualSeed(123456789012);
        Assert.Equal([5, 0, 7, 1, 1, 9], Integers(10, 6));

        int[] Integers(int high, int n)
        {
            int[] values = new int[n];
            generator.RandInt(high, values);
            return values;
        }

        float[] Normals(int n)
        {
            float[] values = new float[n];
            generator.Randn(values);
            return values;
        }
    }

    // torch.manual_seed(-5); torch.randint(0, 10, (6,)); torch.randn(3).
    [Fact]
    public void A_negative_seed_is_its_twos_complement()
    {
        TorchCpuGenerator generator = new(unchecked((ulong)-5L));
        int[] integers = new int[6];
        generator.RandInt(10, integers);
        Assert.Equal([0, 1, 5, 1, 5, 1], integers);
        float[] normals = new float[3];
        generator.Randn(normals);
        Assert.Equal([0.5417f, -0.4204f, -0.5364f], normals.Select(v => MathF.Round(v, 4)));
    }

    [Theory]
    [InlineData(2, 3, 20)]
    [InlineData(1, 3, 4)]
    [InlineData(3, 1, 7)]
    public void Channels_last_is_the_same_draw_in_another_order(int images, int channels, int pixels)
    {
        float[] channelsFirst = new float[images * channels * pixels];
        float[] channelsLast = new float[channelsFirst.Length];
        new TorchCpuGenerator(7).Randn(channelsFirst);
        new TorchCpuGenerator(7).RandnChannelsLast(channels, pixels, channelsLast);
        for (int i = 0; i < channelsFirst.Length; i++)
        {
            int image = i / (channels * pixels);
            int channel = i / pixels % channels;
            int pixel = i % pixels;
            Assert.Equal(channelsFirst[i], channelsLast[(((image * pixels) + pixel) * channels) + channel]);
        }
    }

    [Fact]
    public void Draws_that_make_no_sense_are_refused()
    {
        TorchCpuGenerator generator = new(0);
        Assert.Throws<ArgumentOutOfRangeException>(() => generator.RandInt(0, new int[1]));
        Assert.Throws<ArgumentOutOfRangeException>(() => generator.RandnChannelsLast(3, 4, new float[13]));
    }

    private static void Near(double[] expected, float[] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.Equal(expected[i], actual[i], 1e-6);
        }
    }
}

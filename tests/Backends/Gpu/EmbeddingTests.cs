using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Ops;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

public sealed class EmbeddingTests
{
    // The angle is the float32 product; of that, cosine and sine are right to 2 units of 2^-24 of 1.
    [Fact]
    public void Waves_of_a_thousand_radians_are_accurate()
    {
        using CountedRun run = new();
        float[] t = [0, 1, 250.5f, 749, 998, 999, 1000];
        const int Dimension = 192, Half = Dimension / 2;
        OpRun waves = run.Run(new TimestepEmbedding(Dimension), ([t.Length], t));
        float[] frequencies = TimestepFrequencies.Create(Dimension, 10000);
        for (int n = 0; n < t.Length; n++)
        {
            for (int i = 0; i < Half; i++)
            {
                double angle = t[n] * frequencies[i];
                Assert.Equal(Math.Cos(angle), waves.Outputs[0][(n * Dimension) + i], 1.2e-7);
                Assert.Equal(Math.Sin(angle), waves.Outputs[0][(n * Dimension) + Half + i], 1.2e-7);
            }
        }

        LaunchCounters counters = Assert.Single(waves.Counters);
        Assert.Equal(4 * t.Length * Dimension, counters.GlobalWrittenBytes);

        // Angles this small are reduced in registers.
        Assert.Equal(0, counters.LocalBytes);
    }

    // 3 rows of 192 floats: 144 threads read and write 16 bytes each, and their label.
    [Fact]
    public void Rows_are_read_once()
    {
        using CountedRun run = new();
        float[] table = Values(10 * 192);
        OpRun rows = run.Run(new Kernels.Ops.Embedding(), ([3], new[] { 9, 0, 4 }), ([10, 192], table));
        Assert.Equal([.. table[(9 * 192)..], .. table[..192], .. table[(4 * 192)..(5 * 192)]], rows.Outputs[0]);
        LaunchCounters counters = Assert.Single(rows.Counters);
        Assert.Equal(4 * ((3 * 192) + 3), counters.DistinctReadBytes);
        Assert.Equal(144 * (16 + 4), counters.GlobalReadBytes);
        Assert.Equal(4 * 3 * 192 / 32, counters.GlobalWrittenSectors);
    }

    [Fact]
    public void A_label_that_is_none_makes_nan_and_reads_nothing()
    {
        using CountedRun run = new();
        int[] labels = [-1, 1, 10];
        float[] rows = run.Run(new Kernels.Ops.Embedding(), ([3], labels), ([10, 4], Values(40))).Outputs[0];
        float[] scattered = run.Run(new ScatterLabel(10), ([3], Values(3)), ([3], labels)).Outputs[0];
        float[] selected = run.Run(new SelectLabel(), ([3, 10], Values(30)), ([3], labels)).Outputs[0];
        Assert.Equal([true, false, true], selected.Select(float.IsNaN));
        Assert.Equal([true, false, true], rows.Chunk(4).Select(row => row.All(float.IsNaN)));
        Assert.Equal([true, false, true], scattered.Chunk(10).Select(row => row.All(float.IsNaN)));
    }

    // 1000 classes: 256 threads keep 4 each; the row is read once and written once.
    [Fact]
    public void A_row_of_logits_is_read_once()
    {
        using CountedRun run = new();
        float[] logits = Values(2 * 1000);
        OpRun wide = run.Run(new Kernels.Ops.LogSoftmax(), ([2, 1000], logits));
        LaunchCounters counters = Assert.Single(wide.Counters);
        Assert.Equal((4 * 2000, 4 * 2000), (counters.GlobalReadBytes, counters.GlobalWrittenBytes));
        Assert.Equal(2 * 8 * 4, counters.Barriers);

        ulong y = run.New(4 * 2000);
        run.Launch(
            new KernelSpec("log_softmax.cu", "log_softmax_naive", ("K", 1000)),
            LaunchGeometry.Linear(1, 32),
            new LaunchArguments().Add(run.Put<float>(logits)).Add(y).Add(2).Bytes);
        Assert.All(run.Get(y, 2000).Zip(wide.Outputs[0]), p => Assert.Equal(p.First, p.Second, 4e-6));
    }

    private static float[] Values(int count) => Array.ConvertAll(TestModels.Normals(new Random(3), count), v => (float)v);
}

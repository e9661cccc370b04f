using Kernels.Backends.Cpu;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Measurement;
using Xunit;

namespace Kernels.Tests.Measurement;

/// <summary>What a bench does when something goes wrong in the middle.</summary>
public sealed class BenchTests
{
    [Fact]
    public void What_is_measured_before_an_interruption_is_kept()
    {
        using CancellationTokenSource source = new();
        using ModelPair pair = ModelPair.OfPreset("shapes32");
        using MeasuredDevice device = new(new CpuBackend(threads: 2), "cpu");
        BenchOptions options = new()
        {
            Batches = [1, 2, 3],
            TimeLimit = TimeSpan.FromMilliseconds(1),
            Progress = line =>
            {
                if (line.Contains("batch 2", StringComparison.Ordinal))
                {
                    source.Cancel();
                }
            },
        };
        using Bench bench = new(device, options);
        Assert.Throws<OperationCanceledException>(() => bench.Run([pair], source.Token));
        BenchRow row = Assert.Single(bench.Rows);
        Assert.Equal(1, row.Batch);
        Assert.NotNull(row.SplitMs);
    }

    [Fact]
    public void What_a_device_refuses_is_a_row_that_says_why()
    {
        using ModelPair pair = ModelPair.OfPreset("shapes32");
        using MeasuredDevice device = new(new GpuBackend(new EmulatorDriver(new EmulatorOptions { TotalBytes = 1 << 20 })), "emulator", () => new KernelCounters());
        using Bench bench = new(device, new BenchOptions { Batches = [1, 2] });
        bench.Run([pair], TestContext.Current.CancellationToken);
        Assert.Equal([1, 2], bench.Rows.Select(r => r.Batch));
        Assert.All(bench.Rows, row => Assert.Contains("bytes are needed", row.Error, StringComparison.Ordinal));
        Assert.All(bench.Rows, row => Assert.Null(row.Counters));
    }

    // Two images do what one does twice, but for what is shared.
    [Fact]
    public void A_step_splits_into_its_parts()
    {
        using ModelPair pair = ModelPair.OfPreset("shapes32");
        Graph one = GuidedWorkload.BuildGraph(pair, 1), two = GuidedWorkload.BuildGraph(pair, 2);
        foreach (string part in StepParts.All)
        {
            long flops = one.Nodes.Where(n => StepParts.Of(n) == part).Sum(n => n.Cost.Flops);
            Assert.True(flops > 0);
            Assert.Equal(2 * flops, two.Nodes.Where(n => StepParts.Of(n) == part).Sum(n => n.Cost.Flops));
        }

        Assert.All(one.Nodes.Where(n => n.Name.Contains("sampler", StringComparison.Ordinal)), n => Assert.Equal("sampler", StepParts.Of(n)));
    }

    [Fact]
    public void A_model_without_a_classifier_can_be_measured()
    {
        using ModelPair pair = ModelPair.OfPreset("lsun256");
        Assert.Null(pair.Classifier);
        Assert.Equal(0, pair.ClassifierScale);
        Graph step = GuidedWorkload.BuildGraph(pair, 1);
        Assert.Equal(["unet", "sampler"], step.Nodes.Select(StepParts.Of).Distinct());

        // A super-resolution model reads a small image too.
        using ModelPair upsampler = ModelPair.OfPreset("upsampler64-256");
        Shape small = [1, 64, 64, 3];
        Assert.Equal(small, GuidedWorkload.BuildGraph(upsampler, 1).Input("low_res").Shape);
    }
}

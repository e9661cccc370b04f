using System.Diagnostics;
using System.Diagnostics.Metrics;
using Kernels.Backends.Cpu;
using Kernels.Diffusion;
using Kernels.Imaging;
using Kernels.Models;
using Kernels.Sampling;
using Kernels.Tests.Verification;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Kernels.Tests.Sampling;

/// <summary>What a program that embeds a sampler relies on.</summary>
public sealed class SamplerLibraryTests(CpuFixture cpu) : IClassFixture<CpuFixture>
{
    private const int Elements = 32 * 32 * 3, Steps = 3;
    private static readonly SampleRequest s_request = new() { Count = 3, BatchSize = 2, Seed = 4, Classes = [1, 2] };

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Events_come_in_order_with_previews_and_images()
    {
        using Sampler sampler = Load();
        List<SampleEvent> events = [];
        Progress progress = new();
        await foreach (SampleEvent e in sampler.SampleAsync(s_request, new SampleWatch { PreviewEvery = 2, Progress = progress }, Token))
        {
            Assert.True(sampler.IsBusy);
            events.Add(e);
        }

        Assert.False(sampler.IsBusy);
        Assert.Equal(["0+2 step 0", "0+2 step 1 preview", "0+2 step 2 preview", "0+2 images", "2+1 step 0", "2+1 step 1 preview", "2+1 step 2 preview", "2+1 images"], events.Select(Name));
        Assert.Equal([999, 500, 0], events.OfType<StepEvent>().Take(3).Select(e => (int)e.Timestep));
        ImagesEvent[] finished = [.. events.OfType<ImagesEvent>()];
        Assert.Equal(sampler.Sample(s_request, 0, 2).Images, finished[0].Images.Images);
        Assert.Equal(sampler.Sample(s_request, 2, 1).Images, finished[1].Images.Images);
        Assert.Equal([1, 2], finished[0].Images.Labels);

        // At the last step the prediction is the image.
        Assert.Equal(finished[1].Images.Images, events.OfType<StepEvent>().Last().PredXstart!);
        Assert.Equal(8, progress.Reports.Count);
        Assert.Equal((3, 3, 3, 3), (progress.Reports[^1].ImagesDone, progress.Reports[^1].Images, progress.Reports[^1].StepsDone, progress.Reports[^1].Steps));
        Assert.Equal((0, 1), (progress.Reports[0].ImagesDone, progress.Reports[0].StepsDone));

        static string Name(SampleEvent e) => e switch
        {
            StepEvent s => $"{e.First}+{e.Count} step {s.Step}{(s.PredXstart is null ? "" : " preview")}",
            _ => $"{e.First}+{e.Count} images",
        };
    }

    [Fact]
    public async Task Leaving_or_cancelling_ends_the_work_within_a_step()
    {
        using Sampler sampler = Load("250");
        SampleRequest request = s_request with { Count = 100, BatchSize = 1 };
        int seen = 0;
        await foreach (SampleEvent e in sampler.SampleAsync(request, cancellationToken: Token))
        {
            if (++seen == 2)
            {
                break;
            }
        }

        Assert.False(sampler.IsBusy);
        using CancellationTokenSource stop = new();
        List<SampleEvent> events = [];
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (SampleEvent e in sampler.SampleAsync(request, cancellationToken: stop.Token))
            {
                events.Add(e);
                await stop.CancelAsync();
            }
        });

        // What was on its way may still arrive; then it ends, long before the 250 steps.
        Assert.InRange(events.Count, 1, 8);
        Assert.Equal((SamplerHealth.Ready, false), (sampler.Health, sampler.IsBusy));
        stop.Dispose();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await sampler.WarmUpAsync(request, new CancellationToken(canceled: true)));
        Assert.False(sampler.IsBusy);
    }

    [Fact]
    public async Task A_second_call_is_refused_and_changes_nothing()
    {
        using Sampler sampler = Load();
        float[] expected = sampler.Sample(s_request, 0, 1).Images;
        int refused = 0;
        float[] images = sampler.Sample(s_request, 0, 1, _ =>
        {
            Assert.Contains("one job at a time", Assert.Throws<InvalidOperationException>(() => sampler.Sample(s_request, 0, 1)).Message, StringComparison.Ordinal);
            Assert.Throws<InvalidOperationException>(() => sampler.Sample(s_request, 0, new float[Elements]));
            Assert.Throws<InvalidOperationException>(() => sampler.Prepare(1));
            refused++;
        }).Images;
        Assert.Equal(Steps, refused);
        Assert.Equal(expected, images);
        await using IAsyncEnumerator<SampleEvent> open = sampler.SampleAsync(s_request, cancellationToken: Token).GetAsyncEnumerator(Token);
        Assert.True(await open.MoveNextAsync());
        Assert.Throws<InvalidOperationException>(() => sampler.Sample(s_request, 0, 1));
        await Assert.ThrowsAsync<InvalidOperationException>(() => sampler.WarmUpAsync(s_request, Token));
        await open.DisposeAsync();
        Assert.Equal(expected, sampler.Sample(s_request, 0, 1).Images);
    }

    [Fact]
    public void Samplers_work_side_by_side_on_one_backend()
    {
        using CpuBackend backend = new(2);
        Sampler[] samplers = [Load(backend: backend), Load("ddim4", backend, new SamplerSettings { Sampler = SamplerKind.Ddim }), Load("5", backend)];
        float[][] alone = [.. samplers.Select(s => s.Sample(s_request, 0, 2).Images)];
        Parallel.For(0, 9, new ParallelOptions { MaxDegreeOfParallelism = 3, CancellationToken = Token }, i =>
        {
            lock (samplers[i % 3])
            {
                Assert.Equal(alone[i % 3], samplers[i % 3].Sample(s_request, 0, 2).Images);
            }
        });
        Array.ForEach(samplers, s => s.Dispose());
    }

    [Fact]
    public void Memory_of_the_caller_receives_the_same_images()
    {
        using Sampler sampler = Load();
        float[] images = sampler.Sample(s_request, 1, 2).Images, into = new float[2 * Elements];
        byte[] bytes = new byte[2 * Elements];
        Assert.Equal([2, 1], sampler.Sample(s_request, 1, into));
        Assert.Equal([2, 1], sampler.Sample(s_request, 1, bytes.AsSpan()));
        Assert.Equal(images, into);
        Assert.Equal(Images.ToBytes(images), bytes);
        Assert.Throws<ArgumentException>(() => sampler.Sample(s_request, 0, new float[Elements + 1]));
        Assert.Throws<ArgumentException>(() => sampler.Sample(s_request, 0, Span<byte>.Empty));
        Assert.False(sampler.IsBusy);
    }

    [Fact]
    public async Task Warming_up_measures_a_step_and_leaves_no_trace()
    {
        using Sampler cold = Load(), warm = Load();
        StepCost cost = await warm.WarmUpAsync(s_request, Token);
        Assert.True(cost is { StepMilliseconds: > 0, BeginMilliseconds: > 0 });
        Assert.Equal(cold.Sample(s_request, 0, 2).Images, warm.Sample(s_request, 0, 2).Images);
        using Sampler multistep = Load("5", settings: new SamplerSettings { Sampler = SamplerKind.DpmSolverPlusPlus2M }), same = Load("5", settings: multistep.Options.Settings);
        await multistep.WarmUpAsync(s_request, Token);
        Assert.Equal(same.Sample(s_request, 0, 1).Images, multistep.Sample(s_request, 0, 1).Images);
    }

    [Theory]
    [InlineData(50, 1, 10, 20, 10_000, 50)]
    [InlineData(50, 1, 10, 20, 520, 50)]
    [InlineData(50, 1, 10, 20, 519.9, 49)]
    [InlineData(50, 2, 10, 20, 520, 25)]
    [InlineData(50, 0.5, 10, 20, 120, 20)]
    [InlineData(50, 1, 10, 20, 40, 2)]
    [InlineData(3, 1, 0, 5, 5, 3)]
    public void A_deadline_admits_so_many_steps(int asked, double evaluations, double step, double begin, double deadline, int steps) =>
        Assert.Equal(steps, Deadline.Steps(asked, evaluations, new StepCost(step, begin), TimeSpan.FromMilliseconds(deadline)));

    [Theory]
    [InlineData(10, 20, 39)]
    [InlineData(0, 20, 19)]
    [InlineData(10, 20, 0)]
    public void A_deadline_that_two_steps_miss_is_refused(double step, double begin, double deadline)
    {
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => Deadline.Steps(50, 1, new StepCost(step, begin), TimeSpan.FromMilliseconds(deadline)));
        Assert.Contains($"2 steps take {begin + (2 * step)} ms", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_sampler_for_a_deadline_has_fewer_steps()
    {
        using Sampler all = Sampler.LoadForDeadline(Options("4"), cpu.Backend, _ => s_request, TimeSpan.FromHours(1), cancellationToken: Token);
        Assert.Equal(4, all.Table.Count);

        // A thousand steps take longer than what is allowed on any machine that runs this: no less than 0.1 ms each.
        using Sampler some = Sampler.LoadForDeadline(Options("ddim1000"), cpu.Backend, _ => s_request with { Count = 1 }, TimeSpan.FromMilliseconds(99), cancellationToken: Token);
        Assert.InRange(some.Table.Count, 2, 990);
        Assert.Throws<ConfigurationException>(() => Sampler.LoadForDeadline(Options("4"), cpu.Backend, _ => s_request, TimeSpan.FromTicks(1), cancellationToken: Token));
        Assert.Equal("ddim50", Deadline.Respacing(all.Table.Diffusion.Config with { TimestepRespacing = "ddim100" }, 52));
        Assert.Equal("52", Deadline.Respacing(all.Table.Diffusion.Config with { TimestepRespacing = "100" }, 52));
    }

    [Fact]
    public void Jobs_are_logged_traced_and_counted()
    {
        Logger log = new();
        List<string> activities = [];
        long steps = 0, images = 0, durations = 0;
        using ActivityListener listener = new()
        {
            ShouldListenTo = source => source.Name == SamplerTelemetry.Name,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = activity => activities.Add($"{activity.OperationName} {activity.GetTagItem("kernels.images")} {activity.GetTagItem("kernels.first")} {activity.GetTagItem("kernels.steps")}"),
        };
        ActivitySource.AddActivityListener(listener);
        using MeterListener meter = new() { InstrumentPublished = (instrument, l) => { if (instrument.Meter.Name == SamplerTelemetry.Name) { l.EnableMeasurementEvents(instrument); } } };
        int thread = Environment.CurrentManagedThreadId;
        meter.SetMeasurementEventCallback<long>((instrument, value, _, _) =>
        {
            // Other tests sample meanwhile, on threads of theirs.
            if (Environment.CurrentManagedThreadId == thread)
            {
                (steps, images) = instrument.Name == "kernels.steps" ? (steps + value, images) : (steps, images + value);
            }
        });
        meter.SetMeasurementEventCallback<double>((instrument, value, _, _) => durations += Environment.CurrentManagedThreadId == thread && instrument.Name == "kernels.step.duration" && value > 0 ? 1 : 0);
        meter.Start();
        using Sampler sampler = Sampler.Load(Options("3"), cpu.Backend, log);
        sampler.Sample(s_request with { Seed = 321 }, 1, 2);
        Assert.Equal((3, 2, 3), (steps, images, durations));
        Assert.Contains("kernels.sample 2 1 3", activities);
        Assert.Contains(log.Lines, l => l.StartsWith("Information 1 Opened ", StringComparison.Ordinal) && l.Contains("32x32, 3 steps, on cpu", StringComparison.Ordinal));
        Assert.Contains(log.Lines, l => l.StartsWith("Information 3 Sampled 2 images from 1 on in ", StringComparison.Ordinal));
    }

    [Fact]
    public void A_disposed_sampler_says_so()
    {
        Sampler sampler = Load();
        Assert.Equal(SamplerHealth.Ready, sampler.Health);
        sampler.Dispose();
        Assert.Equal(SamplerHealth.Disposed, sampler.Health);
        Assert.Throws<ObjectDisposedException>(() => sampler.Sample(s_request, 0, 1));
    }

    private static SamplerOptions Options(string respacing, SamplerSettings? settings = null) => new()
    {
        Diffusion = new ModelSource(Path.Combine(AppContext.BaseDirectory, "weights", "shapes32_diffusion.safetensors")) { Overrides = new ModelOverrides { TimestepRespacing = respacing } },
        Settings = settings ?? new SamplerSettings(),
    };

    private Sampler Load(string respacing = "3", CpuBackend? backend = null, SamplerSettings? settings = null) => Sampler.Load(Options(respacing, settings), backend ?? cpu.Backend);

    private sealed class Progress : IProgress<SampleProgress>
    {
        public List<SampleProgress> Reports { get; } = [];

        public void Report(SampleProgress value) => Reports.Add(value);
    }

    private sealed class Logger : ILogger
    {
        public List<string> Lines { get; } = [];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Lines.Add($"{logLevel} {eventId.Id} {formatter(state, exception)}");
    }
}

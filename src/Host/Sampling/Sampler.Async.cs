using System.Buffers;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Threading.Channels;
using Kernels.Diffusion;
using Kernels.Imaging;

namespace Kernels.Sampling;

/// <content>For programs that must not wait, and for those that own the memory.</content>
public sealed partial class Sampler
{
    // Events that may wait for the receiver before sampling waits for it.
    private const int Ahead = 4;

    /// <summary>Does a job batch by batch on a thread of its own, and tells of every step and of finished images as they come. The sampler is at work until the enumeration ends.</summary>
    /// <param name="request">The job.</param>
    /// <param name="watch">What to tell; the defaults if null.</param>
    /// <param name="cancellationToken">Ends the work within a step. So does leaving the enumeration.</param>
    /// <exception cref="ConfigurationException">The request does not fit this sampler.</exception>
    /// <exception cref="InvalidFileException">Images of the request have the wrong size.</exception>
    /// <exception cref="InvalidOperationException">Another call is at work.</exception>
    /// <exception cref="DeviceException">The device lacks memory or failed.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public async IAsyncEnumerable<SampleEvent> SampleAsync(
        SampleRequest request, SampleWatch? watch = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        watch ??= new SampleWatch();
        using Turn turn = Enter();
        Check(request);
        using CancellationTokenSource left = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Channel<SampleEvent> events = Channel.CreateBounded<SampleEvent>(new BoundedChannelOptions(Ahead) { SingleReader = true, SingleWriter = true });
        Task work = Task.Factory.StartNew(
            () =>
            {
                try
                {
                    RunJob(request, watch, events.Writer, left.Token);
                    events.Writer.Complete();
                }
                catch (Exception e)
                {
                    events.Writer.Complete(e);
                }
            },
            CancellationToken.None,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default);
        try
        {
            await foreach (SampleEvent e in events.Reader.ReadAllAsync(CancellationToken.None).ConfigureAwait(false))
            {
                yield return e;
            }
        }
        finally
        {
            // Whoever leaves early must not leave the work behind.
            await left.CancelAsync().ConfigureAwait(false);
            await work.ConfigureAwait(false);
        }
    }

    /// <summary>Samples some images of a request as one batch into memory of the caller.</summary>
    /// <param name="request">The job.</param>
    /// <param name="first">Index of the first image.</param>
    /// <param name="images">Receives the images <c>[N, H, W, C]</c>, for a trained model in [-1, 1]; its length says how many. Left as it is if sampling fails.</param>
    /// <param name="onStep">Called after every step.</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    /// <returns>One label each; empty if nothing reads labels.</returns>
    /// <exception cref="ArgumentException">The memory is not that of whole images.</exception>
    /// <inheritdoc cref="Sample(SampleRequest, long, int, StepCallback, bool, CancellationToken)" path="/exception"/>
    public IReadOnlyList<int> Sample(SampleRequest request, long first, Span<float> images, StepCallback? onStep = null, CancellationToken cancellationToken = default)
    {
        using Turn turn = Enter();
        return SampleBatch(request, first, CountOf(images.Length), images, onStep, keepSteps: false, cancellationToken);
    }

    /// <summary>Samples some images of a request as one batch into memory of the caller, as bytes (<see cref="Images.ToBytes(ReadOnlySpan{float}, Span{byte})"/>).</summary>
    /// <param name="request">The job.</param>
    /// <param name="first">Index of the first image.</param>
    /// <param name="images">Receives the samples <c>[N, H, W, C]</c>; its length says how many images.</param>
    /// <param name="onStep">Called after every step.</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    /// <returns>One label each; empty if nothing reads labels.</returns>
    /// <exception cref="ArgumentException">The memory is not that of whole images.</exception>
    /// <inheritdoc cref="Sample(SampleRequest, long, int, StepCallback, bool, CancellationToken)" path="/exception"/>
    public IReadOnlyList<int> Sample(SampleRequest request, long first, Span<byte> images, StepCallback? onStep = null, CancellationToken cancellationToken = default)
    {
        using Turn turn = Enter();
        int count = CountOf(images.Length);
        float[] values = ArrayPool<float>.Shared.Rent(images.Length);
        try
        {
            Span<float> sampled = values.AsSpan(0, images.Length);
            IReadOnlyList<int> labels = SampleBatch(request, first, count, sampled, onStep, keepSteps: false, cancellationToken);
            Images.ToBytes(sampled, images);
            return labels;
        }
        finally
        {
            ArrayPool<float>.Shared.Return(values);
        }
    }

    /// <summary>Does for a request what its first batch would otherwise wait for, one step of it included, and says what a step costs.</summary>
    /// <param name="request">The job.</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    /// <inheritdoc cref="Sample(SampleRequest, long, int, StepCallback, bool, CancellationToken)" path="/exception"/>
    public async Task<StepCost> WarmUpAsync(SampleRequest request, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        using Turn turn = Enter();
        Check(request);
        return await Task.Run(() => WarmUp(request, cancellationToken), cancellationToken).ConfigureAwait(false);
    }

    private StepCost WarmUp(SampleRequest request, CancellationToken cancellationToken)
    {
        StepCost cost = default;
        int count = Math.Min(request.Count, request.BatchSize);
        Guarded(() => cost = _steps.WarmUp(Batch(request, 0, count), cancellationToken: cancellationToken));
        return cost;
    }

    private int CountOf(int elements) => elements > 0 && elements % _steps.ImageElements == 0 ? elements / _steps.ImageElements
        : throw new ArgumentException($"{elements} values are not whole images of {_steps.ImageElements}");

    private void RunJob(SampleRequest request, SampleWatch watch, ChannelWriter<SampleEvent> events, CancellationToken cancellationToken)
    {
        long start = Stopwatch.GetTimestamp();
        int steps = StepsOf(request), left = Table.Count - steps;
        for (long first = 0; first < request.Count;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int count = (int)Math.Min(request.BatchSize, request.Count - first);
            long begin = first;
            SampledImages images = SampleBatch(
                request,
                first,
                count,
                result =>
                {
                    if (watch.Steps)
                    {
                        Send(new StepEvent(begin, count, result.Step, result.Steps, Table.Diffusion.TimestepMap[Table.Timesteps[left + result.Step]], Preview(result, count)));
                    }

                    watch.Progress?.Report(new SampleProgress(begin, request.Count, result.Step + 1, result.Steps, Stopwatch.GetElapsedTime(start)));
                },
                keepSteps: watch is { Steps: true, PreviewEvery: > 0 },
                cancellationToken);
            Send(new ImagesEvent(images));
            first += count;
            watch.Progress?.Report(new SampleProgress(first, request.Count, steps, steps, Stopwatch.GetElapsedTime(start)));
        }

        // The thread is the job's own, so it may wait for the receiver.
        void Send(SampleEvent e)
        {
            ValueTask written = events.WriteAsync(e, cancellationToken);
            if (!written.IsCompletedSuccessfully)
            {
                written.AsTask().GetAwaiter().GetResult();
            }
        }

        float[]? Preview(StepResult result, int count)
        {
            if (watch.PreviewEvery <= 0 || ((result.Step + 1) % watch.PreviewEvery != 0 && result.Step + 1 != result.Steps))
            {
                return null;
            }

            float[] preview = new float[count * _steps.ImageElements];
            result.ReadPredXstart(preview);
            return preview;
        }
    }
}

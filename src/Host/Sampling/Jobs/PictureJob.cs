using System.Globalization;
using Kernels.Diffusion;
using Kernels.Imaging;

namespace Kernels.Sampling;

/// <summary>A job whose images go to PNG files, each with its receipt: one picture of all, written at the end with what is finished, or one per image, written when its batch is finished.</summary>
internal sealed class PictureJob : SampleJob
{
    private const long MaxGridBytes = 1L << 30;

    // Hashing checkpoints of gigabytes takes seconds, and the answer is needed when images are finished.
    private readonly Task<JobIdentity> _job;
    private readonly ReceiptImages _images;
    private readonly List<(int First, int Count)> _batches = [];

    public PictureJob(Sampler sampler, SampleRequest request, SampleOutput output)
        : base(sampler, request, output)
    {
        bool grid = output.Kind == OutputKind.Picture;
        _images = new ReceiptImages(0, request.Count, sampler.Height, sampler.Width, sampler.Channels) { Columns = grid ? output.Columns : null };
        Require(sampler.Channels is 1 or 3 or 4, $"images of {sampler.Channels} channels do not fit a PNG; give a .npz");
        Require(!grid || (long)request.Count * sampler.Height * sampler.Width * sampler.Channels <= MaxGridBytes, $"{request.Count} images are too many for one picture; give a folder or a .npz");
        Require(!grid || output.Rank.World == 1, "several processes cannot write one picture; give a folder or a .npz");
        Require(output.ShardSize is null, "--shard-size is for a .npz and for --format npz");
        if (grid)
        {
            OutputFolder.Prepare(output.Path);
        }
        else
        {
            OutputFolder.Make(output.Path, output.Path);
        }

        _job = Task.Run(() => JobIdentity.Of(sampler, request));
        for (int first = 0, batch = 0; first < request.Count; first += request.BatchSize, batch++)
        {
            if (batch % output.Rank.World == output.Rank.Index)
            {
                _batches.Add((first, Math.Min(request.BatchSize, request.Count - first)));
            }
        }

        void Require(bool condition, string message)
        {
            if (!condition)
            {
                throw new ConfigurationException($"--output {output.Path}: {message}");
            }
        }
    }

    public override int Remaining => _batches.Sum(b => b.Count);

    private JobIdentity Job => _job.GetAwaiter().GetResult();

    private int? HashedSteps => Output.HashSteps ? Sampler.StepsOf(Request) : null;

    public override JobResult Run(BatchStepCallback? onStep = null, bool keepSteps = false, CancellationToken cancellationToken = default)
    {
        using ReceiptBuilder receipt = new(_images, HashedSteps);
        List<byte> pixels = [];
        int done = 0;
        bool interrupted = false;
        foreach ((int first, int count) in _batches)
        {
            Shard batch;
            try
            {
                batch = Sample(first, count, onStep, keepSteps, cancellationToken);
            }
            catch (OperationCanceledException)
            {
                interrupted = true;
                break;
            }

            if (Output.Kind == OutputKind.Picture)
            {
                pixels.AddRange(batch.Pixels);
                receipt.Add(batch.Pixels, batch.Hashes);
            }
            else
            {
                SaveEach(first, batch);
            }

            done += count;
        }

        if (pixels.Count > 0)
        {
            Image grid = ImageGrid.Compose([.. pixels], done, _images.Height, _images.Width, _images.Channels, Output.Columns);
            Png.Save(Output.Path, new Image(grid.Width, grid.Height, grid.Channels, grid.Pixels) { Text = ReceiptFile.TextOf(receipt.Finish(Job)) });
        }

        return new JobResult(done, Remaining, Output.Path) { Sampled = done, Interrupted = interrupted, IsComplete = !interrupted };
    }

    private void SaveEach(int first, Shard batch)
    {
        int bytes = _images.Height * _images.Width * _images.Channels;
        for (int i = 0; i < batch.Pixels.Length / bytes; i++)
        {
            byte[] image = batch.Pixels.AsSpan(i * bytes, bytes).ToArray();
            using ReceiptBuilder receipt = new(_images with { First = first + i }, HashedSteps);
            receipt.Add(image, batch.Hashes?.Slice(i));
            string label = batch.Labels.Length > 0 ? string.Create(CultureInfo.InvariantCulture, $"-class{batch.Labels[i]}") : "";
            Png.Save(
                Path.Combine(Output.Path, string.Create(CultureInfo.InvariantCulture, $"{first + i:D6}{label}.png")),
                new Image(_images.Width, _images.Height, _images.Channels, image) { Text = ReceiptFile.TextOf(receipt.Finish(Job)) });
        }
    }
}

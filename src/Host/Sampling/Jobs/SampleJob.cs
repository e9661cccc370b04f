using Kernels.Diffusion;
using Kernels.Imaging;

namespace Kernels.Sampling;

/// <summary>What comes of a request.</summary>
public enum OutputKind
{
    /// <summary>One PNG of all images.</summary>
    Picture,

    /// <summary>A folder with a PNG per image.</summary>
    Pictures,

    /// <summary>One archive of all images, as guided-diffusion writes it. Until it is finished, its shards are in a folder of its name and <c>.parts</c>.</summary>
    Archive,

    /// <summary>A folder of shards (<see cref="ShardFolder"/>), to be merged when all are there.</summary>
    Shards,
}

/// <summary>Where the images of a request go.</summary>
/// <param name="Path">A file or a folder.</param>
/// <param name="Kind">What is written there.</param>
public sealed record SampleOutput(string Path, OutputKind Kind)
{
    /// <summary>A folder gets a PNG per image up to this many images, and shards beyond, unless it is said otherwise.</summary>
    public const int MostPictures = 1000;

    /// <summary>Images of a shard; null for as many as are sampled at once.</summary>
    public int? ShardSize { get; init; }

    /// <summary>Images per row of one picture of all; 0 for a square.</summary>
    public int Columns { get; init; }

    /// <summary>Whether x is hashed after every step, for the receipt.</summary>
    public bool HashSteps { get; init; } = true;

    /// <summary>Which part of the job this process does.</summary>
    public Rank Rank { get; init; } = Rank.Single;

    /// <summary>Chooses by the name: <c>.png</c>, <c>.npz</c>, or a folder.</summary>
    /// <param name="path">The path.</param>
    /// <param name="format">Of a folder, <c>png</c> or <c>npz</c>; null to choose by the number of images.</param>
    /// <param name="count">Number of images.</param>
    /// <exception cref="ConfigurationException">The name has another extension, or the format does not fit it.</exception>
    public static SampleOutput Of(string path, string? format, int count)
    {
        ArgumentNullException.ThrowIfNull(path);
        string extension = System.IO.Path.GetExtension(path).ToLowerInvariant();
        OutputKind kind = extension switch
        {
            ".png" => OutputKind.Picture,
            ".npz" => OutputKind.Archive,
            "" => format == "png" || (format is null && count <= MostPictures) ? OutputKind.Pictures : OutputKind.Shards,
            _ when Directory.Exists(path) => throw new ConfigurationException($"--output {path}: the name of a folder must have no extension"),
            _ => throw new ConfigurationException($"--output {path}: give a .png, a .npz or a folder (a name without extension)"),
        };
        return format is null || extension.Length == 0 || extension[1..] == format
            ? new SampleOutput(path, kind)
            : throw new ConfigurationException($"--output {path} and --format {format} contradict each other");
    }
}

/// <summary>How a job ended.</summary>
/// <param name="Finished">Images of this process that are finished, those of earlier runs among them.</param>
/// <param name="Total">Images that were this process's to make.</param>
/// <param name="Path">Where they are.</param>
public sealed record JobResult(int Finished, int Total, string Path)
{
    /// <summary>Images that were sampled now.</summary>
    public int Sampled { get; init; }

    /// <summary>Whether it was cancelled; what is finished is kept.</summary>
    public bool Interrupted { get; init; }

    /// <summary>Whether the same job would go on with what is finished.</summary>
    public bool CanGoOn { get; init; }

    /// <summary>Whether the whole job is finished, by this process or with others.</summary>
    public bool IsComplete { get; init; }
}

/// <summary>Receives the result of a step of a batch.</summary>
/// <param name="first">Index of the batch's first image.</param>
/// <param name="count">Images of the batch.</param>
/// <param name="result">The step; not to be kept.</param>
public delegate void BatchStepCallback(int first, int count, StepResult result);

/// <summary>A request and where its images go: opened, so that what cannot be written is known before anything is sampled; then run.</summary>
/// <param name="sampler">The models, which stay the caller's.</param>
/// <param name="request">The images.</param>
/// <param name="output">Where they go.</param>
public abstract class SampleJob(Sampler sampler, SampleRequest request, SampleOutput output)
{
    /// <summary>Images that are to be sampled by this process; those of an earlier run are not among them.</summary>
    public abstract int Remaining { get; }

    /// <summary>Receives what is worth knowing while the job runs, a line each.</summary>
    public Action<string> Tell { get; init; } = _ => { };

    /// <summary>The models.</summary>
    protected Sampler Sampler { get; } = sampler;

    /// <summary>The images.</summary>
    protected SampleRequest Request { get; } = request;

    /// <summary>Where they go.</summary>
    protected SampleOutput Output { get; } = output;

    /// <summary>Opens a job.</summary>
    /// <param name="sampler">The models, which stay the caller's.</param>
    /// <param name="request">The images.</param>
    /// <param name="output">Where they go.</param>
    /// <param name="tell">Receives what is worth knowing, a line each.</param>
    /// <exception cref="ConfigurationException">The output cannot hold the images, or belongs to a job with other settings.</exception>
    /// <exception cref="InvalidFileException">The output cannot be written, or a checkpoint not read for its hash.</exception>
    public static SampleJob Open(Sampler sampler, SampleRequest request, SampleOutput output, Action<string>? tell = null)
    {
        ArgumentNullException.ThrowIfNull(sampler);
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(output);
        tell ??= _ => { };
        return output.Kind is OutputKind.Picture or OutputKind.Pictures
            ? new PictureJob(sampler, request, output) { Tell = tell }
            : ShardJob.Begin(sampler, request, output, tell);
    }

    /// <summary>Samples what remains.</summary>
    /// <param name="onStep">Called after every step of every batch.</param>
    /// <param name="keepSteps">Whether <paramref name="onStep"/> looks at the steps.</param>
    /// <param name="cancellationToken">Ends the work within a step; what is finished is kept.</param>
    /// <exception cref="InvalidFileException">The output cannot be written; the message says what is safe.</exception>
    /// <exception cref="DeviceException">The device lacks memory or failed.</exception>
    public abstract JobResult Run(BatchStepCallback? onStep = null, bool keepSteps = false, CancellationToken cancellationToken = default);

    /// <summary>Samples consecutive images, in as many batches as it takes.</summary>
    /// <param name="first">Index of the first.</param>
    /// <param name="count">Number of images.</param>
    /// <param name="onStep">Called after every step of every batch.</param>
    /// <param name="keepSteps">Whether it looks at the steps.</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    protected Shard Sample(int first, int count, BatchStepCallback? onStep, bool keepSteps, CancellationToken cancellationToken)
    {
        int imageBytes = Sampler.Height * Sampler.Width * Sampler.Channels;
        byte[] pixels = new byte[count * imageBytes];
        List<long> labels = [];
        StepHashes? hashes = Output.HashSteps ? new StepHashes(count, Sampler.StepsOf(Request)) : null;
        for (int at = 0; at < count;)
        {
            int batch = Math.Min(Request.BatchSize, count - at), start = first + at;
            SampledImages sampled = Sampler.Sample(
                Request, start, batch, hashes, at, onStep is null ? null : result => onStep(start, batch, result), keepSteps, cancellationToken);
            Imaging.Images.ToBytes(sampled.Images, pixels.AsSpan(at * imageBytes, batch * imageBytes));
            labels.AddRange(sampled.Labels.Select(l => (long)l));
            at += batch;
        }

        return new Shard(pixels, [.. labels], hashes);
    }
}

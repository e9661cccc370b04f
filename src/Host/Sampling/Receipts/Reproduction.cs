using Kernels.Backends.Gpu;
using Kernels.Imaging;

namespace Kernels.Sampling;

/// <summary>What came of running a receipt again.</summary>
/// <param name="Steps">Where the runs part; null if they do not, or the receipt has no hashes of steps.</param>
/// <param name="PixelsAgree">Whether the pixels are those that the receipt speaks of.</param>
/// <param name="FileAgrees">Whether the pixels are those in the file; null if it was not a picture.</param>
public sealed record ReproductionResult(StepDifference? Steps, bool PixelsAgree, bool? FileAgrees)
{
    /// <summary>Whether everything is the same, bit for bit.</summary>
    public bool IsIdentical => Steps is null && PixelsAgree && FileAgrees != false;
}

/// <summary>Runs a receipt again.</summary>
public static class Reproduction
{
    /// <summary>Samples the images of a receipt again and compares.</summary>
    /// <param name="receipt">The receipt.</param>
    /// <param name="request">Its request (<see cref="ReceiptRequest.ToRequest"/>).</param>
    /// <param name="picture">The picture that it was in; null if it was none.</param>
    /// <param name="sampler">The models, opened from <see cref="JobIdentity.ToOptions"/>.</param>
    /// <param name="batchSize">Images sampled at once; those of then where the noise depends on it.</param>
    /// <param name="onStep">Called after every step with the number of images.</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    /// <exception cref="ConfigurationException">The receipt does not fit the models.</exception>
    /// <exception cref="DeviceException">The device lacks memory or failed.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public static ReproductionResult Run(
        Receipt receipt, SampleRequest request, Image? picture, Sampler sampler, int batchSize, Action<int>? onStep = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(receipt);
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(sampler);
        ArgumentOutOfRangeException.ThrowIfLessThan(batchSize, 1);
        ReceiptImages images = receipt.Images;
        if ((sampler.Height, sampler.Width, sampler.Channels) != (images.Height, images.Width, images.Channels)
            || (receipt.StepHashes is { } recorded && recorded.Steps.Count != sampler.StepsOf(request)))
        {
            throw new ConfigurationException("the receipt contradicts itself: its images or steps are not those that its models and settings make");
        }

        int? steps = receipt.StepHashes is null ? null : sampler.StepsOf(request);
        using ReceiptBuilder builder = new(images, steps);
        int imageBytes = images.Height * images.Width * images.Channels;
        List<byte>? pixels = picture is null ? null : [];

        // Random numbers that are drawn by the batch need the batches of then.
        bool sameBatches = request.Random.IsTorch;
        batchSize = sameBatches ? request.BatchSize : batchSize;
        long end = images.First + images.Count;
        for (long first = sameBatches ? images.First / batchSize * batchSize : images.First; first < end; first += batchSize)
        {
            int count = (int)Math.Min(batchSize, (sameBatches ? request.Count : end) - first);
            StepHashes? hashes = steps is int s ? new StepHashes(count, s) : null;
            SampledImages sampled = sampler.Sample(request, first, count, hashes, onStep: _ => onStep?.Invoke(count), cancellationToken: cancellationToken);
            byte[] bytes = Imaging.Images.ToBytes(sampled.Images);
            for (int i = (int)Math.Max(0, images.First - first); i < Math.Min(count, end - first); i++)
            {
                ReadOnlySpan<byte> image = bytes.AsSpan(i * imageBytes, imageBytes);
                builder.Add(image, hashes?.Slice(i));
                pixels?.AddRange(image);
            }
        }

        Receipt again = builder.Finish(receipt.Job);
        return new ReproductionResult(
            receipt.StepHashes?.Compare(again.StepHashes!),
            receipt.PixelsSha256 == again.PixelsSha256,
            picture is null ? null : picture.Pixels.AsSpan().SequenceEqual(Pixels(images, [.. pixels!])));
    }

    /// <summary>What is not as it was when the images were made: versions, device, precision, the sources of the kernels; a line each.</summary>
    /// <param name="receipt">The receipt.</param>
    /// <param name="sampler">What is there now.</param>
    public static IReadOnlyList<string> Circumstances(Receipt receipt, Sampler sampler)
    {
        ArgumentNullException.ThrowIfNull(receipt);
        ArgumentNullException.ThrowIfNull(sampler);
        JobIdentity now = receipt.Job with { Versions = ReceiptVersions.Of(sampler.Backend), Device = ReceiptDevice.Of(sampler.Backend) };
        string then = new JobSettings(receipt.Job, receipt.Images, null).ToJson(), here = new JobSettings(now, receipt.Images, null).ToJson();
        List<string> lines = [.. JsonDifference.Between(then, here).Select(d => (d with { Setting = d.Setting["job.".Length..] }).Describe("in the receipt", "now"))];
        if (receipt.Job.Device.KernelsSha256 is string made && now.Device.KernelsSha256 is string running && made != running)
        {
            lines.Add($"the kernels of {((GpuBackend)sampler.Backend).Sources.Place} are not those that made the images; --kernels-dir FOLDER runs those of a folder");
        }

        return lines;
    }

    private static byte[] Pixels(ReceiptImages images, byte[] pixels) => images.Columns is int columns
        ? ImageGrid.Compose(pixels, images.Count, images.Height, images.Width, images.Channels, columns).Pixels
        : pixels;
}

using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Kernels.Diffusion;
using Kernels.Sampling;
using Xunit;

namespace Kernels.Tests.Sampling;

public sealed class StepHashTests
{
    [Fact]
    public void Hashes_are_those_of_x_after_every_step_whatever_the_batch()
    {
        using DemoSampler demo = new();
        SampleRequest request = DemoSampler.Request(3, 3);
        List<float[]> steps = [];
        demo.Sampler.Sample(request, 0, 3, result =>
        {
            float[] x = new float[3 * 32 * 32 * 3];
            result.ReadX(x);
            steps.Add(x);
        });
        StepHashes together = new(3, 3), apart = new(3, 3);
        demo.Sampler.Sample(request, 0, 3, together);
        demo.Sampler.Sample(request, 0, 2, apart, at: 0, keepSteps: true);
        demo.Sampler.Sample(request, 2, 1, apart, at: 2);
        for (int image = 0; image < 3; image++)
        {
            for (int step = 0; step < 3; step++)
            {
                byte[] expected = SHA256.HashData(MemoryMarshal.AsBytes(steps[step].AsSpan(image * 3072, 3072)));
                Assert.Equal(expected, together.Of(image, step).ToArray());
                Assert.Equal(expected, apart.Of(image, step).ToArray());
            }
        }
    }

    [Fact]
    public void A_summary_combines_images_in_order_whatever_the_pieces()
    {
        byte[] bytes = new byte[5 * 4 * StepHashes.HashBytes];
        new Random(1).NextBytes(bytes);
        StepHashSummary summary = Summarize(bytes, 4, 5);
        Assert.Equal(Serialize(summary), Serialize(Summarize(bytes, 4, 2, 2, 1)));
        for (int step = 0; step < 4; step++)
        {
            byte[] column = [.. Enumerable.Range(0, 5).SelectMany(i => bytes.Skip(((i * 4) + step) * 32).Take(32))];
            Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(column)), summary.Steps[step]);
        }

        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(bytes.AsSpan(3 * 4 * 32, 4 * 32))), summary.Images[3]);
        Assert.Equal([.. Enumerable.Range(0, 20).SelectMany(h => bytes.Skip(h * 32).Take(4))], Convert.FromBase64String(summary.Fingerprints!));
    }

    [Theory]
    [InlineData(2, 3)]
    [InlineData(4, 0)]
    [InlineData(0, 2)]
    public void A_comparison_names_the_first_step_and_image(int image, int step)
    {
        byte[] bytes = new byte[5 * 4 * StepHashes.HashBytes], other;
        new Random(2).NextBytes(bytes);
        other = [.. bytes];

        // Image 3 differs later, image 1 never.
        other[(((image * 4) + step) * 32) + 1] ^= 1;
        if (step < 3)
        {
            other[((3 * 4) + 3) * 32] ^= 1;
        }

        StepDifference difference = Summarize(bytes, 4, 5).Compare(Summarize(other, 4, 5))!;
        Assert.Equal((step, image), (difference.Step, difference.Image));
        Assert.Equal(step < 3 ? [Math.Min(image, 3), Math.Max(image, 3)] : new[] { image }, difference.Images);
        Assert.Null(Summarize(bytes, 4, 5).Compare(Summarize(bytes, 4, 5)));
        StepDifference blind = (Summarize(bytes, 4, 5) with { Fingerprints = null }).Compare(Summarize(other, 4, 5))!;
        Assert.Equal((step, difference.Images.Count == 1 ? image : (int?)null), (blind.Step, blind.Image));
    }

    private static string Serialize(StepHashSummary summary) => string.Join(' ', [.. summary.Steps, .. summary.Images, summary.Fingerprints!]);

    private static StepHashSummary Summarize(byte[] bytes, int steps, params int[] pieces)
    {
        using StepHashSummary.Builder builder = new(steps);
        int at = 0;
        foreach (int images in pieces)
        {
            int length = images * steps * StepHashes.HashBytes;
            builder.Add(new StepHashes(steps, bytes.AsSpan(at, length).ToArray()));
            at += length;
        }

        return builder.Finish();
    }
}

using Kernels.Diffusion;
using Kernels.Imaging;
using Kernels.Models;
using Kernels.Sampling;
using Kernels.Tests.Verification;
using Xunit;

namespace Kernels.Tests.Sampling;

/// <summary>What a job starts from, on the trained pair of 32x32 models.</summary>
public sealed class SamplerTaskTests(CpuFixture cpu) : IClassFixture<CpuFixture>
{
    private const int Elements = 32 * 32 * 3;
    private static readonly string s_diffusion = Path.Combine(AppContext.BaseDirectory, "weights", "shapes32_diffusion.safetensors");

    [Fact]
    public void Interpolation_ends_in_the_images_of_both_seeds()
    {
        using Sampler sampler = Load("ddim4", new SamplerSettings { Sampler = SamplerKind.Ddim });
        SampleRequest request = new() { Count = 4, Seed = 3, Classes = [5], InterpolateTo = 8 };
        float[] images = sampler.Sample(request, 0, 4).Images;
        Assert.Equal(sampler.Sample(request with { InterpolateTo = null, Count = 1 }, 0, 1).Images, images[..Elements]);
        Assert.Equal(sampler.Sample(request with { InterpolateTo = null, Count = 1, Seed = 8 }, 0, 1).Images, images[(3 * Elements)..]);
        Assert.Equal(images[(2 * Elements)..(3 * Elements)], sampler.Sample(request, 2, 1).Images);
        Assert.NotEqual(images[..Elements], images[Elements..(2 * Elements)]);
        Assert.Equal([2, 2, 2], sampler.LabelsOf(request with { Classes = [2, 7] }, 0, 3));
        Assert.Single(sampler.LabelsOf(request with { Classes = [] }, 0, 4).Distinct());
    }

    [Fact]
    public void Interpolation_with_noisy_steps_shares_their_noise()
    {
        using Sampler sampler = Load("3", new SamplerSettings());
        SampleRequest request = new() { Count = 2, Seed = 3, Classes = [5], InterpolateTo = 3 };
        float[] images = sampler.Sample(request, 0, 2).Images;
        Assert.Equal(images[..Elements], images[Elements..]);
        Assert.Equal(sampler.Sample(request with { InterpolateTo = null, Count = 1 }, 0, 1).Images, images[..Elements]);
    }

    [Theory]
    [InlineData(0.0, 1.0, 0.0)]
    [InlineData(1.0, 0.0, 1.0)]
    [InlineData(0.5, 0.7071067811865476, 0.7071067811865476)]
    [InlineData(1 / 3.0, 0.8660254037844387, 0.5)]
    public void Between_vectors_at_a_right_angle_lies_a_circle(double u, double a, double b)
    {
        float[] point = new float[2];
        Slerp.Interpolate([2, 0], [0, 2], u, point);
        Assert.Equal(2 * a, point[0], 1e-6);
        Assert.Equal(2 * b, point[1], 1e-6);
    }

    [Fact]
    public void Interpolation_keeps_the_variance_of_noise_and_the_bits_of_its_ends()
    {
        float[] a = new float[20000], b = new float[a.Length], middle = new float[a.Length];
        RandomStreams.Normals(1, 0, 0, 0, a);
        RandomStreams.Normals(2, 0, 0, 0, b);
        foreach (double u in new[] { 0.1, 0.5, 0.8 })
        {
            Slerp.Interpolate(a, b, u, middle);
            Assert.Equal(1, middle.Average(v => (double)v * v), 0.03);
        }

        Slerp.Interpolate(a, b, 0, middle);
        Assert.Equal(a, middle);
        Slerp.Interpolate(a, b, 1, middle);
        Assert.Equal(b, middle);
        Slerp.Interpolate(a, a, 0.5, middle);
        Assert.Equal(a, middle);
    }

    [Theory]
    [InlineData(1, 0)]
    [InlineData(0.5, 5)]
    [InlineData(0.25, 7)]
    [InlineData(0.001, 9)]
    public void Strength_is_the_fraction_of_steps(double strength, int first) => Assert.Equal(first, new InitialImages(Set(1), strength).FirstStep(10));

    // Normal data with the exact noise prediction: all steps make the data, whatever they began with, and few leave what was given. The mean follows from one probe per step.
    [Theory]
    [InlineData(1, 0.4, 2e-3)]
    [InlineData(0.05, 0.9, 0.06)]
    public void Strength_leads_from_the_image_to_the_data(double strength, double expected, double tolerance)
    {
        const double Mu = 0.4, Deviation = 0.3;
        DiffusionConfig config = new() { NoiseSchedule = NoiseSchedule.Cosine };
        GaussianDiffusion diffusion = new(config);
        StepTable table = new(diffusion, SamplerKind.Ddpm);
        int first = new InitialImages(Set(1), strength).FirstStep(table.Count);
        float[] x = [0.9f], eps = new float[1];
        BitsPerDimension.QSample(diffusion, table.Timesteps[first], x, [0], x);
        for (int step = first; step < table.Count; step++)
        {
            double ab = diffusion.AlphasCumprod[table.Timesteps[step]];
            eps[0] = (float)(Math.Sqrt(1 - ab) * (x[0] - (Math.Sqrt(ab) * Mu)) / ((ab * Deviation * Deviation) + 1 - ab));
            SamplerMath.DdpmUpdate(table[step], Parameterization.Of(config, clipDenoised: false), 1, x, eps, [], [0], x, []);
        }

        Assert.Equal(expected, x[0], tolerance);
    }

    [Fact]
    public void An_image_to_begin_with_leaves_its_first_steps_out()
    {
        using Sampler sampler = Load("8", new SamplerSettings());
        ImageSet set = Set(2);
        SampleRequest request = new() { Count = 3, Seed = 4, Classes = [1], Init = new InitialImages(set, 0.25) };
        Assert.Equal(2, sampler.StepsOf(request));
        List<(int, int)> steps = [];
        float[] near = sampler.Sample(request, 0, 3, result => steps.Add((result.Step, result.Steps))).Images;
        Assert.Equal([(0, 2), (1, 2)], steps);
        Assert.Equal(near[(2 * Elements)..], sampler.Sample(request, 2, 1).Images);
        float[] far = sampler.Sample(request with { Init = new InitialImages(set, 1) }, 0, 3).Images;
        float[] given = set.Read(0, 3);
        Assert.True(Distance(near, given) < Distance(far, given) / 2);

        // Next to nothing of the image is left at the last noise level.
        float[] plain = sampler.Sample(request with { Init = null }, 0, 3).Images;
        Assert.True(Distance(far, plain) < Distance(near, plain) / 3, $"{Distance(far, plain)} {Distance(near, plain)}");
    }

    [Fact]
    public void Latents_take_the_place_of_the_seeds_noise()
    {
        using Sampler sampler = Load("ddim3", new SamplerSettings { Sampler = SamplerKind.Ddim });
        SampleRequest request = new() { Count = 3, Seed = 4, Classes = [1, 2, 3] };
        float[] latents = new float[3 * Elements];
        for (int i = 0; i < 3; i++)
        {
            RandomStreams.Normals(4, (ulong)i, RandomStreams.InitialNoise, 0, latents.AsSpan(i * Elements, Elements));
        }

        Assert.Equal(sampler.Sample(request, 1, 2).Images, sampler.Sample(request with { Latents = latents, Seed = 77 }, 1, 2).Images);
    }

    [Fact]
    public void Inversion_finds_the_latent_better_the_more_steps_it_takes()
    {
        float[] image = Set(1).Read(0, 1);
        double coarse = Error("ddim10"), fine = Error("ddim125");
        Assert.True(fine < coarse / 1.5, $"{coarse} with 10 steps, {fine} with 125");

        double Error(string respacing)
        {
            SamplerOptions options = new() { Diffusion = new ModelSource(s_diffusion) { Overrides = new ModelOverrides { TimestepRespacing = respacing } } };
            using DdimInversion inversion = DdimInversion.Load(options, cpu.Backend);
            Assert.Equal((32, 32, 3, 10), (inversion.Height, inversion.Width, inversion.Channels, inversion.Classes));
            float[] latent = inversion.Invert(image, [3], 1, cancellationToken: TestContext.Current.CancellationToken);
            return Distance(image, inversion.Reconstruct(latent, [3], 1, cancellationToken: TestContext.Current.CancellationToken));
        }
    }

    [Fact]
    public void Requests_that_the_sampler_was_not_made_for_are_refused()
    {
        using Sampler sampler = Load("3", new SamplerSettings());
        SampleRequest request = new() { Count = 1, Classes = [1] };
        ImageSet small = ImageSet.FromBytes(new byte[16 * 16 * 3], 16, 16, 3);
        Refused<ConfigurationException>("interpolation needs two images", request with { InterpolateTo = 1 });
        Refused<ConfigurationException>("exclude each other", request with { Count = 2, InterpolateTo = 1, Latents = new float[2 * Elements] });
        Refused<ConfigurationException>("strength is 1.5", request with { Init = new InitialImages(Set(1), 1.5) });
        Refused<ConfigurationException>("strength is NaN", request with { Init = new InitialImages(Set(1), double.NaN) });
        Refused<ConfigurationException>("5 values are not the latents of 1 images", request with { Latents = new float[5] });
        Refused<ConfigurationException>("a sampler made for inpainting needs", request with { Known = new KnownImages(Set(1), Set(1)) });
        Refused<ConfigurationException>("only a super-resolution model", request with { LowRes = small });
        using Sampler multistep = Load("3", new SamplerSettings { Sampler = SamplerKind.Plms });
        Assert.Contains("plms does, take ddpm", Assert.Throws<ConfigurationException>(() => multistep.Check(request with { Init = new InitialImages(Set(1), 0.5) })).Message, StringComparison.Ordinal);
        Refused<InvalidFileException>("the image has 16x16 pixels (height x width), 32x32 are needed; scale or crop it", request with { Init = new InitialImages(small, 0.5) });

        void Refused<T>(string message, SampleRequest wrong)
            where T : KernelsException => Assert.Contains(message, Assert.Throws<T>(() => sampler.Sample(wrong, 0, 1)).Message, StringComparison.Ordinal);
    }

    private Sampler Load(string respacing, SamplerSettings settings) => Sampler.Load(
        new SamplerOptions { Diffusion = new ModelSource(s_diffusion) { Overrides = new ModelOverrides { TimestepRespacing = respacing } }, Settings = settings }, cpu.Backend);

    // A bright disk on a dark ground, brighter in each image.
    private static ImageSet Set(int count) => ImageSet.FromBytes(
        [.. Enumerable.Range(0, count * Elements).Select(i => Disk(i % Elements / 3) ? (byte)(200 + (20 * (i / Elements))) : (byte)60)], 32, 32, 3);

    private static bool Disk(int pixel) => Math.Pow((pixel / 32) - 16, 2) + Math.Pow((pixel % 32) - 14, 2) < 64;

    private static double Distance(float[] a, float[] b) => Math.Sqrt(a.Zip(b).Average(p => Math.Pow(p.First - p.Second, 2)));
}

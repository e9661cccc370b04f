using System.CommandLine;
using Kernels.Imaging;
using Kernels.Runtime;
using Kernels.Sampling;

namespace Kernels.Cli.Commands;

/// <summary><c>kernels invert</c>: the latents of images under DDIM, and how well sampling makes the images again.</summary>
internal static class InvertCommand
{
    private const string DefaultRespacing = "ddim100";

    public static Command Create(CliConsole console)
    {
        Option<string?> output = Options.Value<string?>("--output", "The .npz of the latents, for 'kernels sample --sampler ddim --latents'. latents.npz if absent.");
        Option<string?> reconstruction = Options.Value<string?>("--reconstruction", "Where the images go that sampling makes of the latents: .png, .npz or a folder.");
        ImageJob job = new();
        Command command = new("invert", "Find the noise from which deterministic DDIM makes given images (ddim_reverse_sample), sample from it, and say how far the result is from the images.") { output, reconstruction };
        job.AddTo(command);
        command.SetAction((parsed, cancellationToken) => Task.Run(
            () => Run(console, parsed, job, parsed.GetValue(output) ?? "latents.npz", parsed.GetValue(reconstruction), cancellationToken), CancellationToken.None));
        return command;
    }

    private static int Run(CliConsole console, ParseResult parsed, ImageJob job, string output, string? reconstruction, CancellationToken cancellationToken)
    {
        if (!output.EndsWith(".npz", StringComparison.OrdinalIgnoreCase))
        {
            throw new ConfigurationException($"--output {output}: latents are numbers of any size; give a .npz");
        }

        ImageSet images = job.Images(parsed);
        int count = job.Count(parsed, images), batch = Math.Min(count, job.BatchSize(parsed));
        using Backend backend = job.Open(parsed);
        using DdimInversion inversion = DdimInversion.Load(job.Model(parsed, "ddim", DefaultRespacing), backend);
        images.Require(inversion.Height, inversion.Width, inversion.Channels);
        int[] labels = job.Labels(parsed, images, count, inversion.Classes, inversion.ClassNames);
        SampleFormat format = new(count, inversion.Height, inversion.Width, inversion.Channels, 0);
        ImageOutput? remade = reconstruction is null ? null : ImageOutput.Create(reconstruction, format);
        console.Tell($"inverting {count} images of {inversion.Height}x{inversion.Width} in {inversion.Steps} DDIM steps, and back, on {backend.Name}");
        List<float> latents = [];
        double[] errors = new double[count];
        SampleProgress.Run(console.Progress, count, 2 * inversion.Steps, progress =>
        {
            for (int first = 0; first < count; first += batch)
            {
                int n = Math.Min(batch, count - first);
                int[] some = labels.Length == 0 ? [] : labels[first..(first + n)];
                float[] x0 = images.Read(first, n);
                float[] latent = inversion.Invert(x0, some, n, _ => progress(n), cancellationToken);
                float[] back = inversion.Reconstruct(latent, some, n, _ => progress(n), cancellationToken);
                latents.AddRange(latent);
                int elements = x0.Length / n;
                for (int i = 0; i < n; i++)
                {
                    errors[first + i] = RootMeanSquare(x0.AsSpan(i * elements, elements), back.AsSpan(i * elements, elements));
                }

                remade?.Add(Imaging.Images.ToBytes(back), some);
            }
        });
        List<KeyValuePair<string, NpyArray>> arrays = [new("arr_0", NpyArray.Of(latents.ToArray(), count, inversion.Height, inversion.Width, inversion.Channels))];
        if (labels.Length > 0)
        {
            arrays.Add(new("arr_1", NpyArray.Of(Array.ConvertAll(labels, l => (long)l), count)));
        }

        Npz.Write(output, arrays);
        remade?.Finish();
        int worst = Array.IndexOf(errors, errors.Max());
        console.Output.WriteLine(FormattableString.Invariant($"reconstruction error (root mean square, images in [-1, 1]): mean {errors.Average():0.00000}, worst {errors[worst]:0.00000} ({images.Names[worst]})"));
        console.Output.WriteLine(output);
        if (remade is not null)
        {
            console.Output.WriteLine(remade.Path);
        }

        return ExitCode.Done;
    }

    private static double RootMeanSquare(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double sum = 0;
        for (int i = 0; i < a.Length; i++)
        {
            sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        }

        return Math.Sqrt(sum / a.Length);
    }
}

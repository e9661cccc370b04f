using System.CommandLine;
using Kernels.Diffusion;
using Kernels.Imaging;
using Kernels.Runtime;
using Kernels.Sampling;

namespace Kernels.Cli.Commands;

/// <summary><c>kernels nll</c>: bits per dimension of images, as <c>image_nll.py</c> computes them.</summary>
internal static class NllCommand
{
    public static Command Create(CliConsole console)
    {
        Option<string?> terms = Options.Value<string?>("--terms", "Folder for the terms per timestep, averaged over the images, the noisiest first: vb_terms.npz, mse_terms.npz, xstart_mse_terms.npz, as image_nll.py writes them.");
        ImageJob job = new();
        Command command = new("nll", "Bits per dimension of images under a model: the variational bound, one prediction per step and image (image_nll.py). All steps of the process unless respaced.") { terms };
        job.AddTo(command);
        command.SetAction((parsed, cancellationToken) => Task.Run(() => Run(console, parsed, job, parsed.GetValue(terms), cancellationToken), CancellationToken.None));
        return command;
    }

    private static int Run(CliConsole console, ParseResult parsed, ImageJob job, string? folder, CancellationToken cancellationToken)
    {
        ImageSet images = job.Images(parsed);
        int count = job.Count(parsed, images), batch = Math.Min(count, job.BatchSize(parsed));
        using Backend backend = job.Open(parsed);
        using LikelihoodEvaluator evaluator = LikelihoodEvaluator.Load(job.Model(parsed, "", null), backend);
        images.Require(evaluator.Size, evaluator.Size, evaluator.Channels);
        int[] labels = job.Labels(parsed, images, count, evaluator.Classes, evaluator.ClassNames);
        if (folder is not null)
        {
            MakeFolder(folder);
        }

        int steps = evaluator.Table.Count;
        console.Tell($"bits per dimension of {count} images of {evaluator.Size}x{evaluator.Size} over {steps} steps, seed {job.Seed(parsed)}, on {backend.Name}");
        List<double> total = [];
        double prior = 0;
        double[] vb = new double[steps], mse = new double[steps], xStartMse = new double[steps];
        SampleProgress.Run(console.Progress, count, steps, progress =>
        {
            for (int first = 0; first < count; first += batch)
            {
                int n = Math.Min(batch, count - first);
                BitsPerDimensionResult result = evaluator.Evaluate(
                    images.Read(first, n), labels.Length == 0 ? [] : labels[first..(first + n)], n, job.Seed(parsed), first, _ => progress(n), cancellationToken);
                total.AddRange(result.TotalBpd.ToArray().Select(v => (double)v));
                prior += result.PriorBpd.ToArray().Sum(v => (double)v);
                AddMeans(vb, result.Vb.Span, count);
                AddMeans(mse, result.Mse.Span, count);
                AddMeans(xStartMse, result.XstartMse.Span, count);
            }
        });
        if (folder is not null)
        {
            foreach ((string name, double[] values) in new[] { ("vb", vb), ("mse", mse), ("xstart_mse", xStartMse) })
            {
                Npz.Write(Path.Combine(folder, $"{name}_terms.npz"), [new("arr_0", NpyArray.Of(Array.ConvertAll(values, v => (float)v), steps))]);
            }
        }

        double mean = total.Average();
        string error = count > 1 ? FormattableString.Invariant($" ± {Math.Sqrt(total.Sum(v => (v - mean) * (v - mean)) / (count - 1) / count):0.00000}") : "";
        console.Output.WriteLine(FormattableString.Invariant($"{mean:0.00000}{error} bits per dimension, of which {prior / count:0.00000} are the prior's; {count} images, {steps} steps"));
        return ExitCode.Done;
    }

    private static void AddMeans(double[] means, ReadOnlySpan<float> terms, int count)
    {
        for (int i = 0; i < terms.Length; i++)
        {
            means[i % means.Length] += terms[i] / (double)count;
        }
    }

    private static void MakeFolder(string folder)
    {
        try
        {
            Directory.CreateDirectory(folder);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"--terms {folder}: {e.Message}");
        }
    }
}

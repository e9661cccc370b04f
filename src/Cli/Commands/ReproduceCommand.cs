using System.CommandLine;
using System.Globalization;
using Kernels.Imaging;
using Kernels.Runtime;
using Kernels.Sampling;

namespace Kernels.Cli.Commands;

/// <summary><c>kernels reproduce</c>: runs the receipt of images again.</summary>
internal static class ReproduceCommand
{
    private const int MaxNamed = 16;

    public static Command Create(CliConsole console)
    {
        Argument<string> file = new("file") { Description = "Images of kernels sample: a .png, or a .npz with its receipt (.npz.json) beside it." };
        Option<string?> diffusion = Options.Value<string?>("--diffusion", "Where the diffusion checkpoint is now, if not where the receipt says.", "--model-path", "--model_path");
        Option<string?> classifier = Options.Value<string?>("--classifier", "Where the classifier's checkpoint is now.", "--classifier-path", "--classifier_path");
        Option<int> batch = Options.Value<int>("--batch-size", "Images sampled at once. The result does not depend on it.");
        Option<string?> row = Options.Value<string?>("--sampler", "Of a picture that compares samplers, the one whose row is sampled again.");
        batch.DefaultValueFactory = _ => 16;
        Option<string[]> inputs = new("--input") { Description = "Where an input of the job is now, as init=PATH: low_res, init, known, mask or latents. Repeatable.", HelpName = "role=path" };
        DeviceOptions device = new();
        Command command = new(
            "reproduce",
            "Sample images again as their receipt says, compare x after every step, and name the first step and image that differ. Exit 0 if all is the same, bit for bit, 4 if not.")
        {
            file, diffusion, classifier, inputs, row, batch,
        };
        device.AddReproducingTo(command);
        command.SetAction((parsed, cancellationToken) => Task.Run(() => Run(parsed, cancellationToken), CancellationToken.None));
        return command;

        int Run(ParseResult parsed, CancellationToken cancellationToken)
        {
            string path = parsed.GetValue(file)!;
            int batchSize = parsed.GetValue(batch);
            if (batchSize < 1)
            {
                throw new ConfigurationException($"--batch-size is {batchSize}; it must be positive");
            }

            Receipt receipt = ReceiptFile.Read(path, out Image? picture, parsed.GetValue(row));
            SamplerOptions options = receipt.Job.ToOptions(
                receipt.Job.Diffusion.Find(path, "--diffusion", parsed.GetValue(diffusion)),
                receipt.Job.Classifier?.Find(path, "--classifier", parsed.GetValue(classifier)));
            SampleRequest request = receipt.Job.Request.ToRequest(path, Places(parsed.GetValue(inputs) ?? []));
            using Backend backend = device.OpenLike(parsed, receipt.Job.Device);
            using Sampler sampler = Sampler.Load(options, backend);
            foreach (string line in Reproduction.Circumstances(receipt, sampler))
            {
                console.Error.WriteLine($"kernels: {line}");
            }

            ReproductionResult? result = null;
            int steps = sampler.StepsOf(request);
            SampleProgress.Run(console.Progress, receipt.Images.Count, steps, progress =>
                result = Reproduction.Run(receipt, request, picture, sampler, Math.Min(batchSize, receipt.Images.Count), progress, cancellationToken));
            Report(console, receipt, steps, result!);
            return result!.IsIdentical ? ExitCode.Done : ExitCode.VerificationFailed;
        }
    }

    private static Dictionary<string, string> Places(string[] inputs)
    {
        Dictionary<string, string> places = [];
        foreach (string input in inputs)
        {
            int at = input.IndexOf('=', StringComparison.Ordinal);
            if (at < 1 || !places.TryAdd(input[..at], input[(at + 1)..]))
            {
                throw new ConfigurationException($"--input {input}: give a role and a path once, as init=PATH");
            }
        }

        return places;
    }

    private static void Report(CliConsole console, Receipt receipt, int steps, ReproductionResult result)
    {
        if (result.IsIdentical)
        {
            string what = receipt.StepHashes is null ? "the pixels are the same (the receipt has no hashes of steps)" : string.Create(CultureInfo.InvariantCulture, $"x after each of {steps} steps, and the pixels");
            console.Output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"identical: {receipt.Images.Count} images, {what}"));
        }
        else if (result.Steps is { } difference)
        {
            console.Output.WriteLine(Describe(receipt, steps, difference));
        }
        else
        {
            console.Output.WriteLine(result.PixelsAgree
                ? "differs: the pixels of the file are not those that its receipt speaks of; the run is the same"
                : receipt.StepHashes is null
                    ? "differs: the pixels are not the same (the receipt has no hashes of steps that would tell where the runs part)"
                    : "differs: every step is the same, but the pixels that the receipt speaks of are others");
        }
    }

    private static string Describe(Receipt receipt, int steps, StepDifference difference)
    {
        string Name(int image) => (receipt.Images.First + image).ToString(CultureInfo.InvariantCulture);
        string first = difference.Image is int image
            ? $"image {Name(image)}"
            : "one of the images named below";
        string all = difference.Images.Count == 1 && difference.Image is not null ? "no other image differs"
            : $"{difference.Images.Count} of {receipt.Images.Count} images differ in the end: {string.Join(", ", difference.Images.Take(MaxNamed).Select(Name))}{(difference.Images.Count > MaxNamed ? ", …" : "")}";
        return string.Create(CultureInfo.InvariantCulture, $"differs: first after step {difference.Step + 1} of {steps}, in {first}; {all}");
    }
}

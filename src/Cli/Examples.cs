using System.CommandLine;

namespace Kernels.Cli;

/// <summary>A line for each task that works when it is pasted, in the folder of the repository, in this order: what <c>--help</c> ends its descriptions with.</summary>
internal static class Examples
{
    /// <summary>The command lines.</summary>
    public static IReadOnlyList<string> All { get; } =
    [
        "kernels sample --class star,7 --num-samples 8 --seed 3 --output stars.png",
        "kernels sample --class 0-9 --sampler ddim --steps 25 --output shapes.npz",
        "kernels sample --class heart --cfg-scale 1 --classifier-scale 0",
        "kernels sample --class star --sampler dpm++2m --steps 12 --cfg-scale 1 --classifier-scale 0 --guidance-start 10",
        "kernels sample --compare --sampler ddim,heun,dpm++2m,plms --class 0-9 --steps 12",
        "kernels sample --classes-file docs/classes.csv",
        "kernels sample --rng torch-cpu --seed 0 --batch-size 4 --num-samples 8",
        "kernels sample --class star --steps 250 --num-samples 1 --deadline 500",
        "kernels sample --class 3 --num-samples 2 --output shapes.npz",
        "kernels sample --init shapes.npz --strength 0.6 --class heart",
        "kernels sample --inpaint shapes.npz --mask docs/mask.png --repaint-resamples 5",
        "kernels sample --interpolate 7 --seed 3 --num-samples 8 --class star --sampler ddim --steps 25",
        "kernels sample --num-samples 40 --steps 5 --output many.npz",
        "kernels sample --num-samples 40 --steps 5 --output shards --format npz",
        "kernels sample --num-samples 40 --steps 5 --output shared.npz --rank 0 --world-size 2",
        "kernels invert shapes.npz --output latents.npz --reconstruction back.png",
        "kernels nll shapes.npz --steps 50 --terms terms",
        "kernels reproduce many.npz",
        "kernels merge shards merged.npz",
        "kernels verify tests/packs/unet-adm.safetensors",
        "kernels inspect weights/shapes32_classifier.safetensors",
        "kernels plan weights/shapes32_diffusion.safetensors --classifier weights/shapes32_classifier.safetensors",
        "kernels profile --device cpu --html step.html --trace step.json",
    ];

    /// <summary>Adds its examples to the description of a command.</summary>
    /// <param name="command">A command of <c>kernels</c>.</param>
    /// <returns>The command.</returns>
    public static Command WithExamples(this Command command)
    {
        string[] lines = [.. All.Where(line => line.StartsWith($"kernels {command.Name} ", StringComparison.Ordinal))];
        if (lines.Length > 0)
        {
            command.Description += $"\n\nExamples:\n  {string.Join("\n  ", lines)}";
        }

        return command;
    }
}

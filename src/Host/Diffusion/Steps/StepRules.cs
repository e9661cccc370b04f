using Kernels.Passes;

namespace Kernels.Diffusion.Steps;

/// <summary>The rewrites of the ops around the models.</summary>
internal static class StepRules
{
    /// <summary>The rewrites, in the order in which they are applied.</summary>
    public static IReadOnlyList<FusionRule> All { get; } =
        [new FusionRule("sampler_update", "SamplerUpdate combines the halves of a classifier-free pass, draws its noise and advances the counter", Update)];

    /// <summary>ClassifierFreeGuidance → SamplerUpdate, StepNoise → SamplerUpdate, and the AdvanceStep behind it.</summary>
    public static FusionMatch? Update(Graph graph, Node node)
    {
        // The last node of the pattern advances the counter; without one the update itself is the last.
        Node? update = node.Op is AdvanceStep
            ? graph.Nodes.LastOrDefault(n => n.Op is SamplerUpdate { Advances: false } && n.Inputs[SamplerUpdate.StepInput] == node.Inputs[0])
            : node;
        if (update?.Op is not SamplerUpdate op)
        {
            return null;
        }

        bool advances = node != update;
        if (advances && (graph.IndexOf(update) > graph.IndexOf(node) || update.Outputs.SelectMany(graph.Consumers).Any(n => graph.IndexOf(n) < graph.IndexOf(node))))
        {
            return null;
        }

        List<Node> absorbed = advances ? [update] : [];
        List<Tensor> inputs = [.. update.Inputs];
        if (graph.OnlyFor(inputs[1], update) is { Op: ClassifierFreeGuidance } combine && SameStep(combine, 1) && !op.ClassifierFree)
        {
            absorbed.Add(combine);
            inputs[1] = combine.Inputs[0];
            op = op with { ClassifierFree = true };
        }

        if (op is { Noise: true, DrawsNoise: false } && graph.OnlyFor(inputs[SamplerUpdate.NoiseInput], update) is { Op: StepNoise } noise && noise.Inputs[2] == inputs[SamplerUpdate.StepInput])
        {
            absorbed.Add(noise);
            inputs[SamplerUpdate.NoiseInput] = noise.Inputs[0];
            inputs.Insert(SamplerUpdate.NoiseInput + 1, noise.Inputs[1]);
            op = op with { DrawsNoise = true };
        }

        return absorbed.Count == 0
            ? null
            : new FusionMatch(new Node(update.Name, op with { Advances = op.Advances || advances }, inputs, advances ? [.. update.Outputs, node.Output] : update.Outputs), absorbed);

        bool SameStep(Node reader, int table) => reader.Inputs[table] == update.Inputs[2] && reader.Inputs[table + 1] == update.Inputs[SamplerUpdate.StepInput];
    }
}

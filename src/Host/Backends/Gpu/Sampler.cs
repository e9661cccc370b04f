using Kernels.Diffusion;
using Kernels.Diffusion.Steps;

namespace Kernels.Backends.Gpu;

/// <summary>Launches of <c>sampler.cu</c> and <c>inpaint.cu</c>.</summary>
internal static class Sampler
{
    private const string File = "sampler.cu";

    /// <summary>Lowers noise, classifier-free guidance or a sampler's update.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node.</param>
    public static void Lower(GpuLowering lowering, Node node)
    {
        IReadOnlyList<Tensor> inputs = node.Inputs;
        Tensor y = node.Output;
        LaunchArguments arguments = lowering.Arguments();
        switch (node.Op)
        {
            case StepNoise:
                arguments.Add(lowering.Address(inputs[0])).Add(lowering.Address(inputs[1])).Add(lowering.Address(inputs[2])).Add(lowering.Address(y));
                Emit(lowering, "step_noise", y.Shape, arguments);
                break;
            case ClassifierFreeGuidance op:
                StepTables.Row(lowering, arguments.Add(lowering.Address(inputs[0])), inputs, 1).Add(lowering.Address(y));
                int perChannel = op.Parameterization.OutputsPerChannel;
                Emit(lowering, "classifier_free_guidance", y.Shape, arguments, ("C", y.Shape[3] / perChannel), ("OUTPUTS", perChannel));
                break;
            case KnownRegion:
                StepTables.Row(lowering, arguments.Add(lowering.Address(inputs[0])).Add(lowering.Address(inputs[1])).Add(lowering.Address(inputs[2])), inputs, KnownRegion.Levels)
                    .Add(lowering.Address(inputs[KnownRegion.Levels + 2])).Add(lowering.Address(inputs[KnownRegion.Levels + 3])).Add(lowering.Address(y));
                Emit(lowering, "known_region", y.Shape, arguments, ("C", y.Shape[3]));
                break;
            case SamplerUpdate op:
                Update(lowering, node, op, arguments);
                break;
            default:
                throw new GraphException($"{node.Op.Name} is not of a sampler");
        }
    }

    private static void Update(GpuLowering lowering, Node node, SamplerUpdate op, LaunchArguments arguments)
    {
        IReadOnlyList<Tensor> inputs = node.Inputs;
        Shape shape = node.Output.Shape;
        bool history = op.HistoryLength > 0;
        StepTables.Row(lowering, arguments.Add(lowering.Address(inputs[0])).Add(lowering.Address(inputs[1])), inputs, 2)
            .Add(op.Noise ? lowering.Address(inputs[SamplerUpdate.NoiseInput]) : 0)
            .Add(op.DrawsNoise ? lowering.Address(inputs[SamplerUpdate.NoiseInput + 1]) : 0)
            .Add(op.Guided ? lowering.Address(inputs[op.GradientInput]) : 0)
            .Add(history ? lowering.Address(inputs[op.HistoryInput]) : 0)
            .Add(lowering.Address(node.Outputs[0]))
            .Add(lowering.Address(node.Outputs[1]))
            .Add(history ? lowering.Address(node.Outputs[SamplerUpdate.HistoryOutput]) : 0)
            .Add(op.Advances ? lowering.Address(node.Outputs[^1]) : 0)
            .Add(op.Advances ? lowering.Constants<int>([0]) : 0);
        Emit(
            lowering,
            "sampler_update",
            shape,
            arguments,
            ("C", shape[3]),
            ("OUTPUTS", op.Parameterization.OutputsPerChannel),
            ("DDPM", op.Sampler == SamplerKind.Ddpm),
            ("PREDICT_XSTART", op.Parameterization.MeanType == ModelMeanType.XStart),
            ("CLIP", op.Parameterization.ClipDenoised),
            ("NOISE", op.Noise),
            ("GUIDED", op.Guided),
            ("HISTORY", op.HistoryLength),
            ("HISTORY_EPS", op.Sampler.History() == SamplerHistory.Eps),
            ("DRAWS_NOISE", op.DrawsNoise),
            ("CLASSIFIER_FREE", op.ClassifierFree),
            ("ADVANCES", op.Advances));
    }

    // One thread per 4 elements where they are of one image.
    private static void Emit(GpuLowering lowering, string entry, Shape shape, LaunchArguments arguments, params IEnumerable<(string, object)> constants)
    {
        int elements = shape.Elements / shape[0], width = elements % 4 == 0 ? 4 : 1;
        KernelSpec kernel = new(entry == "known_region" ? "inpaint.cu" : File, entry, [("V", width), ("ELEMENTS", elements), .. constants]);
        lowering.Emit(kernel, Packs.Geometry(shape.Elements / width), arguments.Add(shape.Elements));
    }
}

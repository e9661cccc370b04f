using Kernels.Ops;
using Kernels.Runtime;

namespace Kernels.Backends.Gpu;

/// <summary>
/// Keeps a classifier's gradients in the range of fp16: what <see cref="LabelGradient"/> sends back is multiplied by a power of two, and the last convolution's gradient divides by it where
/// it writes binary32. Gradients are linear in what is sent back, and a power of two changes no fraction: where nothing leaves fp16's range, not a bit of the result does.
/// </summary>
/// <remarks>
/// The gradient of log p shrinks with 1 − p. Where a classifier is sure of its label, fp16 without a scale loses most of it; the original does without (Micikevicius et al. 2018 scale losses for the
/// same reason, in training). A plan whose gradient ends in any other way is left alone.
/// </remarks>
internal sealed class GradientScale
{
    private readonly HashSet<Node> _seeds = [], _ends = [];
    private readonly float _factor;

    /// <summary>Looks for gradients in a plan.</summary>
    /// <param name="plan">The plan.</param>
    /// <param name="options">Precision and exponent.</param>
    public GradientScale(Plan plan, GpuOptions options)
    {
        _factor = MathF.ScaleB(1, options.GradientScaleExponent);
        Graph graph = plan.Graph;
        HashSet<Tensor> scaled = [], outputs = [.. graph.Outputs.Values];
        HashSet<Node> seeds = [], ends = [];
        foreach (Node node in graph.Nodes)
        {
            if (node.Op is LabelGradient)
            {
                seeds.Add(node);
                scaled.Add(node.Output);
            }
            else if (node.Op.IsExact && !node.Op.IsView && node.Inputs.FirstOrDefault(scaled.Contains) is Tensor read)
            {
                // Guidance: what it reads must be what it is.
                ends.Add(graph.Producer(read)!);
            }
            else if (node.Inputs.Any(scaled.Contains))
            {
                scaled.UnionWith(node.Outputs);
                if (node.Outputs.Any(outputs.Contains))
                {
                    ends.Add(node);
                }
            }
        }

        bool end = ends.All(node =>
            node.Op is ConvolutionGradient && node.Output.DType == DType.F32 && options.Of(node) == Precision.Fp16
            && graph.Consumers(node.Output).All(consumer => consumer.Op.IsExact && !consumer.Op.IsView));
        if (options.GradientScaleExponent != 0 && seeds.Count > 0 && ends.Count > 0 && end)
        {
            (_seeds, _ends) = (seeds, ends);
        }
    }

    /// <summary>What a node's result is multiplied by: the scale where a gradient begins, its inverse where it ends, 1 elsewhere.</summary>
    /// <param name="node">The node.</param>
    public float Of(Node node) => _seeds.Contains(node) ? _factor : _ends.Contains(node) ? 1 / _factor : 1;
}

using Kernels.Ops;
using Kernels.Runtime;

namespace Kernels.Backends.Gpu;

/// <summary>What a convolution leaves for the gradient of a group-norm that reads its output as dy.</summary>
/// <param name="Norm">The gradient's node.</param>
/// <param name="Partials">Address of float2 (Σ g, Σ g·x̂) per tile and channel, <c>[N, Tiles, C]</c>.</param>
/// <param name="Means">Address of the groups' float2 (mean g, mean g·x̂), <c>[N, Groups]</c>.</param>
/// <param name="Tickets">Address of one counter per image, all zero between launches.</param>
internal sealed record NormGradientSums(Node Norm, ulong Partials, ulong Means, ulong Tickets)
{
    /// <summary>What the convolution's kernel must know of the norm.</summary>
    public IEnumerable<(string, object)> Constants
    {
        get
        {
            GroupNormGradient op = (GroupNormGradient)Norm.Op;
            yield return ("NORM_GRADIENT", true);
            yield return ("GROUPS", op.Groups);
            yield return ("NORM_X", X.DType);
            yield return ("NORM_STATISTICS", Statistics.DType);
            yield return ("NORM_SILU", op.SiLU);
            yield return ("NORM_POOL", op.Pool);
            if (ScaleShift is Tensor scaleShift)
            {
                yield return ("NORM_SCALE_SHIFT", scaleShift.DType);
            }
        }
    }

    /// <summary>What the norm read.</summary>
    public Tensor X => Norm.Inputs[1];

    /// <summary>Its mean and rstd.</summary>
    public Tensor Statistics => Norm.Inputs[2];

    /// <summary>Its γ.</summary>
    public Tensor Gamma => Norm.Inputs[3];

    /// <summary>Its β; null where the gradient does not depend on it.</summary>
    public Tensor? Beta => ((GroupNormGradient)Norm.Op).HasForwardParameters ? Norm.Inputs[4] : null;

    /// <summary>Its scale and shift; null if it has none.</summary>
    public Tensor? ScaleShift => ((GroupNormGradient)Norm.Op).ScaleShift ? Norm.Inputs[5] : null;
}

/// <summary>
/// The fusion <c>group_norm_gradient_statistics</c>: the convolution that writes dy also reads the norm's x and leaves the means over the groups, so that a gradient whose groups do not
/// fit into registers reads dy and x once instead of twice. All in all four tensors pass instead of five. Tiles depend on one image's shape alone, and so do the gradient's bits.
/// </summary>
internal sealed class GradientStatistics(Plan plan, GpuOptions options, StatisticsMemory memory)
{
    private readonly Dictionary<Node, ulong> _means = [];
    private readonly bool _enabled = !options.DisabledFusions.Contains(GpuOptions.GroupNormGradientStatistics);

    /// <summary>Gradients so far whose means a convolution leaves.</summary>
    public int Count => _means.Count;

    /// <summary>Address of the groups' means that a gradient wants; 0 if no convolution left them.</summary>
    /// <param name="norm">The gradient's node.</param>
    public ulong Of(Node norm) => _means.GetValueOrDefault(norm);

    /// <summary>Memory for the sums that the convolution which is being lowered is to leave; null if nobody wants them.</summary>
    /// <param name="producer">The convolution.</param>
    /// <param name="spread">Whether its tiles do not keep to one image.</param>
    /// <param name="rows">Pixels of a tile.</param>
    public NormGradientSums? Add(Node producer, bool spread, int rows)
    {
        Tensor dy = producer.Output;
        if (!_enabled || spread || dy.Shape.Rank != 4 || plan.Graph.Consumers(dy).FirstOrDefault(node => Wants(node, producer)) is not Node norm)
        {
            return null;
        }

        Shape shape = dy.Shape;
        int tiles = ((shape[1] * shape[2]) + rows - 1) / rows, groups = ((GroupNormGradient)norm.Op).Groups;
        long pair = 2L * sizeof(float), means = pair * shape[0] * groups;
        (ulong address, ulong tickets) = memory.Take(producer, norm, means + (pair * shape[0] * tiles * shape[3]), shape[0]);
        _means[norm] = address;
        return new NormGradientSums(norm, address + (ulong)means, address, tickets);
    }

    // What the norm's gradient reads beside dy must be there when dy is written, by the same of the two parts of a step.
    private bool Wants(Node norm, Node producer)
    {
        int now = plan.Graph.IndexOf(producer);
        return norm.Op is GroupNormGradient op && norm.Inputs[0] == producer.Output && GroupNorm.ReadsTwice(norm) && Aside(norm) == Aside(producer)
            && norm.Inputs.Skip(1).Take(op.ResidualInput - 1).All(tensor => plan.Graph.Producer(tensor) is not Node other || plan.Graph.IndexOf(other) < now);
    }

    private bool Aside(Node node) => plan.Concurrency?.Side.Contains(node) == true;
}

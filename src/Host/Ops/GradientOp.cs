using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>An op without a gradient rule: one of the backward pass, since guidance takes first derivatives only, or one of the sampler's step, which no model contains.</summary>
public abstract record GradientOp : Op
{
    /// <inheritdoc/>
    /// <exception cref="GraphException">Always.</exception>
    public sealed override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        throw new GraphException($"{Name} '{node.Name}' has no gradient: only what lies between x and the logits of a model can be differentiated, and that once");
    }
}

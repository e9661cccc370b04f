using Kernels.Passes;

namespace Kernels.Ops;

/// <summary>An op of the backward pass. Guidance takes first derivatives only, so these have no rule of their own.</summary>
public abstract record GradientOp : Op
{
    /// <inheritdoc/>
    /// <exception cref="GraphException">Always: second derivatives are not taken.</exception>
    public sealed override void Gradient(GradientScope scope, Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        throw new GraphException($"{Name} '{node.Name}' belongs to a backward pass; second derivatives are not supported");
    }
}

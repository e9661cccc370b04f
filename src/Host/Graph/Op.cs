using System.Text;
using Kernels.Passes;

namespace Kernels;

/// <summary>What a node computes: shapes, gradient rule and cost. How a device does it stands in the backends.</summary>
/// <remarks>Ops are records: two ops with equal attributes are equal, and printing one shows its attributes.</remarks>
public abstract record Op
{
    /// <summary>The op's name in dumps, plans and profiles.</summary>
    public string Name => GetType().Name;

    /// <summary>
    /// Inputs whose storage output 0 may take over, best first. The op must read each element of such an input no later than it writes the
    /// element of the output that has the same position.
    /// </summary>
    public virtual IReadOnlyList<int> InPlaceInputs => [];

    /// <summary>Inputs whose storage an output may take over, as <see cref="InPlaceInputs"/>; a further output takes one over only where the graph updates it.</summary>
    /// <param name="output">The output's position.</param>
    public virtual IReadOnlyList<int> InPlaceInputsOf(int output) => output == 0 ? InPlaceInputs : [];

    /// <summary>Whether output 0 is input 0 under another shape: nothing is launched and both share storage.</summary>
    public virtual bool IsView => false;

    /// <summary>Whether what it reads and writes is kept in binary32 at every precision: the sampler's arithmetic, probabilities, timesteps.</summary>
    public virtual bool IsExact => false;

    /// <summary>Checks the inputs and says what comes out.</summary>
    /// <param name="inputs">The inputs, with the node's name for messages.</param>
    /// <returns>One type per output.</returns>
    /// <exception cref="GraphException">The inputs do not fit; the message names node, op, expectation and finding.</exception>
    public abstract IReadOnlyList<TensorType> Infer(OpInputs inputs);

    /// <summary>Floating-point operations, a multiply-add counted as two and a transcendental function as one.</summary>
    /// <param name="node">A node of this op.</param>
    public abstract long Flops(Node node);

    /// <summary>The least work: each distinct input read once, each output written once.</summary>
    /// <param name="node">A node of this op.</param>
    public virtual Cost Cost(Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return IsView ? default : new(node.Inputs.Distinct().Sum(t => t.Bytes), node.Outputs.Sum(t => t.Bytes), Flops(node));
    }

    /// <summary>Adds the nodes that carry the gradient of the outputs back to the inputs that want one.</summary>
    /// <param name="scope">Incoming gradients, and the place to put outgoing ones.</param>
    /// <param name="node">The node to differentiate.</param>
    public abstract void Gradient(GradientScope scope, Node node);

    /// <summary>Prints the attributes; the derived records add theirs.</summary>
    /// <param name="builder">Where to.</param>
    /// <returns>Whether anything was printed: at this level, nothing.</returns>
    protected virtual bool PrintMembers(StringBuilder builder) => false;
}

namespace Kernels;

/// <summary>One application of an op to tensors.</summary>
public sealed class Node
{
    /// <summary>Creates a node for outputs that exist already, as a pass does when it replaces a pattern.</summary>
    /// <param name="name">Module path; the outputs carry it too.</param>
    /// <param name="op">What it computes.</param>
    /// <param name="inputs">What it reads.</param>
    /// <param name="outputs">What it writes.</param>
    public Node(string name, Op op, IReadOnlyList<Tensor> inputs, IReadOnlyList<Tensor> outputs)
    {
        Name = name;
        Op = op;
        Inputs = inputs;
        Outputs = outputs;
    }

    /// <summary>Module path, as in the checkpoint where there is one.</summary>
    public string Name { get; }

    /// <summary>What it computes.</summary>
    public Op Op { get; }

    /// <summary>What it reads.</summary>
    public IReadOnlyList<Tensor> Inputs { get; }

    /// <summary>What it writes.</summary>
    public IReadOnlyList<Tensor> Outputs { get; }

    /// <summary>The first output.</summary>
    public Tensor Output => Outputs[0];

    /// <summary>The least work this node can do.</summary>
    public Cost Cost => Op.Cost(this);

    /// <summary>Creates a node with new outputs, of the shapes that the op infers.</summary>
    /// <param name="name">Module path; the first output takes it as its name, the k-th further one gets <c>#k</c> appended.</param>
    /// <param name="op">What it computes.</param>
    /// <param name="inputs">What it reads.</param>
    /// <exception cref="GraphException">The inputs do not fit the op.</exception>
    public static Node Create(string name, Op op, params ReadOnlySpan<Tensor> inputs)
    {
        ArgumentNullException.ThrowIfNull(op);
        IReadOnlyList<TensorType> types = op.Infer(new OpInputs(name, op, inputs));
        Tensor[] outputs = [.. types.Select((type, k) => new Tensor(k == 0 ? name : $"{name}#{k}", type, TensorKind.Value))];
        return new Node(name, op, inputs.ToArray(), outputs);
    }

    /// <summary>The node as one line of the text dump.</summary>
    public override string ToString() =>
        $"{string.Join(", ", Outputs)} = {Op}({string.Join(", ", Inputs.Select(t => t.Name))})";
}

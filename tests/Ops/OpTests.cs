using Xunit;

namespace Kernels.Tests.Ops;

/// <summary>The cases of a family of ops.</summary>
public interface IOpCases
{
    static abstract IEnumerable<OpCase> Cases { get; }

    static abstract IEnumerable<Refusal> Refusals { get; }
}

/// <summary>The checks of a family of ops; a subclass lists its cases and the applications that must be refused.</summary>
/// <typeparam name="T">The subclass.</typeparam>
#pragma warning disable CA1000 // The runner finds the data as static members of the subclass; nobody else uses them.
public abstract class ForwardOpTests<T>
    where T : IOpCases
{
    private static readonly Dictionary<string, OpCase> s_cases = T.Cases.ToDictionary(c => $"{c.Op.Name}, {c.Name}");

    public static TheoryData<string, string> Forward() => Rows(_ => true, TestBackend.Names);

    public static TheoryData<int, string> Refused()
    {
        TheoryData<int, string> data = [];
        foreach ((int i, Refusal refusal) in T.Refusals.Index())
        {
            data.Add(i, refusal.Op.ToString());
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Forward))]
    public void Outputs_equal_the_float64_reference(string name, string backend) => OpHarness.CheckForward(Case(name), TestBackend.Get(backend));

    [Theory]
    [MemberData(nameof(Refused))]
    public void Wrong_inputs_are_refused_by_name(int index, string op)
    {
        Refusal refusal = T.Refusals.ElementAt(index);
        Tensor[] inputs = [.. refusal.Shapes.Select((type, i) => new Tensor($"operand{i}", type, TensorKind.Input))];
        GraphException e = Assert.Throws<GraphException>(() => Node.Create("blocks.3.layer", refusal.Op, inputs));
        Assert.StartsWith($"{op.Split(' ')[0]} 'blocks.3.layer': ", e.Message, StringComparison.Ordinal);
        Assert.All(refusal.Says, text => Assert.Contains(text, e.Message, StringComparison.Ordinal));
    }

    protected static OpCase Case(string name) => s_cases[name];

    protected static TheoryData<string, string> Rows(Func<OpCase, bool> selected, IEnumerable<string> backends)
    {
        TheoryData<string, string> data = [];
        foreach (string name in s_cases.Where(p => selected(p.Value)).Select(p => p.Key))
        {
            foreach (string backend in backends)
            {
                data.Add(name, backend);
            }
        }

        return data;
    }
}

/// <summary>The checks of a family of ops that carry gradients.</summary>
/// <typeparam name="T">The subclass.</typeparam>
public abstract class OpTests<T> : ForwardOpTests<T>
    where T : IOpCases
{
    public static TheoryData<string, string> Differentiable() => Rows(c => c.Differentiable.Any(), TestBackend.ExactNames);

    [Theory]
    [MemberData(nameof(Differentiable))]
    public void Gradients_equal_finite_differences(string name, string backend) => OpHarness.CheckGradient(Case(name), TestBackend.Get(backend));
}

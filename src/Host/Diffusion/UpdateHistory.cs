using System.Numerics;
using System.Runtime.CompilerServices;

namespace Kernels.Diffusion;

/// <summary>What a sampler update reads and leaves of evaluations of the model (<see cref="SamplerKinds.History"/>): the default is nothing.</summary>
/// <param name="previous">What the last <paramref name="length"/> evaluations left, the latest first.</param>
/// <param name="next">Receives the same after this one; may share memory with <paramref name="previous"/>.</param>
/// <param name="stride">From one evaluation to the one before it, in elements.</param>
/// <param name="length">How many evaluations.</param>
/// <param name="kept">What is left.</param>
internal readonly ref struct UpdateHistory(ReadOnlySpan<float> previous, Span<float> next, int stride, int length, SamplerHistory kept)
{
    private readonly ReadOnlySpan<float> _previous = previous;
    private readonly Span<float> _next = next;

    /// <summary>How many evaluations.</summary>
    public int Length => length;

    /// <summary>What is left.</summary>
    public SamplerHistory Kept => kept;

    /// <summary>Adds Σ H_k · history_k to some elements, and moves the history of these on.</summary>
    /// <param name="row">The step's coefficients.</param>
    /// <param name="sum">What is added to.</param>
    /// <param name="latest">What this evaluation leaves.</param>
    /// <param name="i">Position of the first element.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector<float> Apply(StepRow row, Vector<float> sum, Vector<float> latest, int i)
    {
        for (int k = 0; k < length; k++)
        {
            Vector<float> earlier = SamplerMath.Load(Part(k), i);
            sum += new Vector<float>(row[StepColumn.History1Coef + k]) * earlier;
            SamplerMath.Store(latest, _next.Slice(k * stride, _next.Length - ((length - 1) * stride)), i);
            latest = earlier;
        }

        return sum;
    }

    /// <summary>Checks the spans against the number of elements.</summary>
    /// <param name="elements">Elements of x.</param>
    public void Validate(int elements)
    {
        if (length > 0)
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(stride, elements);
            ArgumentOutOfRangeException.ThrowIfNotEqual(_previous.Length, ((length - 1) * stride) + elements);
            ArgumentOutOfRangeException.ThrowIfNotEqual(_next.Length, _previous.Length);
        }
    }

    private ReadOnlySpan<float> Part(int k) => _previous.Slice(k * stride, _previous.Length - ((length - 1) * stride));
}

namespace Kernels.Backends.Cpu;

/// <summary>Extents of multi-head self-attention over qkv [N, T, 3 C] with C = Heads * HeadSize.</summary>
/// <param name="N">Images.</param>
/// <param name="T">Tokens.</param>
/// <param name="Heads">Heads.</param>
/// <param name="HeadSize">Channels of a head.</param>
/// <param name="NewOrder">
/// Whether all queries come before all keys before all values (<c>QKVAttention</c>), rather than each head holding its own three (<c>QKVAttentionLegacy</c>).
/// </param>
internal readonly record struct AttentionShape(int N, int T, int Heads, int HeadSize, bool NewOrder)
{
    /// <summary>Channels of the output.</summary>
    public int C => Heads * HeadSize;

    /// <summary>Floats from one token of qkv to the next.</summary>
    public nint TokenStride => 3 * (nint)C;

    /// <summary>Factor on queries and on keys, HeadSize^(-1/4) each: more stable than dividing the product.</summary>
    public float Scale => (float)(1 / Math.Sqrt(Math.Sqrt(HeadSize)));

    /// <summary>Channel of a head's first query.</summary>
    public int Query(int head) => NewOrder ? head * HeadSize : head * 3 * HeadSize;

    /// <summary>Channels from a head's queries to its keys, and from its keys to its values.</summary>
    public int Step => NewOrder ? C : HeadSize;

    /// <summary>Checks what the kernels rely on.</summary>
    public void Validate() =>
        ArgumentOutOfRangeException.ThrowIfLessThan(Math.Min(Math.Min(N, T), Math.Min(Heads, HeadSize)), 1, nameof(AttentionShape));
}

using System.Globalization;

namespace Kernels.Backends.Gpu;

/// <summary>A kernel as it is to be compiled: a source file, an entry, and the constants it is specialised for. Two specs with the same constants are equal.</summary>
public sealed record KernelSpec
{
    /// <summary>Names a kernel.</summary>
    /// <param name="file">The source, for instance <c>group_norm.cu</c>.</param>
    /// <param name="entry">The entry in it.</param>
    /// <param name="constants">What it is specialised for: macros and their values.</param>
    public KernelSpec(string file, string entry, params IEnumerable<(string Name, object Value)> constants)
    {
        File = file;
        Entry = entry;
        Options = string.Join('\n', constants.Select(c => $"-D{c.Name}={Text(c.Value)}"));
    }

    /// <summary>The source file.</summary>
    public string File { get; }

    /// <summary>The entry's name.</summary>
    public string Entry { get; }

    /// <summary>The <c>-D</c> options, one per line.</summary>
    public string Options { get; }

    /// <inheritdoc/>
    public override string ToString() => $"{Entry} ({File}{(Options.Length == 0 ? "" : " " + Options.Replace('\n', ' '))})";

    private static string Text(object value) => value switch
    {
        bool flag => flag ? "1" : "0",
        DType dtype => dtype.CudaName(),

        // A literal of C++ needs its point and its suffix.
        float number => number.ToString("e9", CultureInfo.InvariantCulture) + "f",
        IFormattable formattable => formattable.ToString(null, CultureInfo.InvariantCulture),
        _ => value.ToString()!,
    };
}

/// <summary>One launch of a lowered node: which kernel, how large, with which arguments; or a product that a library computes. Plain data.</summary>
/// <param name="Kernel">The kernel.</param>
/// <param name="Geometry">Grid, block and dynamic shared memory.</param>
/// <param name="Arguments">The argument block.</param>
/// <param name="Node">The node it belongs to.</param>
public sealed record KernelCall(KernelSpec Kernel, LaunchGeometry Geometry, ReadOnlyMemory<byte> Arguments, Node Node)
{
    /// <summary>The product, if a library computes it; <see cref="Kernel"/> then only names it.</summary>
    public Gemm? Gemm { get; init; }
}

using Kernels.Ops;
using Kernels.Passes;

namespace Kernels.Backends.Gpu;

/// <summary>
/// The fusion <c>group_norm_prologue</c>: a group-norm, scale, shift and SiLU are applied to the patch of the input that a convolution keeps for all its taps, so that the norm is no launch of
/// its own and its result is never written. Every block normalises what it reads, so either its tile must be large enough for that to be little beside the products, or that must take no
/// longer than a launch.
/// </summary>
internal static class NormPrologue
{
    // An element of the patch takes 24 instructions, as the emulator counts them, of which a multiprocessor issues 128 (32 lanes on four schedulers) in the cycle of 128 multiply-adds on its
    // ordinary cores or, as NVIDIA states for sm_80, of 1024 in 16 bits and 512 in tf32 on its tensor cores; where those are fewer there is more time. So much may be added to the cycles of
    // a tile's products, if nothing overlapped; or so many cycles, a microsecond: what a launch that waits for the one before is taken to cost until somebody measures it.
    private const double Instructions = 24, LargestShare = 0.6, LaunchCycles = 1800;

    // Of the shared memory that a block may have the kernel takes some before the part that is sized here.
    private const int StaticBytes = 2 << 10;

    /// <summary>Puts norms into the convolutions behind them.</summary>
    /// <param name="graph">The graph with its types of storage (<see cref="ReducedStorage"/>).</param>
    /// <param name="options">The backend's options.</param>
    /// <param name="sharedBytes">Shared memory that a block may have.</param>
    public static Graph Apply(Graph graph, GpuOptions options, int sharedBytes) => options.DisabledFusions.Contains(GpuOptions.GroupNormPrologue)
        ? graph
        : Fusion.ApplyOne(
            graph,
            new FusionRule(
                GpuOptions.GroupNormPrologue,
                GpuOptions.Fusions.Single(f => f.Name == GpuOptions.GroupNormPrologue).Description,
                (all, node) => Match(all, node, options, sharedBytes)));

    private static FusionMatch? Match(Graph graph, Node node, GpuOptions options, int sharedBytes)
    {
        if (node.Op is not (Ops.Convolution { TwoInputs: false } or ConvolutionSkip)
            || graph.OnlyFor(node.Inputs[0], node) is not { Op: Ops.GroupNorm { Pool: false } op } norm
            || options.Of(norm) != options.Of(node)
            || graph.Outputs.Values.Contains(norm.Outputs[1])
            || graph.Consumers(norm.Outputs[1]).Any(reader => graph.IndexOf(reader) < graph.IndexOf(node)))
        {
            return null;
        }

        Node fused = new(node.Name, new NormalizedConvolution(op, node.Op), [.. norm.Inputs, .. node.Inputs.Skip(1)], [node.Output, norm.Outputs[1]]);
        (ImplicitProduct product, Convolution.Operands operands) = Convolution.Describe(fused);
        Precision precision = options.Of(node);
        ConvolutionTile tile = Convolution.Tile(product, operands, precision, sharedBytes);
        double perCycle = precision switch { Precision.Fp32 => 128, Precision.Tf32 => 512, _ => 1024 }, taps = product.Window.Height * product.Window.Width;
        double products = tile.Pixels * tile.Channels * taps * product.AllChannels / perCycle, normalising = Instructions / 128 * tile.PatchPixels * product.AllChannels;
        return tile.Width > 0 && normalising <= Math.Max(LargestShare * products, LaunchCycles) && tile.SharedBytes + StaticBytes <= sharedBytes ? new FusionMatch(fused, norm) : null;
    }
}

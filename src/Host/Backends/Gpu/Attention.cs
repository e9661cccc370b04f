using Kernels.Ops;

namespace Kernels.Backends.Gpu;

/// <summary>Launches of <c>attention.cu</c> and <c>attention_backward.cu</c>.</summary>
internal static class Attention
{
    private const string Forward = "attention.cu", Backward = "attention_backward.cu";

    /// <summary>Shared memory that a block of sm_86 and sm_89 may have; larger devices gain nothing from other tiles.</summary>
    private const int SharedLimit = 99 * 1024;

    /// <summary>Lowers attention or its gradient.</summary>
    /// <param name="lowering">Where launches go.</param>
    /// <param name="node">The node.</param>
    public static void Lower(GpuLowering lowering, Node node)
    {
        if (node.Op is Ops.Attention forward)
        {
            LowerForward(lowering, node, forward);
        }
        else
        {
            LowerBackward(lowering, node, (AttentionGradient)node.Op);
        }
    }

    private static void LowerForward(GpuLowering lowering, Node node, Ops.Attention op)
    {
        Tensor qkv = node.Inputs[0], y = node.Output;
        Problem problem = new(qkv.Shape, op.Heads, op.Order, lowering.Precision);
        (string, object)[] types = [("QKV", qkv.DType), ("OUT", y.DType), ("LSE", node.Outputs[1].DType)];
        LaunchArguments arguments = lowering.Arguments().Add(lowering.Address(qkv)).Add(lowering.Address(y)).Add(lowering.Address(node.Outputs[1]));
        if (Tiles.Forward(problem) is Tiles tiles)
        {
            lowering.Emit(new KernelSpec(Forward, "attention_forward", [.. types, .. problem.Constants, .. tiles.Constants]), tiles.Geometry(problem, 1, 0), arguments);
        }
        else
        {
            LowerNaive(lowering, node, problem, new KernelSpec(Forward, "attention_naive", [.. types, .. problem.Constants, .. Tiles.Least.Constants]), arguments);
        }
    }

    private static void LowerBackward(GpuLowering lowering, Node node, AttentionGradient op)
    {
        (Tensor dout, Tensor qkv, Tensor y, Tensor lse, Tensor dqkv) = (node.Inputs[0], node.Inputs[1], node.Inputs[2], node.Inputs[3], node.Output);
        Problem problem = new(qkv.Shape, op.Heads, op.Order, lowering.Precision);
        (string, object)[] types = [("DOUT", dout.DType), ("QKV", qkv.DType), ("OUT", y.DType), ("LSE", lse.DType), ("DQKV", dqkv.DType)];
        (ulong aDout, ulong aQkv, ulong aOut, ulong aLse, ulong aDqkv) =
            (lowering.Address(dout), lowering.Address(qkv), lowering.Address(y), lowering.Address(lse), lowering.Address(dqkv));
        if (Tiles.Backward(problem) is not Tiles tiles)
        {
            LowerNaive(
                lowering,
                node,
                problem,
                new KernelSpec(Backward, "attention_backward_naive", [.. types, .. problem.Constants, .. Tiles.Least.Constants]),
                lowering.Arguments().Add(aDout).Add(aQkv).Add(aOut).Add(aLse).Add(aDqkv));
            return;
        }

        // One launch: the first half of the blocks own keys, the second queries.
        LaunchGeometry geometry = tiles.Geometry(problem, 2, 2 * sizeof(float));
        lowering.Emit(
            new KernelSpec(Backward, "attention_backward", [.. types, .. problem.Constants, .. tiles.Constants]),
            geometry with { GridX = 2 * geometry.GridX },
            lowering.Arguments().Add(aDout).Add(aQkv).Add(aOut).Add(aLse).Add(aDqkv));
    }

    // Heads too wide for any tile: slow and right.
    private static void LowerNaive(GpuLowering lowering, Node node, Problem problem, KernelSpec kernel, LaunchArguments arguments)
    {
        const int MostTokens = 12 * 1024;
        if (problem.T > MostTokens)
        {
            throw new GraphException($"{node.Op.Name} '{node.Name}': heads of {problem.HeadSize} channels over {problem.T} tokens are more than the GPU backend takes (128 channels, or {MostTokens} tokens)");
        }

        lowering.Emit(kernel, new LaunchGeometry(problem.T, problem.Heads, problem.N, 32, 1, 1, 0), arguments);
    }

    /// <summary>What is to be computed.</summary>
    internal readonly record struct Problem(int N, int T, int Heads, int HeadSize, QkvOrder Order, Precision Precision)
    {
        public Problem(Shape qkv, int heads, QkvOrder order, Precision precision)
            : this(qkv[0], Ops.Attention.Tokens(qkv), heads, qkv[-1] / 3 / heads, order, precision)
        {
        }

        /// <summary>Type of the operands of products.</summary>
        public DType Element => Precision.Storage();

        public IEnumerable<(string, object)> Constants =>
        [
            ("MODE", Precision switch { Precision.Fp32 => 0, Precision.Tf32 => 1, _ => 2 }), ("ELEMENT", Element), ("HS", HeadSize), ("HEADS", Heads), ("TOKENS", T),
            ("NEW_ORDER", Order == QkvOrder.New), ("SCALE", (float)(1 / Math.Sqrt(HeadSize))),
        ];

        /// <summary>Bytes of one row of a tile: the head padded to the depth of an mma, and 16 bytes so that rows lie in different banks.</summary>
        public int RowBytes => ((((HeadSize * Element.SizeInBytes()) + 31) / 32) * 32) + 16;

        /// <summary>The head size padded to the depth of an mma.</summary>
        public int PaddedHeadSize => (RowBytes - 16) / Element.SizeInBytes();
    }

    /// <summary>How the work is cut. A function of tokens, head size and precision alone, so that an image's bits do not depend on the batch.</summary>
    /// <param name="Warps">Warps of a block.</param>
    /// <param name="RowTiles">Tiles of 16 rows that a warp owns.</param>
    /// <param name="Columns">Rows of the tiles that pass by.</param>
    /// <param name="Stages">Buffers for them.</param>
    internal sealed record Tiles(int Warps, int RowTiles, int Columns, int Stages)
    {
        /// <summary>What the naive kernels, which have none, are compiled with.</summary>
        public static readonly Tiles Least = new(1, 1, 16, 1);

        /// <summary>Rows that a block owns.</summary>
        public int Rows => Warps * RowTiles * 16;

        public IEnumerable<(string, object)> Constants => [("BLOCK_WARPS", Warps), ("MT", RowTiles), ("BN", Columns), ("STAGES", Stages)];

        /// <summary>The cut for the forward pass; null if the head is too wide.</summary>
        public static Tiles? Forward(Problem p)
        {
            // One block has all queries of up to 256 tokens, so that keys and values are read once. 32 rows a warp halve what is read from shared memory for each product.
            int rowTiles = p.T > 128 && p.PaddedHeadSize <= 64 ? 2 : 1;
            return Cut(p, rowTiles, p.T <= 256 ? 256 : 128, owned: 1, 64);
        }

        /// <summary>The cut for the gradient; null if the head is too wide. With dk and dv in registers two blocks of 64 rows fill a multiprocessor as well as one of 128, and one image has more of them.</summary>
        public static Tiles? Backward(Problem p) => Cut(p, 1, 64, owned: 2, 32);

        /// <summary>Grid, block and shared memory.</summary>
        /// <param name="p">The problem.</param>
        /// <param name="owned">Tiles of the rows that a block owns.</param>
        /// <param name="more">Further bytes for each row that passes by.</param>
        public LaunchGeometry Geometry(Problem p, int owned, int more) =>
            new((p.T + Rows - 1) / Rows, p.Heads, p.N, 32 * Warps, 1, 1, Bytes(p, owned) + (Stages * Columns * more));

        private static Tiles? Cut(Problem p, int rowTiles, int mostRows, int owned, int mostColumns)
        {
            // Accumulators of one warp are what registers can hold.
            if (p.PaddedHeadSize > 128)
            {
                return null;
            }

            for (int rows = mostRows; rows >= 16 * rowTiles; rows /= 2)
            {
                int warps = (Math.Min(rows, p.T) + (16 * rowTiles) - 1) / (16 * rowTiles);
                for (int columns = mostColumns; columns >= 16; columns /= 2)
                {
                    if (columns > 16 && (columns / 2 >= p.T || (warps > 8 && columns > 32)))
                    {
                        continue;
                    }

                    Tiles tiles = new(warps, rowTiles, columns, columns >= p.T ? 1 : 2);
                    if (tiles.Bytes(p, owned) + (tiles.Stages * columns * 2 * sizeof(float)) <= SharedLimit)
                    {
                        return tiles;
                    }
                }
            }

            return null;
        }

        private int Bytes(Problem p, int owned) => ((owned * Rows) + (2 * Stages * Columns)) * p.RowBytes;
    }
}

using Kernels.Ops;
using Kernels.Runtime;

namespace Kernels.Backends.Gpu;

/// <summary>What a producer leaves of its output per channel and tile.</summary>
/// <param name="Partials">Address of float2 (mean, Σ (y − mean)²), <c>[N, Tiles, Channels]</c>.</param>
/// <param name="Tiles">Tiles of an image.</param>
/// <param name="Rows">Pixels of a tile; the last one of an image may have fewer.</param>
/// <param name="Channels">Channels.</param>
internal sealed record TilePartials(ulong Partials, int Tiles, int Rows, int Channels);

/// <summary>What a producer computes for norms to come: partials of its own output and, for at most one norm, mean and 1/σ of the groups.</summary>
/// <param name="Own">Of its output.</param>
/// <param name="Norm">The norm whose groups it finishes; null if it leaves the partials to the producer of another tensor, which comes later.</param>
/// <param name="Other">Of the tensor that the norm reads beside the output, written before; null if there is none.</param>
/// <param name="OtherFirst">Whether that tensor's channels stand first.</param>
/// <param name="Statistics">Address of the groups' float2 (mean, rstd), <c>[N, Groups]</c>.</param>
/// <param name="Tickets">Address of one counter per image, all zero between launches.</param>
internal sealed record TensorStatistics(TilePartials Own, Ops.GroupNorm? Norm, TilePartials? Other, bool OtherFirst, ulong Statistics, ulong Tickets)
{
    /// <summary>What the producer's kernel must know of it.</summary>
    public IEnumerable<(string, object)> Constants
    {
        get
        {
            if (Norm is null)
            {
                return [];
            }

            (string, object)[] groups = [("GROUPS", Norm.Groups), ("EPSILON", Norm.Epsilon)];
            return Other is null
                ? groups
                : [.. groups, ("OTHER", Other.Channels), ("OTHER_TILES", Other.Tiles), ("OTHER_ROWS", Other.Rows), ("OTHER_FIRST", OtherFirst)];
        }
    }
}

/// <summary>
/// The fusion <c>group_norm_statistics</c>: what writes a tensor that a group-norm reads also leaves the groups' statistics, so that the norm need not read the tensor for them. Where a
/// norm reads two tensors, the first to be written leaves what it knows of its channels, and the second takes that in. Tiles depend on one image's shape alone, and so do the norm's bits.
/// </summary>
internal sealed class ChannelStatistics(Plan plan, GpuOptions options, StatisticsMemory memory)
{
    private readonly Dictionary<Tensor, TilePartials> _partials = [];
    private readonly Dictionary<Node, ulong> _statistics = [];
    private readonly bool _enabled = !options.DisabledFusions.Contains(GpuOptions.GroupNormStatistics);

    /// <summary>Norms so far whose statistics a producer leaves.</summary>
    public int Count => _statistics.Count;

    /// <summary>Address of the groups' float2 (mean, rstd) of what a norm reads; 0 if no producer left them.</summary>
    /// <param name="norm">The norm.</param>
    public ulong Of(Node norm) => _statistics.GetValueOrDefault(norm);

    /// <summary>Whether a group-norm reads the tensor, alone or beside another whose producer leaves partials too, so that its statistics are worth computing.</summary>
    /// <param name="tensor">The tensor.</param>
    public bool AreWanted(Tensor tensor) => _enabled && plan.Graph.Consumers(tensor).Any(node => Wants(node, tensor));

    /// <summary>Memory for the statistics of a tensor, which its producer is about to write.</summary>
    /// <param name="producer">The node that is being lowered.</param>
    /// <param name="tensor">Its output [N, …, C], whose statistics are wanted.</param>
    /// <param name="rows">Pixels of a tile; the last one of an image may have fewer.</param>
    public TensorStatistics Add(Node producer, Tensor tensor, int rows)
    {
        Shape shape = tensor.Shape;
        Node[] readers = [.. plan.Graph.Consumers(tensor).Where(node => Wants(node, tensor))];

        // One set of groups per launch: a norm that reads the tensor alone goes first, then one whose other tensor is there already.
        Node? finished = readers.FirstOrDefault(node => Beside(node, tensor) is null)
            ?? readers.FirstOrDefault(node => _partials.ContainsKey(Beside(node, tensor)!));
        Ops.GroupNorm? norm = finished is null ? null : NormalizedConvolution.NormOf(finished);
        Tensor? beside = finished is null ? null : Beside(finished, tensor);
        int tiles = ((shape.Elements / shape[0] / shape[-1]) + rows - 1) / rows;
        long pair = 2L * sizeof(float), partials = pair * shape[0] * tiles * shape[-1], groups = pair * shape[0] * (norm?.Groups ?? 0);
        (ulong address, ulong tickets) = memory.Take(producer, readers.MaxBy(plan.Graph.IndexOf)!, partials + groups, shape[0]);
        TilePartials own = new(address + (ulong)groups, tiles, rows, shape[-1]);
        _partials[tensor] = own;
        if (norm is not null)
        {
            foreach (Node reader in readers.Where(node => node == finished || (beside is null && Beside(node, tensor) is null && SameGroups(NormalizedConvolution.NormOf(node)!, norm))))
            {
                _statistics[reader] = address;
            }
        }

        return new TensorStatistics(own, norm, beside is null ? null : _partials[beside], beside is not null && finished!.Inputs[0] == beside, address, tickets);
    }

    private static bool SameGroups(Ops.GroupNorm a, Ops.GroupNorm b) => a.Groups == b.Groups && a.Epsilon == b.Epsilon;

    // The tensor that a norm reads beside another; null if it reads but one.
    private static Tensor? Beside(Node norm, Tensor tensor)
    {
        Ops.GroupNorm op = NormalizedConvolution.NormOf(norm)!;
        return !op.TwoInputs ? null : norm.Inputs[0] == tensor ? norm.Inputs[op.SecondInput] : norm.Inputs[0];
    }

    private bool Wants(Node node, Tensor tensor)
    {
        if (NormalizedConvolution.NormOf(node) is not Ops.GroupNorm op)
        {
            return false;
        }

        if (!op.TwoInputs)
        {
            return node.Inputs[0] == tensor;
        }

        // A tensor beside itself would be finished by a launch that has not left its partials yet.
        Tensor first = node.Inputs[0], second = node.Inputs[op.SecondInput];
        return first != second && (first == tensor || second == tensor) && LeavesPartials(first) is bool aside && LeavesPartials(second) == aside;
    }

    // Which of the two parts of the step writes the tensor by convolution.cu; null if neither does.
    private bool? LeavesPartials(Tensor tensor) =>
        plan.Graph.Producer(tensor) is Node producer
        && (producer.Op is Ops.Convolution or ConvolutionSkip or NormalizedConvolution || (producer.Op is Ops.Linear && tensor.Shape.Rank > 2 && !Linear.IsLibrarys(producer, options)))
            ? plan.Concurrency?.Side.Contains(producer) == true
            : null;
}

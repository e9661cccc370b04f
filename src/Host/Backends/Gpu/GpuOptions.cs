namespace Kernels.Backends.Gpu;

/// <summary>How a <see cref="GpuBackend"/> works.</summary>
public sealed record GpuOptions
{
    /// <summary>The environment variable that sets <see cref="DebugLevel"/> where the program does not.</summary>
    public const string DebugVariable = "KERNELS_DEBUG";

    /// <summary>The fusion by which the kernel that writes a tensor leaves the statistics for the group-norm that reads it.</summary>
    public const string GroupNormStatistics = "group_norm_statistics";

    /// <summary>The fusion by which the convolution that writes dy leaves the means that the gradient of a group-norm wants.</summary>
    public const string GroupNormGradientStatistics = "group_norm_gradient_statistics";

    /// <summary>The fusion by which a convolution normalises its input where it brings it in.</summary>
    public const string GroupNormPrologue = "group_norm_prologue";

    /// <summary>The fusions of this backend's own, between launches, with what they do; those of the graph are <see cref="Diffusion.Rewrites.All"/>.</summary>
    public static IReadOnlyList<(string Name, string Description)> Fusions { get; } =
    [
        (GroupNormStatistics, "Convolution and Linear leave the statistics of a GroupNorm that reads their output"),
        (GroupNormGradientStatistics, "A convolution's gradient leaves the means of a GroupNormGradient whose groups do not fit into registers"),
        (GroupNormPrologue, "A Convolution applies the GroupNorm in front of it where it brings its input in, if tiles are large or that takes less than a launch"),
    ];

    /// <summary>Arithmetic and storage.</summary>
    public Precision Precision { get; init; } = Precision.Fp32;

    /// <summary>Other precisions for the nodes whose names begin with a prefix, such as a classifier's; the first that fits counts.</summary>
    public IReadOnlyList<(string Prefix, Precision Precision)> Overrides { get; init; } = [];

    /// <summary>
    /// Whether a plan is captured once and replayed as one graph, in which parts that do not depend on each other run side by side; otherwise every kernel is launched by the host.
    /// </summary>
    public bool Capture { get; init; } = true;

    /// <summary>
    /// Fusions between launches of this backend that are left out, by name (<see cref="Fusions"/>).
    /// </summary>
    public IReadOnlyCollection<string> DisabledFusions { get; init; } = [];

    /// <summary>The power of two by which a classifier's gradients are multiplied while they are stored in fp16; 0 for none. 2⁸ leaves gradients of up to 255 representable.</summary>
    public int GradientScaleExponent { get; init; } = 8;

    /// <summary>Who multiplies the matrices of linear layers.</summary>
    public GemmKind Gemm { get; init; } = GemmKind.Own;

    /// <summary>The folder of the kernel sources; null for those built in (<see cref="KernelSources.Open"/>).</summary>
    public string? KernelsDirectory { get; init; }

    /// <summary>The folder of compiled kernels; null for the user's, empty for none (<see cref="KernelCache"/>).</summary>
    public string? CacheDirectory { get; init; }

    /// <summary>
    /// 1 prints the plan, 2 waits after every kernel and times it, so that one that fails is named, 3 also looks for NaN and infinities in everything that is written.
    /// From 2 on nothing is captured.
    /// </summary>
    public int DebugLevel { get; init; } = int.TryParse(Environment.GetEnvironmentVariable(DebugVariable), out int level) ? level : 0;

    /// <summary>Where debugging output goes.</summary>
    public TextWriter DebugOutput { get; init; } = Console.Error;

    /// <summary>The precision of a node.</summary>
    /// <param name="node">The node.</param>
    internal Precision Of(Node node)
    {
        foreach ((string prefix, Precision precision) in Overrides)
        {
            if (node.Name.StartsWith(prefix, StringComparison.Ordinal))
            {
                return precision;
            }
        }

        return Precision;
    }
}

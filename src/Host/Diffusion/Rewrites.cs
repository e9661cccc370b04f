using Kernels.Diffusion.Steps;
using Kernels.Passes;

namespace Kernels.Diffusion;

/// <summary>Everything that is done to the graph of a guided step before it is planned, by name: <see cref="Hoist"/>, then <see cref="Fusion"/> of both parts.</summary>
public static class Rewrites
{
    /// <summary>What the tables of hoisted tensors may take where nothing else is said: 256 MiB.</summary>
    public const long DefaultTableBytes = 256L << 20;

    /// <summary>The names of all rewrites with what they do, in the order in which they are applied.</summary>
    public static IReadOnlyList<(string Name, string Description)> All { get; } =
        [(Hoist.Name, Hoist.Description), .. Fusion.All, .. StepRules.All.Select(r => (r.Name, r.Description))];

    /// <summary>Rewrites the graph of a guided step.</summary>
    /// <param name="graph">The graph (<see cref="GuidedStep"/>).</param>
    /// <param name="disabled">Names of rewrites to leave out; <c>all</c> leaves out every one.</param>
    /// <param name="tableBytes">What the tables of hoisted tensors may take.</param>
    /// <exception cref="ConfigurationException">A name is unknown; the message lists those there are.</exception>
    public static StepGraphs Apply(Graph graph, IReadOnlyCollection<string>? disabled = null, long tableBytes = DefaultTableBytes)
    {
        ArgumentNullException.ThrowIfNull(graph);
        disabled ??= [];
        bool hoists = !disabled.Contains(Hoist.Name) && !disabled.Contains("all");
        HoistedGraphs? hoisted = hoists ? Hoist.Apply(graph, tableBytes) : null;
        FusionResult step = Fuse(hoisted?.Step ?? graph, disabled);
        FusionResult? conditioning = hoisted is null ? null : Fuse(hoisted.Conditioning, disabled);
        Dictionary<string, int> applied = hoists ? new() { [Hoist.Name] = hoisted?.Tables.Count ?? 0 } : [];
        foreach ((string name, int count) in step.Applied)
        {
            applied.Add(name, count + (conditioning?.Applied[name] ?? 0));
        }

        return new StepGraphs(step.Graph, conditioning?.Graph, hoisted?.Steps ?? 0, hoisted?.Tables ?? [], applied);
    }

    /// <summary>Fuses a graph that need not be a step.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="disabled">Names of rewrites to leave out; <c>all</c> leaves out every one.</param>
    /// <exception cref="ConfigurationException">A name is unknown; the message lists those there are.</exception>
    public static FusionResult Fuse(Graph graph, IReadOnlyCollection<string>? disabled = null)
    {
        disabled ??= [];
        Fusion.CheckNames(disabled, All);
        return Fusion.Apply(graph, disabled, StepRules.All);
    }
}

/// <summary>What <see cref="Rewrites.Apply"/> made of a guided step.</summary>
/// <param name="Step">The step.</param>
/// <param name="Conditioning">What is run before the loop (<see cref="HoistedGraphs.Conditioning"/>); null if nothing is.</param>
/// <param name="Steps">How many steps the tables hold.</param>
/// <param name="Tables">Names of the tables.</param>
/// <param name="Applied">Name of each enabled rewrite, and how often it was applied to both graphs; for <see cref="Hoist"/> the number of tables.</param>
public sealed record StepGraphs(Graph Step, Graph? Conditioning, int Steps, IReadOnlyList<string> Tables, IReadOnlyDictionary<string, int> Applied);

using System.Globalization;

namespace Kernels.Sampling;

/// <summary>Finds out which of the processes of a job this one is: from what is said, or from the variables that launchers set.</summary>
/// <remarks>
/// Open MPI and torchrun start the processes themselves, so they know best. Slurm and Kubernetes may have started a launcher instead: Slurm once per node, or a batch script, which has
/// the variables of task 0 without being one.
/// </remarks>
public static class RankDetection
{
    private const string Remedy = "say --rank and --world-size, which overrule the environment (--rank 0 --world-size 1: this process does everything)";

    /// <summary>Finds the rank.</summary>
    /// <param name="variable">The environment: the value of a variable, or null.</param>
    /// <param name="rank">What the command line says of the rank.</param>
    /// <param name="world">What it says of the number of processes.</param>
    /// <param name="tell">Receives what is worth knowing, a line each.</param>
    /// <exception cref="ConfigurationException">The sources are incomplete, wrong, or contradict each other.</exception>
    public static Rank Detect(Func<string, string?> variable, int? rank = null, int? world = null, Action<string>? tell = null)
    {
        ArgumentNullException.ThrowIfNull(variable);
        string? index = variable("JOB_COMPLETION_INDEX");
        if (rank is not null || (world is not null && index is null))
        {
            return rank is int i && world is int n
                ? Checked(i, n, "--rank", "--world-size") with { Local = LocalRank(variable), Source = "--rank and --world-size" }
                : throw new ConfigurationException(rank is null ? "--world-size needs --rank" : "--rank needs --world-size");
        }

        Rank? openMpi = Pair(variable, "Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK");
        // A pod of an indexed job may be given the number of pods under the name that torchrun has for it.
        Rank? torch = index is not null && variable("RANK") is null ? null : Pair(variable, "torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK");
        Rank? launcher = openMpi ?? torch;
        Rank? slurm = Slurm(variable, launcher is null ? tell : null, out bool onePerNode);
        Expect(openMpi, torch, nested: false);
        Expect(launcher, slurm, nested: onePerNode);
        return launcher ?? slurm ?? Kubernetes(variable, index, world) ?? Rank.Single;
    }

    private static int? LocalRank(Func<string, string?> variable)
    {
        string? set = Array.Find(["OMPI_COMM_WORLD_LOCAL_RANK", "LOCAL_RANK", "SLURM_LOCALID"], name => variable(name) is not null);
        return set is null ? null : Number(variable, set);
    }

    private static void Expect(Rank? inner, Rank? outer, bool nested)
    {
        if (inner is not null && outer is not null && !nested && (inner.Index, inner.World) != (outer.Index, outer.World))
        {
            throw new ConfigurationException(string.Create(
                CultureInfo.InvariantCulture,
                $"{inner.Source} says that this is process {inner.Index} of {inner.World}, {outer.Source} that it is {outer.Index} of {outer.World}; {Remedy}"));
        }
    }

    private static Rank? Slurm(Func<string, string?> variable, Action<string>? tell, out bool onePerNode)
    {
        const string Index = "SLURM_PROCID";

        // Of the step that srun started; without it the variables are those of the allocation.
        string size = variable("SLURM_STEP_NUM_TASKS") is null ? "SLURM_NTASKS" : "SLURM_STEP_NUM_TASKS";
        bool step = variable("SLURM_STEP_NUM_TASKS") is not null || variable("SLURM_STEP_ID") is not null;
        onePerNode = false;
        if (variable(Index) is null || variable(size) is null)
        {
            return null;
        }

        Rank rank = Checked(Number(variable, Index), Number(variable, size), Index, size) with
        {
            Local = variable("SLURM_LOCALID") is null ? null : Number(variable, "SLURM_LOCALID"),
            Source = $"Slurm ({Index}, {size})",
        };
        if (!step && rank.Index == 0)
        {
            if (rank.World > 1)
            {
                tell?.Invoke($"{size} is {rank.World}, but this process was not started by srun: it does everything. srun before the command divides the work");
            }

            return null;
        }

        onePerNode = variable("SLURM_STEP_NUM_NODES") is not null && Number(variable, "SLURM_STEP_NUM_NODES") == rank.World;
        return rank;
    }

    private static Rank? Kubernetes(Func<string, string?> variable, string? index, int? world)
    {
        const string Index = "JOB_COMPLETION_INDEX";
        if (index is null)
        {
            return null;
        }

        string size = world is not null ? "--world-size" : variable("JOB_COMPLETIONS") is not null ? "JOB_COMPLETIONS" : "WORLD_SIZE";
        return world is null && variable(size) is null
            ? throw new ConfigurationException($"{Index} is {index}, but nothing says of how many: set JOB_COMPLETIONS or WORLD_SIZE to the completions of the job, or {Remedy}")
            : Checked(Number(variable, Index), world ?? Number(variable, size), Index, size) with { Source = $"Kubernetes ({Index}, {size})" };
    }

    private static Rank? Pair(Func<string, string?> variable, string launcher, string index, string size, string local)
    {
        if (variable(index) is null != variable(size) is null)
        {
            (string set, string missing) = variable(index) is null ? (size, index) : (index, size);
            throw new ConfigurationException($"{set} is set and {missing} is not; set both or none, or {Remedy}");
        }

        return variable(index) is null
            ? null
            : Checked(Number(variable, index), Number(variable, size), index, size) with
            {
                Local = variable(local) is null ? null : Number(variable, local),
                Source = $"{launcher} ({index}, {size})",
            };
    }

    private static int Number(Func<string, string?> variable, string name) => int.TryParse(variable(name), NumberStyles.None, CultureInfo.InvariantCulture, out int value)
        ? value
        : throw new ConfigurationException($"{name} is '{variable(name)}', which is no number of a process; {Remedy}");

    private static Rank Checked(int index, int world, string indexName, string sizeName) => world >= 1 && index >= 0 && index < world
        ? new Rank(index, world)
        : throw new ConfigurationException(FormattableString.Invariant($"{indexName} is {index} and {sizeName} is {world}: ranks are counted from 0 and less than the number of processes"));
}

using Kernels.Sampling;
using Xunit;

namespace Kernels.Tests.Sampling;

/// <summary>Which process this is, from the variables that each launcher is documented to set.</summary>
public sealed class RankTests
{
    private const string OpenMpi = "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=0";
    private const string Srun = "SLURM_PROCID=5 SLURM_NTASKS=8 SLURM_LOCALID=1 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=8 SLURM_STEP_NUM_NODES=2";
    private const string Batch = "SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_LOCALID=0 SLURM_JOB_ID=7";
    private const string Torchrun = "RANK=3 WORLD_SIZE=4 LOCAL_RANK=3";

    [Theory]
    [InlineData("", 0, 1, null)]
    [InlineData(OpenMpi, 1, 4, 0)]
    [InlineData(Srun, 5, 8, 1)]
    [InlineData(Torchrun, 3, 4, 3)]
    [InlineData("JOB_COMPLETION_INDEX=2 JOB_COMPLETIONS=3", 2, 3, null)]
    [InlineData("JOB_COMPLETION_INDEX=2 WORLD_SIZE=3", 2, 3, null)]
    [InlineData("SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_LOCALID=1", 1, 2, 1)]

    // srun -n 1 within an allocation of eight: the step has one task, whatever the allocation has.
    [InlineData("SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_LOCALID=0 SLURM_STEP_ID=2 SLURM_STEP_NUM_TASKS=1 SLURM_STEP_NUM_NODES=1", 0, 1, 0)]

    // The batch script itself has the variables of task 0.
    [InlineData(Batch, 0, 1, null)]

    // mpirun within a batch script, and by srun once per node; torchrun within either.
    [InlineData(Batch + " " + OpenMpi, 1, 4, 0)]
    [InlineData("SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NUM_NODES=2 " + OpenMpi, 1, 4, 0)]
    [InlineData(Batch + " " + Torchrun, 3, 4, 3)]

    // The same said twice is no contradiction.
    [InlineData(OpenMpi + " RANK=1 WORLD_SIZE=4", 1, 4, 0)]
    [InlineData("JOB_COMPLETION_INDEX=1 JOB_COMPLETIONS=2 " + Torchrun, 3, 4, 3)]
    public void Launchers_are_understood(string environment, int index, int world, int? local)
    {
        Rank rank = RankDetection.Detect(Variables(environment));
        Assert.Equal((index, world, local), (rank.Index, rank.World, rank.Local));
    }

    [Theory]
    [InlineData("", 2, 3, null)]
    [InlineData(OpenMpi, 2, 3, 0)]
    [InlineData(OpenMpi + " " + Torchrun, 2, 3, 0)]
    [InlineData("RANK=none", 2, 3, null)]
    public void The_command_line_overrules(string environment, int index, int world, int? local)
    {
        Rank rank = RankDetection.Detect(Variables(environment), index, world);
        Assert.Equal((index, world, local), (rank.Index, rank.World, rank.Local));
    }

    [Fact]
    public void The_command_line_may_add_the_size_that_Kubernetes_does_not_tell()
    {
        Rank rank = RankDetection.Detect(Variables("JOB_COMPLETION_INDEX=2"), world: 5);
        Assert.Equal((2, 5), (rank.Index, rank.World));
    }

    [Theory]
    [InlineData(OpenMpi + " " + Torchrun, "Open MPI", "process 1 of 4", "torchrun", "3 of 4", "--world-size")]
    [InlineData(Srun + " " + Torchrun, "torchrun", "process 3 of 4", "Slurm", "5 of 8")]
    [InlineData("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2 SLURM_PROCID=1 SLURM_NTASKS=3 SLURM_LOCALID=1", "process 0 of 2", "1 of 3")]
    [InlineData("RANK=1", "RANK is set and WORLD_SIZE is not")]
    [InlineData("WORLD_SIZE=2", "WORLD_SIZE is set and RANK is not")]
    [InlineData("OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_RANK is not")]
    [InlineData("RANK=4 WORLD_SIZE=4", "RANK is 4 and WORLD_SIZE is 4")]
    [InlineData("RANK=-1 WORLD_SIZE=4", "RANK is '-1'")]
    [InlineData("RANK=0 WORLD_SIZE=0", "WORLD_SIZE is 0")]
    [InlineData("RANK=one WORLD_SIZE=4", "RANK is 'one'")]
    [InlineData("JOB_COMPLETION_INDEX=2", "nothing says of how many", "JOB_COMPLETIONS")]
    public void Contradictions_are_refused(string environment, params string[] words)
    {
        ConfigurationException error = Assert.Throws<ConfigurationException>(() => RankDetection.Detect(Variables(environment)));
        Assert.All(words, word => Assert.Contains(word, error.Message, StringComparison.Ordinal));
    }

    [Fact]
    public void Half_a_command_line_is_refused()
    {
        Assert.Throws<ConfigurationException>(() => RankDetection.Detect(Variables(""), rank: 0));
        Assert.Throws<ConfigurationException>(() => RankDetection.Detect(Variables(""), world: 2));
        Assert.Throws<ConfigurationException>(() => RankDetection.Detect(Variables(""), 2, 2));
    }

    [Theory]
    [InlineData(null, 4, 0)]
    [InlineData(3, 4, 3)]
    [InlineData(3, 1, 0)]
    [InlineData(3, 0, 0)]

    // The driver says that there is no such device.
    [InlineData(3, 2, 3)]
    public void A_process_takes_the_gpu_of_its_number(int? local, int devices, int gpu) => Assert.Equal(gpu, Rank.GpuOf(local, devices));

    [Fact]
    public void A_batch_script_without_srun_is_told_so()
    {
        List<string> told = [];
        RankDetection.Detect(Variables(Batch), tell: told.Add);
        Assert.Contains("not started by srun", Assert.Single(told), StringComparison.Ordinal);
    }

    private static Func<string, string?> Variables(string environment)
    {
        Dictionary<string, string> variables = environment.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(v => v.Split('=')).ToDictionary(v => v[0], v => v[1]);
        return name => variables.GetValueOrDefault(name);
    }
}

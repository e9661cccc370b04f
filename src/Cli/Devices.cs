using System.CommandLine;
using Kernels.Backends.Cpu;
using Kernels.Runtime;

namespace Kernels.Cli;

/// <summary>The choice of a device, shared by the commands that compute.</summary>
internal sealed class DeviceOptions
{
    /// <summary>The device by name.</summary>
    public Option<string> Device { get; } = new("--device")
    {
        Description = "Where to compute: auto (the best there is) or cpu.",
        DefaultValueFactory = _ => "auto",
    };

    /// <summary>Number of threads of the CPU backend.</summary>
    public Option<int?> Threads { get; } = new("--threads")
    {
        Description = "Threads of the CPU backend; one per core if absent. The result does not depend on it.",
    };

    /// <summary>Rewrites to leave out.</summary>
    public Option<string[]> DisableFusion { get; } = new("--disable-fusion")
    {
        Description = $"Leave a rewrite of the graph out, or all: {string.Join(", ", Diffusion.Rewrites.All.Select(f => f.Name))}. Repeatable.",
        HelpName = "name",
    };

    /// <summary>Creates the options.</summary>
    public DeviceOptions() => Device.AcceptOnlyFromAmong("auto", "cpu");

    /// <summary>Adds the options to a command.</summary>
    /// <param name="command">The command.</param>
    public void AddTo(Command command)
    {
        command.Add(Device);
        command.Add(Threads);
        command.Add(DisableFusion);
    }

    /// <summary>Opens the chosen device.</summary>
    /// <param name="parsed">The command line.</param>
    public Backend Open(ParseResult parsed)
    {
        int? threads = parsed.GetValue(Threads);
        return threads is < 1 or > 1024
            ? throw new ConfigurationException($"--threads is {threads}; it must be 1 to 1024")
            : new CpuBackend(threads);
    }

    /// <summary>The rewrites to leave out.</summary>
    /// <param name="parsed">The command line.</param>
    public string[] DisabledFusions(ParseResult parsed) => parsed.GetValue(DisableFusion) ?? [];
}

using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;
using Kernels.Backends.Gpu;

namespace Kernels.Measurement;

/// <summary>Under what circumstances something was measured.</summary>
public sealed record ReportHeader
{
    /// <summary>When, in UTC.</summary>
    public required string Date { get; init; }

    /// <summary>The commit that the program was built from; null if it was built outside of a repository.</summary>
    public string? Commit { get; init; }

    /// <summary>The program's version.</summary>
    public required string Version { get; init; }

    /// <summary>The command line.</summary>
    public string? Command { get; init; }

    /// <summary>The device's kind: <c>cpu</c>, <c>cuda</c> or <c>emulator</c>.</summary>
    public required string Kind { get; init; }

    /// <summary>The device's name.</summary>
    public required string Device { get; init; }

    /// <summary>The architecture that kernels were compiled for.</summary>
    public string? Architecture { get; init; }

    /// <summary>Version of the NVIDIA driver.</summary>
    public string? Driver { get; init; }

    /// <summary>Clocks of the device.</summary>
    public string? Clocks { get; init; }

    /// <summary>The compiler of the kernels.</summary>
    public string? Compiler { get; init; }

    /// <summary>The host's processor.</summary>
    public string? Processor { get; init; }

    /// <summary>Threads that computed on the host.</summary>
    public int? Threads { get; init; }

    /// <summary>Processes that were running or waiting to run in the last minute, where the system tells: more than there are processors, and times on the CPU are of no worth.</summary>
    public double? Load { get; init; }

    /// <summary>The libraries that rivals compute with.</summary>
    public string? Libraries { get; init; }

    /// <summary>The .NET runtime, or what a rival runs on.</summary>
    public required string Runtime { get; init; }

    /// <summary>The operating system.</summary>
    public required string Os { get; init; }

    /// <summary>Describes a device, here and now.</summary>
    /// <param name="device">The device.</param>
    /// <param name="command">The command line.</param>
    public static ReportHeader Of(MeasuredDevice device, string? command = null)
    {
        ArgumentNullException.ThrowIfNull(device);
        GpuBackend? gpu = device.Backend as GpuBackend;
        string[] version = (typeof(ReportHeader).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "").Split('+');
        string[]? smi = device.Kind == "cuda" ? NvidiaSmi(gpu!.Driver.Name) : null;
        return new ReportHeader
        {
            Date = DateTime.UtcNow.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture),
            Version = version[0],
            Commit = version.Length > 1 ? version[1] : Run("git", "rev-parse HEAD"),
            Command = command,
            Kind = device.Kind,
            Device = gpu?.Driver.Name ?? device.Backend.Name,
            Architecture = gpu?.Driver.Architecture,
            Driver = smi?[1],
            Clocks = smi is null ? null : $"SM {smi[2]} of {smi[3]}, memory {smi[4]} of {smi[5]}",
            Compiler = gpu is not null && KernelCompiler.IsAvailable(out _) ? $"NVRTC {KernelCompiler.Version}" : null,
            Processor = Line("/proc/cpuinfo", "model name")?.Split(':', 2)[1].Trim(),
            Load = double.TryParse(Line("/proc/loadavg", "")?.Split(' ')[0], CultureInfo.InvariantCulture, out double load) ? load : null,
            Threads = device.Threads ?? (device.CountsOnly ? gpu!.Driver.Multiprocessors : null),
            Runtime = RuntimeInformation.FrameworkDescription,
            Os = RuntimeInformation.OSDescription,
        };
    }

    // The tool comes with the driver; what it says is not to be had from the driver API without another library.
    private static string[]? NvidiaSmi(string device)
    {
        string? lines = Run("nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem --format=csv,noheader");
        return lines?.Split('\n').Select(l => l.Split(',', StringSplitOptions.TrimEntries)).FirstOrDefault(f => f.Length == 6 && f[0] == device);
    }

    private static string? Line(string file, string start)
    {
        try
        {
            return File.ReadLines(file).FirstOrDefault(l => l.StartsWith(start, StringComparison.Ordinal));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static string? Run(string program, string arguments)
    {
        try
        {
            using Process? process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true });
            string? text = process?.StandardOutput.ReadToEnd().Trim();
            process?.WaitForExit();
            return process?.ExitCode == 0 ? text : null;
        }
        catch (Exception e) when (e is System.ComponentModel.Win32Exception or IOException)
        {
            return null;
        }
    }
}

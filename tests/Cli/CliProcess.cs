using System.Diagnostics;
using System.Runtime.InteropServices;
using Xunit;

namespace Kernels.Tests.Cli;

/// <summary>The command as a process of its own, for tests that kill it.</summary>
internal sealed class CliProcess : IDisposable
{
    private const int SigKill = 9;

    private readonly Process _process;
    private readonly Task<string> _output;
    private readonly Task<string> _error;

    private CliProcess(Process process)
    {
        _process = process;
        _output = process.StandardOutput.ReadToEndAsync();
        _error = process.StandardError.ReadToEndAsync();
    }

    public int Id => _process.Id;

    public bool HasExited => _process.HasExited;

    /// <summary>The command's file, beside the tests.</summary>
    private static string Command => Path.Combine(AppContext.BaseDirectory, "kernels.dll");

    /// <summary>Skips the test where there are no processes to kill.</summary>
    public static void Require()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "signals are sent with kill(2)");
        Assert.SkipUnless(File.Exists(Command), "the command is not beside the tests: they were published as one file");
    }

    public static CliProcess Start(params string[] args) => StartUnder([], args);

    /// <summary>Starts the command by another program, as mpirun.</summary>
    public static CliProcess StartUnder(string[] launcher, params string[] args)
    {
        string[] line = [.. launcher, "dotnet", Command, .. args];
        ProcessStartInfo start = new(line[0], line[1..]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["OMPI_ALLOW_RUN_AS_ROOT"] = start.Environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
        return new CliProcess(Process.Start(start)!);
    }

    public void Kill() => Kill(Id);

    /// <summary>Sends SIGKILL: the process has no chance to do anything.</summary>
    public static void Kill(int processId) => _ = KillCore(processId, SigKill);

    public async Task<CliRun> Finish()
    {
        await _process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return new CliRun(_process.ExitCode, await _output, await _error);
    }

    public async Task<bool> ExitsWithin(TimeSpan time)
    {
        using CancellationTokenSource source = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        source.CancelAfter(time);
        try
        {
            await _process.WaitForExitAsync(source.Token);
            return true;
        }
        catch (OperationCanceledException)
        {
            TestContext.Current.CancellationToken.ThrowIfCancellationRequested();
            return false;
        }
    }

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            _process.Kill(entireProcessTree: true);
        }

        _process.Dispose();
    }

    [DllImport("libc", EntryPoint = "kill")]
    private static extern int KillCore(int processId, int signal);
}

using System.Diagnostics;
using System.Runtime.InteropServices;
using Kernels.Cli;
using Kernels.Imaging;
using Xunit;

namespace Kernels.Tests.Cli;

/// <summary>Ctrl+C on the real process: it ends within a step, with exit 130, and what is finished is there.</summary>
public sealed class InterruptTests
{
    [Fact]
    public async Task Ctrl_C_keeps_what_is_finished()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "signals are sent with kill(2)");
        using TemporaryFolder folder = new();
        string command = Path.Combine(AppContext.BaseDirectory, "kernels.dll");
        Assert.SkipUnless(File.Exists(command), "the command is not beside the tests: they were published as one file");

        // A program that a shell starts in the background is deaf to Ctrl+C, and so are those that it starts.
        string[] program = IgnoresInterrupts ? ["env", "--default-signal=INT", "dotnet"] : ["dotnet"];
        ProcessStartInfo start = new(program[0], [.. program[1..], command, "sample", "--steps", "20", "--num-samples", "100000", "--batch-size", "1", "--output", folder["pictures"], "--format", "png"])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        try
        {
            while (!process.HasExited && !folder.Files.Any(f => f.EndsWith(".png", StringComparison.Ordinal)))
            {
                await Task.Delay(50, TestContext.Current.CancellationToken);
            }

            Assert.Equal(0, Kill(process.Id, 2));
            await process.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromMinutes(3), TestContext.Current.CancellationToken);
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill();
            }
        }

        Assert.True(process.ExitCode == ExitCode.Interrupted, await error);
        Assert.Contains("finished images are in", await error, StringComparison.Ordinal);
        Assert.NotEmpty(folder.Files);
        Assert.All(folder.Files, f => Assert.Equal(32, Png.Load(folder[f]).Width));
    }

    // Of the mask in /proc, bit n - 1 is signal n.
    private static bool IgnoresInterrupts =>
        File.Exists("/proc/self/status")
        && File.ReadLines("/proc/self/status").First(l => l.StartsWith("SigIgn:", StringComparison.Ordinal))[^1] is '2' or '3' or '6' or '7' or 'a' or 'b' or 'e' or 'f';

    [DllImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static extern int Kill(int processId, int signal);
}

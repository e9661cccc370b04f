using System.ComponentModel;
using System.Diagnostics;
using Xunit;

namespace Kernels.Tests.Support;

/// <summary>Another program.</summary>
internal static class Child
{
    /// <summary>Runs a program to its end.</summary>
    /// <param name="program">Its name.</param>
    /// <param name="arguments">What it is given.</param>
    /// <param name="environment">Variables that it sees besides those of this process.</param>
    /// <returns>Its exit status, -1 if there is no such program, and what it wrote.</returns>
    public static async Task<(int Code, string Messages)> Run(string program, string[] arguments, IReadOnlyDictionary<string, string>? environment = null)
    {
        ProcessStartInfo start = new(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach ((string name, string value) in environment ?? new Dictionary<string, string>())
        {
            start.Environment[name] = value;
        }

        try
        {
            using Process process = Process.Start(start)!;
            Task<string> output = process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
            string error = await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
            return (process.ExitCode, await output + error);
        }
        catch (Win32Exception)
        {
            return (-1, "");
        }
    }
}

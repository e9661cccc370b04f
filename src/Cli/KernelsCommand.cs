using System.CommandLine;
using Kernels.Cli.Commands;

namespace Kernels.Cli;

/// <summary>The <c>kernels</c> command.</summary>
internal static class KernelsCommand
{
    /// <summary>Parses and runs a command line.</summary>
    /// <param name="args">The arguments.</param>
    /// <param name="console">Where to write.</param>
    /// <param name="cancellationToken">Interrupts the command as Ctrl+C does.</param>
    /// <returns>An <see cref="ExitCode"/>.</returns>
    public static async Task<int> RunAsync(IReadOnlyList<string> args, CliConsole console, CancellationToken cancellationToken = default)
    {
        RootCommand root = new("Guided diffusion sampling on hand-written kernels, with no deep-learning framework underneath.")
        {
            SampleCommand.Create(console).WithExamples(),
            InvertCommand.Create(console).WithExamples(),
            NllCommand.Create(console).WithExamples(),
            ReproduceCommand.Create(console).WithExamples(),
            MergeCommand.Create(console).WithExamples(),
            VerifyCommand.Create(console).WithExamples(),
            InspectCommand.Create(console).WithExamples(),
            PlanCommand.Create(console).WithExamples(),
            ConvertCommand.Create(console).WithExamples(),
            LaunchCommand.Create(console).WithExamples(),
            CompileCommand.Create(console).WithExamples(),
            BenchCommand.Create(console).WithExamples(),
            ProfileCommand.Create(console).WithExamples(),
        };
        ParseResult parsed = root.Parse(args);
        InvocationConfiguration configuration = new()
        {
            Output = console.Output,
            Error = console.Error,
            EnableDefaultExceptionHandler = false,

            // A launch of the largest model takes a while; what is finished must still be written.
            ProcessTerminationTimeout = TimeSpan.FromSeconds(60),
        };
        try
        {
            int code = await parsed.InvokeAsync(configuration, cancellationToken).ConfigureAwait(false);
            return parsed.Errors.Count > 0 ? ExitCode.Usage : code;
        }
        catch (OperationCanceledException)
        {
            console.Error.WriteLine("kernels: interrupted");
            return ExitCode.Interrupted;
        }
        catch (KernelsException e)
        {
            console.Error.WriteLine($"kernels: {e.Message}");
            return e switch
            {
                InvalidFileException => ExitCode.InvalidFile,
                DeviceException => ExitCode.Device,
                _ => ExitCode.Usage,
            };
        }
        catch (OutOfMemoryException e)
        {
            console.Error.WriteLine($"kernels: out of memory: {e.Message} Take a smaller --batch-size.");
            return ExitCode.Device;
        }
    }
}

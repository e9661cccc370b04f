using Spectre.Console;

namespace Kernels.Cli;

/// <summary>Where the command writes: data to the standard output, progress and messages to the standard error.</summary>
/// <param name="output">Receives data.</param>
/// <param name="error">Receives progress and messages.</param>
/// <param name="interactive">Whether <paramref name="error"/> is a terminal that may be redrawn; null to find out.</param>
internal sealed class CliConsole(TextWriter output, TextWriter error, bool? interactive = null)
{
    /// <summary>The console of the process.</summary>
    public static CliConsole Standard { get; } = new(Console.Out, Console.Error);

    /// <summary>Receives data.</summary>
    public TextWriter Output { get; } = output;

    /// <summary>Receives progress and messages.</summary>
    public TextWriter Error { get; } = error;

    /// <summary>Tables and text of the standard output.</summary>
    public IAnsiConsole Tables { get; } = Create(output, interactive);

    /// <summary>Progress bars and messages.</summary>
    public IAnsiConsole Progress { get; } = Create(error, interactive);

    /// <summary>Writes a message.</summary>
    /// <param name="message">One line.</param>
    public void Tell(FormattableString message) => Error.WriteLine(FormattableString.Invariant(message));

    private static IAnsiConsole Create(TextWriter writer, bool? interactive)
    {
        bool redirected = interactive is null
            ? ReferenceEquals(writer, Console.Out) ? Console.IsOutputRedirected : !ReferenceEquals(writer, Console.Error) || Console.IsErrorRedirected
            : interactive == false;
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Out = new AnsiConsoleOutput(writer),
            Ansi = redirected ? AnsiSupport.No : AnsiSupport.Detect,
            Interactive = redirected ? InteractionSupport.No : InteractionSupport.Detect,
        });

        // A table cut to 80 columns because it goes to a file would lose what the file is for.
        if (redirected)
        {
            console.Profile.Width = 240;
        }

        return console;
    }
}

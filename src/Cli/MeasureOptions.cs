using System.CommandLine;
using System.Globalization;
using Kernels.Backends.Gpu;
using Kernels.Measurement;

namespace Kernels.Cli;

/// <summary>The options that the commands which measure have in common, and how their lists are read.</summary>
internal sealed class MeasureOptions
{
    private const double LongestLimit = 3600;
    private readonly Option<double> _timeLimit = new("--time-limit")
    {
        Description = "Seconds for which one row may be measured; repeats end sooner when the spread is below 1 %. Five repeats are made in any case.",
        DefaultValueFactory = _ => 5,
        HelpName = "seconds",
    };

    private readonly Option<bool> _quiet = new("--quiet") { Description = "Do not say what is being measured." };

    public Option<string?> Json { get; } = new("--json") { Description = "Also write everything as JSON.", HelpName = "file" };

    public DeviceOptions Device { get; } = new();

    public void AddTo(Command command)
    {
        command.Add(_timeLimit);
        command.Add(_quiet);
        command.Add(Json);
        Device.AddMeasuredTo(command);
    }

    public TimeSpan TimeLimit(ParseResult parsed)
    {
        double seconds = parsed.GetValue(_timeLimit);
        return seconds is > 0 and <= LongestLimit
            ? TimeSpan.FromSeconds(seconds)
            : throw new ConfigurationException(string.Create(CultureInfo.InvariantCulture, $"--time-limit is {seconds}; it must be more than 0 and at most {LongestLimit} seconds"));
    }

    public Action<string> Progress(ParseResult parsed, CliConsole console) => parsed.GetValue(_quiet) ? _ => { } : line => console.Error.WriteLine(line);

    /// <summary>The command line as it can be repeated.</summary>
    public static string CommandLine(ParseResult parsed) => $"kernels {string.Join(' ', parsed.Tokens.Select(t => t.Value))}";

    /// <summary>Reads a list of numbers of images.</summary>
    public static IReadOnlyList<int> Batches(string list) => Split<int>(list, "--batch", part =>
        int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out int value) && value is > 0 and <= 4096 ? value : null, "a number from 1 to 4096");

    /// <summary>Reads a list of precisions.</summary>
    public static IReadOnlyList<Precision> Precisions(string list) => Split<Precision>(list, "--precision", part =>
        Enum.GetNames<Precision>().Any(n => n.Equals(part, StringComparison.OrdinalIgnoreCase)) ? Enum.Parse<Precision>(part, ignoreCase: true) : (Precision?)null, "fp32, tf32, fp16 or bf16");

    /// <summary>Opens a list of models; closes those already open if one cannot be.</summary>
    public static IReadOnlyList<ModelPair> Models(IEnumerable<string> names)
    {
        List<ModelPair> models = [];
        try
        {
            foreach (string name in names)
            {
                models.Add(ModelPair.Open(name));
            }

            return models;
        }
        catch
        {
            models.ForEach(m => m.Dispose());
            throw;
        }
    }

    private static IReadOnlyList<T> Split<T>(string list, string option, Func<string, T?> parse, string expected)
        where T : struct
    {
        string[] parts = list.Split(',', StringSplitOptions.TrimEntries);
        return [.. parts.Select(part => parse(part) ?? throw new ConfigurationException($"{option} {list}: '{part}' is not {expected}"))];
    }
}

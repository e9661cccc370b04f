using System.CommandLine;
using System.CommandLine.Parsing;

namespace Kernels.Cli;

/// <summary>Options that are also understood in guided-diffusion's spelling: <c>--num-samples</c> is <c>--num_samples</c> there.</summary>
internal static class Options
{
    /// <summary>An option with a value.</summary>
    /// <typeparam name="T">The value's type.</typeparam>
    /// <param name="name">The name, in words joined by hyphens.</param>
    /// <param name="description">What it does.</param>
    /// <param name="aliases">Other names.</param>
    public static Option<T> Value<T>(string name, string description, params string[] aliases) =>
        new(name, Spellings(name, aliases)) { Description = description };

    /// <summary>An option that is true by itself and takes the truth values that the original's scripts take.</summary>
    /// <param name="name">The name, in words joined by hyphens.</param>
    /// <param name="description">What it does.</param>
    /// <param name="aliases">Other names.</param>
    public static Option<bool?> Flag(string name, string description, params string[] aliases) =>
        new(name, Spellings(name, aliases)) { Description = description, Arity = ArgumentArity.ZeroOrOne, CustomParser = ParseBool, HelpName = "true|false" };

    private static bool? ParseBool(ArgumentResult result)
    {
        if (result.Tokens.Count == 0)
        {
            return true;
        }

        string text = result.Tokens[0].Value;
        switch (text.ToLowerInvariant())
        {
            case "true" or "yes" or "t" or "y" or "1":
                return true;
            case "false" or "no" or "f" or "n" or "0":
                return false;
            default:
                result.AddError($"'{text}' is neither true nor false");
                return null;
        }
    }

    private static string[] Spellings(string name, string[] aliases)
    {
        string original = $"--{name[2..].Replace('-', '_')}";
        return original == name ? aliases : [original, .. aliases];
    }
}

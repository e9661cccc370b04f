using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Decoding;

/// <summary>
/// An opcode taken apart. Every modifier must be asked for by whoever decodes it: one that nobody knew makes the instruction unknown, so that no
/// meaning is ever dropped silently.
/// </summary>
internal sealed class Opcode
{
    private readonly List<string> left;

    internal Opcode(string text)
    {
        var parts = text.Split('.');
        Name = parts[0];
        left = [.. parts.Skip(1).Where(part => !IsType(part))];
        Types = [.. parts.Skip(1).Where(IsType)];
    }

    internal string Name { get; }

    /// <summary>Operand types in the order written: the result's first.</summary>
    internal string[] Types { get; }

    internal string Type => Types.Length > 0 ? Types[^1] : "";

    internal bool Has(string modifier) => left.Remove(modifier);

    /// <summary>The first of the alternatives that is there; the last one is the default if empty.</summary>
    internal string OneOf(params ReadOnlySpan<string> alternatives)
    {
        foreach (var alternative in alternatives)
        {
            if (left.Remove(alternative))
                return alternative;
        }
        return "";
    }

    /// <summary>Drops modifiers that say nothing to the emulator: cache hints, scopes, and the like.</summary>
    internal void Ignore(params ReadOnlySpan<string> modifiers)
    {
        foreach (var modifier in modifiers)
            left.Remove(modifier);
    }

    /// <summary>Drops modifiers that begin with a text, for instance <c>L2::128B</c>.</summary>
    internal void IgnoreFamily(string prefix) => left.RemoveAll(part => part.StartsWith(prefix, StringComparison.Ordinal));

    internal IReadOnlyList<string> Left => left;

    /// <summary>Whether a modifier only advises the caches: <c>L1::evict_last</c>, <c>L2::128B</c>, <c>L2::cache_hint</c>.</summary>
    internal static bool IsCacheAdvice(string part) => part is
        "L1::evict_normal" or "L1::evict_unchanged" or "L1::evict_first" or "L1::evict_last" or "L1::no_allocate"
        or "L2::evict_normal" or "L2::evict_unchanged" or "L2::evict_first" or "L2::evict_last" or "L2::cache_hint" or "L2::64B" or "L2::128B" or "L2::256B";

    internal static bool IsType(string part) => part is "pred" || TokenReader.SizeOf(part) > 0;
}

using System.Text.Json;

namespace Kernels.Sampling;

/// <summary>One setting that differs.</summary>
/// <param name="Setting">Its path, as <c>job.request.seed</c>.</param>
/// <param name="Theirs">What it is in the first document; null if it is not there.</param>
/// <param name="Ours">What it is in the second.</param>
internal sealed record JsonDifference(string Setting, string? Theirs, string? Ours)
{
    private const int MaxShown = 80;

    /// <summary>The difference in words.</summary>
    /// <param name="theirs">What the first document is called.</param>
    /// <param name="ours">What the second is called.</param>
    public string Describe(string theirs, string ours) => $"{Setting} is {Show(Theirs)} {theirs} and {Show(Ours)} {ours}";

    /// <summary>The differences of two documents, in the order of the first.</summary>
    /// <param name="theirs">The first.</param>
    /// <param name="ours">The second.</param>
    public static IReadOnlyList<JsonDifference> Between(string theirs, string ours)
    {
        using JsonDocument first = JsonDocument.Parse(theirs), second = JsonDocument.Parse(ours);
        List<JsonDifference> differences = [];
        Compare("", first.RootElement, second.RootElement, differences);
        return differences;
    }

    private static string Show(string? value) => value is null ? "absent" : value.Length <= MaxShown ? value : string.Concat(value.AsSpan(0, MaxShown), "…");

    private static void Compare(string path, JsonElement? theirs, JsonElement? ours, List<JsonDifference> differences)
    {
        if (theirs is { ValueKind: JsonValueKind.Object } a && ours is { ValueKind: JsonValueKind.Object } b)
        {
            foreach (string name in a.EnumerateObject().Concat(b.EnumerateObject()).Select(p => p.Name).Distinct().ToArray())
            {
                Compare(path.Length == 0 ? name : $"{path}.{name}", Member(a, name), Member(b, name), differences);
            }
        }
        else if (theirs?.GetRawText() != ours?.GetRawText())
        {
            differences.Add(new JsonDifference(path, theirs?.GetRawText(), ours?.GetRawText()));
        }
    }

    private static JsonElement? Member(JsonElement element, string name) => element.TryGetProperty(name, out JsonElement value) ? value : null;
}

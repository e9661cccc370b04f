namespace Kernels.Models;

/// <summary>One setting of a model, and how it was known.</summary>
/// <param name="Name">The setting under the original's name, as <c>num_res_blocks</c>.</param>
/// <param name="Value">Its value as text; numbers of a list are joined by commas.</param>
/// <param name="Source">
/// <c>weights: TENSOR</c>, <c>flag --NAME</c>, <c>metadata</c>, <c>preset NAME</c>, <c>default</c>, or <c>unknown</c> for a setting that nothing tells; what a
/// stronger source overruled follows in parentheses.
/// </param>
public sealed record ConfigurationValue(string Name, string Value, string Source);

using Kernels.Runtime;

namespace Kernels.Models;

/// <summary>A configuration with weights that fit it.</summary>
/// <param name="Config">The constructor arguments.</param>
/// <param name="Weights">The state dict.</param>
public sealed record Model(ModelConfig Config, Weights Weights);

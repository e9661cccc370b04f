namespace Kernels.Backends.Gpu;

/// <summary>How a device multiplies matrices and stores activations. Sums are kept in binary32 in every mode.</summary>
public enum Precision
{
    /// <summary>IEEE binary32 throughout: fused multiply-adds on the ordinary cores.</summary>
    Fp32,

    /// <summary>Activations in binary32; convolutions, linear layers and attention multiply tf32 (10 bits of fraction) on the tensor cores.</summary>
    Tf32,

    /// <summary>Activations and weights in binary16, products on the tensor cores.</summary>
    Fp16,

    /// <summary>Activations and weights in bfloat16, products on the tensor cores.</summary>
    Bf16,
}

/// <summary>Facts about precisions.</summary>
public static class Precisions
{
    /// <summary>The type in which activations are stored.</summary>
    /// <param name="precision">The mode.</param>
    public static DType Storage(this Precision precision) => precision switch
    {
        Precision.Fp16 => DType.F16,
        Precision.Bf16 => DType.BF16,
        _ => DType.F32,
    };

    /// <summary>The first compute capability, major times ten plus minor, whose tensor cores have the mode.</summary>
    /// <param name="precision">The mode.</param>
    public static int LeastCapability(this Precision precision) => precision == Precision.Fp32 ? 75 : 80;

    /// <summary>The name in CUDA C++ of a type that tensors are stored in.</summary>
    /// <param name="dtype">The element type.</param>
    internal static string CudaName(this DType dtype) => dtype switch
    {
        DType.F32 => "float",
        DType.F16 => "half",
        DType.BF16 => "bfloat16",
        DType.I32 => "int",
        _ => throw new ArgumentOutOfRangeException(nameof(dtype), dtype, "no kernel takes this type"),
    };
}

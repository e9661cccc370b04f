using System.Runtime.InteropServices;

namespace Kernels.Backends.Gpu.Native;

/// <summary>
/// cuBLAS: only the functions used, bound by name because the library's name and place vary. Every one returns a <c>cublasStatus_t</c>, 0 for success. Matrices are column by column.
/// </summary>
internal sealed unsafe class Cublas
{
    // cublasStatus_t, libraryPropertyType, cublasOperation_t, cudaDataType_t, cublasComputeType_t, cublasMath_t, cublasGemmAlgo_t
    internal const int NotInitialized = 1, AllocFailed = 3;
    internal const int MajorVersion = 0, MinorVersion = 1;
    internal const int OpN = 0, OpT = 1;
    internal const int R32F = 0, R16F = 2, R16BF = 14;
    internal const int Compute32F = 68, Compute32FPedantic = 69, Compute32FFastTf32 = 77;
    internal const int PedanticMath = 2, Tf32TensorOpMath = 3, DisallowReducedPrecisionReduction = 16;
    internal const int DefaultAlgorithm = -1;

    private static readonly Lock Gate = new();
    private static Cublas? instance;

    internal readonly delegate* unmanaged<nint*, int> Create;
    internal readonly delegate* unmanaged<nint, int> Destroy;
    internal readonly delegate* unmanaged<nint, nint, int> SetStream;
    internal readonly delegate* unmanaged<nint, ulong, nuint, int> SetWorkspace;
    internal readonly delegate* unmanaged<nint, int, int> SetMathMode;

    /// <summary>A part of the version: <c>cublasGetVersion</c> packs all of them into one number, in a way that has changed.</summary>
    internal readonly delegate* unmanaged<int, int*, int> GetProperty;

    /// <summary>
    /// Handle, op of a and of b, m, n, k, alpha, a with its type, leading dimension and stride, b with the same, beta, c with the same, number of products, compute type, algorithm.
    /// </summary>
    internal readonly delegate* unmanaged<nint, int, int, int, int, int, void*, ulong, int, int, long, ulong, int, int, long, void*, ulong, int, int, long, int, int, int, int> GemmStridedBatchedEx;

    private readonly delegate* unmanaged<int, byte*> getStatusString;

    /// <summary>The loader's handle of the library; 0 if it did not load it.</summary>
    internal nint Library { get; private init; }

    /// <summary>Binds the functions.</summary>
    /// <param name="export">Address of a function by name; 0 if the library has none.</param>
    /// <exception cref="DeviceException">A function is missing.</exception>
    internal Cublas(Func<string, nint> export)
    {
        void* Bind(string name)
        {
            var address = export(name);
            return address != 0 ? (void*)address : throw new DeviceException($"cuBLAS has no {name}: take one of CUDA 11.4 or later");
        }

        Create = (delegate* unmanaged<nint*, int>)Bind("cublasCreate_v2");
        Destroy = (delegate* unmanaged<nint, int>)Bind("cublasDestroy_v2");
        SetStream = (delegate* unmanaged<nint, nint, int>)Bind("cublasSetStream_v2");
        SetWorkspace = (delegate* unmanaged<nint, ulong, nuint, int>)Bind("cublasSetWorkspace_v2");
        SetMathMode = (delegate* unmanaged<nint, int, int>)Bind("cublasSetMathMode");
        GetProperty = (delegate* unmanaged<int, int*, int>)Bind("cublasGetProperty");
        GemmStridedBatchedEx = (delegate* unmanaged<nint, int, int, int, int, int, void*, ulong, int, int, long, ulong, int, int, long, void*, ulong, int, int, long, int, int, int, int>)Bind(
            "cublasGemmStridedBatchedEx");
        getStatusString = (delegate* unmanaged<int, byte*>)Bind("cublasGetStatusString");
    }

    /// <summary>The library, loaded once per process.</summary>
    /// <exception cref="DeviceException">It was not found; the message says where it was looked for and what to do.</exception>
    internal static Cublas Load()
    {
        lock (Gate)
        {
            if (instance is null)
            {
                var tried = new List<string>();
                var (handle, _) = CudaLibrary.Cublas.Load(tried);
                if (handle == 0)
                {
                    throw new DeviceException(
                        $"cuBLAS was not found; tried {string.Join(", ", tried)}. It comes with the CUDA toolkit and with PyTorch: install one, set {CudaLibrary.Cublas.Variable}, or take --gemm own, which needs none");
                }
                instance = new Cublas(name => NativeLibrary.TryGetExport(handle, name, out var address) ? address : 0) { Library = handle };
            }
            return instance;
        }
    }

    /// <summary>Text of a status.</summary>
    internal string Describe(int status) => Marshal.PtrToStringUTF8((nint)getStatusString(status)) ?? $"cuBLAS status {status}";
}

using Kernels.Backends.Gpu.Native;

namespace Kernels.Backends.Gpu;

/// <summary>
/// The arguments of <c>cublasGemmStridedBatchedEx</c> under cuBLAS's own names, matrices column by column: C = op(A) op(B), with alpha 1 and beta 0, both binary32.
/// </summary>
internal readonly record struct CublasProduct(
    int OpA, int OpB, int M, int N, int K,
    ulong A, int TypeA, int Lda, long StrideA,
    ulong B, int TypeB, int Ldb, long StrideB,
    ulong C, int TypeC, int Ldc, long StrideC,
    int Count, int ComputeType, int Algorithm);

/// <summary>
/// cuBLAS behind a driver: what is asked of it, in which order, with which scratch memory; a driver says only how it is called. One handle serves both lanes, each with scratch memory of its
/// own: left to itself, the library would allocate some for every stream, which a captured graph must not.
/// </summary>
/// <param name="driver">The driver, which outlives it.</param>
internal abstract class CublasGemm(Driver driver) : GemmLibrary
{
    // What the library's manual recommends for Hopper; earlier devices want 4 MB.
    private const int WorkspaceBytes = 32 << 20;
    private const int Lanes = 2;

    private readonly ulong[] _workspaces = new ulong[Lanes];
    private string _name = "cuBLAS";
    private bool _isOpen;

    /// <inheritdoc/>
    public override string Name => _name;

    /// <summary>Creates the handle and what goes with it; gives everything back where it fails.</summary>
    /// <exception cref="DeviceException">The library refuses, or there is no memory.</exception>
    internal GemmLibrary Open()
    {
        if (Version(out int major, out int minor) == 0)
        {
            _name = $"cuBLAS {major}.{minor}";
        }

        int status = Create();
        if (status != 0)
        {
            throw Failure(status, "cublasCreate", status switch
            {
                Cublas.NotInitialized => $". {Name} may be newer than the NVIDIA driver: update that, or take --gemm own, which needs no library",
                Cublas.AllocFailed => ". Take a smaller batch, or end what else uses the device",
                _ => "",
            });
        }

        _isOpen = true;
        try
        {
            for (int lane = 0; lane < Lanes; lane++)
            {
                _workspaces[lane] = driver.Allocate(WorkspaceBytes, "scratch memory of cuBLAS");
            }
        }
        catch
        {
            Dispose();
            throw;
        }

        return this;
    }

    /// <inheritdoc/>
    public override void Multiply(in Gemm gemm, int lane, DriverStream stream)
    {
        ObjectDisposedException.ThrowIf(!_isOpen, this);
        Check(SetStream(stream), "cublasSetStream");

        // Setting the stream brings the library's own scratch memory back.
        Check(SetWorkspace(_workspaces[lane], WorkspaceBytes), "cublasSetWorkspace");
        (int compute, int math) = gemm.Precision switch
        {
            Precision.Fp32 => (Cublas.Compute32FPedantic, Cublas.PedanticMath),
            Precision.Tf32 => (Cublas.Compute32FFastTf32, Cublas.Tf32TensorOpMath),
            _ => (Cublas.Compute32F, Cublas.DisallowReducedPrecisionReduction),
        };
        Check(SetMathMode(math), "cublasSetMathMode");

        // Column by column, a matrix of ours is its transpose: c^T = w^T a^T.
        int type = TypeOf(gemm.Operand);
        CublasProduct product = new(
            gemm.Transposed ? Cublas.OpT : Cublas.OpN, Cublas.OpN, gemm.Columns, gemm.Rows, gemm.Depth,
            gemm.W, type, gemm.Transposed ? gemm.Depth : gemm.Columns, 0,
            gemm.A, type, gemm.Depth, (long)gemm.Rows * gemm.Depth,
            gemm.C, TypeOf(gemm.Result), gemm.Columns, (long)gemm.Rows * gemm.Columns,
            gemm.Images, compute, Cublas.DefaultAlgorithm);
        Check(Multiply(product), "cublasGemmStridedBatchedEx");
    }

    /// <summary><c>cublasCreate</c>, in the driver's context.</summary>
    /// <returns>A <c>cublasStatus_t</c>, as of every call here; 0 for success.</returns>
    protected abstract int Create();

    /// <summary><c>cublasDestroy</c>, whatever has become of the device.</summary>
    /// <returns>Whether the driver is still there; if it was disposed first, everything has been freed with it.</returns>
    protected abstract bool Destroy();

    /// <summary>The library's version; asked before there is a handle.</summary>
    protected abstract int Version(out int major, out int minor);

    /// <summary><c>cublasSetStream</c>, in the driver's context.</summary>
    protected abstract int SetStream(DriverStream stream);

    /// <summary><c>cublasSetWorkspace</c>.</summary>
    protected abstract int SetWorkspace(ulong address, int bytes);

    /// <summary><c>cublasSetMathMode</c>.</summary>
    protected abstract int SetMathMode(int mode);

    /// <summary><c>cublasGemmStridedBatchedEx</c>.</summary>
    protected abstract int Multiply(in CublasProduct product);

    /// <summary>Text of a status.</summary>
    protected abstract string Describe(int status);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (!disposing || !_isOpen)
        {
            return;
        }

        _isOpen = false;
        if (Destroy())
        {
            foreach (ulong workspace in _workspaces.Where(w => w != 0))
            {
                driver.Free(workspace);
            }
        }
    }

    private static int TypeOf(DType type) => type switch
    {
        DType.F16 => Cublas.R16F,
        DType.BF16 => Cublas.R16BF,
        _ => Cublas.R32F,
    };

    private void Check(int status, string call)
    {
        if (status != 0)
        {
            throw Failure(status, call, "");
        }
    }

    private DeviceException Failure(int status, string call, string remedy) =>
        new($"{driver.Name}: {call} failed: {Describe(status)}{remedy}") { Fault = status == Cublas.AllocFailed ? DeviceFault.OutOfMemory : DeviceFault.Failed };
}

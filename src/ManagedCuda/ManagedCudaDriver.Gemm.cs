using ManagedCuda.BasicTypes;
using ManagedCuda.CudaBlas;
using MathMode = ManagedCuda.CudaBlas.Math;

namespace Kernels.Backends.Gpu;

/// <content>Products of matrices by cuBLAS, over ManagedCuda-CUBLAS.</content>
public sealed partial class ManagedCudaDriver
{
    /// <inheritdoc/>
    public override GemmLibrary OpenGemm()
    {
        Enter();
        return new ManagedCublas(this).Open();
    }

    /// <summary>The entry points of ManagedCuda-CUBLAS; not its class <c>CudaBlas</c>, whose exceptions do not say which call failed.</summary>
    private sealed class ManagedCublas(ManagedCudaDriver driver) : CublasGemm(driver)
    {
        private CudaBlasHandle _handle;

        protected override int Create() => (int)CudaBlasNativeMethods.cublasCreate_v2(ref _handle);

        protected override bool Destroy()
        {
            if (!driver.CanRelease())
            {
                return false;
            }

            _ = CudaBlasNativeMethods.cublasDestroy_v2(_handle);
            return true;
        }

        protected override int Version(out int major, out int minor)
        {
            // As the libraries of CUDA 12, for which the package is, pack it, which they tell without a handle.
            int version = 0;
            int status = (int)CudaBlasNativeMethods.cublasGetVersion_v2(_handle, ref version);
            (major, minor) = (version / 10000, version / 100 % 100);
            return status;
        }

        protected override int SetStream(DriverStream stream)
        {
            driver.Enter();
            return (int)CudaBlasNativeMethods.cublasSetStream_v2(_handle, driver.Handle(stream));
        }

        protected override int SetWorkspace(ulong address, int bytes) => (int)CudaBlasNativeMethods.cublasSetWorkspace_v2(_handle, At(address), bytes);

        protected override int SetMathMode(int mode) => (int)CudaBlasNativeMethods.cublasSetMathMode(_handle, (MathMode)mode);

        protected override unsafe int Multiply(in CublasProduct p)
        {
            float one = 1, zero = 0;
            return (int)CudaBlasNativeMethods.cublasGemmStridedBatchedEx(
                _handle, (Operation)p.OpA, (Operation)p.OpB, p.M, p.N, p.K, At((ulong)&one),
                At(p.A), (cudaDataType)p.TypeA, p.Lda, p.StrideA, At(p.B), (cudaDataType)p.TypeB, p.Ldb, p.StrideB, At((ulong)&zero),
                At(p.C), (cudaDataType)p.TypeC, p.Ldc, p.StrideC, p.Count, (ComputeType)p.ComputeType, (GemmAlgo)p.Algorithm);
        }

        protected override string Describe(int status) => new CudaBlasException((CublasStatus)status).Message.TrimEnd('.');
    }
}

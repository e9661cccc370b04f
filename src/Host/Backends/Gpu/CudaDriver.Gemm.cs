using Kernels.Backends.Gpu.Native;

namespace Kernels.Backends.Gpu;

/// <content>Products of matrices by cuBLAS.</content>
public sealed unsafe partial class CudaDriver
{
    /// <summary>Where cuBLAS comes from.</summary>
    internal Func<Cublas> LoadCublas { get; init; } = Cublas.Load;

    /// <inheritdoc/>
    public override GemmLibrary OpenGemm()
    {
        Enter();
        return new LoadedCublas(this, LoadCublas()).Open();
    }

    /// <summary>The library that was found on the machine.</summary>
    private sealed class LoadedCublas(CudaDriver driver, Cublas cublas) : CublasGemm(driver)
    {
        private nint handle;

        protected override int Create()
        {
            nint created = 0;
            var status = cublas.Create(&created);
            handle = created;
            return status;
        }

        protected override bool Destroy()
        {
            if (!driver.CanRelease())
                return false;
            _ = cublas.Destroy(handle);
            return true;
        }

        protected override int Version(out int major, out int minor)
        {
            int first = 0, second = 0;
            var status = cublas.GetProperty(Cublas.MajorVersion, &first);
            if (status == 0)
                status = cublas.GetProperty(Cublas.MinorVersion, &second);
            (major, minor) = (first, second);
            return status;
        }

        protected override int SetStream(DriverStream stream)
        {
            driver.Enter();
            return cublas.SetStream(handle, driver.Handle(stream));
        }

        protected override int SetWorkspace(ulong address, int bytes) => cublas.SetWorkspace(handle, address, (nuint)bytes);

        protected override int SetMathMode(int mode) => cublas.SetMathMode(handle, mode);

        protected override int Multiply(in CublasProduct p)
        {
            float one = 1, zero = 0;
            return cublas.GemmStridedBatchedEx(
                handle, p.OpA, p.OpB, p.M, p.N, p.K, &one,
                p.A, p.TypeA, p.Lda, p.StrideA, p.B, p.TypeB, p.Ldb, p.StrideB, &zero,
                p.C, p.TypeC, p.Ldc, p.StrideC, p.Count, p.ComputeType, p.Algorithm);
        }

        protected override string Describe(int status) => cublas.Describe(status);
    }
}

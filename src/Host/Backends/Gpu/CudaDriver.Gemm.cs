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
        return new CublasGemm(this, LoadCublas());
    }

    /// <summary>A handle with scratch memory for each lane. Left to itself, the library would allocate scratch memory of its own for every stream, which a captured graph must not.</summary>
    private sealed class CublasGemm : GemmLibrary
    {
        // What the library's manual recommends for Hopper; earlier devices want 4 MB.
        private const int WorkspaceBytes = 32 << 20;
        private const int Lanes = 2;

        private readonly CudaDriver driver;
        private readonly Cublas cublas;
        private readonly ulong[] workspaces = new ulong[Lanes];
        private nint handle;

        internal CublasGemm(CudaDriver driver, Cublas cublas)
        {
            (this.driver, this.cublas) = (driver, cublas);
            nint created = 0;
            Check(cublas.Create(&created), "cublasCreate");
            handle = created;
            try
            {
                for (var lane = 0; lane < Lanes; lane++)
                    workspaces[lane] = driver.Allocate(WorkspaceBytes, "scratch memory of cuBLAS");
            }
            catch
            {
                Dispose(true);
                throw;
            }
            int version = 0;
            Check(cublas.GetVersion(handle, &version), "cublasGetVersion");
            Name = $"cuBLAS {version / 10000}.{version / 100 % 100}";
        }

        /// <inheritdoc/>
        public override string Name { get; } = "cuBLAS";

        /// <inheritdoc/>
        public override void Multiply(in Gemm gemm, int lane, DriverStream stream)
        {
            driver.Enter();
            Check(cublas.SetStream(handle, driver.Handle(stream)), "cublasSetStream");
            // Setting the stream brings the library's own scratch memory back.
            Check(cublas.SetWorkspace(handle, workspaces[lane], WorkspaceBytes), "cublasSetWorkspace");
            var (compute, math) = gemm.Precision switch
            {
                Precision.Fp32 => (Cublas.Compute32FPedantic, Cublas.PedanticMath),
                Precision.Tf32 => (Cublas.Compute32FFastTf32, Cublas.Tf32TensorOpMath),
                _ => (Cublas.Compute32F, Cublas.DisallowReducedPrecisionReduction),
            };
            Check(cublas.SetMathMode(handle, math), "cublasSetMathMode");
            // Column by column, a matrix of ours is its transpose: c^T = w^T a^T.
            float one = 1, zero = 0;
            var type = TypeOf(gemm.Operand);
            Check(
                cublas.GemmStridedBatchedEx(
                    handle, gemm.Transposed ? Cublas.OpT : Cublas.OpN, Cublas.OpN, gemm.Columns, gemm.Rows, gemm.Depth, &one,
                    gemm.W, type, gemm.Transposed ? gemm.Depth : gemm.Columns, 0,
                    gemm.A, type, gemm.Depth, (long)gemm.Rows * gemm.Depth, &zero,
                    gemm.C, TypeOf(gemm.Result), gemm.Columns, (long)gemm.Rows * gemm.Columns,
                    gemm.Images, compute, Cublas.DefaultAlgorithm),
                "cublasGemmStridedBatchedEx");
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
                throw new DeviceException($"{driver.Name}: {call} failed: {cublas.Describe(status)}");
        }

        /// <inheritdoc/>
        protected override void Dispose(bool disposing)
        {
            if (!disposing || handle == 0)
                return;
            driver.Enter();
            _ = cublas.Destroy(handle);
            handle = 0;
            foreach (var workspace in workspaces.Where(w => w != 0))
                driver.Free(workspace);
        }
    }
}

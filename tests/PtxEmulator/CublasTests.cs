using Kernels.Backends.Gpu;
using Kernels.Backends.Gpu.Native;
using Xunit;

namespace Kernels.Tests.PtxEmulator;

/// <summary>cuBLAS behind the driver of a real device, against stand-ins for both libraries: what is passed on, in which order, and that everything is given back.</summary>
[Collection(nameof(FakeCuda))]
public sealed unsafe class CublasTests
{
    private static readonly List<string> s_calls = [];
    private static int s_status;

    [Fact]
    public void A_product_goes_to_the_stream_with_scratch_memory_of_its_lane()
    {
        using (CudaDriver driver = Open())
        {
            using GemmLibrary library = driver.OpenGemm();
            Assert.Equal("cuBLAS 12.6", library.Name);
            using DriverStream stream = driver.CreateStream();
            s_calls.Clear();

            // c [3 images][5, 7] = a [5, 11] w^T with w [7, 11]; column by column c is 7 by 5.
            library.Multiply(new Gemm(3, 5, 7, 11, true, DType.F16, DType.F32, Precision.Fp16, 1000, 2000, 3000), 0, stream);
            Assert.Equal(["stream", "workspace 0", "math 16", "T N 7 5 11 | 2000 2 11 0 | 1000 2 11 55 | 3000 0 7 35 | 3 68 -1 | 1 0"], s_calls);
            s_calls.Clear();

            // The gradient's w lies the other way; the other lane has other scratch memory.
            library.Multiply(new Gemm(1, 5, 7, 11, false, DType.BF16, DType.BF16, Precision.Bf16, 1000, 2000, 3000), 1, stream);
            Assert.Equal(["stream", "workspace 1", "math 16", "N N 7 5 11 | 2000 14 7 0 | 1000 14 11 55 | 3000 14 7 35 | 1 68 -1 | 1 0"], s_calls);
            s_calls.Clear();
            library.Multiply(new Gemm(1, 1, 1, 1, true, DType.F32, DType.F32, Precision.Tf32, 1000, 2000, 3000), 0, stream);
            library.Multiply(new Gemm(1, 1, 1, 1, true, DType.F32, DType.F32, Precision.Fp32, 1000, 2000, 3000), 0, stream);
            Assert.Equal(["math 3", "math 2"], s_calls.Where(c => c.StartsWith("math", StringComparison.Ordinal)));
            Assert.Equal([77, 69], s_calls.Where(c => c.Contains('|', StringComparison.Ordinal)).Select(c => int.Parse(c.Split(" | ")[4].Split(' ')[1])));

            s_status = 13;
            Assert.Contains(
                "cublasSetStream failed: status of a test",
                Assert.Throws<DeviceException>(() => library.Multiply(new Gemm(1, 1, 1, 1, true, DType.F32, DType.F32, Precision.Fp32, 1000, 2000, 3000), 0, stream)).Message,
                StringComparison.Ordinal);
            s_status = 0;
            s_calls.Clear();
        }

        Assert.Equal(["destroy"], s_calls);
        Assert.Equal(2, FakeCuda.Calls.Count(c => c == "cuMemFree"));
        Assert.Equal(0, FakeCuda.LiveHandles);
    }

    /// <summary>CUBLAS_STATUS_NOT_INITIALIZED and _ALLOC_FAILED, as the real library answers where the NVIDIA driver or memory is missing, and a status of no known cause.</summary>
    [Theory]
    [InlineData(1, DeviceFault.Failed, ". cuBLAS 12.6 may be newer than the NVIDIA driver: update that, or take --gemm own, which needs no library")]
    [InlineData(3, DeviceFault.OutOfMemory, ". Take a smaller batch, or end what else uses the device")]
    [InlineData(14, DeviceFault.Failed, "")]
    public void A_library_that_does_not_start_says_what_to_do(int status, DeviceFault fault, string remedy)
    {
        using (CudaDriver driver = Open())
        {
            s_status = status;
            DeviceException error = Assert.Throws<DeviceException>(() => driver.OpenGemm());
            Assert.Equal(($"Fake 100: cublasCreate failed: status of a test{remedy}", fault), (error.Message, error.Fault));
            Assert.Equal(["create"], s_calls);
        }

        Assert.DoesNotContain(FakeCuda.Calls, c => c.StartsWith("cuMemAlloc", StringComparison.Ordinal));
        Assert.Equal(0, FakeCuda.LiveHandles);
    }

    [Fact]
    public void Without_memory_to_work_in_the_handle_is_given_back()
    {
        using CudaDriver driver = Open();
        FakeCuda.Results["cuMemAlloc"] = 2;
        Assert.Contains("'scratch memory of cuBLAS' do not fit", Assert.Throws<DeviceException>(() => driver.OpenGemm()).Message, StringComparison.Ordinal);
        Assert.Equal(["create", "destroy"], s_calls);
        FakeCuda.Results.Clear();
    }

    /// <summary>Whoever clears up hears nothing of a device that was lost, or of a driver that went first.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void It_can_be_disposed_after_the_device_is_gone(bool lost)
    {
        CudaDriver driver = Open();
        GemmLibrary library = driver.OpenGemm();
        if (lost)
        {
            // CUDA_ERROR_ILLEGAL_ADDRESS.
            FakeCuda.Results["cuStreamSynchronize"] = 700;
            Assert.Equal(DeviceFault.Lost, Assert.Throws<DeviceException>(() => driver.Synchronize()).Fault);
            FakeCuda.Results.Clear();
        }
        else
        {
            driver.Dispose();
        }

        s_calls.Clear();
        library.Dispose();
        library.Dispose();
        Assert.Equal(lost ? ["destroy"] : [], s_calls);
        Assert.Throws<ObjectDisposedException>(() => library.Multiply(new Gemm(1, 1, 1, 1, true, DType.F32, DType.F32, Precision.Fp32, 1000, 2000, 3000), 0, driver.DefaultStream));
        driver.Dispose();
    }

    [Fact]
    public void A_library_that_is_too_old_is_named()
    {
        Assert.Contains("cuBLAS has no cublasSetWorkspace_v2", Assert.Throws<DeviceException>(() => new Cublas(name => name == "cublasSetWorkspace_v2" ? 0 : 1)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_library_that_is_not_there_is_named_with_what_to_do()
    {
        DeviceException? error = Record.Exception(() => Cublas.Load()) as DeviceException;
        Assert.SkipWhen(error is null, "this machine has cuBLAS");
        Assert.Contains("cuBLAS was not found; tried", error!.Message, StringComparison.Ordinal);
        Assert.Contains("set KERNELS_CUBLAS, or take --gemm own", error.Message, StringComparison.Ordinal);
    }

    private static ulong s_first;

    private static CudaDriver Open()
    {
        s_calls.Clear();
        (s_status, s_first) = (0, 0);
        Dictionary<string, nint> exports = new()
        {
            ["cublasCreate_v2"] = (nint)(delegate* unmanaged<nint*, int>)&Create,
            ["cublasDestroy_v2"] = (nint)(delegate* unmanaged<nint, int>)&Destroy,
            ["cublasSetStream_v2"] = (nint)(delegate* unmanaged<nint, nint, int>)&SetStream,
            ["cublasSetWorkspace_v2"] = (nint)(delegate* unmanaged<nint, ulong, nuint, int>)&SetWorkspace,
            ["cublasSetMathMode"] = (nint)(delegate* unmanaged<nint, int, int>)&SetMathMode,
            ["cublasGetProperty"] = (nint)(delegate* unmanaged<int, int*, int>)&GetProperty,
            ["cublasGetStatusString"] = (nint)(delegate* unmanaged<int, byte*>)&GetStatusString,
            ["cublasGemmStridedBatchedEx"] =
                (nint)(delegate* unmanaged<nint, int, int, int, int, int, void*, ulong, int, int, long, ulong, int, int, long, void*, ulong, int, int, long, int, int, int, int>)&Multiply,
        };
        return new CudaDriver(FakeCuda.Load()) { LoadCublas = () => new Cublas(name => exports.GetValueOrDefault(name)) };
    }

    private static int Note(string call)
    {
        s_calls.Add(call);
        return s_status;
    }

    [System.Runtime.InteropServices.UnmanagedCallersOnly]
    private static int Create(nint* handle)
    {
        *handle = 4;
        return Note("create");
    }

    [System.Runtime.InteropServices.UnmanagedCallersOnly]
    private static int Destroy(nint handle) => Note("destroy");

    [System.Runtime.InteropServices.UnmanagedCallersOnly]
    private static int SetStream(nint handle, nint stream) => Note("stream");

    [System.Runtime.InteropServices.UnmanagedCallersOnly]
    private static int SetWorkspace(nint handle, ulong workspace, nuint bytes)
    {
        s_first = s_first == 0 ? workspace : s_first;
        return Note(bytes == 32 << 20 ? $"workspace {(workspace == s_first ? 0 : 1)}" : "too small");
    }

    [System.Runtime.InteropServices.UnmanagedCallersOnly]
    private static int SetMathMode(nint handle, int mode) => Note($"math {mode}");

    [System.Runtime.InteropServices.UnmanagedCallersOnly]
    private static int GetProperty(int type, int* value)
    {
        // libraryPropertyType: MAJOR_VERSION, MINOR_VERSION.
        *value = type == 0 ? 12 : type == 1 ? 6 : -1;
        return 0;
    }

    private static readonly byte* s_text = (byte*)System.Runtime.InteropServices.Marshal.StringToCoTaskMemUTF8("status of a test");

    [System.Runtime.InteropServices.UnmanagedCallersOnly]
    private static byte* GetStatusString(int status) => s_text;

    [System.Runtime.InteropServices.UnmanagedCallersOnly]
    private static int Multiply(
        nint handle, int opA, int opB, int m, int n, int k, void* alpha, ulong a, int typeA, int lda, long strideA, ulong b, int typeB, int ldb, long strideB, void* beta, ulong c, int typeC,
        int ldc, long strideC, int count, int compute, int algorithm) => Note(
            $"{(opA == 1 ? 'T' : 'N')} {(opB == 1 ? 'T' : 'N')} {m} {n} {k} | {a} {typeA} {lda} {strideA} | {b} {typeB} {ldb} {strideB} | {c} {typeC} {ldc} {strideC} | {count} {compute} {algorithm} | {*(float*)alpha} {*(float*)beta}");
}

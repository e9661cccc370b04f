using Kernels.Backends.Gpu;
using Kernels.Backends.Gpu.Native;
using Xunit;

namespace Kernels.Tests.PtxEmulator;

/// <summary>What is declared of libcuda, against the real library, where an NVIDIA driver is installed: a device it need not have.</summary>
public sealed class LibCudaTests
{
    /// <summary>Every function is there under its name, those among them that older drivers lack, and every number of an error has the name it is used for.</summary>
    [Fact]
    public void The_library_has_what_is_declared()
    {
        LibCuda cuda = Open();
        Assert.StartsWith("CUDA_ERROR_OUT_OF_MEMORY (", cuda.Describe(Cu.OutOfMemory), StringComparison.Ordinal);
        Assert.StartsWith("CUDA_ERROR_NO_DEVICE (", cuda.Describe(Cu.NoDevice), StringComparison.Ordinal);
        Assert.StartsWith("CUDA_ERROR_NO_BINARY_FOR_GPU (", cuda.Describe(Cu.NoBinaryForDevice), StringComparison.Ordinal);
        Assert.StartsWith("CUDA_ERROR_UNSUPPORTED_PTX_VERSION (", cuda.Describe(Cu.UnsupportedPtxVersion), StringComparison.Ordinal);
        Assert.StartsWith("CUDA_ERROR_NOT_FOUND (", cuda.Describe(Cu.NotFound), StringComparison.Ordinal);

        // Those after which the process must end: 226 and 721 came with CUDA 12.8.
        string[] lost =
        [
            "ECC_UNCORRECTABLE", "NVLINK_UNCORRECTABLE", "CONTAINED", "ILLEGAL_ADDRESS", "LAUNCH_TIMEOUT", "CONTEXT_IS_DESTROYED", "ASSERT", "HARDWARE_STACK_ERROR", "ILLEGAL_INSTRUCTION",
            "MISALIGNED_ADDRESS", "INVALID_ADDRESS_SPACE", "INVALID_PC", "LAUNCH_FAILED", "TENSOR_MEMORY_LEAK",
        ];
        string[] sticky = [.. Enumerable.Range(0, 1000).Where(Cu.IsSticky).Select(cuda.Describe).Where(d => d.StartsWith("CUDA_ERROR_", StringComparison.Ordinal)).Select(d => d["CUDA_ERROR_".Length..d.IndexOf(' ', StringComparison.Ordinal)])];
        Assert.Empty(sticky.Except(lost));
        Assert.Subset(sticky.ToHashSet(), lost.Except(["CONTAINED", "TENSOR_MEMORY_LEAK"]).ToHashSet());
    }

    /// <summary>Without a device the library says so, and the driver what to do.</summary>
    [Fact]
    public void A_library_without_a_device_is_told_from_one_that_fails()
    {
        LibCuda cuda = Open();
        Assert.SkipWhen(CudaDriver.DeviceCount(cuda) > 0, "there is a device");
        Assert.Contains("there is no device; look with nvidia-smi", Assert.Throws<DeviceException>(() => new CudaDriver(cuda)).Message, StringComparison.Ordinal);
    }

    private static LibCuda Open()
    {
        try
        {
            return LibCuda.Load();
        }
        catch (DeviceException e) when (e.Message.Contains("not found", StringComparison.Ordinal))
        {
            Assert.Skip(e.Message);
            throw;
        }
    }
}

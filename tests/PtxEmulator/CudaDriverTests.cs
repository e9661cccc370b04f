using Kernels.Backends.Gpu;
using Kernels.Backends.Gpu.Native;
using Xunit;

namespace Kernels.Tests.PtxEmulator;

/// <summary>The driver of a real device, against a stand-in for libcuda: what is passed on, what is said of errors, and that every handle is given back.</summary>
[Collection(nameof(FakeCuda))]
public sealed class CudaDriverTests
{
    private const string Ptx = ".version 8.4\n.target sm_90\n.visible .entry k(.param .f32 a, .param .u64 b, .param .u16 c) { ret; }";

    private static LaunchArguments Arguments => new LaunchArguments().Add(2.5f).Add(0x0102030405060708UL).Add((ushort)9);

    [Fact]
    public void A_missing_library_is_named_with_what_to_do()
    {
        var error = Assert.Throws<DeviceException>(() => LibCuda.Load("libcuda-that-is-nowhere.so.1"));
        Assert.Contains("libcuda-that-is-nowhere.so.1", error.Message, StringComparison.Ordinal);
        Assert.Contains("Install the NVIDIA driver", error.Message, StringComparison.Ordinal);
        Assert.Contains("cuGraphLaunch", Assert.Throws<DeviceException>(() => FakeCuda.Load("cuGraphLaunch")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_missing_device_is_named_with_what_to_do()
    {
        var cuda = FakeCuda.Load();
        Assert.Contains("no device 1; there are 1", Assert.Throws<DeviceException>(() => new CudaDriver(cuda, 1)).Message, StringComparison.Ordinal);
        // CUDA_ERROR_NO_DEVICE
        FakeCuda.Results["cuInit"] = 100;
        Assert.Contains("nvidia-smi", Assert.Throws<DeviceException>(() => new CudaDriver(cuda)).Message, StringComparison.Ordinal);
        FakeCuda.Results["cuInit"] = 803;
        Assert.Contains("cuInit failed: CUDA_ERROR_OF_TEST (the text of the error)", Assert.Throws<DeviceException>(() => new CudaDriver(cuda)).Message, StringComparison.Ordinal);
        FakeCuda.Results.Clear();
        FakeCuda.Results["cuStreamCreate"] = 1;
        Assert.Throws<DeviceException>(() => new CudaDriver(cuda));
        Assert.Equal(0, FakeCuda.LiveHandles);
    }

    [Fact]
    public void Memory_and_copies_go_through_a_stream_of_the_drivers_own()
    {
        using (var driver = new CudaDriver(FakeCuda.Load()))
        {
            Assert.Equal(("Fake 100", "sm_90", 80L << 30, 132, 232448), (driver.Name, driver.Architecture, driver.TotalBytes, driver.Multiprocessors, driver.MaximumSharedBytes));
            var (a, b) = (driver.Allocate(16), driver.Allocate(16));
            driver.CopyToDevice(a, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
            driver.Copy(b, a, 16);
            driver.Fill(b + 4, 7, 8);
            var result = new byte[16];
            driver.CopyToHost(result, b);
            Assert.Equal([1, 2, 3, 4, 7, 7, 7, 7, 7, 7, 7, 7, 13, 14, 15, 16], result);
            driver.Free(a);
            driver.Free(b);
            // Bound once to this thread, and waited for once.
            Assert.Single(FakeCuda.Calls, "cuCtxSetCurrent(77)");
            Assert.Single(FakeCuda.Calls, "cuStreamSynchronize");
            Assert.DoesNotContain(FakeCuda.Calls, call => call.EndsWith(", 0)", StringComparison.Ordinal));

            FakeCuda.Results["cuMemAlloc"] = 2;
            var error = Assert.Throws<DeviceException>(() => driver.Allocate(5000, "weights"));
            Assert.Contains("5000 bytes for 'weights' do not fit: 1000 of 2000 are free", error.Message, StringComparison.Ordinal);
        }
        Assert.Equal(0, FakeCuda.LiveHandles);
    }

    [Fact]
    public void A_launch_hands_over_geometry_and_one_block_of_arguments()
    {
        using (var driver = new CudaDriver(FakeCuda.Load()))
        {
            using var module = driver.LoadModule(System.Text.Encoding.UTF8.GetBytes(Ptx), "m.ptx");
            Assert.Contains($"cuModuleLoadDataEx({Ptx})", FakeCuda.Calls);
            var function = module.Function("");
            Assert.Equal(("k", 18), (function.Name, function.ArgumentBytes));
            Assert.Equal((4096UL, 12L), module.Variable("v"));
            Assert.Contains("it has k", Assert.Throws<DeviceException>(() => module.Function("other")).Message, StringComparison.Ordinal);
            Assert.Contains("no device variable 'w'", Assert.Throws<DeviceException>(() => module.Variable("w")).Message, StringComparison.Ordinal);

            var arguments = Arguments;
            using var stream = driver.CreateStream();
            driver.Launch(function, new LaunchGeometry(2, 3, 4, 5, 6, 7, 1000), arguments.Bytes, stream);
            Assert.StartsWith("cuLaunchKernel(6, 2, 3, 4, 5, 6, 7, 1000, 1", FakeCuda.Calls[^1], StringComparison.Ordinal);
            Assert.Equal(arguments.Bytes.ToArray(), FakeCuda.Arguments);
            Assert.Contains("takes 18 bytes of arguments, not 4", Assert.Throws<DeviceException>(() => driver.Launch(function, LaunchGeometry.Linear(1, 32), new byte[4])).Message, StringComparison.Ordinal);

            // Beyond 48 KiB, of which this kernel has 1 KiB itself, a kernel asks once.
            driver.Launch(function, LaunchGeometry.Linear(1, 32, 47 << 10), arguments.Bytes);
            Assert.DoesNotContain(FakeCuda.Calls, call => call.StartsWith("cuFuncSetAttribute", StringComparison.Ordinal));
            driver.Launch(function, LaunchGeometry.Linear(1, 32, 48 << 10), arguments.Bytes);
            driver.Launch(function, LaunchGeometry.Linear(1, 32, 48 << 10), arguments.Bytes);
            Assert.Single(FakeCuda.Calls, "cuFuncSetAttribute(6, 8, 49152)");
        }
        Assert.Equal(0, FakeCuda.LiveHandles);
    }

    [Fact]
    public void A_module_that_does_not_load_says_what_the_compiler_said()
    {
        using var driver = new CudaDriver(FakeCuda.Load());
        FakeCuda.Results["cuModuleLoadDataEx"] = 222;
        var error = Assert.Throws<DeviceException>(() => driver.LoadModule(System.Text.Encoding.UTF8.GetBytes(Ptx), "m.ptx"));
        Assert.Contains("Fake 100: cuModuleLoadDataEx failed: CUDA_ERROR_OF_TEST (the text of the error) for 'm.ptx'", error.Message, StringComparison.Ordinal);
        Assert.Contains("compile it for sm_90, or update the NVIDIA driver", error.Message, StringComparison.Ordinal);
        Assert.Contains("ptxas fatal: line 3", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_failed_launch_names_kernel_and_geometry_and_a_lost_device_stays_lost()
    {
        using (var driver = new CudaDriver(FakeCuda.Load()))
        {
            using var module = driver.LoadModule(System.Text.Encoding.UTF8.GetBytes(Ptx), "m.ptx");
            var function = module.Function("k");
            FakeCuda.Results["cuLaunchKernel"] = 1;
            var refused = Assert.Throws<DeviceException>(() => driver.Launch(function, LaunchGeometry.Linear(1, 2000), Arguments.Bytes)).Message;
            Assert.Contains("cuLaunchKernel failed: CUDA_ERROR_OF_TEST (the text of the error) at the launch of 'k' with grid (1,1,1), block (2000,1,1)", refused, StringComparison.Ordinal);
            Assert.DoesNotContain("any more", refused, StringComparison.Ordinal);

            // CUDA_ERROR_ILLEGAL_ADDRESS surfaces where one waits.
            FakeCuda.Results.Clear();
            driver.Launch(function, LaunchGeometry.Linear(3, 64), Arguments.Bytes);
            FakeCuda.Results["cuStreamSynchronize"] = 700;
            var failure = Assert.Throws<DeviceException>(() => driver.Synchronize());
            Assert.Equal(DeviceFault.Lost, failure.Fault);
            var lost = failure.Message;
            Assert.Contains("cuStreamSynchronize failed", lost, StringComparison.Ordinal);
            Assert.Contains("the latest launch was 'k' with grid (3,1,1)", lost, StringComparison.Ordinal);
            Assert.Contains("cannot use the device any more", lost, StringComparison.Ordinal);
            FakeCuda.Results.Clear();
            var later = Assert.Throws<DeviceException>(() => driver.Allocate(4));
            Assert.Contains("earlier error", later.Message, StringComparison.Ordinal);
            Assert.Equal(DeviceFault.Lost, later.Fault);

            // Whoever clears up hears nothing of it.
            driver.Free(4096);
            driver.FreeHost(4096);
        }
        Assert.Equal(0, FakeCuda.LiveHandles);
    }

    [Theory]
    [InlineData]
    [InlineData("cuEventElapsedTime")]
    public unsafe void Events_and_graphs(params string[] without)
    {
        using (var driver = new CudaDriver(FakeCuda.Load(without)))
        {
            using var stream = driver.CreateStream();
            using DriverEvent start = driver.CreateEvent(), end = driver.CreateEvent();
            Assert.Throws<DeviceException>(() => driver.Wait(stream, start));
            Assert.Throws<DeviceException>(() => driver.ElapsedMilliseconds(start, end));
            driver.Record(start, stream);
            driver.Record(end);
            driver.Wait(stream, end);
            Assert.Equal(1.5, driver.ElapsedMilliseconds(start, end));

            Assert.Throws<DeviceException>(() => driver.BeginCapture(driver.DefaultStream));
            Assert.Throws<DeviceException>(() => driver.EndCapture(stream));
            driver.BeginCapture(stream);
            Assert.Throws<DeviceException>(() => driver.BeginCapture(stream));
            var address = driver.Allocate(4);
            var source = new byte[] { 1, 2, 3, 4 };
            driver.CopyToDevice(address, source, stream);
            Assert.Throws<DeviceException>(() => driver.CopyToHost(new byte[4], address, stream));
            // A replay reads the source again: it is the graph's own copy.
            source.AsSpan().Clear();
            Assert.Equal([1, 2, 3, 4], new ReadOnlySpan<byte>((void*)FakeCuda.CapturedSource, 4).ToArray());
            using var graph = driver.EndCapture(stream);
            Assert.Equal(3, graph.Nodes);
            driver.Launch(graph, stream);
            Assert.Equal("cuGraphLaunch(10)", FakeCuda.Calls[^1]);
            driver.Free(address);

            driver.BeginCapture(stream);
            FakeCuda.Results["cuGraphInstantiate"] = 900;
            Assert.Contains("cuGraphInstantiate failed", Assert.Throws<DeviceException>(() => driver.EndCapture(stream)).Message, StringComparison.Ordinal);
        }
        Assert.Equal(0, FakeCuda.LiveHandles);
    }

    [Fact]
    public void Kernels_are_listed_from_ptx_and_machine_code()
    {
        Assert.Equal(["a", "b_2"], CudaDriver.EntryNames(".visible .entry a(\n.param .u64 p)\n{}\n.entry\tb_2 () {}"u8));
        Assert.Equal(["first", "second"], CudaDriver.EntryNames("\u007fELF\0.text.first\0.rel.text.first\0.text.second\0"u8));
        Cuda.Require();
        var compiled = Cuda.Compile("buggy.cu", "sm_80");
        Assert.Equal(CudaDriver.EntryNames(compiled.Ptx).Order(), CudaDriver.EntryNames(compiled.Cubin).Order());
    }
}

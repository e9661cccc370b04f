using System.Runtime.InteropServices;
using System.Text;
using Kernels.Backends.Gpu.Native;

namespace Kernels.Backends.Gpu;

/// <summary>
/// The driver of an NVIDIA device, over the CUDA driver API. It shares the device's primary context with other libraries of the process. Streams are ordered by events only,
/// the default stream among them. One capture runs at a time.
/// </summary>
/// <remarks>Errors of a kernel surface in a later call, as on any GPU; the message then names the latest launch, which is the likely one.</remarks>
public sealed unsafe partial class CudaDriver : Driver
{
    // Binding a context to a thread is a call; a thread that has it bound already saves it.
    [ThreadStatic]
    private static CudaDriver? current;

    private readonly LibCuda cuda;
    private readonly int device;
    private readonly nint context;
    private readonly bool readsPageableMemory;
    private readonly CudaStream defaultStream;
    private CudaFunction? lastFunction;
    private LaunchGeometry lastGeometry;
    private string? lost;
    private bool isDisposed;

    /// <summary>Opens a device.</summary>
    /// <param name="ordinal">Which one, counted from 0 among those that <c>CUDA_VISIBLE_DEVICES</c> leaves.</param>
    /// <exception cref="DeviceException">There is no NVIDIA driver, or no such device.</exception>
    public CudaDriver(int ordinal = 0)
        : this(LibCuda.Load(), ordinal)
    {
    }

    /// <summary>How many devices there are, among those that <c>CUDA_VISIBLE_DEVICES</c> leaves; 0 without an NVIDIA driver.</summary>
    public static int DeviceCount()
    {
        try
        {
            return DeviceCount(LibCuda.Load());
        }
        catch (DeviceException)
        {
            return 0;
        }
    }

    internal static int DeviceCount(LibCuda cuda)
    {
        int count = 0;
        return cuda.Init(0) == 0 && cuda.DeviceGetCount(&count) == 0 ? count : 0;
    }

    internal CudaDriver(LibCuda cuda, int ordinal = 0)
    {
        this.cuda = cuda;
        Name = "CUDA";
        int count = 0, found = 0;
        var result = cuda.Init(0);
        if (result != Cu.NoDevice)
        {
            Check(result, "cuInit");
            Check(cuda.DeviceGetCount(&count), "cuDeviceGetCount");
        }
        if (ordinal < 0 || ordinal >= count)
        {
            throw new DeviceException(count == 0
                ? "CUDA: there is no device; look with nvidia-smi, and at CUDA_VISIBLE_DEVICES"
                : $"CUDA: there is no device {ordinal}; there are {count}, counted from 0 (CUDA_VISIBLE_DEVICES may hide some)");
        }
        Check(cuda.DeviceGet(&found, ordinal), "cuDeviceGet");
        device = found;
        var name = stackalloc byte[256];
        Check(cuda.DeviceGetName(name, 256, device), "cuDeviceGetName");
        Name = Marshal.PtrToStringUTF8((nint)name) ?? Name;
        nuint bytes = 0;
        Check(cuda.DeviceTotalMem(&bytes, device), "cuDeviceTotalMem");
        TotalBytes = (long)bytes;
        Multiprocessors = Attribute(Cu.MultiprocessorCount);
        MaximumSharedBytes = Attribute(Cu.MaxSharedMemoryPerBlockOptIn);
        readsPageableMemory = Attribute(Cu.PageableMemoryAccess) > 0;
        Architecture = $"sm_{Attribute(Cu.ComputeCapabilityMajor)}{Attribute(Cu.ComputeCapabilityMinor)}";
        nint retained = 0;
        Check(cuda.PrimaryContextRetain(&retained, device), "cuDevicePrimaryCtxRetain");
        context = retained;
        try
        {
            defaultStream = NewStream();
        }
        catch
        {
            _ = cuda.PrimaryContextRelease(device);
            throw;
        }
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override string Architecture { get; }

    /// <inheritdoc/>
    public override long TotalBytes { get; }

    /// <inheritdoc/>
    public override long FreeBytes
    {
        get
        {
            Enter();
            nuint free = 0, total = 0;
            Check(cuda.MemGetInfo(&free, &total), "cuMemGetInfo");
            return (long)free;
        }
    }

    /// <inheritdoc/>
    public override int Multiprocessors { get; }

    /// <inheritdoc/>
    public override int MaximumSharedBytes { get; }

    /// <inheritdoc/>
    public override DriverStream DefaultStream => defaultStream;

    /// <inheritdoc/>
    public override ulong Allocate(long bytes, string label = "")
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(bytes, 1);
        Enter();
        ulong address = 0;
        var result = cuda.MemAlloc(&address, (nuint)bytes);
        if (result == Cu.OutOfMemory)
        {
            nuint free = 0, total = 0;
            _ = cuda.MemGetInfo(&free, &total);
            throw new DeviceException($"{Name}: {bytes} bytes for '{label}' do not fit: {free} of {total} are free. Take a smaller batch, or end what else uses the device") { Fault = DeviceFault.OutOfMemory };
        }
        Check(result, "cuMemAlloc");
        return address;
    }

    /// <inheritdoc/>
    public override void Free(ulong address)
    {
        // The memory of a lost context went with it, and whoever clears up is not to hear of it again.
        if (lost is not null)
            return;
        Enter();
        // Waits for the device by itself.
        Check(cuda.MemFree(address), "cuMemFree");
    }

    /// <inheritdoc/>
    public override void CopyToDevice(ulong destination, ReadOnlySpan<byte> source, DriverStream? stream = null)
    {
        if (source.IsEmpty)
            return;
        Enter();
        var handle = Handle(stream);
        fixed (byte* from = source)
        {
            // A capture reads the source at every replay: the graph keeps a copy. Otherwise pageable memory has been staged when the call returns; a device that reads the host's memory
            // as its own need not stage it, and nobody says that it does.
            var captures = IsCapturing(handle);
            Check(cuda.MemcpyHtoDAsync(destination, captures ? Keep(source) : from, (nuint)source.Length, handle), "cuMemcpyHtoDAsync");
            if (readsPageableMemory && !captures)
                Check(cuda.StreamSynchronize(handle), "cuStreamSynchronize");
        }
    }

    /// <inheritdoc/>
    public override void CopyToHost(Span<byte> destination, ulong source, DriverStream? stream = null)
    {
        if (destination.IsEmpty)
            return;
        Enter();
        var handle = Handle(stream);
        if (IsCapturing(handle))
            throw new DeviceException($"{Name}: a copy to the host cannot be captured");
        fixed (byte* to = destination)
        {
            Check(cuda.MemcpyDtoHAsync(to, source, (nuint)destination.Length, handle), "cuMemcpyDtoHAsync");
            Check(cuda.StreamSynchronize(handle), "cuStreamSynchronize");
        }
    }

    /// <inheritdoc/>
    public override nint AllocateHost(long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(bytes, 1);
        Enter();
        void* address = null;
        Check(cuda.MemAllocHost(&address, (nuint)bytes), "cuMemAllocHost");
        return (nint)address;
    }

    /// <inheritdoc/>
    public override void FreeHost(nint address)
    {
        if (lost is not null)
            return;
        Enter();
        Check(cuda.MemFreeHost((void*)address), "cuMemFreeHost");
    }

    /// <inheritdoc/>
    public override void CopyToHost(nint destination, ulong source, long bytes, DriverStream stream)
    {
        Enter();
        Check(cuda.MemcpyDtoHAsync((void*)destination, source, checked((nuint)bytes), Handle(stream)), "cuMemcpyDtoHAsync");
    }

    /// <inheritdoc/>
    public override void Copy(ulong destination, ulong source, long bytes, DriverStream? stream = null)
    {
        Enter();
        Check(cuda.MemcpyDtoDAsync(destination, source, checked((nuint)bytes), Handle(stream)), "cuMemcpyDtoDAsync");
    }

    /// <inheritdoc/>
    public override void Fill(ulong destination, byte value, long bytes, DriverStream? stream = null)
    {
        Enter();
        Check(cuda.MemsetD8Async(destination, value, checked((nuint)bytes), Handle(stream)), "cuMemsetD8Async");
    }

    /// <inheritdoc/>
    public override DriverModule LoadModule(ReadOnlySpan<byte> image, string name)
    {
        Enter();
        const int LogBytes = 16 << 10;
        // PTX ends with a zero; machine code knows its own length.
        var text = new byte[image.Length + 1];
        image.CopyTo(text);
        var errors = new byte[LogBytes];
        var information = new byte[LogBytes];
        nint module = 0;
        int result;
        fixed (byte* data = text, errorLog = errors, informationLog = information)
        {
            var options = stackalloc int[] { Cu.JitInfoLogBuffer, Cu.JitInfoLogBufferSizeBytes, Cu.JitErrorLogBuffer, Cu.JitErrorLogBufferSizeBytes };
            // Numbers stand in the place of the pointers themselves.
            var values = stackalloc void*[] { informationLog, (void*)LogBytes, errorLog, (void*)LogBytes };
            result = cuda.ModuleLoadDataEx(&module, data, 4, options, values);
        }
        if (result == 0)
            return new CudaModule(this, module, name, EntryNames(image));
        var remedy = result is Cu.UnsupportedPtxVersion or Cu.NoBinaryForDevice
            ? $"; compile it for {Architecture}, or update the NVIDIA driver"
            : "";
        throw Failure(result, "cuModuleLoadDataEx", $" for '{name}'{remedy}\n{Log(errors)}{Log(information)}".TrimEnd());
    }

    /// <inheritdoc/>
    public override void Launch(DriverFunction function, in LaunchGeometry geometry, ReadOnlySpan<byte> arguments, DriverStream? stream = null)
    {
        ArgumentNullException.ThrowIfNull(function);
        Enter();
        var kernel = (CudaFunction)function;
        if (kernel.ArgumentBytes >= 0 && kernel.ArgumentBytes != arguments.Length)
            throw new DeviceException($"launch of '{kernel.Name}' with {geometry}: the kernel takes {kernel.ArgumentBytes} bytes of arguments, not {arguments.Length}");
        (lastFunction, lastGeometry) = (kernel, geometry);
        if (geometry.SharedBytes > kernel.SharedBytesAllowed)
        {
            var raised = cuda.FuncSetAttribute(kernel.Handle, Cu.MaxDynamicSharedSizeBytes, geometry.SharedBytes);
            if (raised != 0)
                throw LaunchFailure(raised, "cuFuncSetAttribute", kernel, geometry, $" (a block has at most {MaximumSharedBytes} bytes of shared memory)");
            kernel.SharedBytesAllowed = geometry.SharedBytes;
        }
        fixed (byte* block = arguments)
        {
            var size = (nuint)arguments.Length;
            var extra = stackalloc void*[5];
            PackExtra(extra, block, &size);
            var result = cuda.LaunchKernel(
                kernel.Handle, (uint)geometry.GridX, (uint)geometry.GridY, (uint)geometry.GridZ, (uint)geometry.BlockX, (uint)geometry.BlockY, (uint)geometry.BlockZ,
                (uint)geometry.SharedBytes, Handle(stream), null, arguments.IsEmpty ? null : extra);
            if (result != 0)
                throw LaunchFailure(result, "cuLaunchKernel", kernel, geometry, "");
        }
    }

    /// <summary>The list by which a launch takes one block of arguments instead of a pointer to each.</summary>
    private static void PackExtra(void** extra, byte* block, nuint* size)
    {
        extra[0] = (void*)Cu.LaunchParamBufferPointer;
        extra[1] = block;
        extra[2] = (void*)Cu.LaunchParamBufferSize;
        extra[3] = size;
        extra[4] = (void*)Cu.LaunchParamEnd;
    }

    private int Attribute(int attribute)
    {
        int value = 0;
        Check(cuda.DeviceGetAttribute(&value, attribute, device), "cuDeviceGetAttribute");
        return value;
    }

    /// <summary>Makes the device's context the calling thread's.</summary>
    private void Enter()
    {
        ObjectDisposedException.ThrowIf(isDisposed, this);
        if (lost is not null)
            throw new DeviceException($"{Name}: the device was lost to an earlier error, and this process cannot use it any more: {lost}") { Fault = DeviceFault.Lost };
        if (ReferenceEquals(current, this))
            return;
        Check(cuda.ContextSetCurrent(context), "cuCtxSetCurrent");
        current = this;
    }

    private void Check(int result, string call)
    {
        if (result != 0)
            throw Failure(result, call, "");
    }

    private DeviceException LaunchFailure(int result, string call, CudaFunction kernel, in LaunchGeometry geometry, string remedy) =>
        Failure(result, call, $" at the launch of '{kernel.Name}' with {geometry}{remedy}");

    private DeviceException Failure(int result, string call, string details)
    {
        var message = $"{Name}: {call} failed: {cuda.Describe(result)}{details}";
        if (Cu.IsSticky(result))
        {
            if (lastFunction is not null)
                message += $"; the latest launch was '{lastFunction.Name}' with {lastGeometry}";
            lost = message;
            message += ". The error stays: this process cannot use the device any more. Run the kernel on the emulator, which names the line";
        }
        return new DeviceException(message) { Fault = Cu.IsSticky(result) ? DeviceFault.Lost : result == Cu.OutOfMemory ? DeviceFault.OutOfMemory : DeviceFault.Failed };
    }

    private static string Log(byte[] buffer)
    {
        var end = Array.IndexOf(buffer, (byte)0);
        var text = Encoding.UTF8.GetString(buffer, 0, end < 0 ? buffer.Length : end).Trim();
        return text.Length == 0 ? "" : text + "\n";
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (isDisposed || !disposing)
            return;
        defaultStream.Dispose();
        FreeKept(kept);
        isDisposed = true;
        if (ReferenceEquals(current, this))
            current = null;
        _ = cuda.PrimaryContextRelease(device);
    }
}

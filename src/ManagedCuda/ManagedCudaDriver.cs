using System.Reflection;
using System.Runtime.InteropServices;
using System.Runtime.Loader;
using Kernels.Backends.Gpu.Native;
using ManagedCuda;
using ManagedCuda.BasicTypes;
using ManagedCuda.CudaBlas;
using static ManagedCuda.DriverAPINativeMethods;

namespace Kernels.Backends.Gpu;

/// <summary>
/// The driver of an NVIDIA device over ManagedCuda 12, for programs that build on it already: device and context are ManagedCuda's, streams and memory can be shared with it.
/// A launch costs no allocation here either: the argument block travels through one array that is reused.
/// </summary>
/// <remarks>
/// ManagedCuda-NVRTC has no part in this: a driver is handed finished images (<see cref="Driver.LoadModule"/>). What compiles them, <see cref="KernelCompiler"/>, belongs to no device; it serves the
/// emulator and compilation ahead of time as well, and the images are kept under its version. Through the package the same library would compile the same text.
/// </remarks>
public sealed partial class ManagedCudaDriver : Driver
{
    // How cuLaunchKernel is told that the arguments come as one block.
    private static readonly IntPtr s_bufferPointer = 1, s_bufferSize = 2;

    private readonly IntPtr[] _extra = new IntPtr[5];
    private readonly PrimaryContext _context;
    private readonly ManagedStream _defaultStream;
    private readonly bool _readsPageableMemory;
    private readonly List<GCHandle> _captured = [];
    private GCHandle _size;
    private ManagedFunction? _lastFunction;
    private LaunchGeometry _lastGeometry;
    private string? _lost;
    private bool _isCapturing;
    private bool _isDisposed;

    /// <summary>
    /// On Linux ManagedCuda asks the loader for <c>libcuda.so</c> and <c>libcublas.so</c>, links that often only development packages bring. Where there are none it gets what
    /// <see cref="CudaDriver"/> would take.
    /// </summary>
    static ManagedCudaDriver()
    {
        (Assembly core, Assembly cublas) = (typeof(PrimaryContext).Assembly, typeof(CudaBlasNativeMethods).Assembly);
        AssemblyLoadContext.GetLoadContext(core)!.ResolvingUnmanagedDll += (assembly, _) =>
            assembly == core ? LibCuda.Load().Library : assembly == cublas ? Cublas.Load().Library : 0;
    }

    /// <summary>Opens a device.</summary>
    /// <param name="ordinal">Which one, counted from 0 among those that <c>CUDA_VISIBLE_DEVICES</c> leaves.</param>
    /// <exception cref="DeviceException">There is no NVIDIA driver, or no such device.</exception>
    public ManagedCudaDriver(int ordinal)
    {
        try
        {
            _context = new PrimaryContext(ordinal);
            _context.SetCurrent();
            CudaDeviceProperties device = _context.GetDeviceInfo();
            Name = device.DeviceName;
            Architecture = $"sm_{device.ComputeCapability.Major}{device.ComputeCapability.Minor}";
            TotalBytes = (long)(ulong)device.TotalGlobalMemory;
            Multiprocessors = device.MultiProcessorCount;
            MaximumSharedBytes = device.MaxSharedMemoryPerBlockOptin;
            _readsPageableMemory = device.PageableMemoryAccess;
        }
        catch (Exception e) when (e is CudaException or DllNotFoundException)
        {
            throw new DeviceException($"ManagedCuda: device {ordinal} cannot be opened: {e.Message}", e);
        }

        _size = GCHandle.Alloc(new ulong[1], GCHandleType.Pinned);
        (_extra[0], _extra[2], _extra[3]) = (s_bufferPointer, s_bufferSize, _size.AddrOfPinnedObject());
        _defaultStream = NewStream();
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
            SizeT free = 0, total = 0;
            Check(MemoryManagement.cuMemGetInfo_v2(ref free, ref total), "cuMemGetInfo");
            return (long)(ulong)free;
        }
    }

    /// <inheritdoc/>
    public override int Multiprocessors { get; }

    /// <inheritdoc/>
    public override int MaximumSharedBytes { get; }

    /// <inheritdoc/>
    public override DriverStream DefaultStream => _defaultStream;

    /// <inheritdoc/>
    public override ulong Allocate(long bytes, string label = "")
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(bytes, 1);
        Enter();
        CUdeviceptr address = default;
        CUResult result = MemoryManagement.cuMemAlloc_v2(ref address, (ulong)bytes);
        if (result == CUResult.ErrorOutOfMemory)
        {
            throw new DeviceException($"{Name}: {bytes} bytes for '{label}' do not fit: {FreeBytes} of {TotalBytes} are free. Take a smaller batch, or end what else uses the device") { Fault = DeviceFault.OutOfMemory };
        }

        Check(result, "cuMemAlloc");
        return address;
    }

    /// <inheritdoc/>
    public override void Free(ulong address)
    {
        // The memory of a lost context went with it, and whoever clears up is not to hear of it again.
        if (_lost is null)
        {
            Enter();
            Check(MemoryManagement.cuMemFree_v2(At(address)), "cuMemFree");
        }
    }

    /// <inheritdoc/>
    public override unsafe void CopyToDevice(ulong destination, ReadOnlySpan<byte> source, DriverStream? stream = null)
    {
        if (source.IsEmpty)
        {
            return;
        }

        Enter();
        CUstream handle = Handle(stream);
        if (_isCapturing)
        {
            // A replay reads the source again: the graph keeps a copy.
            GCHandle copy = GCHandle.Alloc(source.ToArray(), GCHandleType.Pinned);
            _captured.Add(copy);
            Check(AsynchronousMemcpy_v2.cuMemcpyHtoDAsync_v2(At(destination), copy.AddrOfPinnedObject(), source.Length, handle), "cuMemcpyHtoDAsync");
            return;
        }

        fixed (byte* from = source)
        {
            Check(AsynchronousMemcpy_v2.cuMemcpyHtoDAsync_v2(At(destination), (IntPtr)from, source.Length, handle), "cuMemcpyHtoDAsync");
            if (_readsPageableMemory)
            {
                // A device that reads the host's memory as its own need not have read it when the call returns.
                Check(Streams.cuStreamSynchronize(handle), "cuStreamSynchronize");
            }
        }
    }

    /// <inheritdoc/>
    public override unsafe void CopyToHost(Span<byte> destination, ulong source, DriverStream? stream = null)
    {
        if (destination.IsEmpty)
        {
            return;
        }

        Enter();
        CUstream handle = Handle(stream);
        fixed (byte* to = destination)
        {
            Check(AsynchronousMemcpy_v2.cuMemcpyDtoHAsync_v2((IntPtr)to, At(source), destination.Length, handle), "cuMemcpyDtoHAsync");
            Check(Streams.cuStreamSynchronize(handle), "cuStreamSynchronize");
        }
    }

    /// <inheritdoc/>
    public override nint AllocateHost(long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(bytes, 1);
        Enter();
        IntPtr address = 0;
        Check(MemoryManagement.cuMemAllocHost_v2(ref address, (ulong)bytes), "cuMemAllocHost");
        return address;
    }

    /// <inheritdoc/>
    public override void FreeHost(nint address)
    {
        if (_lost is null)
        {
            Enter();
            Check(MemoryManagement.cuMemFreeHost(address), "cuMemFreeHost");
        }
    }

    /// <inheritdoc/>
    public override void CopyToHost(nint destination, ulong source, long bytes, DriverStream stream)
    {
        Enter();
        Check(AsynchronousMemcpy_v2.cuMemcpyDtoHAsync_v2(destination, At(source), (ulong)bytes, Handle(stream)), "cuMemcpyDtoHAsync");
    }

    /// <inheritdoc/>
    public override void Copy(ulong destination, ulong source, long bytes, DriverStream? stream = null)
    {
        Enter();
        Check(AsynchronousMemcpy_v2.cuMemcpyDtoDAsync_v2(At(destination), At(source), (ulong)bytes, Handle(stream)), "cuMemcpyDtoDAsync");
    }

    /// <inheritdoc/>
    public override void Fill(ulong destination, byte value, long bytes, DriverStream? stream = null)
    {
        Enter();
        Check(MemsetAsync.cuMemsetD8Async(At(destination), value, (ulong)bytes, Handle(stream)), "cuMemsetD8Async");
    }

    /// <inheritdoc/>
    public override DriverModule LoadModule(ReadOnlySpan<byte> image, string name)
    {
        Enter();
        try
        {
            // PTX ends with a zero; machine code knows its own length.
            byte[] text = new byte[image.Length + 1];
            image.CopyTo(text);
            return new ManagedModule(this, _context.LoadModulePTX(text), name);
        }
        catch (CudaException e)
        {
            throw new DeviceException($"{Name}: '{name}' cannot be loaded: {e.Message}; compile it for {Architecture}, or update the NVIDIA driver", e);
        }
    }

    /// <inheritdoc/>
    public override unsafe void Launch(DriverFunction function, in LaunchGeometry geometry, ReadOnlySpan<byte> arguments, DriverStream? stream = null)
    {
        ArgumentNullException.ThrowIfNull(function);
        Enter();
        ManagedFunction kernel = (ManagedFunction)function;
        (_lastFunction, _lastGeometry) = (kernel, geometry);
        if (geometry.SharedBytes > kernel.SharedBytesAllowed)
        {
            Check(FunctionManagement.cuFuncSetAttribute(kernel.Handle, CUFunctionAttribute.MaxDynamicSharedSizeBytes, geometry.SharedBytes), "cuFuncSetAttribute", kernel, geometry);
            kernel.SharedBytesAllowed = geometry.SharedBytes;
        }

        fixed (byte* block = arguments)
        {
            _extra[1] = (IntPtr)block;
            ((ulong[])_size.Target!)[0] = (ulong)arguments.Length;
            CUResult result = DriverAPINativeMethods.Launch.cuLaunchKernel(
                kernel.Handle, (uint)geometry.GridX, (uint)geometry.GridY, (uint)geometry.GridZ, (uint)geometry.BlockX, (uint)geometry.BlockY, (uint)geometry.BlockZ,
                (uint)geometry.SharedBytes, Handle(stream), null, arguments.IsEmpty ? null : _extra);
            Check(result, "cuLaunchKernel", kernel, geometry);
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing && !_isDisposed)
        {
            _isDisposed = true;
            _defaultStream.Dispose();
            if (_size.IsAllocated)
            {
                _size.Free();
            }

            _context.Dispose();
        }
    }

    private static CUdeviceptr At(ulong address) => new((SizeT)address);

    private CUstream Handle(DriverStream? stream) => ((ManagedStream?)stream ?? _defaultStream).Handle;

    private void Enter()
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (_lost is not null)
        {
            throw new DeviceException($"{Name}: the device was lost to an earlier error, and this process cannot use it any more: {_lost}") { Fault = DeviceFault.Lost };
        }

        Check(ContextManagement.cuCtxSetCurrent(_context.Context), "cuCtxSetCurrent");
    }

    // Binds the context for a destruction; false if the driver was disposed first, which frees everything.
    private bool CanRelease()
    {
        if (!_isDisposed)
        {
            _ = ContextManagement.cuCtxSetCurrent(_context.Context);
        }

        return !_isDisposed;
    }

    private void Check(CUResult result, string call)
    {
        if (result != CUResult.Success)
        {
            throw Failure(result, call, "");
        }
    }

    private void Check(CUResult result, string call, ManagedFunction kernel, in LaunchGeometry geometry)
    {
        if (result != CUResult.Success)
        {
            throw Failure(result, call, $" at the launch of '{kernel.Name}' with {geometry}");
        }
    }

    private DeviceException Failure(CUResult result, string call, string details)
    {
        string message = $"{Name}: {call} failed: {new CudaException(result).Message.TrimEnd('.')}{details}";
        bool isLost = Cu.IsSticky((int)result);
        if (isLost)
        {
            message += _lastFunction is null ? "" : $"; the latest launch was '{_lastFunction.Name}' with {_lastGeometry}";
            _lost = message;
            message += ". The error stays: this process cannot use the device any more. Run the kernel on the emulator, which names the line";
        }

        return new DeviceException(message) { Fault = isLost ? DeviceFault.Lost : result == CUResult.ErrorOutOfMemory ? DeviceFault.OutOfMemory : DeviceFault.Failed };
    }
}

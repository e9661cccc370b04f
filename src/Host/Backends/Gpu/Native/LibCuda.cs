using System.Runtime.InteropServices;

namespace Kernels.Backends.Gpu.Native;

/// <summary>
/// The CUDA driver API: only the functions used, bound by name from the library that the NVIDIA driver installs. Every one returns a <c>CUresult</c>, 0 for success. Handles are
/// <see cref="nint"/>, device addresses <see cref="ulong"/>, sizes <see cref="nuint"/>, a device its ordinal.
/// </summary>
internal sealed unsafe class LibCuda
{
    internal readonly delegate* unmanaged<uint, int> Init;
    internal readonly delegate* unmanaged<int*, int> DeviceGetCount;
    internal readonly delegate* unmanaged<int*, int, int> DeviceGet;
    internal readonly delegate* unmanaged<byte*, int, int, int> DeviceGetName;
    internal readonly delegate* unmanaged<nuint*, int, int> DeviceTotalMem;
    internal readonly delegate* unmanaged<int*, int, int, int> DeviceGetAttribute;
    internal readonly delegate* unmanaged<nint*, int, int> PrimaryContextRetain;
    internal readonly delegate* unmanaged<int, int> PrimaryContextRelease;
    internal readonly delegate* unmanaged<nint, int> ContextSetCurrent;
    internal readonly delegate* unmanaged<int> ContextSynchronize;

    internal readonly delegate* unmanaged<ulong*, nuint, int> MemAlloc;
    internal readonly delegate* unmanaged<ulong, int> MemFree;
    internal readonly delegate* unmanaged<nuint*, nuint*, int> MemGetInfo;
    internal readonly delegate* unmanaged<ulong, void*, nuint, nint, int> MemcpyHtoDAsync;
    internal readonly delegate* unmanaged<void*, ulong, nuint, nint, int> MemcpyDtoHAsync;
    internal readonly delegate* unmanaged<void**, nuint, int> MemAllocHost;
    internal readonly delegate* unmanaged<void*, int> MemFreeHost;
    internal readonly delegate* unmanaged<ulong, ulong, nuint, nint, int> MemcpyDtoDAsync;
    internal readonly delegate* unmanaged<ulong, byte, nuint, nint, int> MemsetD8Async;

    internal readonly delegate* unmanaged<nint*, void*, uint, int*, void**, int> ModuleLoadDataEx;
    internal readonly delegate* unmanaged<nint, int> ModuleUnload;
    internal readonly delegate* unmanaged<nint*, nint, byte*, int> ModuleGetFunction;
    internal readonly delegate* unmanaged<ulong*, nuint*, nint, byte*, int> ModuleGetGlobal;
    internal readonly delegate* unmanaged<int*, int, nint, int> FuncGetAttribute;
    internal readonly delegate* unmanaged<nint, int, int, int> FuncSetAttribute;

    /// <summary>Function, grid, block, dynamic shared memory, stream, pointers to parameters, and <c>extra</c>.</summary>
    internal readonly delegate* unmanaged<nint, uint, uint, uint, uint, uint, uint, uint, nint, void**, void**, int> LaunchKernel;

    /// <summary>Offset and size of a parameter; null in drivers before 12.4.</summary>
    internal readonly delegate* unmanaged<nint, nuint, nuint*, nuint*, int> FuncGetParamInfo;

    internal readonly delegate* unmanaged<nint*, uint, int> StreamCreate;
    internal readonly delegate* unmanaged<nint, int> StreamDestroy;
    internal readonly delegate* unmanaged<nint, int> StreamSynchronize;
    internal readonly delegate* unmanaged<nint, nint, uint, int> StreamWaitEvent;
    internal readonly delegate* unmanaged<nint, int*, int> StreamIsCapturing;
    internal readonly delegate* unmanaged<nint, int, int> StreamBeginCapture;
    internal readonly delegate* unmanaged<nint, nint*, int> StreamEndCapture;

    internal readonly delegate* unmanaged<nint*, uint, int> EventCreate;
    internal readonly delegate* unmanaged<nint, int> EventDestroy;
    internal readonly delegate* unmanaged<nint, nint, int> EventRecord;
    internal readonly delegate* unmanaged<nint, int> EventSynchronize;
    internal readonly delegate* unmanaged<float*, nint, nint, int> EventElapsedTime;

    internal readonly delegate* unmanaged<nint, nint*, nuint*, int> GraphGetNodes;
    internal readonly delegate* unmanaged<nint*, nint, ulong, int> GraphInstantiate;
    internal readonly delegate* unmanaged<nint, nint, int> GraphLaunch;
    internal readonly delegate* unmanaged<nint, int> GraphDestroy;
    internal readonly delegate* unmanaged<nint, int> GraphExecDestroy;

    private readonly delegate* unmanaged<int, byte**, int> getErrorName;
    private readonly delegate* unmanaged<int, byte**, int> getErrorString;

    /// <summary>Binds the functions.</summary>
    /// <param name="export">The address of an exported function; 0 if there is none.</param>
    /// <exception cref="DeviceException">A function is missing: the NVIDIA driver is older than CUDA 11.4.</exception>
    internal LibCuda(Func<string, nint> export)
    {
        void* Bind(string name, string? later = null)
        {
            var address = export(name);
            if (address == 0 && later is not null)
                address = export(later);
            return address != 0 ? (void*)address : throw new DeviceException($"the CUDA driver has no {name}: update the NVIDIA driver to one for CUDA 11.4 or later");
        }

        getErrorName = (delegate* unmanaged<int, byte**, int>)Bind("cuGetErrorName");
        getErrorString = (delegate* unmanaged<int, byte**, int>)Bind("cuGetErrorString");
        // The suffixes are part of the interface: the names without them are those of the 32-bit addresses of CUDA 3.
        Init = (delegate* unmanaged<uint, int>)Bind("cuInit");
        DeviceGetCount = (delegate* unmanaged<int*, int>)Bind("cuDeviceGetCount");
        DeviceGet = (delegate* unmanaged<int*, int, int>)Bind("cuDeviceGet");
        DeviceGetName = (delegate* unmanaged<byte*, int, int, int>)Bind("cuDeviceGetName");
        DeviceTotalMem = (delegate* unmanaged<nuint*, int, int>)Bind("cuDeviceTotalMem_v2");
        DeviceGetAttribute = (delegate* unmanaged<int*, int, int, int>)Bind("cuDeviceGetAttribute");
        PrimaryContextRetain = (delegate* unmanaged<nint*, int, int>)Bind("cuDevicePrimaryCtxRetain");
        PrimaryContextRelease = (delegate* unmanaged<int, int>)Bind("cuDevicePrimaryCtxRelease_v2");
        ContextSetCurrent = (delegate* unmanaged<nint, int>)Bind("cuCtxSetCurrent");
        ContextSynchronize = (delegate* unmanaged<int>)Bind("cuCtxSynchronize");
        MemAlloc = (delegate* unmanaged<ulong*, nuint, int>)Bind("cuMemAlloc_v2");
        MemFree = (delegate* unmanaged<ulong, int>)Bind("cuMemFree_v2");
        MemGetInfo = (delegate* unmanaged<nuint*, nuint*, int>)Bind("cuMemGetInfo_v2");
        MemcpyHtoDAsync = (delegate* unmanaged<ulong, void*, nuint, nint, int>)Bind("cuMemcpyHtoDAsync_v2");
        MemAllocHost = (delegate* unmanaged<void**, nuint, int>)Bind("cuMemAllocHost_v2");
        MemFreeHost = (delegate* unmanaged<void*, int>)Bind("cuMemFreeHost");
        MemcpyDtoHAsync = (delegate* unmanaged<void*, ulong, nuint, nint, int>)Bind("cuMemcpyDtoHAsync_v2");
        MemcpyDtoDAsync = (delegate* unmanaged<ulong, ulong, nuint, nint, int>)Bind("cuMemcpyDtoDAsync_v2");
        MemsetD8Async = (delegate* unmanaged<ulong, byte, nuint, nint, int>)Bind("cuMemsetD8Async");
        ModuleLoadDataEx = (delegate* unmanaged<nint*, void*, uint, int*, void**, int>)Bind("cuModuleLoadDataEx");
        ModuleUnload = (delegate* unmanaged<nint, int>)Bind("cuModuleUnload");
        ModuleGetFunction = (delegate* unmanaged<nint*, nint, byte*, int>)Bind("cuModuleGetFunction");
        ModuleGetGlobal = (delegate* unmanaged<ulong*, nuint*, nint, byte*, int>)Bind("cuModuleGetGlobal_v2");
        FuncGetAttribute = (delegate* unmanaged<int*, int, nint, int>)Bind("cuFuncGetAttribute");
        FuncSetAttribute = (delegate* unmanaged<nint, int, int, int>)Bind("cuFuncSetAttribute");
        FuncGetParamInfo = (delegate* unmanaged<nint, nuint, nuint*, nuint*, int>)export("cuFuncGetParamInfo");
        LaunchKernel = (delegate* unmanaged<nint, uint, uint, uint, uint, uint, uint, uint, nint, void**, void**, int>)Bind("cuLaunchKernel");
        StreamCreate = (delegate* unmanaged<nint*, uint, int>)Bind("cuStreamCreate");
        StreamDestroy = (delegate* unmanaged<nint, int>)Bind("cuStreamDestroy_v2");
        StreamSynchronize = (delegate* unmanaged<nint, int>)Bind("cuStreamSynchronize");
        StreamWaitEvent = (delegate* unmanaged<nint, nint, uint, int>)Bind("cuStreamWaitEvent");
        StreamIsCapturing = (delegate* unmanaged<nint, int*, int>)Bind("cuStreamIsCapturing");
        StreamBeginCapture = (delegate* unmanaged<nint, int, int>)Bind("cuStreamBeginCapture_v2");
        StreamEndCapture = (delegate* unmanaged<nint, nint*, int>)Bind("cuStreamEndCapture");
        EventCreate = (delegate* unmanaged<nint*, uint, int>)Bind("cuEventCreate");
        EventDestroy = (delegate* unmanaged<nint, int>)Bind("cuEventDestroy_v2");
        EventRecord = (delegate* unmanaged<nint, nint, int>)Bind("cuEventRecord");
        EventSynchronize = (delegate* unmanaged<nint, int>)Bind("cuEventSynchronize");
        // What CUDA 13 declares alone answers the same of events that were waited for.
        EventElapsedTime = (delegate* unmanaged<float*, nint, nint, int>)Bind("cuEventElapsedTime", "cuEventElapsedTime_v2");
        GraphGetNodes = (delegate* unmanaged<nint, nint*, nuint*, int>)Bind("cuGraphGetNodes");
        GraphInstantiate = (delegate* unmanaged<nint*, nint, ulong, int>)Bind("cuGraphInstantiateWithFlags");
        GraphLaunch = (delegate* unmanaged<nint, nint, int>)Bind("cuGraphLaunch");
        GraphDestroy = (delegate* unmanaged<nint, int>)Bind("cuGraphDestroy");
        GraphExecDestroy = (delegate* unmanaged<nint, int>)Bind("cuGraphExecDestroy");
    }

    /// <summary>The loader's handle of the library; 0 if it did not load it.</summary>
    internal nint Library { get; private init; }

    private static string[] Names => OperatingSystem.IsWindows() ? ["nvcuda.dll"] : ["libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"];

    /// <summary>Loads the library of the installed NVIDIA driver.</summary>
    /// <exception cref="DeviceException">There is none.</exception>
    internal static LibCuda Load() => Load(Names);

    /// <inheritdoc cref="Load()"/>
    /// <param name="names">Names to try, in order.</param>
    internal static LibCuda Load(params ReadOnlySpan<string> names)
    {
        foreach (var name in names)
        {
            if (NativeLibrary.TryLoad(name, out var library))
                return new LibCuda(export => NativeLibrary.TryGetExport(library, export, out var address) ? address : 0) { Library = library };
        }
        throw new DeviceException(
            $"the CUDA driver was not found; tried {string.Join(", ", names.ToArray())}. Install the NVIDIA driver, which brings it (in a container: start it with the GPU), or run without a GPU");
    }

    /// <summary>Name and text of a result, for instance <c>CUDA_ERROR_OUT_OF_MEMORY (out of memory)</c>.</summary>
    internal string Describe(int result)
    {
        byte* name = null, text = null;
        // An unknown code leaves both null.
        return getErrorName(result, &name) == 0 && getErrorString(result, &text) == 0
            ? $"{Marshal.PtrToStringUTF8((nint)name)} ({Marshal.PtrToStringUTF8((nint)text)})"
            : $"CUDA error {result}";
    }
}

/// <summary>Numbers of the driver API's enumerations that are used.</summary>
internal static class Cu
{
    // CUresult
    internal const int OutOfMemory = 2;
    internal const int NoDevice = 100;
    internal const int UnsupportedPtxVersion = 222;
    internal const int NoBinaryForDevice = 209;
    internal const int NotFound = 500;

    // CUdevice_attribute
    internal const int MultiprocessorCount = 16;
    internal const int ComputeCapabilityMajor = 75;
    internal const int ComputeCapabilityMinor = 76;
    internal const int PageableMemoryAccess = 88;
    internal const int MaxSharedMemoryPerBlockOptIn = 97;

    // CUfunction_attribute
    internal const int SharedSizeBytes = 1;
    internal const int MaxDynamicSharedSizeBytes = 8;

    // CUjit_option
    internal const int JitInfoLogBuffer = 3;
    internal const int JitInfoLogBufferSizeBytes = 4;
    internal const int JitErrorLogBuffer = 5;
    internal const int JitErrorLogBufferSizeBytes = 6;

    // CU_LAUNCH_PARAM_*
    internal const nint LaunchParamEnd = 0;
    internal const nint LaunchParamBufferPointer = 1;
    internal const nint LaunchParamBufferSize = 2;

    internal const uint StreamNonBlocking = 1;
    internal const int CaptureModeRelaxed = 2;

    /// <summary>Whether an error stays: the context is lost and every later call repeats it.</summary>
    internal static bool IsSticky(int result) => result is 214 or 220 or 226 or 700 or 702 or 709 or 710 or (>= 714 and <= 719) or 721;
}

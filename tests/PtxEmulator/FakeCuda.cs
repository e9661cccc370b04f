using System.Runtime.InteropServices;
using Kernels.Backends.Gpu.Native;

namespace Kernels.Tests.PtxEmulator;

/// <summary>
/// Stands in for libcuda: native functions of the same signatures, written from the driver API's documentation, that note what they are given and give back what a test asks for.
/// Device memory is host memory. As strict as a device about which thread has a context, what may be captured, how large a launch is and how much shared memory it was granted.
/// Its state is the process's: who uses it is in its collection or runs alone.
/// </summary>
internal static unsafe class FakeCuda
{
    private static readonly Dictionary<string, nint> Exports = [];

    /// <summary>Calls in order, with their arguments.</summary>
    internal static List<string> Calls { get; } = [];

    /// <summary>Results by call; 0 where there is none.</summary>
    internal static Dictionary<string, int> Results { get; } = [];

    internal static byte[] Arguments { get; private set; } = [];

    /// <summary>Whether there is plenty of memory, every kernel is found, and what a step calls is neither noted nor done, so that whatever is allocated meanwhile is the caller's.</summary>
    internal static bool IsIdle { get; set; }

    internal static int LiveHandles { get; private set; }

    /// <summary>What was captured, and what a capture forbids.</summary>
    internal static CaptureRules Capture { get; private set; } = new();

    /// <summary>Whether the device reads the host's memory as its own.</summary>
    internal static bool ReadsPageableMemory { get; set; }

    // A context lives from its first user to its last; a thread that has bound one that is gone has none.
    [ThreadStatic]
    private static int bound;
    private static int context, users;
    private const nint TheKernel = 6;
    private static readonly Dictionary<(nint Module, string Name), nint> Functions = [];
    private static readonly Dictionary<nint, int> DynamicShared = [];

    internal static LibCuda Load(params string[] without)
    {
        Calls.Clear();
        Results.Clear();
        DynamicShared.Remove(TheKernel);
        (LiveHandles, IsIdle, ReadsPageableMemory, Capture) = (0, false, false, new CaptureRules());
        Fill();
        return new LibCuda(name => without.Contains(name) ? 0 : Exports.GetValueOrDefault(name));
    }

    private static int Note(string call, string arguments = "")
    {
        Calls.Add(arguments.Length > 0 ? $"{call}({arguments})" : call);
        return Results.GetValueOrDefault(call);
    }

    private static void Fill()
    {
        if (Exports.Count > 0)
            return;
        Exports["cuInit"] = (nint)(delegate* unmanaged<uint, int>)&Init;
        Exports["cuGetErrorName"] = (nint)(delegate* unmanaged<int, byte**, int>)&ErrorName;
        Exports["cuGetErrorString"] = (nint)(delegate* unmanaged<int, byte**, int>)&ErrorString;
        Exports["cuDeviceGetCount"] = (nint)(delegate* unmanaged<int*, int>)&Count;
        Exports["cuDeviceGet"] = (nint)(delegate* unmanaged<int*, int, int>)&Get;
        Exports["cuDeviceGetName"] = (nint)(delegate* unmanaged<byte*, int, int, int>)&GetName;
        Exports["cuDeviceTotalMem_v2"] = (nint)(delegate* unmanaged<nuint*, int, int>)&TotalMem;
        Exports["cuDeviceGetAttribute"] = (nint)(delegate* unmanaged<int*, int, int, int>)&GetAttribute;
        Exports["cuDevicePrimaryCtxRetain"] = (nint)(delegate* unmanaged<nint*, int, int>)&Retain;
        Exports["cuDevicePrimaryCtxRelease_v2"] = (nint)(delegate* unmanaged<int, int>)&Release;
        Exports["cuCtxSetCurrent"] = (nint)(delegate* unmanaged<nint, int>)&SetCurrent;
        Exports["cuCtxSynchronize"] = (nint)(delegate* unmanaged<int>)&SynchronizeAll;
        Exports["cuMemAlloc_v2"] = (nint)(delegate* unmanaged<ulong*, nuint, int>)&Alloc;
        Exports["cuMemFree_v2"] = (nint)(delegate* unmanaged<ulong, int>)&Free;
        Exports["cuMemGetInfo_v2"] = (nint)(delegate* unmanaged<nuint*, nuint*, int>)&Info;
        Exports["cuMemcpyHtoDAsync_v2"] = (nint)(delegate* unmanaged<ulong, void*, nuint, nint, int>)&ToDevice;
        Exports["cuMemAllocHost_v2"] = (nint)(delegate* unmanaged<void**, nuint, int>)&AllocateHost;
        Exports["cuMemFreeHost"] = (nint)(delegate* unmanaged<void*, int>)&FreeHost;
        Exports["cuMemcpyDtoHAsync_v2"] = (nint)(delegate* unmanaged<void*, ulong, nuint, nint, int>)&ToHost;
        Exports["cuMemcpyDtoDAsync_v2"] = (nint)(delegate* unmanaged<ulong, ulong, nuint, nint, int>)&Within;
        Exports["cuMemsetD8Async"] = (nint)(delegate* unmanaged<ulong, byte, nuint, nint, int>)&Set;
        Exports["cuModuleLoadDataEx"] = (nint)(delegate* unmanaged<nint*, void*, uint, int*, void**, int>)&LoadModule;
        Exports["cuModuleUnload"] = (nint)(delegate* unmanaged<nint, int>)&Unload;
        Exports["cuModuleGetFunction"] = (nint)(delegate* unmanaged<nint*, nint, byte*, int>)&GetFunction;
        Exports["cuModuleGetGlobal_v2"] = (nint)(delegate* unmanaged<ulong*, nuint*, nint, byte*, int>)&GetGlobal;
        Exports["cuFuncGetAttribute"] = (nint)(delegate* unmanaged<int*, int, nint, int>)&FunctionAttribute;
        Exports["cuFuncSetAttribute"] = (nint)(delegate* unmanaged<nint, int, int, int>)&SetFunctionAttribute;
        Exports["cuFuncGetParamInfo"] = (nint)(delegate* unmanaged<nint, nuint, nuint*, nuint*, int>)&ParameterInfo;
        Exports["cuLaunchKernel"] = (nint)(delegate* unmanaged<nint, uint, uint, uint, uint, uint, uint, uint, nint, void**, void**, int>)&Launch;
        Exports["cuStreamCreate"] = (nint)(delegate* unmanaged<nint*, uint, int>)&CreateStream;
        Exports["cuStreamDestroy_v2"] = (nint)(delegate* unmanaged<nint, int>)&DestroyStream;
        Exports["cuStreamSynchronize"] = (nint)(delegate* unmanaged<nint, int>)&SynchronizeStream;
        Exports["cuStreamWaitEvent"] = (nint)(delegate* unmanaged<nint, nint, uint, int>)&WaitEvent;
        Exports["cuStreamIsCapturing"] = (nint)(delegate* unmanaged<nint, int*, int>)&IsCapturing;
        Exports["cuStreamBeginCapture_v2"] = (nint)(delegate* unmanaged<nint, int, int>)&BeginCapture;
        Exports["cuStreamEndCapture"] = (nint)(delegate* unmanaged<nint, nint*, int>)&EndCapture;
        Exports["cuEventCreate"] = (nint)(delegate* unmanaged<nint*, uint, int>)&CreateEvent;
        Exports["cuEventDestroy_v2"] = (nint)(delegate* unmanaged<nint, int>)&DestroyEvent;
        Exports["cuEventRecord"] = (nint)(delegate* unmanaged<nint, nint, int>)&Record;
        Exports["cuEventSynchronize"] = (nint)(delegate* unmanaged<nint, int>)&SynchronizeEvent;
        Exports["cuEventElapsedTime"] = Exports["cuEventElapsedTime_v2"] = (nint)(delegate* unmanaged<float*, nint, nint, int>)&Elapsed;
        Exports["cuGraphGetNodes"] = (nint)(delegate* unmanaged<nint, nint*, nuint*, int>)&GetNodes;
        Exports["cuGraphInstantiateWithFlags"] = (nint)(delegate* unmanaged<nint*, nint, ulong, int>)&Instantiate;
        Exports["cuGraphLaunch"] = (nint)(delegate* unmanaged<nint, nint, int>)&LaunchGraph;
        Exports["cuGraphDestroy"] = (nint)(delegate* unmanaged<nint, int>)&DestroyGraph;
        Exports["cuGraphExecDestroy"] = (nint)(delegate* unmanaged<nint, int>)&DestroyExecutable;
    }

    private static readonly byte* TestName = (byte*)Marshal.StringToCoTaskMemUTF8("CUDA_ERROR_OF_TEST");
    private static readonly byte* TestText = (byte*)Marshal.StringToCoTaskMemUTF8("the text of the error");

    private static int New(nint* handle, nint value, string call, string arguments = "")
    {
        var result = Note(call, arguments);
        *handle = result == 0 ? value : 0;
        LiveHandles += result == 0 ? 1 : 0;
        return result;
    }

    // CUDA_ERROR_INVALID_CONTEXT
    private static int WithoutContext => bound == context && users > 0 ? 0 : 201;

    private static int First(int result, int otherwise) => result != 0 ? result : otherwise;

    private static int Work(nint stream)
    {
        Capture.Work(stream);
        return WithoutContext;
    }

    private static int Gone(string call)
    {
        LiveHandles--;
        return Note(call);
    }

    [UnmanagedCallersOnly] private static int Init(uint flags) => Note("cuInit", $"{flags}");
    [UnmanagedCallersOnly] private static int ErrorName(int error, byte** text) { *text = TestName; return error > 9000 ? 1 : 0; }
    [UnmanagedCallersOnly] private static int ErrorString(int error, byte** text) { *text = TestText; return 0; }
    [UnmanagedCallersOnly] private static int Count(int* count) { *count = 1; return Note("cuDeviceGetCount"); }
    [UnmanagedCallersOnly] private static int Get(int* device, int ordinal) { *device = ordinal; return Note("cuDeviceGet"); }
    [UnmanagedCallersOnly] private static int GetName(byte* name, int length, int device) { "Fake 100\0"u8.CopyTo(new Span<byte>(name, length)); return Note("cuDeviceGetName"); }
    [UnmanagedCallersOnly] private static int TotalMem(nuint* bytes, int device) { *bytes = (nuint)80 << 30; return Note("cuDeviceTotalMem"); }
    [UnmanagedCallersOnly] private static int GetAttribute(int* value, int attribute, int device) { *value = attribute switch { 16 => 132, 75 => 9, 76 => 0, 97 => 232448, 88 => ReadsPageableMemory ? 1 : 0, _ => -1 }; return 0; }
    [UnmanagedCallersOnly] private static int Retain(nint* handle, int device) { users++; return New(handle, 77, "cuDevicePrimaryCtxRetain"); }
    [UnmanagedCallersOnly] private static int Release(int device) { context += --users == 0 ? 1 : 0; return Gone("cuDevicePrimaryCtxRelease"); }
    [UnmanagedCallersOnly] private static int SetCurrent(nint handle) { bound = context; return IsIdle ? 0 : Note("cuCtxSetCurrent", $"{handle}"); }
    [UnmanagedCallersOnly] private static int SynchronizeAll() => First(WithoutContext, Capture.Synchronize(0)) is not 0 and var refused ? refused : IsIdle ? 0 : Note("cuCtxSynchronize");
    [UnmanagedCallersOnly] private static int Alloc(ulong* address, nuint bytes) { var result = First(Note("cuMemAlloc", $"{bytes}"), WithoutContext); *address = result == 0 ? (ulong)NativeMemory.Alloc(bytes) : 0; return result; }
    [UnmanagedCallersOnly] private static int Free(ulong address) { var result = First(Note("cuMemFree"), WithoutContext); if (result == 0) NativeMemory.Free((void*)address); return result; }
    [UnmanagedCallersOnly] private static int Info(nuint* free, nuint* total) { (*free, *total) = IsIdle ? ((nuint)40 << 30, (nuint)80 << 30) : (1000, 2000); return 0; }
    [UnmanagedCallersOnly] private static int ToDevice(ulong to, void* from, nuint bytes, nint stream) { if (Work(stream) is not 0 and var refused) return refused; if (IsIdle) return 0; CapturedSource = (nint)from; Buffer.MemoryCopy(from, (void*)to, bytes, bytes); return Note("cuMemcpyHtoDAsync", $"{bytes}, {stream}"); }
    [UnmanagedCallersOnly] private static int AllocateHost(void** address, nuint bytes) { *address = NativeMemory.Alloc(bytes); return First(Note("cuMemAllocHost", $"{bytes}"), WithoutContext); }

    [UnmanagedCallersOnly] private static int FreeHost(void* address) { NativeMemory.Free(address); return Note("cuMemFreeHost", ""); }

    [UnmanagedCallersOnly] private static int ToHost(void* to, ulong from, nuint bytes, nint stream) { if (Work(stream) is not 0 and var refused) return refused; if (IsIdle) return 0; Buffer.MemoryCopy((void*)from, to, bytes, bytes); return Note("cuMemcpyDtoHAsync", $"{bytes}, {stream}"); }
    [UnmanagedCallersOnly] private static int Within(ulong to, ulong from, nuint bytes, nint stream) { if (Work(stream) is not 0 and var refused) return refused; if (IsIdle) return 0; Buffer.MemoryCopy((void*)from, (void*)to, bytes, bytes); return Note("cuMemcpyDtoDAsync", $"{bytes}, {stream}"); }
    [UnmanagedCallersOnly] private static int Set(ulong to, byte value, nuint bytes, nint stream) { if (Work(stream) is not 0 and var refused) return refused; if (IsIdle) return 0; NativeMemory.Fill((void*)to, bytes, value); return Note("cuMemsetD8Async", $"{value}, {bytes}, {stream}"); }

    internal static nint CapturedSource { get; private set; }

    private static nint modules = 1000;

    [UnmanagedCallersOnly]
    private static int LoadModule(nint* module, void* image, uint count, int* options, void** values)
    {
        var result = First(WithoutContext, New(module, ++modules, "cuModuleLoadDataEx", Marshal.PtrToStringUTF8((nint)image)!));
        // CU_JIT_ERROR_LOG_BUFFER is 5, its size 6.
        for (var i = 0; i < count; i++)
        {
            if (result != 0 && options[i] == 5)
                "ptxas fatal: line 3\0"u8.CopyTo(new Span<byte>(values[i], (int)(nint)values[i + 1]));
        }
        return result;
    }

    [UnmanagedCallersOnly] private static int Unload(nint module) => Gone("cuModuleUnload");

    [UnmanagedCallersOnly]
    private static int GetFunction(nint* function, nint module, byte* name)
    {
        // A kernel's handle is the same whenever it is asked for.
        var key = (module, Marshal.PtrToStringUTF8((nint)name)!);
        if (!IsIdle && key.Item2 != "k")
            return 500;
        Functions.TryAdd(key, key.Item2 == "k" ? TheKernel : TheKernel + 1 + Functions.Count);
        *function = Functions[key];
        return First(Note("cuModuleGetFunction"), WithoutContext);
    }

    [UnmanagedCallersOnly] private static int GetGlobal(ulong* address, nuint* bytes, nint module, byte* name) { (*address, *bytes) = (4096, 12); return Marshal.PtrToStringUTF8((nint)name) == "v" ? 0 : 500; }
    [UnmanagedCallersOnly] private static int FunctionAttribute(int* value, int attribute, nint function) { *value = 1024; return attribute == 1 ? 0 : 1; }
    [UnmanagedCallersOnly] private static int SetFunctionAttribute(nint function, int attribute, int value) { DynamicShared[function] = value; return First(Note("cuFuncSetAttribute", $"{function}, {attribute}, {value}"), value > 232448 - 1024 ? 1 : 0); }

    // The kernel (float, u64, u16).
    [UnmanagedCallersOnly]
    private static int ParameterInfo(nint function, nuint index, nuint* offset, nuint* bytes)
    {
        (*offset, *bytes) = index switch { 0 => (0u, 4u), 1 => (8u, 8u), _ => ((nuint)16, (nuint)2) };
        return index < 3 ? 0 : 1;
    }

    [UnmanagedCallersOnly]
    private static int Launch(nint function, uint gx, uint gy, uint gz, uint bx, uint by, uint bz, uint shared, nint stream, void** parameters, void** extra)
    {
        // CUDA_ERROR_INVALID_VALUE: no blocks, more than the grid takes, or more shared memory than 48 KiB, 1 KiB of it the kernel's own, or than was asked for.
        var isRefused = gx is 0 or > int.MaxValue || gy is 0 or > 65535 || gz is 0 or > 65535 || bx * by * bz is 0 or > 1024 || bz > 64 || shared > DynamicShared.GetValueOrDefault(function, 47 << 10);
        if (First(Work(stream), isRefused ? 1 : 0) is not 0 and var refused)
            return refused;
        if (IsIdle)
            return 0;
        // CU_LAUNCH_PARAM_BUFFER_POINTER is 1, _BUFFER_SIZE 2, _END 0.
        var isPacked = parameters == null && extra != null && (nint)extra[0] == 1 && (nint)extra[2] == 2 && extra[4] == null;
        Arguments = isPacked ? new ReadOnlySpan<byte>(extra[1], (int)*(nuint*)extra[3]).ToArray() : [];
        return Note("cuLaunchKernel", $"{function}, {gx}, {gy}, {gz}, {bx}, {by}, {bz}, {shared}, {stream}");
    }

    private static nint streams = 100, events = 10000;

    [UnmanagedCallersOnly] private static int CreateStream(nint* stream, uint flags) => First(WithoutContext, New(stream, ++streams, "cuStreamCreate", $"{flags}"));
    [UnmanagedCallersOnly] private static int DestroyStream(nint stream) => Gone("cuStreamDestroy");
    [UnmanagedCallersOnly] private static int SynchronizeStream(nint stream) => First(WithoutContext, Capture.Synchronize(stream)) is not 0 and var refused ? refused : IsIdle ? 0 : Note("cuStreamSynchronize");
    [UnmanagedCallersOnly] private static int WaitEvent(nint stream, nint driverEvent, uint flags) => First(WithoutContext, Capture.Wait(stream, driverEvent)) is not 0 and var refused ? refused : IsIdle ? 0 : Note("cuStreamWaitEvent");
    [UnmanagedCallersOnly] private static int IsCapturing(nint stream, int* status) { *status = Capture.IsCapturing(stream) ? 1 : 0; return WithoutContext; }
    [UnmanagedCallersOnly] private static int BeginCapture(nint stream, int mode) { var result = Note("cuStreamBeginCapture", $"{mode}"); return First(WithoutContext, First(result, Capture.Begin(stream))); }
    [UnmanagedCallersOnly] private static int EndCapture(nint stream, nint* graph) { var refused = First(WithoutContext, Capture.End(stream)); *graph = 0; return refused != 0 ? refused : New(graph, 8, "cuStreamEndCapture"); }
    [UnmanagedCallersOnly] private static int CreateEvent(nint* driverEvent, uint flags) => First(WithoutContext, New(driverEvent, ++events, "cuEventCreate", $"{flags}"));
    [UnmanagedCallersOnly] private static int DestroyEvent(nint driverEvent) => Gone("cuEventDestroy");
    [UnmanagedCallersOnly] private static int Record(nint driverEvent, nint stream) { Capture.Record(driverEvent, stream); return WithoutContext is not 0 and var refused ? refused : IsIdle ? 0 : Note("cuEventRecord"); }
    [UnmanagedCallersOnly] private static int SynchronizeEvent(nint driverEvent) => First(WithoutContext, Capture.Ask(driverEvent)) is not 0 and var refused ? refused : IsIdle ? 0 : Note("cuEventSynchronize");
    [UnmanagedCallersOnly] private static int Elapsed(float* milliseconds, nint start, nint end) { *milliseconds = 1.5f; return First(Note("cuEventElapsedTime"), First(Capture.Ask(start), Capture.Ask(end))); }
    [UnmanagedCallersOnly] private static int GetNodes(nint graph, nint* nodes, nuint* count) { *count = 3; return nodes == null ? 0 : 1; }
    [UnmanagedCallersOnly] private static int Instantiate(nint* executable, nint graph, ulong flags) => First(WithoutContext, New(executable, 10, "cuGraphInstantiate", $"{graph}, {flags}"));
    [UnmanagedCallersOnly] private static int LaunchGraph(nint executable, nint stream) => WithoutContext is not 0 and var refused ? refused : IsIdle ? 0 : Note("cuGraphLaunch", $"{executable}");
    [UnmanagedCallersOnly] private static int DestroyGraph(nint graph) => Gone("cuGraphDestroy");
    [UnmanagedCallersOnly] private static int DestroyExecutable(nint executable) => Gone("cuGraphExecDestroy");
}

using System.Runtime.InteropServices;
using System.Text;

namespace Kernels.Backends.Gpu.Native;

/// <summary>NVRTC, the CUDA run-time compiler: only the functions used, bound by name because the library's name and place vary.</summary>
internal sealed unsafe class Nvrtc
{
    private static readonly Lock Gate = new();
    private static Nvrtc? instance;
    private static string? missing;

    private readonly delegate* unmanaged<int, byte*> getErrorString;
    private readonly delegate* unmanaged<nint*, byte*, byte*, int, byte**, byte**, int> createProgram;
    private readonly delegate* unmanaged<nint*, int> destroyProgram;
    private readonly delegate* unmanaged<nint, int, byte**, int> compileProgram;
    private readonly delegate* unmanaged<nint, nuint*, int> getPtxSize;
    private readonly delegate* unmanaged<nint, byte*, int> getPtx;
    private readonly delegate* unmanaged<nint, nuint*, int> getCubinSize;
    private readonly delegate* unmanaged<nint, byte*, int> getCubin;
    private readonly delegate* unmanaged<nint, nuint*, int> getLogSize;
    private readonly delegate* unmanaged<nint, byte*, int> getLog;

    private Nvrtc(nint library, string path)
    {
        LibraryPath = path;
        getErrorString = (delegate* unmanaged<int, byte*>)NativeLibrary.GetExport(library, "nvrtcGetErrorString");
        createProgram = (delegate* unmanaged<nint*, byte*, byte*, int, byte**, byte**, int>)NativeLibrary.GetExport(library, "nvrtcCreateProgram");
        destroyProgram = (delegate* unmanaged<nint*, int>)NativeLibrary.GetExport(library, "nvrtcDestroyProgram");
        compileProgram = (delegate* unmanaged<nint, int, byte**, int>)NativeLibrary.GetExport(library, "nvrtcCompileProgram");
        getPtxSize = (delegate* unmanaged<nint, nuint*, int>)NativeLibrary.GetExport(library, "nvrtcGetPTXSize");
        getPtx = (delegate* unmanaged<nint, byte*, int>)NativeLibrary.GetExport(library, "nvrtcGetPTX");
        getCubinSize = (delegate* unmanaged<nint, nuint*, int>)NativeLibrary.GetExport(library, "nvrtcGetCUBINSize");
        getCubin = (delegate* unmanaged<nint, byte*, int>)NativeLibrary.GetExport(library, "nvrtcGetCUBIN");
        getLogSize = (delegate* unmanaged<nint, nuint*, int>)NativeLibrary.GetExport(library, "nvrtcGetProgramLogSize");
        getLog = (delegate* unmanaged<nint, byte*, int>)NativeLibrary.GetExport(library, "nvrtcGetProgramLog");

        int major, minor;
        var version = (delegate* unmanaged<int*, int*, int>)NativeLibrary.GetExport(library, "nvrtcVersion");
        Check(version(&major, &minor), "nvrtcVersion");
        Version = new Version(major, minor);

        var count = (delegate* unmanaged<int*, int>)NativeLibrary.GetExport(library, "nvrtcGetNumSupportedArchs");
        var list = (delegate* unmanaged<int*, int>)NativeLibrary.GetExport(library, "nvrtcGetSupportedArchs");
        int length;
        Check(count(&length), "nvrtcGetNumSupportedArchs");
        var architectures = new int[length];
        fixed (int* first = architectures)
            Check(list(first), "nvrtcGetSupportedArchs");
        SupportedArchitectures = architectures;
    }

    /// <summary>Where the library was found.</summary>
    internal string LibraryPath { get; }

    /// <summary>The compiler's version, for instance 12.4.</summary>
    internal Version Version { get; }

    /// <summary>Compute capabilities the compiler can target, for instance 90.</summary>
    internal IReadOnlyList<int> SupportedArchitectures { get; }

    /// <summary>The library, loaded once per process.</summary>
    /// <param name="reason">Why there is none.</param>
    internal static Nvrtc? TryGet(out string reason)
    {
        lock (Gate)
        {
            if (instance is null && missing is null)
            {
                var tried = new List<string>();
                var (handle, path) = CudaLibrary.Nvrtc.Load(tried);
                if (handle != 0)
                    instance = new Nvrtc(handle, path);
                else
                    missing = $"NVRTC was not found; tried {string.Join(", ", tried)}. Run eng/get-nvrtc.sh, or set {CudaLibrary.Nvrtc.Variable}.";
            }
            reason = missing ?? "";
            return instance;
        }
    }

    /// <summary>Compiles one translation unit.</summary>
    /// <returns>Whether it compiled, the log, the PTX, and the machine code (empty for a virtual architecture).</returns>
    internal (bool Ok, string Log, byte[] Ptx, byte[] Cubin) Compile(
        string source, string name, IReadOnlyList<KeyValuePair<string, string>> headers, IReadOnlyList<string> options)
    {
        using var headerTexts = new NativeStrings(headers.Select(header => header.Value));
        using var headerNames = new NativeStrings(headers.Select(header => header.Key));
        using var texts = new NativeStrings([source, name]);
        using var arguments = new NativeStrings(options);
        nint program;
        Check(createProgram(&program, texts.Pointers[0], texts.Pointers[1], headers.Count, headerTexts.Pointers, headerNames.Pointers), "nvrtcCreateProgram");
        try
        {
            var result = compileProgram(program, options.Count, arguments.Pointers);
            var log = Encoding.UTF8.GetString(Read(program, getLogSize, getLog, "nvrtcGetProgramLog").AsSpan().TrimEnd((byte)0));
            if (result != 0)
                return (false, $"{log.TrimEnd()}\n{ErrorName(result)}".Trim(), [], []);
            var ptx = Read(program, getPtxSize, getPtx, "nvrtcGetPTX");
            return (true, log.Trim(), ptx.AsSpan().TrimEnd((byte)0).ToArray(), Read(program, getCubinSize, getCubin, "nvrtcGetCUBIN"));
        }
        finally
        {
            destroyProgram(&program);
        }
    }

    private byte[] Read(nint program, delegate* unmanaged<nint, nuint*, int> size, delegate* unmanaged<nint, byte*, int> get, string call)
    {
        nuint length = 0;
        Check(size(program, &length), call + "Size");
        if (length == 0)
            return [];
        var bytes = new byte[length];
        fixed (byte* first = bytes)
            Check(get(program, first), call);
        return bytes;
    }

    private string ErrorName(int result) => Marshal.PtrToStringUTF8((nint)getErrorString(result)) ?? $"NVRTC error {result}";

    private void Check(int result, string call)
    {
        if (result != 0)
            throw new DeviceException($"{call} failed: {ErrorName(result)} ({LibraryPath})");
    }

    /// <summary>An array of UTF-8 strings for one native call.</summary>
    private sealed class NativeStrings : IDisposable
    {
        private readonly int count;

        internal NativeStrings(IEnumerable<string> strings)
        {
            var list = strings.ToList();
            count = list.Count;
            Pointers = (byte**)NativeMemory.AllocZeroed((nuint)Math.Max(1, count), (nuint)sizeof(byte*));
            for (var i = 0; i < count; i++)
                Pointers[i] = (byte*)Marshal.StringToCoTaskMemUTF8(list[i]);
        }

        internal byte** Pointers { get; }

        public void Dispose()
        {
            for (var i = 0; i < count; i++)
                Marshal.FreeCoTaskMem((nint)Pointers[i]);
            NativeMemory.Free(Pointers);
        }
    }
}

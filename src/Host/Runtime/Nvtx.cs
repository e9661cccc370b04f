using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;

namespace Kernels.Runtime;

/// <summary>
/// Named ranges on the time line of a profiler (NVIDIA Tools Extension, NVTX 3). A profiler that wants them, Nsight Systems for one, names its library in
/// <see cref="Variable"/> before the program starts; without it a range costs one comparison.
/// </summary>
/// <remarks>
/// The protocol is that of the header-only NVTX 3: the library's <c>InitializeInjectionNvtx2</c> is handed a function that finds export tables, asks it for the table of a module's
/// functions and puts its own into those that it implements. Source: <c>nvtx3/nvtxDetail/nvtxInit.h</c> and <c>nvtxTypes.h</c> of https://github.com/NVIDIA/NVTX.
/// </remarks>
internal static unsafe class Nvtx
{
    /// <summary>The environment variable that names the profiler's library.</summary>
    public const string Variable = "NVTX_INJECTION64_PATH";

    private const uint Callbacks = 1, VersionInfo = 3, Version = 3;
    private const int Core = 1, RangePushA = 9, RangePop = 11;

    // Functions of the modules 1 to 6 (core, CUDA, OpenCL, CUDA runtime, core 2, synchronisation), the unused number 0 counted. A tool may refuse a program that lacks a module,
    // so all are there, though nothing but ranges is ever called.
    private static readonly int[] s_functions = [0, 16, 9, 15, 7, 16, 7];
    private static readonly nint[] s_tables = new nint[s_functions.Length];
    private static readonly nint s_callbacks = CreateTables();
    private static readonly nint s_versionInfo = CreateVersionInfo();
    private static readonly bool s_isAttached = Load(Environment.GetEnvironmentVariable(Variable));

    /// <summary>Whether a profiler listens.</summary>
    public static bool IsAttached => s_isAttached || IsAttachedByTest;

    /// <summary>Set by a test that has called <see cref="Attach"/>.</summary>
    internal static bool IsAttachedByTest { get; set; }

    /// <summary>Opens a range on this thread, which ends when the result is disposed.</summary>
    /// <param name="name">What the profiler shows.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static NvtxRange Push(string name) => IsAttached ? PushCore(name) : default;

    /// <summary>Lets a profiler put its functions into the tables.</summary>
    /// <param name="initialize">Its <c>int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t)</c>.</param>
    /// <returns>Whether it wants ranges.</returns>
    internal static bool Attach(nint initialize)
    {
        delegate* unmanaged[Cdecl]<uint, nint> getExportTable = &GetExportTable;
        return ((delegate* unmanaged[Cdecl]<nint, int>)initialize)((nint)getExportTable) != 0 && Slot(RangePushA) != 0 && Slot(RangePop) != 0;
    }

    /// <summary>Ends the innermost range of this thread.</summary>
    internal static void Pop()
    {
        if (Slot(RangePop) is nint pop and not 0)
        {
            ((delegate* unmanaged[Cdecl]<int>)pop)();
        }
    }

    private static NvtxRange PushCore(string name)
    {
        if (Slot(RangePushA) is not (nint push and not 0))
        {
            return default;
        }

        Span<byte> text = stackalloc byte[512];
        Encoding.UTF8.TryGetBytes(name.AsSpan(0, Math.Min(name.Length, (text.Length - 1) / 3)), text, out int length);
        text[length] = 0;
        fixed (byte* bytes = text)
        {
            ((delegate* unmanaged[Cdecl]<byte*, int>)push)(bytes);
        }

        return new NvtxRange(isOpen: true);
    }

    // A profiler that is named and cannot be loaded is the profiler's trouble: the program runs on as it would without.
    private static bool Load(string? path) =>
        !string.IsNullOrEmpty(path)
        && NativeLibrary.TryLoad(path, out nint library)
        && NativeLibrary.TryGetExport(library, "InitializeInjectionNvtx2", out nint initialize)
        && Attach(initialize);

    // What stands in a table is the place of a pointer to a function.
    private static nint Slot(int function) => *((nint**)s_tables[Core])[function];

    private static nint CreateTables()
    {
        for (int module = 1; module < s_functions.Length; module++)
        {
            int count = s_functions[module];
            nint* table = (nint*)NativeMemory.AllocZeroed((nuint)(count + 1), (nuint)sizeof(nint)), slots = (nint*)NativeMemory.AllocZeroed((nuint)count, (nuint)sizeof(nint));
            for (int i = 1; i < count; i++)
            {
                table[i] = (nint)(slots + i);
            }

            s_tables[module] = (nint)table;
        }

        delegate* unmanaged[Cdecl]<int, nint*, uint*, int> getModuleFunctionTable = &GetModuleFunctionTable;
        nint* callbacks = (nint*)NativeMemory.AllocZeroed(2, (nuint)sizeof(nint));
        (callbacks[0], callbacks[1]) = (2 * sizeof(nint), (nint)getModuleFunctionTable);
        return (nint)callbacks;
    }

    private static nint CreateVersionInfo()
    {
        delegate* unmanaged[Cdecl]<uint, void> setVersion = &SetInjectionNvtxVersion;
        nint* info = (nint*)NativeMemory.AllocZeroed(3, (nuint)sizeof(nint));
        (info[0], *(uint*)(info + 1), info[2]) = (3 * sizeof(nint), Version, (nint)setVersion);
        return (nint)info;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static nint GetExportTable(uint id) => id switch { Callbacks => s_callbacks, VersionInfo => s_versionInfo, _ => 0 };

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static int GetModuleFunctionTable(int module, nint* table, uint* size)
    {
        if (module < 1 || module >= s_functions.Length)
        {
            return 0;
        }

        if (table != null)
        {
            *table = s_tables[module];
        }

        if (size != null)
        {
            *size = (uint)s_functions[module];
        }

        return 1;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void SetInjectionNvtxVersion(uint version)
    {
    }
}

/// <summary>A range that ends when it is disposed; nothing if no profiler listens.</summary>
/// <param name="isOpen">Whether there is something to end.</param>
internal readonly ref struct NvtxRange(bool isOpen)
{
    /// <summary>Ends the range.</summary>
    public void Dispose()
    {
        if (isOpen)
        {
            Nvtx.Pop();
        }
    }
}

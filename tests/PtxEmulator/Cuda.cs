using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Xunit;

namespace Kernels.Tests.PtxEmulator;

/// <summary>Compiles the test kernels, once per process; a test that needs NVRTC where there is none is skipped, visibly.</summary>
internal static class Cuda
{
    private static readonly ConcurrentDictionary<string, Lazy<CompiledKernels>> Compiled = new();

    internal static string Folder => Path.Combine(AppContext.BaseDirectory, "cuda");

    internal static void Require()
    {
        if (!KernelCompiler.IsAvailable(out var reason))
            Assert.Skip(reason);
    }

    /// <summary>For a test of what the assembler says: skipped where the compiler writes PTX alone for one of the architectures.</summary>
    internal static void RequireMachineCode(params IEnumerable<string> architectures)
    {
        Require();
        foreach (var architecture in architectures)
            Assert.SkipUnless(KernelCompiler.MakesMachineCode(architecture, out var reason), reason);
    }

    internal static CompiledKernels Compile(string file, string architecture = "sm_90", params string[] options)
    {
        Require();
        var key = string.Join('|', options.Prepend(architecture).Prepend(file));
        return Compiled.GetOrAdd(key, _ => new Lazy<CompiledKernels>(() =>
        {
            var (source, headers) = KernelCompiler.ReadSource(Path.Combine(Folder, file));
            return KernelCompiler.Compile(source, file, architecture, options, headers);
        })).Value;
    }
}

/// <summary>An emulator with a module loaded, and short words for memory and launches.</summary>
internal sealed class KernelRun : IDisposable
{
    private readonly DriverModule module;

    internal KernelRun(CompiledKernels compiled, EmulatorOptions? options = null)
        : this(compiled.Ptx, compiled.Name, options)
    {
    }

    internal KernelRun(byte[] ptx, string name, EmulatorOptions? options = null)
    {
        Driver = new EmulatorDriver(options ?? new EmulatorOptions { Counters = true, Output = Output });
        module = Driver.LoadModule(ptx, name);
    }

    internal StringWriter Output { get; } = new();

    internal EmulatorDriver Driver { get; }

    internal DriverModule Module => module;

    internal LaunchCounters Counters => Driver.LastCounters!;

    /// <summary>Allocates and fills.</summary>
    internal ulong Put<T>(ReadOnlySpan<T> values, string label = "")
        where T : unmanaged
    {
        var bytes = MemoryMarshal.AsBytes(values);
        var address = Driver.Allocate(bytes.Length, label);
        Driver.CopyToDevice(address, bytes);
        return address;
    }

    internal ulong Put<T>(T[] values, string label = "")
        where T : unmanaged => Put((ReadOnlySpan<T>)values, label);

    internal T[] Get<T>(ulong address, int count)
        where T : unmanaged
    {
        var values = new T[count];
        Driver.CopyToHost(MemoryMarshal.AsBytes(values.AsSpan()), address);
        return values;
    }

    /// <summary>Where set, takes the opcodes of every kernel that this thread launches.</summary>
    [ThreadStatic]
    internal static HashSet<string>? Launched;

    internal void Launch(string entry, LaunchGeometry geometry, LaunchArguments arguments)
    {
        var function = module.Function(entry);
        Launched?.UnionWith(((EmulatorDriver.EmulatorFunction)function).Program.Instructions.Select(instruction => instruction.Written.Opcode));
        Driver.Launch(function, geometry, arguments.Bytes);
    }

    internal void Launch(string entry, int blocks, int threads, LaunchArguments arguments) => Launch(entry, LaunchGeometry.Linear(blocks, threads), arguments);

    /// <summary>Launches a kernel that is expected to be at fault.</summary>
    internal IReadOnlyList<Finding> Findings(string entry, LaunchGeometry geometry, LaunchArguments arguments) =>
        Assert.Throws<KernelCheckException>(() => Launch(entry, geometry, arguments)).Findings;

    public void Dispose()
    {
        module.Dispose();
        Driver.Dispose();
    }
}

using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using Kernels.Backends.Gpu.Native;

namespace Kernels.Backends.Gpu;

/// <summary>What the assembler reports about one kernel.</summary>
/// <param name="Name">The entry's name.</param>
/// <param name="Registers">32-bit registers per thread.</param>
/// <param name="SpillStoreBytes">Bytes per thread stored to local memory because registers ran out.</param>
/// <param name="SpillLoadBytes">Bytes per thread loaded back.</param>
/// <param name="StackBytes">Local-memory frame per thread in bytes.</param>
/// <param name="SharedBytes">Static shared memory per block in bytes.</param>
/// <param name="ConstantBytes">Constant bank 0 in bytes, parameters included.</param>
public sealed record KernelResources(
    string Name, int Registers, int SpillStoreBytes, int SpillLoadBytes, int StackBytes, int SharedBytes, int ConstantBytes);

/// <summary>A compiled translation unit.</summary>
/// <param name="Name">The name it was compiled under, as it appears in source lines.</param>
/// <param name="Architecture">The target, for instance <c>sm_90</c>; <c>compute_90</c> where that was asked for and the compiler has no machine code for it (<see cref="KernelCompiler.MakesMachineCode(string, out string)"/>).</param>
/// <param name="Ptx">PTX text in UTF-8.</param>
/// <param name="Cubin">Machine code; empty if the target is virtual.</param>
/// <param name="Log">The compiler's log.</param>
/// <param name="Resources">What the assembler reports for each kernel; empty if the target is virtual.</param>
public sealed record CompiledKernels(
    string Name, string Architecture, byte[] Ptx, byte[] Cubin, string Log, IReadOnlyList<KernelResources> Resources)
{
    /// <summary>What a device is given: machine code, or PTX where there is none, which its driver then compiles.</summary>
    public byte[] Image => Cubin.Length > 0 ? Cubin : Ptx;
}

/// <summary>A source that the CUDA compiler refuses.</summary>
public sealed class KernelCompileException : KernelsException
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">The file, the target and the compiler's log.</param>
    public KernelCompileException(string message)
        : base(message)
    {
    }
}

/// <summary>Compiles CUDA C++ with NVRTC, which needs no GPU and no toolkit.</summary>
public static partial class KernelCompiler
{
    /// <summary>Whether NVRTC was found; otherwise why not.</summary>
    /// <param name="reason">Where it was looked for and what to do; empty if it was found.</param>
    public static bool IsAvailable(out string reason) => Nvrtc.TryGet(out reason) is not null;

    /// <summary>The compiler's version, for instance 12.4.</summary>
    /// <exception cref="DeviceException">NVRTC was not found.</exception>
    public static Version Version => Library.Version;

    /// <summary>The targets the compiler knows, ascending, for instance <c>sm_90</c>.</summary>
    /// <exception cref="DeviceException">NVRTC was not found.</exception>
    public static IReadOnlyList<string> Architectures =>
        [.. Library.SupportedArchitectures.Select(capability => $"sm_{capability.ToString(CultureInfo.InvariantCulture)}")];

    /// <summary>Whether the compiler writes machine code for a target, and so can tell registers and spills; PTX it writes for every target it knows.</summary>
    /// <param name="architecture">The target.</param>
    /// <param name="reason">Why not and what to do; empty if it does.</param>
    /// <exception cref="DeviceException">NVRTC was not found.</exception>
    public static bool MakesMachineCode(string architecture, out string reason) => MakesMachineCode(architecture, Version, out reason);

    /// <summary>What <see cref="MakesMachineCode(string, out string)"/> says for a compiler of a given version.</summary>
    internal static bool MakesMachineCode(string architecture, Version compiler, out string reason)
    {
        ArgumentNullException.ThrowIfNull(architecture);
        reason = "";
        if (!architecture.StartsWith(Real, StringComparison.Ordinal))
        {
            reason = $"{architecture} is a virtual architecture, of which there is PTX and no machine code";
        }
        else if (compiler.Major < AssemblesAda && Capability(architecture) >= Ada)
        {
            // Its own assembler ends the process on some kernels, which nothing can catch (seen with 11.8.89).
            reason = $"NVRTC {compiler} writes no machine code for {architecture} here, only PTX that the NVIDIA driver compiles: its assembler crashes on some kernels. NVRTC {AssemblesAda} or later does";
        }
        return reason.Length == 0;
    }

    private const string Real = "sm_", Virtual = "compute_";

    // sm_89 and sm_90 came with 11.8; from 12.0 on their assembler is sound.
    private const int Ada = 89, AssemblesAda = 12;

    private static int Capability(string architecture) =>
        int.TryParse(architecture.AsSpan(Real.Length).TrimEnd("af"), NumberStyles.None, CultureInfo.InvariantCulture, out var capability) ? capability : 0;

    private static Nvrtc Library => Nvrtc.TryGet(out var reason) ?? throw new DeviceException(reason);

    /// <summary>Compiles one source for one architecture, keeping source lines.</summary>
    /// <param name="source">CUDA C++.</param>
    /// <param name="name">The file's name, for messages and source lines.</param>
    /// <param name="architecture">
    /// A real (<c>sm_90</c>) or virtual (<c>compute_90</c>) architecture. A real one of which the compiler makes no machine code is compiled as the virtual one
    /// (<see cref="MakesMachineCode(string, out string)"/>).
    /// </param>
    /// <param name="options">More options, for instance <c>-DTILE=64</c>.</param>
    /// <param name="headers">Texts of <c>#include</c>d files by name.</param>
    /// <exception cref="KernelCompileException">The compiler refused the source.</exception>
    /// <exception cref="DeviceException">NVRTC was not found.</exception>
    public static CompiledKernels Compile(
        string source,
        string name,
        string architecture,
        IEnumerable<string>? options = null,
        IEnumerable<KeyValuePair<string, string>>? headers = null) => CompileAs(Version, source, name, architecture, options, headers);

    /// <summary>Compiles as a compiler of a given version may be asked to.</summary>
    internal static CompiledKernels CompileAs(
        Version compiler,
        string source,
        string name,
        string architecture,
        IEnumerable<string>? options = null,
        IEnumerable<KeyValuePair<string, string>>? headers = null)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(architecture);
        var real = architecture.StartsWith(Real, StringComparison.Ordinal);
        if (real && !MakesMachineCode(architecture, compiler, out _))
            (architecture, real) = (Virtual + architecture[Real.Length..], false);
        List<string> all = [$"--gpu-architecture={architecture}", "--generate-line-info", "--std=c++17"];
        if (real)
            all.Add("--ptxas-options=-v");
        all.AddRange(options ?? []);
        var (ok, log, ptx, cubin) = Library.Compile(source, name, [.. headers ?? []], all);
        if (!ok)
            throw new KernelCompileException($"{name} does not compile for {architecture}:\n{log}");
        return new CompiledKernels(name, architecture, ptx, cubin, log, ParseResources(log));
    }

    /// <summary>Reads the assembler's report (<c>--ptxas-options=-v</c>) out of a log.</summary>
    /// <param name="log">The compiler's log.</param>
    public static IReadOnlyList<KernelResources> ParseResources(string log)
    {
        ArgumentNullException.ThrowIfNull(log);
        var found = new List<KernelResources>();
        string? name = null;
        int stack = 0, stores = 0, loads = 0;
        foreach (var line in log.Split('\n'))
        {
            if (EntryLine().Match(line) is { Success: true } entry)
            {
                name = entry.Groups[1].Value;
                (stack, stores, loads) = (0, 0, 0);
            }
            else if (FrameLine().Match(line) is { Success: true } frame)
            {
                (stack, stores, loads) = (Number(frame, 1), Number(frame, 2), Number(frame, 3));
            }
            else if (name is not null && UsedLine().Match(line) is { Success: true } used)
            {
                found.Add(new KernelResources(
                    name, Number(used, 1), stores, loads, stack, Number(SharedBytes().Match(line), 1), Number(ConstantBytes().Match(line), 1)));
                name = null;
            }
        }
        return found;
    }

    /// <summary>A source file's text with the texts of the headers in its folder, as <see cref="Compile"/> wants them.</summary>
    /// <param name="path">The <c>.cu</c> file.</param>
    /// <exception cref="InvalidFileException">The file does not exist.</exception>
    public static (string Source, IReadOnlyList<KeyValuePair<string, string>> Headers) ReadSource(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        if (!File.Exists(path))
            throw new InvalidFileException(path, "", "there is no such file");
        var folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        var headers = Directory.EnumerateFiles(folder, "*.cuh").Concat(Directory.EnumerateFiles(folder, "*.h"))
            .Select(header => KeyValuePair.Create(Path.GetFileName(header), File.ReadAllText(header, Encoding.UTF8)));
        return (File.ReadAllText(path, Encoding.UTF8), [.. headers]);
    }

    private static int Number(Match match, int group) =>
        match.Success ? int.Parse(match.Groups[group].ValueSpan, CultureInfo.InvariantCulture) : 0;

    [GeneratedRegex("Compiling entry function '([^']+)'")]
    private static partial Regex EntryLine();

    [GeneratedRegex(@"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")]
    private static partial Regex FrameLine();

    [GeneratedRegex(@"Used (\d+) registers")]
    private static partial Regex UsedLine();

    [GeneratedRegex(@"(\d+) bytes smem")]
    private static partial Regex SharedBytes();

    [GeneratedRegex(@"(\d+) bytes cmem\[0\]")]
    private static partial Regex ConstantBytes();
}

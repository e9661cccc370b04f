using System.Collections.Concurrent;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.RegularExpressions;
using Kernels.Backends.Gpu;
using Kernels.Diffusion;
using Kernels.Emulation;
using Kernels.Models;
using Kernels.Runtime;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>
/// The table in <c>kernels/README.md</c>: every kernel of a guided step of the published 64x64 models, at its largest launch in every precision, for every architecture. With
/// <c>KERNELS_UPDATE_TABLE=1</c> in the environment it is written anew.
/// </summary>
public sealed partial class KernelTableTests
{
    private const string Begin = "<!-- registers: begin -->", End = "<!-- registers: end -->";
    private static readonly string[] s_architectures = ["sm_80", "sm_86", "sm_89", "sm_90"];

    [Fact]
    public void Every_kernel_compiles_without_spills_and_the_table_is_current()
    {
        Assert.SkipUnless(KernelCompiler.IsAvailable(out string reason), reason);
        Assert.SkipUnless(KernelCompiler.Version == new Version(12, 4), $"the table is NVRTC 12.4's; this is {KernelCompiler.Version}");
        (KernelCall Call, Precision Precision)[] calls = [.. Enum.GetValues<Precision>().SelectMany(Largest).DistinctBy(c => c.Call.Kernel)];
        KernelResources[][] resources = new KernelResources[calls.Length][];
        Parallel.For(0, calls.Length, i => resources[i] = [.. s_architectures.Select(a => Compile(calls[i].Call.Kernel, a))]);

        Assert.All(calls.Zip(resources), row => Assert.All(row.Second, r => Assert.True(
            r is { SpillLoadBytes: 0, SpillStoreBytes: 0 }, $"{row.First.Call.Kernel} spills {r.SpillStoreBytes} and {r.SpillLoadBytes} bytes")));

        string path = Path.Combine(KernelsFolder(), "README.md"), text = File.ReadAllText(path);
        (int begin, int end) = (text.IndexOf(Begin, StringComparison.Ordinal) + Begin.Length, text.IndexOf(End, StringComparison.Ordinal));
        string table = Table(calls, resources);
        if (Environment.GetEnvironmentVariable("KERNELS_UPDATE_TABLE") == "1")
        {
            File.WriteAllText(path, text[..begin] + table + text[end..]);
        }
        else
        {
            Assert.True(text[begin..end] == table, "the table of kernels/README.md is not current; run this test with KERNELS_UPDATE_TABLE=1");
        }
    }

    /// <summary>The entries that the table lacks, the readable ones among them: with the constants of the largest launch of their file; and every file by itself.</summary>
    [Fact]
    public void Every_other_entry_compiles_without_spills()
    {
        Assert.SkipUnless(KernelCompiler.IsAvailable(out string reason), reason);
        KernelCall[] calls = [.. Largest(Precision.Fp16).Select(c => c.Call)];
        HashSet<(string, string)> launched = [.. calls.Select(c => (c.Kernel.File, c.Kernel.Entry))];
        (KernelSpec Kernel, string Architecture)[] jobs =
        [
            .. from file in KernelSources.BuiltIn.Files
               from kernel in calls.Where(c => c.Kernel.File == file).Take(1).Select(c => c.Kernel).Append(new KernelSpec(file, ""))
               from architecture in s_architectures
               select (kernel, architecture),
        ];
        ConcurrentBag<string> others = [];
        Parallel.ForEach(jobs, job =>
        {
            foreach (KernelResources entry in CompileAll(job.Kernel, job.Architecture).Where(r => job.Kernel.Options.Length == 0 || !launched.Contains((job.Kernel.File, r.Name))))
            {
                Assert.True(entry is { SpillLoadBytes: 0, SpillStoreBytes: 0 }, $"{entry.Name} of {job.Kernel}, {job.Architecture}, spills {entry.SpillStoreBytes} and {entry.SpillLoadBytes} bytes");
                if (!launched.Contains((job.Kernel.File, entry.Name)))
                {
                    others.Add(entry.Name);
                }
            }
        });
        Assert.Superset(new HashSet<string> { "convolution_naive", "linear_naive", "log_softmax", "bilinear", "pool_2x", "classifier_free_guidance", "step_noise", "timestep_backward" }, others.ToHashSet());

        // The parameter of a macro that declares entries is none.
        string[] declared = [.. KernelSources.BuiltIn.Files.SelectMany(f => Entry().Matches(KernelSources.BuiltIn.Text(f)).Select(m => m.Groups[1].Value)).Except(["name", .. launched.Select(l => l.Item2)])];
        Assert.Superset(declared.ToHashSet(), others.ToHashSet());
    }

    [Fact]
    public void Every_source_is_in_the_index()
    {
        string text = File.ReadAllText(Path.Combine(KernelsFolder(), "README.md"));
        Assert.All(KernelSources.BuiltIn.Files.Concat(KernelSources.BuiltIn.Headers.Select(h => h.Key)), file => Assert.Contains($"`{file}`", text, StringComparison.Ordinal));
    }

    private static IEnumerable<(KernelCall Call, Precision Precision)> Largest(Precision precision)
    {
        // What is launched, or is largest, only where a fusion is switched off counts too: a norm is when no convolution takes it in.
        IEnumerable<KernelCall> calls = new string[][] { [], [GpuOptions.GroupNormPrologue], [.. GpuOptions.Fusions.Select(f => f.Name)] }.SelectMany(disabled => Largest(precision, disabled));
        return [.. calls.GroupBy(NameOf).Select(LargestOf).Select(call => (call, precision))];
    }

    private static KernelCall LargestOf(IEnumerable<KernelCall> calls) => calls.MaxBy(c => c.Node.Cost.Flops + c.Node.Cost.Bytes)!;

    private static KernelCall[] Largest(Precision precision, string[] disabledFusions)
    {
        using DryRunBackend backend = new(new GpuOptions { Precision = precision, DisabledFusions = disabledFusions });
        StepTable table = new(new GaussianDiffusion(new DiffusionConfig { NoiseSchedule = NoiseSchedule.Cosine, LearnSigma = true }), SamplerKind.Ddpm, classifierScale: 1);
        Graph step = GuidedStep.Build(Presets.Find("adm64").Model, Presets.Find("classifier64").Model, table, new SamplerSettings { ClassifierScale = 1 }, 1, 64, 64, inpaints: true);
        StepGraphs graphs = Rewrites.Apply(step);
        foreach (Graph graph in new[] { graphs.Step, graphs.Conditioning! })
        {
            using Executor executor = backend.Compile(backend.Plan(graph), Weights.FromArrays(new Dictionary<string, (Shape, float[])>()));
        }

        return [.. backend.Calls.GroupBy(NameOf).Select(LargestOf)];
    }

    // A convolution that leaves the means of a norm's gradient has an epilogue of its own, one behind a norm a main loop, and one without a patch another.
    private static string NameOf(KernelCall call)
    {
        bool Has(string option) => call.Kernel.Options.Contains(option, StringComparison.Ordinal);
        string variant = Has("NORM_GRADIENT=1") ? " and means of a norm's gradient" : Has("NORM_INPUT=") ? " behind a norm" : call.Kernel.Entry == "convolution" && !Has("TILE_WIDTH=") ? " of runs of pixels" : "";
        return $"`{call.Kernel.Entry}`{variant}";
    }

    private static KernelResources Compile(KernelSpec kernel, string architecture) => CompileAll(kernel, architecture).Single(r => r.Name == kernel.Entry);

    private static IEnumerable<KernelResources> CompileAll(KernelSpec kernel, string architecture) => KernelCompiler
        .Compile(KernelSources.BuiltIn.Text(kernel.File), kernel.File, architecture, kernel.Options.Split('\n', StringSplitOptions.RemoveEmptyEntries), KernelSources.BuiltIn.Headers)
        .Resources;

    [GeneratedRegex(@"__global__[^;{(]*?(?:__launch_bounds__\([^)]*\)\s*)?(?:void\s+)?(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\(\s*(?:const|float|unsigned|int|X|Y)\b")]
    private static partial Regex Entry();

    private static string Table((KernelCall Call, Precision Precision)[] calls, KernelResources[][] resources)
    {
        StringBuilder table = new();
        table.AppendLine().AppendLine("| kernel | precision | output | threads | registers | shared, bytes | occupancy, % |").AppendLine("|---|---|---|---|---|---|---|");
        foreach (((KernelCall call, Precision precision), KernelResources[] built) in calls.Zip(resources).OrderBy(r => NameOf(r.First.Call), StringComparer.Ordinal).ThenBy(r => r.First.Precision))
        {
            IEnumerable<int> occupancy = built.Zip(s_architectures).Select(r => (int)Math.Round(100 * Occupancy.Of(r.First, call.Geometry, r.Second)!.Fraction));
            int shared = built.Max(r => r.SharedBytes) + call.Geometry.SharedBytes;
            table.AppendLine(
                CultureInfo.InvariantCulture,
                $"| {NameOf(call)} | {precision.ToString().ToLowerInvariant()} | {call.Node.Output.Shape} | {call.Geometry.ThreadsPerBlock} | {string.Join(' ', built.Select(r => r.Registers))} | {shared} | {string.Join(' ', occupancy)} |");
        }

        return table.ToString();
    }

    private static string KernelsFolder([CallerFilePath] string path = "")
    {
        string folder = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(path)!, "../../../kernels"));
        Assert.SkipUnless(Directory.Exists(folder), "the sources of the repository are not beside the tests");
        return folder;
    }
}

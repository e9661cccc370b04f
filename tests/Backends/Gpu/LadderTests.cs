using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using Kernels.Backends.Gpu;
using Kernels.Emulation;
using Kernels.Ops;
using Kernels.Tests.Ops;
using Kernels.Tests.Support;
using Xunit;
using Attention = Kernels.Ops.Attention;
using Convolution = Kernels.Ops.Convolution;
using GroupNorm = Kernels.Ops.GroupNorm;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>
/// <c>bench/ladder</c>: the steps from a definition to the kernel that ships, each of which gives the same numbers. The table of what each gains, in counters, is in its README; with
/// <c>KERNELS_UPDATE_TABLE=1</c> in the environment it is written anew.
/// </summary>
public sealed class LadderTests
{
    private const string Begin = "<!-- ladder: begin -->", End = "<!-- ladder: end -->";

    private sealed record Rung(string Op, string Name, int Launches, LaunchCounters[] Counters)
    {
        public override string ToString()
        {
            long Sum(Func<LaunchCounters, long> of) => Counters.Sum(of);
            string Number(long n) => n.ToString("N0", CultureInfo.InvariantCulture);
            return $"| {Op} | {Name} | {Launches} | {Number(Sum(c => c.GlobalReadBytes + c.GlobalWrittenBytes))} | {Number(32 * Sum(c => c.GlobalReadSectors + c.GlobalWrittenSectors))} | "
                + $"{Number(Sum(c => c.SharedExtraWavefronts))} | {Number(Sum(c => c.ThreadInstructions))} | {Number(Sum(c => c.Flops + c.TensorFlops))} |";
        }
    }

    [Fact]
    public void Every_rung_gives_the_same_numbers_and_the_table_is_current()
    {
        Rung[] rungs = [.. Convolutions(), .. GroupNorms(), .. Attentions()];
        Assert.SkipUnless(KernelCompiler.Version == new Version(12, 4), $"the table is NVRTC 12.4's; this is {KernelCompiler.Version}");
        StringBuilder table = new();
        table.AppendLine().AppendLine("| op | rung | launches | bytes asked for | bytes of sectors | bank conflicts | thread instructions | FLOP |").AppendLine("|---|---|---|---|---|---|---|---|");
        foreach (Rung rung in rungs)
        {
            table.AppendLine(rung.ToString());
        }

        string path = Path.Combine(Folder(), "README.md"), text = File.ReadAllText(path);
        (int begin, int end) = (text.IndexOf(Begin, StringComparison.Ordinal) + Begin.Length, text.IndexOf(End, StringComparison.Ordinal));
        if (Environment.GetEnvironmentVariable("KERNELS_UPDATE_TABLE") == "1")
        {
            File.WriteAllText(path, text[..begin] + table + text[end..]);
        }
        else
        {
            Assert.True(text[begin..end] == table.ToString(), "the table of bench/ladder/README.md is not current; run this test with KERNELS_UPDATE_TABLE=1");
        }
    }

    private static IEnumerable<Rung> Convolutions()
    {
        const int Size = 16, C = 64, O = 64;
        float[] x = Values(Size * Size * C, 1), w = Values(O * C * 9, 2), turned = new float[w.Length];
        for (int i = 0; i < w.Length; i++)
        {
            // [O][C][3][3] to [O][3][3][C]
            turned[(((i / (9 * C)) * 9) + (i % 9)) * C + (i / 9 % C)] = w[i];
        }

        Shape image = [1, Size, Size, C];
        double[] expected = ReferenceInterpreter.Evaluate(new Convolution(Padding: 1), [image, [O, C, 3, 3]], [Widen(x), Widen(w)])[0];
        (string, object)[] constants = [("SIZE", Size), ("C", C), ("O", O)];
        foreach ((string name, LaunchGeometry geometry) in new[]
        {
            ("convolution_1", LaunchGeometry.Linear(Size * Size * O / 256, 256)), ("convolution_2", new LaunchGeometry(Size * Size / 64, O / 64, 1, 256, 1, 1, 0)),
            ("convolution_3", new LaunchGeometry(Size * Size / 64, O / 64, 1, 256, 1, 1, 0)),
        })
        {
            using Device device = new(name, constants);
            ulong y = device.Run.New(sizeof(float) * Size * Size * O);
            device.Launch(name, geometry, device.Run.Put<float>(x), device.Run.Put<float>(turned), y);
            yield return device.Rung("convolution", expected, device.Run.Get(y, Size * Size * O));
        }

        foreach (Precision precision in new[] { Precision.Fp32, Precision.Fp16 })
        {
            GraphBuilder builder = new();
            Tensor copy = builder.Add("copy", new Concat(0), builder.Input("x", image));
            builder.Output("y", builder.Add("out", new Concat(0), builder.Add("op", new Convolution(Padding: 1), copy, builder.Weight("w", [O, C, 3, 3]))));
            using CountedRun run = new(precision);
            yield return Shipped("convolution", precision, expected, run.Single(builder.Build(), "op", t => t.Name == "w" ? w : x));
        }
    }

    private static IEnumerable<Rung> GroupNorms()
    {
        const int Size = 32, Pixels = Size * Size, C = 192, Groups = 32;
        float[] x = Values(Pixels * C, 3), gamma = Values(C, 4), beta = Values(C, 5);
        Shape image = [1, Size, Size, C];
        double[] expected = ReferenceInterpreter.Evaluate(new GroupNorm(Groups), [image, [C], [C]], [Widen(x), Widen(gamma), Widen(beta)])[0];
        (string, object)[] constants = [("PIXELS", Pixels), ("C", C), ("GROUPS", Groups)];
        using (Device device = new("group_norm_1", constants))
        {
            ulong y = device.Run.New(sizeof(float) * x.Length);
            device.Launch("group_norm_1", LaunchGeometry.Linear(Groups, 256), device.Run.Put<float>(x), device.Run.Put<float>(gamma), device.Run.Put<float>(beta), y);
            yield return device.Rung("group norm", expected, device.Run.Get(y, x.Length));
        }

        using (Device device = new("group_norm_2", constants))
        {
            ulong dX = device.Run.Put<float>(x), y = device.Run.New(sizeof(float) * x.Length), partials = device.Run.New(8 * Pixels / 64 * C), statistics = device.Run.New(8 * Groups);
            device.Launch("group_norm_2_partials", LaunchGeometry.Linear(Pixels / 64, C), dX, partials);
            device.Launch("group_norm_2_statistics", LaunchGeometry.Linear(Groups, 32), partials, statistics);
            device.Launch("group_norm_2_apply", LaunchGeometry.Linear(Pixels * C / 256, 256), dX, statistics, device.Run.Put<float>(gamma), device.Run.Put<float>(beta), y);
            yield return device.Rung("group norm", expected, device.Run.Get(y, x.Length));
        }

        foreach (Precision precision in new[] { Precision.Fp32, Precision.Fp16 })
        {
            using CountedRun run = new(precision);
            yield return Shipped("group norm", precision, expected, run.Run(new GroupNorm(Groups), (image, x), ([C], gamma), ([C], beta)));
        }
    }

    private static IEnumerable<Rung> Attentions()
    {
        const int T = 256, Heads = 2, Size = 64;
        float[] qkv = Values(T * 3 * Heads * Size, 6);
        Shape shape = [1, T, 3 * Heads * Size];
        Attention op = new(Heads, QkvOrder.New);
        double[] expected = ReferenceInterpreter.Evaluate(op, [shape], [Widen(qkv)])[0];
        (string, object)[] constants = [("TOKENS", T), ("HEADS", Heads), ("HS", Size)];
        using (Device device = new("attention_1", constants))
        {
            ulong dQkv = device.Run.Put<float>(qkv), s = device.Run.New(sizeof(float) * Heads * T * T), y = device.Run.New(sizeof(float) * T * Heads * Size);
            device.Launch("attention_1_scores", new LaunchGeometry(T / 64, T, Heads, 64, 1, 1, 0), dQkv, s);
            device.Launch("attention_1_softmax", new LaunchGeometry(T, Heads, 1, 32, 1, 1, 0), s);
            device.Launch("attention_1_product", new LaunchGeometry(T, Heads, 1, Size, 1, 1, 0), dQkv, s, y);
            yield return device.Rung("attention", expected, device.Run.Get(y, expected.Length));
        }

        using (Device device = new("attention_2", constants))
        {
            ulong y = device.Run.New(sizeof(float) * T * Heads * Size);
            device.Launch("attention_2", new LaunchGeometry(T / 64, Heads, 1, 64, 1, 1, 0), device.Run.Put<float>(qkv), y);
            yield return device.Rung("attention", expected, device.Run.Get(y, expected.Length));
        }

        foreach (Precision precision in new[] { Precision.Fp32, Precision.Fp16 })
        {
            using CountedRun run = new(precision);
            yield return Shipped("attention", precision, expected, run.Run(op, (shape, qkv)));
        }
    }

    private static Rung Shipped(string op, Precision precision, double[] expected, OpRun run)
    {
        OpHarness.Matches(expected, run.Outputs[0], precision == Precision.Fp32 ? 2e-6 : Math.ScaleB(1, -9), $"{op}, shipped");
        return new Rung(op, $"shipped, {precision.ToString().ToLowerInvariant()}", run.Counters.Count, [.. run.Counters]);
    }

    /// <summary>The kernels of one file of the ladder on the emulator, with all checks on.</summary>
    private sealed class Device : IDisposable
    {
        private readonly string _name;
        private readonly (string Name, object Value)[] _constants;
        private readonly List<LaunchCounters> _counters = [];
        private readonly string _folder = Folder();

        public Device(string name, (string, object)[] constants)
        {
            (_name, _constants) = (name, constants);
            Run = new CountedRun(sources: KernelSources.Open(_folder));
        }

        public CountedRun Run { get; }

        public void Launch(string entry, LaunchGeometry geometry, params ReadOnlySpan<ulong> addresses)
        {
            LaunchArguments arguments = new();
            foreach (ulong address in addresses)
            {
                arguments.Add(address);
            }

            _counters.Add(Run.Launch(new KernelSpec($"{_name}.cu", entry, _constants), geometry, arguments.Bytes));
        }

        public Rung Rung(string op, double[] expected, float[] actual)
        {
            OpHarness.Matches(expected, actual, 2e-6, _name);
            return new Rung(op, $"[{_name}]({_name}.cu)", _counters.Count, [.. _counters]);
        }

        public void Dispose() => Run.Dispose();
    }

    private static float[] Values(int count, int seed) => Array.ConvertAll(TestModels.Normals(new Random(seed), count, 1, 0), v => (float)v);

    private static double[] Widen(float[] values) => Array.ConvertAll(values, v => (double)v);

    private static string Folder([CallerFilePath] string path = "")
    {
        string folder = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(path)!, "../../../bench/ladder"));
        Assert.SkipUnless(Directory.Exists(folder), "the sources of the repository are not beside the tests");
        return folder;
    }
}

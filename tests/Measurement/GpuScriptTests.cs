using Kernels.Measurement;
using Kernels.Tests.Cli;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Measurement;

/// <summary><c>bench/gpu.sh</c> with programs that only pretend: what is reported when parts fail, and what becomes of results.</summary>
public sealed class GpuScriptTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    private static string? Script
    {
        get
        {
            for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            {
                string script = Path.Combine(folder.FullName, "bench", "gpu.sh");
                if (File.Exists(script))
                {
                    return script;
                }
            }

            return null;
        }
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_part_that_fails_hides_no_other()
    {
        // The command fails at profiling, hangs at single ops and writes a report otherwise; there is neither PyTorch nor a GPU.
        Program("kernels", """
            case "$*" in
                profile*) echo 'kernels: the profile went wrong' >&2; exit 3 ;;
                *--kernels*) sleep 60 ;;
                *) echo "ran $1"; for last; do :; done; case $last in *.json) echo '{}' >"$last" ;; esac ;;
            esac
            """);
        Program("tests", "echo '3 tests passed'");
        Program("python", "echo 'no module named torch'; exit 1");
        Program("nvidia-smi", "exit 9");
        (int code, string messages) = await Run("run", "--budget", "45", "--results", _folder["results"], "--only", "packs,tests,steps,profile,kernels,rivals,sanitizer");
        Assert.True(code == 0, messages);
        string[] lines = File.ReadAllLines(_folder["results/SUMMARY.md"]);
        Assert.Contains("No GPU: everything was tried out on the CPU, as small as it can be. These are no figures of a GPU.", lines);
        Has("packs", "done", "ran verify");
        Has("tests", "done", "3 tests passed");
        Has("steps", "done", "ran bench");
        Has("profile", "FAILED (3)", "kernels: the profile went wrong");
        Has("kernels", "cut off", "");
        Has("rivals", "left out", "no time was left");
        Has("sanitizer", "left out", "there is no GPU");
        Assert.Equal(["SUMMARY.md", "logs.txt.gz", "steps.json"], Directory.GetFiles(_folder["results"]).Select(f => Path.GetFileName(f)!).Order(StringComparer.Ordinal));

        void Has(string part, string result, string last) =>
            Assert.Contains(lines, l => l.StartsWith($"| {part} | {result} |", StringComparison.Ordinal) && l.EndsWith($"{last} |", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Runs_of_some_parts_add_up_and_take_the_compiler_beside_PyTorch()
    {
        Directory.CreateDirectory(_folder["nvrtc"]);
        Program("kernels", """
            echo "$1 with $KERNELS_NVRTC"; for last; do :; done; case $last in *.json | *.html) echo '{}' >"$last" ;; esac
            """);
        Program("python", $"echo '{_folder["nvrtc"]}'");
        Program("nvidia-smi", "echo 'a GPU'");
        await Run("run", "--budget", "60", "--results", _folder["results"], "--only", "steps,larger");
        string[] first = File.ReadAllLines(_folder["results/SUMMARY.md"]);
        Assert.Contains("Device: a GPU", first);
        Program("kernels", "echo 'nothing goes'; exit 3");
        (int code, string messages) = await Run("run", "--budget", "60", "--results", _folder["results"], "--only", "larger,profile");
        Assert.True(code == 0, messages);
        string[] parts = [.. File.ReadAllLines(_folder["results/SUMMARY.md"]).SkipWhile(l => !l.StartsWith("|---", StringComparison.Ordinal)).Skip(1).TakeWhile(l => l.Length > 0)];
        Assert.Equal(["steps", "profile", "larger"], parts.Select(l => l.Split('|')[1].Trim()));
        Assert.EndsWith($"| bench with {_folder["nvrtc"]} |", parts[0], StringComparison.Ordinal);
        Assert.Contains("FAILED (3)", parts[2], StringComparison.Ordinal);
        Assert.Equal(["SUMMARY.md", "larger.json", "logs.txt.gz", "steps.json"], Directory.GetFiles(_folder["results"]).Select(f => Path.GetFileName(f)!).Order(StringComparer.Ordinal));
    }

    [Theory]
    [InlineData("cuda", true)]
    [InlineData("cpu", false)]
    public async Task Results_become_a_folder_and_those_of_a_GPU_the_table_of_the_README(string kind, bool inReadme)
    {
        string command = Path.Combine(AppContext.BaseDirectory, "kernels.dll");
        Assert.SkipUnless(File.Exists(command), "the command is not beside the tests: they were published as one file");
        Program("kernels", $"exec dotnet '{command}' \"$@\"");
        Directory.CreateDirectory(_folder["run"]);
        BenchReport report = ReportComparisonTests.Report(ReportComparisonTests.Timed(10, 9, 11));
        (report with { Header = report.Header with { Kind = kind, Device = "NVIDIA H100 80GB HBM3" } }).Save(_folder["run/steps.json"]);
        File.WriteAllText(_folder["run/SUMMARY.md"], "a run");
        File.WriteAllText(_folder["README.md"], $"{BenchSummary.Begin}\n{BenchSummary.End}\n");
        (int code, string messages) = await Run("report", _folder["run"], "--to", _folder["results"], "--readme", _folder["README.md"]);
        Assert.True(code == 0, messages);
        string made = _folder["results/nvidia-h100-80gb-hbm3-2026-01-02"];
        Assert.Equal(["SUMMARY.md", "steps.json", "tables.md"], Directory.GetFiles(made).Select(f => Path.GetFileName(f)!).Order(StringComparer.Ordinal));
        Assert.Contains("| fp32 | kernels | 10.000 |", File.ReadAllText(Path.Combine(made, "tables.md")), StringComparison.Ordinal);
        Assert.Equal(inReadme, File.ReadAllText(_folder["README.md"]).Contains("| adm64 | 1 | fp32 | 10.00 |", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Wrong_arguments_are_refused()
    {
        Assert.NotEqual(0, (await Run("report", _folder["nowhere"])).Code);
        Assert.NotEqual(0, (await Run("run", "--budget", "soon")).Code);
        Assert.NotEqual(0, (await Run("fly")).Code);
        Assert.NotEqual(0, (await Run("pack", "everything")).Code);
    }

    private async Task<(int Code, string Messages)> Run(params string[] arguments)
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "a script of bash");
        Assert.SkipWhen(Script is null, "the tests are not in a checkout");
        (int code, string messages) = await Child.Run("bash", [Script!, .. arguments], new Dictionary<string, string>
        {
            ["PATH"] = $"{_folder.Path}:{Environment.GetEnvironmentVariable("PATH")}",
            ["KERNELS"] = _folder["kernels"],
            ["KERNELS_TESTS"] = _folder["tests"],
            ["PYTHON"] = _folder["python"],
            ["KERNELS_NVRTC"] = "",
        });
        Assert.SkipWhen(code < 0, "there is no bash");
        return (code, messages);
    }

    private void Program(string name, string script)
    {
        File.WriteAllText(_folder[name], $"#!/bin/bash\n{script}\n");
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(_folder[name], UnixFileMode.UserRead | UnixFileMode.UserExecute);
        }
    }
}

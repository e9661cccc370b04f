using System.Diagnostics;
using Kernels.Backends.Gpu;
using Kernels.Cli;
using Xunit;

namespace Kernels.Tests.Cli;

/// <summary>Where NVRTC is looked for, and what goes without it, on the real process: a library that is loaded once stays.</summary>
public sealed class NvrtcSearchTests : IDisposable
{
    private const string Kernel = "extern \"C\" __global__ void f(float* x) { x[threadIdx.x] = 1; }";
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_variable_that_leads_nowhere_is_an_error_not_a_hint()
    {
        (int code, string error) = await Compile(("KERNELS_NVRTC", _folder["nowhere"]));
        Assert.Equal(ExitCode.Device, code);
        Assert.Contains($"KERNELS_NVRTC is set to '{_folder["nowhere"]}'", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task The_variable_names_the_library_or_its_folder(bool file)
    {
        string there = Prepared();
        Directory.CreateDirectory(_folder["lib"]);
        foreach (string library in Directory.GetFiles(there, "libnvrtc*.so*"))
        {
            File.CreateSymbolicLink(Path.Combine(_folder["lib"], Path.GetFileName(library)), library);
        }

        (int code, string error) = await Compile(("KERNELS_NVRTC", file ? Path.Combine(_folder["lib"], "libnvrtc.so.12") : _folder["lib"]));
        Assert.True(code == ExitCode.Done, error);
    }

    [Theory]
    [InlineData("lib/python3.12/site-packages/nvidia/cuda_nvrtc/lib", false)]
    [InlineData("lib/python3.12/site-packages/nvidia/cu13/lib", false)]
    [InlineData("lib/python3.12/site-packages/nvidia/cu13/lib", true)]
    public async Task A_Python_installation_serves_a_machine_without_a_toolkit(string inside, bool onPath)
    {
        string there = Prepared(), program = CopyOfTheProgram();
        string lib = Directory.CreateDirectory(Path.Combine(_folder["venv"], inside)).FullName;
        foreach (string library in Directory.GetFiles(there, "libnvrtc*.so*"))
        {
            File.CreateSymbolicLink(Path.Combine(lib, Path.GetFileName(library)), library);
        }

        File.WriteAllText(Path.Combine(Directory.CreateDirectory(_folder["venv/bin"]).FullName, "python3"), "");
        (string, string) where = onPath ? ("PATH", $"{_folder["venv/bin"]}:{Environment.GetEnvironmentVariable("PATH")}") : ("VIRTUAL_ENV", _folder["venv"]);
        (int code, string error) = await Compile(program, ("KERNELS_NVRTC", ""), where);
        Assert.True(code == ExitCode.Done, error);
    }

    [Fact]
    public async Task A_job_compiled_ahead_of_time_needs_no_compiler()
    {
        Prepared();
        string[] job = ["--num-samples", "1", "--batch-size", "1", "--classifier-scale", "0", "--steps", "2"];
        (await CliRun.Of(["compile", "--arch", "compute_90", "--out", _folder["images"], .. job])).Expect(ExitCode.Done);
        string program = CopyOfTheProgram();
        string[] sample = ["sample", "--device", "emulator", "--check", "none", "--kernel-cache", _folder["images"], .. job, "--output"];
        (string, string)[] nowhere = [("KERNELS_NVRTC", ""), ("VIRTUAL_ENV", ""), ("HOME", _folder.Path)];
        (int code, string error) = await Run(program, [.. sample, _folder["with.png"]], nowhere);
        Assert.True(code == ExitCode.Done, error);

        (code, error) = await Run(program, [.. sample, _folder["without.png"], "--precision", "bf16"], nowhere);
        Assert.SkipWhen(code == ExitCode.Done, "this machine has an NVRTC of its own");
        Assert.Equal(ExitCode.Device, code);
        Assert.Contains($"is not among the compiled kernels in {_folder["images"]}, and cannot be compiled: NVRTC was not found", error, StringComparison.Ordinal);
    }

    // Away from the checkout, whose own folder comes first.
    private string CopyOfTheProgram()
    {
        string program = Directory.CreateDirectory(_folder["program"]).FullName;
        foreach (string part in Directory.GetFiles(AppContext.BaseDirectory).Where(f => Path.GetExtension(f) is ".dll" or ".json"))
        {
            File.Copy(part, Path.Combine(program, Path.GetFileName(part)));
        }

        string weights = Path.Combine(AppContext.BaseDirectory, "weights");
        Directory.CreateDirectory(Path.Combine(program, "weights"));
        foreach (string file in Directory.GetFiles(weights))
        {
            File.Copy(file, Path.Combine(program, "weights", Path.GetFileName(file)));
        }

        return program;
    }

    private static string Prepared()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "the prepared folder is Linux's");
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            string prepared = Path.Combine(folder.FullName, ".nvrtc");
            if (Directory.Exists(prepared) && Directory.GetFiles(prepared, "libnvrtc.so.12", SearchOption.AllDirectories) is [string library, ..])
            {
                return Path.GetDirectoryName(library)!;
            }
        }

        Assert.SkipUnless(KernelCompiler.IsAvailable(out string reason), reason);
        Assert.Skip("NVRTC comes from another place than the prepared folder");
        return "";
    }

    private Task<(int Code, string Error)> Compile(params (string Name, string Value)[] environment) => Compile(AppContext.BaseDirectory, environment);

    private async Task<(int Code, string Error)> Compile(string program, params (string Name, string Value)[] environment)
    {
        await File.WriteAllTextAsync(_folder["f.cu"], Kernel, TestContext.Current.CancellationToken);
        return await Run(program, ["compile", _folder["f.cu"], "--arch", "sm_90"], environment);
    }

    private async Task<(int Code, string Error)> Run(string program, string[] arguments, params (string Name, string Value)[] environment)
    {
        string command = Path.Combine(program, "kernels.dll");
        Assert.SkipUnless(File.Exists(command), "the command is not beside the tests: they were published as one file");
        ProcessStartInfo start = new("dotnet", [command, .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = _folder.Path,
        };
        foreach ((string name, string value) in environment)
        {
            start.Environment[name] = value;
        }

        using Process process = Process.Start(start)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        string error = await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await output;
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, error);
    }
}

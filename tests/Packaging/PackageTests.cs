using System.Diagnostics;
using System.IO.Compression;
using System.Runtime.CompilerServices;
using System.Xml.Linq;
using Kernels.Backends.Gpu;
using Kernels.Imaging;
using Kernels.Tests.Cli;
using Xunit;

namespace Kernels.Tests.Packaging;

/// <summary>The package of the library, and a program that has nothing else of this repository.</summary>
public sealed class PackageTests
{
    [Fact]
    public async Task The_package_holds_everything_and_a_program_runs_from_it()
    {
        string root = Root();
        using TemporaryFolder folder = new();
        string configuration = AppContext.BaseDirectory.Contains($"{Path.DirectorySeparatorChar}Debug{Path.DirectorySeparatorChar}", StringComparison.Ordinal) ? "Debug" : "Release";
        await Dotnet(root, "pack", Path.Combine(root, "src", "Host"), "--no-build", "-c", configuration, "-o", folder["packages"], "-v", "quiet");
        string version = XDocument.Load(Path.Combine(root, "Directory.Build.props")).Descendants("Version").Single().Value;
        Assert.Equal([$"packages/Kernels.Host.{version}.nupkg", $"packages/Kernels.Host.{version}.snupkg"], folder.Files);
        using (ZipArchive package = ZipFile.OpenRead(folder[$"packages/Kernels.Host.{version}.nupkg"]), symbols = ZipFile.OpenRead(folder[$"packages/Kernels.Host.{version}.snupkg"]))
        {
            string[] names = [.. package.Entries.Select(e => e.FullName)];
            Assert.Contains("lib/net10.0/Kernels.Host.dll", names);
            Assert.Contains("lib/net10.0/Kernels.Host.xml", names);
            Assert.Contains("README.md", names);
            Assert.Contains("lib/net10.0/Kernels.Host.pdb", symbols.Entries.Select(e => e.FullName));
            using Stream nuspec = package.GetEntry("Kernels.Host.nuspec")!.Open();
            string description = XDocument.Load(nuspec).ToString();
            Assert.Contains("<license type=\"expression\">MIT</license>", description, StringComparison.Ordinal);
            Assert.Contains("Microsoft.Extensions.Logging.Abstractions", description, StringComparison.Ordinal);
            Assert.Contains("System.Numerics.Tensors", description, StringComparison.Ordinal);

            // The assembly is the one that these tests run, kernels included.
            await using Stream packed = package.GetEntry("lib/net10.0/Kernels.Host.dll")!.Open();
            using MemoryStream bytes = new();
            await packed.CopyToAsync(bytes, TestContext.Current.CancellationToken);
            Assert.Equal(await File.ReadAllBytesAsync(typeof(KernelSources).Assembly.Location, TestContext.Current.CancellationToken), bytes.ToArray());
            Assert.Contains("sampler.cu", KernelSources.BuiltIn.Files);
        }

        string sample = Path.Combine(root, "src", "Samples", "EmbeddedSampler");
        Directory.CreateDirectory(folder["program"]);
        foreach (string file in new[] { "EmbeddedSampler.csproj", "Program.cs" })
        {
            File.Copy(Path.Combine(sample, file), folder[$"program/{file}"]);
        }

        File.Copy(Path.Combine(root, "Directory.Build.props"), folder["Directory.Build.props"]);
        await File.WriteAllTextAsync(
            folder["program/nuget.config"],
            (await File.ReadAllTextAsync(Path.Combine(sample, "nuget.config"), TestContext.Current.CancellationToken)).Replace("../../../artifacts/packages", "../packages", StringComparison.Ordinal),
            TestContext.Current.CancellationToken);
        string model = Path.Combine(AppContext.BaseDirectory, "weights", "shapes32_diffusion.safetensors");
        string output = await Dotnet(folder["program"], "run", "-c", "Release", "--", model, folder["picture.png"]);
        Assert.Contains("images 3 to 5: step 10 of 10", output, StringComparison.Ordinal);
        Assert.Equal((104, 70), (Png.Load(folder["picture.png"]).Width, Png.Load(folder["picture.png"]).Height));
    }

    private static async Task<string> Dotnet(string folder, params string[] arguments)
    {
        ProcessStartInfo start = new("dotnet", arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["DOTNET_CLI_TELEMETRY_OPTOUT"] = "1";
        start.Environment["DOTNET_NOLOGO"] = "1";

        // What runs these tests must not reach into the build of the program.
        start.Environment.Remove("MSBUILD_EXE_PATH");
        start.Environment.Remove("MSBuildSDKsPath");
        start.Environment.Remove("MSBuildExtensionsPath");
        using Process process = Process.Start(start)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken), error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(process.ExitCode == 0, $"dotnet {string.Join(' ', arguments)}: exit {process.ExitCode}\n{await output}\n{await error}");
        return await output;
    }

    private static string Root([CallerFilePath] string path = "")
    {
        string root = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(path)!, "..", ".."));
        Assert.SkipUnless(Directory.Exists(Path.Combine(root, "src", "Samples")), "the sources of the repository are not beside the tests");
        Assert.SkipUnless(File.Exists(typeof(KernelSources).Assembly.Location), "the tests were published as one file");
        return root;
    }
}

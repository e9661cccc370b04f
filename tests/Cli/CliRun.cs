using Kernels.Cli;
using Xunit;

namespace Kernels.Tests.Cli;

/// <summary>One run of the command in this process, with its streams captured.</summary>
internal sealed record CliRun(int ExitCode, string Output, string Error)
{
    public static async Task<CliRun> Of(params string[] args) => await Of(args, TestContext.Current.CancellationToken);

    public static async Task<CliRun> Of(string[] args, CancellationToken cancellationToken)
    {
        using StringWriter output = new();
        using StringWriter error = new();
        int code = await KernelsCommand.RunAsync(args, new CliConsole(output, error, interactive: false), cancellationToken);
        return new CliRun(code, output.ToString(), error.ToString());
    }

    public CliRun Expect(int exitCode)
    {
        Assert.True(ExitCode == exitCode, $"exit {ExitCode}, expected {exitCode}\n{Output}\n{Error}");
        return this;
    }
}

/// <summary>A folder that is gone after the test.</summary>
internal sealed class TemporaryFolder : IDisposable
{
    public TemporaryFolder() => Path = Directory.CreateTempSubdirectory("kernels-test-").FullName;

    public string Path { get; }

    public string this[string name] => System.IO.Path.Combine(Path, name);

    public IEnumerable<string> Files => Directory.EnumerateFiles(Path, "*", SearchOption.AllDirectories).Select(f => System.IO.Path.GetRelativePath(Path, f)).Order();

    public void Dispose() => Directory.Delete(Path, recursive: true);
}

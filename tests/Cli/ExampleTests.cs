using Kernels.Cli;
using Xunit;

namespace Kernels.Tests.Cli;

/// <summary>The lines of <c>--help</c> that are there to be pasted.</summary>
public sealed class ExampleTests
{
    [Fact]
    public async Task Help_shows_every_line_and_the_readme_has_it()
    {
        string readme = File.ReadAllText(Path.Combine(Repository.Require(), "README.md"));
        foreach (IGrouping<string, string> lines in Examples.All.GroupBy(line => line.Split(' ')[1]))
        {
            string help = (await CliRun.Of(lines.Key, "--help")).Expect(Kernels.Cli.ExitCode.Done).Output;
            foreach (string line in lines)
            {
                Assert.Contains(line, help, StringComparison.Ordinal);
                Assert.Contains($"`{line}`", readme, StringComparison.Ordinal);
            }
        }
    }

    // In one folder and in their order, as a reader would. Those that time a step or take a minute are left to the tests of their commands.
    [Fact]
    public async Task What_makes_images_works_when_it_is_pasted()
    {
        string repository = Repository.Require();
        using TemporaryFolder folder = new();
        string[] slow = ["--deadline", "--compare", "--repaint-resamples", "kernels profile"];
        foreach (string line in Examples.All.Where(line => !slow.Any(line.Contains)))
        {
            string[] args = [.. line.Split(' ').Skip(1).Select(Place)];
            string[] output = args[0] == "sample" && !args.Contains("--output") ? ["--output", folder["sample.png"]] : [];
            CliRun run = await CliRun.Of([.. args, .. output]);
            Assert.True(run.ExitCode == ExitCode.Done, $"{line}: {run.Error}");
        }

        // A path that is in the repository is there, any other name of a file in a folder of the test's.
        string Place(string word) =>
            word.Contains('/', StringComparison.Ordinal) ? Path.Combine(repository, word)
            : word is "shards" or "terms" || Path.GetExtension(word) is ".png" or ".npz" ? folder[word]
            : word;
    }
}

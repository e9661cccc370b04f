using Xunit;

namespace Kernels.Tests;

/// <summary>The sources that the tests were built from.</summary>
internal static class Repository
{
    /// <summary>The folder of the repository. A test that needs it is skipped where the tests were carried away from it.</summary>
    public static string Require()
    {
        DirectoryInfo? folder = new(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "Kernels.sln")))
        {
            folder = folder.Parent;
        }

        Assert.SkipWhen(folder is null, "the tests are not in the repository that they were built from");
        return folder!.FullName;
    }
}

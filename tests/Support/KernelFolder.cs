using Kernels.Backends.Gpu;
using Xunit;

namespace Kernels.Tests.Support;

/// <summary>The kernels built in, written where they can be edited.</summary>
internal static class KernelFolder
{
    /// <summary>Writes all of them into a folder that exists.</summary>
    /// <param name="folder">The folder.</param>
    public static void Write(string folder)
    {
        KernelSources kernels = KernelSources.BuiltIn;
        foreach (string name in kernels.Files.Concat(kernels.Headers.Select(h => h.Key)))
        {
            File.WriteAllText(Path.Combine(folder, name), kernels.Text(name));
        }
    }

    /// <summary>Edits one; the test fails if there is nothing to replace.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="name">The file.</param>
    /// <param name="before">What is there.</param>
    /// <param name="after">What is to be.</param>
    public static void Edit(string folder, string name, string before, string after)
    {
        string path = Path.Combine(folder, name), text = File.ReadAllText(path);
        Assert.Contains(before, text, StringComparison.Ordinal);
        File.WriteAllText(path, text.Replace(before, after, StringComparison.Ordinal));
    }
}

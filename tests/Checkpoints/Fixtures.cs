namespace Kernels.Tests.Checkpoints;

/// <summary>Where the files are that tests read.</summary>
internal static class Fixtures
{
    /// <summary>A reference pack.</summary>
    public static string Pack(string name) => Path.Combine(AppContext.BaseDirectory, "packs", name);

    /// <summary>A small file written by PyTorch, NumPy or another program; <c>fixtures/README.md</c> says how.</summary>
    public static string Small(string name) => Path.Combine(AppContext.BaseDirectory, "Checkpoints", "fixtures", name);
}

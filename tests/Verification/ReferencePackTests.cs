using Kernels.Backends.Cpu;
using Kernels.Verification;
using Xunit;

namespace Kernels.Tests.Verification;

/// <summary>Every reference pack, at the tolerances its format states: the proof that the numbers are those of the original PyTorch code.</summary>
public sealed class ReferencePackTests(CpuFixture cpu) : IClassFixture<CpuFixture>
{
    public static TheoryData<string> Packs =>
        [.. Directory.GetFiles(Folder, "*.safetensors").Select(p => Path.GetFileName(p)).Where(p => p != "checkpoint-expected.safetensors").Order()];

    private static string Folder => Path.Combine(AppContext.BaseDirectory, "packs");

    [Theory]
    [MemberData(nameof(Packs))]
    public void Pack_verifies_on_the_cpu(string pack) => Verify(pack, []);

    [Theory]
    [MemberData(nameof(Packs))]
    public void Pack_verifies_unfused(string pack) => Verify(pack, ["all"]);

    [Theory]
    [InlineData("checkpoint-zip.pt")]
    [InlineData("checkpoint-legacy.pt")]
    [InlineData("checkpoint-half.pt")]
    public void Checkpoint_holds_the_recorded_weights(string file)
    {
        PackVerifier verifier = new(cpu.Backend);
        IReadOnlyList<Comparison> rows = verifier.Verify(Path.Combine(Folder, "checkpoint-expected.safetensors"), Path.Combine(Folder, file));
        Assert.Equal(124, rows.Count);
        Assert.All(rows, row => Assert.True(row.Passed, row.ToString()));
    }

    [Fact]
    public void All_packs_are_there() => Assert.Equal(29, Packs.Count);

    private void Verify(string pack, string[] disabledFusions)
    {
        IReadOnlyList<Comparison> rows = new PackVerifier(cpu.Backend, disabledFusions)
            .Verify(Path.Combine(Folder, pack), cancellationToken: TestContext.Current.CancellationToken);
        Assert.NotEmpty(rows);
        Assert.All(rows, row => Assert.True(row.Passed, row.ToString()));
    }
}

/// <summary>One CPU backend for the tests of a class.</summary>
public sealed class CpuFixture : IDisposable
{
    public CpuBackend Backend { get; } = new();

    public void Dispose() => Backend.Dispose();
}

using Kernels.Checkpoints;
using Kernels.Files;
using Kernels.Tests.Files;
using Xunit;

namespace Kernels.Tests.Checkpoints;

public sealed class CheckpointTests
{
    [Fact]
    public void TheContainerIsRecognisedByItsContent()
    {
        using TemporaryFolder folder = new();
        foreach ((string name, string format) in new[] { ("checkpoint-zip.pt", "torch zip"), ("checkpoint-legacy.pt", "torch legacy"), ("checkpoint-expected.safetensors", "safetensors") })
        {
            File.Copy(Fixtures.Pack(name), folder["weights.bin"], overwrite: true);
            using Checkpoint checkpoint = Checkpoint.Load(folder["weights.bin"]);
            Assert.Equal(format, checkpoint.Format);
            Assert.Equal(folder["weights.bin"], checkpoint.File);
        }
    }

    [Theory]
    [InlineData("checkpoint-zip.pt")]
    [InlineData("checkpoint-legacy.pt")]
    [InlineData("checkpoint-expected.safetensors")]
    public void NothingIsReadBeforeItIsAskedForAndNothingIsCopiedTwice(string name)
    {
        using CountingSource source = new(File.ReadAllBytes(Fixtures.Pack(name)));
        using Checkpoint checkpoint = Checkpoint.Load(source);
        CheckpointTensor tensor = checkpoint.Tensors.Values.MaxBy(tensor => tensor.Bytes)!;
        tensor.ToFloat32();

        // What was read before is headers: names, shapes and, in a legacy file, the pickles in its head.
        source.Count = 0;
        float[] values = new float[tensor.Shape.Elements];
        long before = GC.GetAllocatedBytesForCurrentThread();
        tensor.CopyTo(values);
        Assert.Equal(tensor.Bytes, source.Count);
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 1024);
    }

    [Fact]
    public void DestinationsOfAnotherSizeAreRefused()
    {
        using Checkpoint checkpoint = Checkpoint.Load(Fixtures.Small("views.pt"));
        CheckpointTensor tensor = checkpoint.Tensors["transposed"];
        Assert.Throws<ArgumentException>(() => tensor.CopyTo(new float[23]));
        Assert.Throws<ArgumentException>(() => tensor.CopyTo(new byte[97]));
    }

    [Fact]
    public void ADisposedCheckpointIsNotRead()
    {
        Checkpoint checkpoint = Checkpoint.Load(Fixtures.Small("views.pt"));
        checkpoint.Dispose();
        Assert.Throws<ObjectDisposedException>(() => checkpoint.Tensors["whole"].ToFloat32());
    }

    [Fact]
    public void AFileThatShrinksWhileItIsOpenIsAnErrorAndNoCrash()
    {
        using TemporaryFolder folder = new();
        File.Copy(Fixtures.Pack("checkpoint-expected.safetensors"), folder["a"]);
        File.SetAttributes(folder["a"], FileAttributes.Normal);
        using Checkpoint checkpoint = Checkpoint.Load(folder["a"]);
        try
        {
            using FileStream other = new(folder["a"], FileMode.Open, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete);
            other.SetLength(100_000);
        }
        catch (IOException)
        {
            Assert.Skip("this system does not let a file that is open be truncated");
        }

        InvalidFileException error = Assert.Throws<InvalidFileException>(() => checkpoint.Tensors.Values.Last().ToFloat32());
        Assert.Contains("another program is writing it", error.Message, StringComparison.Ordinal);
    }

    private sealed class CountingSource(byte[] bytes) : ByteSource("counted", "", bytes.Length)
    {
        public long Count { get; set; }

        protected override void ReadCore(long offset, Span<byte> destination)
        {
            Count += destination.Length;
            bytes.AsSpan((int)offset, destination.Length).CopyTo(destination);
        }
    }
}

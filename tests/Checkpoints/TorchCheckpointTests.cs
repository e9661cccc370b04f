using Kernels.Checkpoints;
using Kernels.Imaging;
using Xunit;

namespace Kernels.Tests.Checkpoints;

/// <summary>Files that PyTorch wrote, against what it reads back from them.</summary>
public sealed class TorchCheckpointTests
{
    [Theory]
    [InlineData("views", null)]
    [InlineData("views-legacy", null)]
    [InlineData("dtypes", null)]
    [InlineData("dtypes-legacy", null)]
    [InlineData("training", "model")]
    [InlineData("protocol-1", null)]
    [InlineData("protocol-1-legacy", null)]
    [InlineData("protocol-3", null)]
    [InlineData("protocol-3-legacy", null)]
    [InlineData("protocol-4", null)]
    [InlineData("protocol-4-legacy", null)]
    [InlineData("protocol-5", null)]
    [InlineData("protocol-5-legacy", null)]
    public void TensorsAreThoseThatPyTorchReads(string name, string? key)
    {
        using Checkpoint checkpoint = Checkpoint.Load(Fixtures.Small($"{name}.pt"), key);
        AssertSame(checkpoint, $"{name}.npz");
        Assert.Equal(name.EndsWith("-legacy", StringComparison.Ordinal) ? "torch legacy" : "torch zip", checkpoint.Format);
    }

    [Theory]
    [InlineData("training.pt")]
    [InlineData("training-legacy.pt")]
    public void AKeyChoosesAmongNestedStateDicts(string name)
    {
        using Checkpoint averages = Checkpoint.Load(Fixtures.Small(name), "averages.0.999");
        AssertSame(averages, "training-ema.npz");
        Assert.Equal("unet", averages.Metadata["arch"]);
        Assert.Equal("größer ☃", averages.Metadata["text"]);

        using Checkpoint half = Checkpoint.Load(Fixtures.Small(name), "averages.half");
        Assert.Equal(averages.Tensors.Keys, half.Tensors.Keys);
        Assert.All(half.Tensors.Values, tensor => Assert.Equal(DType.F16, tensor.DType));
        Assert.Equal(averages.Tensors["0.weight"].ToFloat32().Select(value => (float)(Half)value), half.Tensors["0.weight"].ToFloat32());
    }

    [Theory]
    [InlineData(null, "choose one with --key: 'model', 'averages.0.999', 'averages.half'")]
    [InlineData("ema", "no state dict under the key 'ema'; there are: 'model', 'averages.0.999', 'averages.half'")]
    [InlineData("averages", "no state dict under the key 'averages'")]
    [InlineData("epoch", "no state dict under the key 'epoch'")]
    [InlineData("", "no state dict under the key ''")]
    public void WithoutAKeyThatFitsTheCandidatesAreListed(string? key, string reason)
    {
        InvalidFileException error = Assert.Throws<InvalidFileException>(() => Checkpoint.Load(Fixtures.Small("training.pt"), key));
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("tensor.pt", "holds a tensor, not a state dict")]
    [InlineData("module.pt", "'torch.nn.modules.linear.Linear'")]
    [InlineData("script.pt", "TorchScript")]
    public void WhatIsNotAStateDictIsRefused(string name, string reason)
    {
        InvalidFileException error = Assert.Throws<InvalidFileException>(() => Checkpoint.Load(Fixtures.Small(name)));
        Assert.EndsWith(name, error.File, StringComparison.Ordinal);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TensorsOfOneStorageAreReadApart()
    {
        using Checkpoint checkpoint = Checkpoint.Load(Fixtures.Small("views.pt"));
        float[] whole = checkpoint.Tensors["whole"].ToFloat32();
        Assert.Equal(whole, checkpoint.Tensors["tied"].ToFloat32());
        Assert.NotSame(whole, checkpoint.Tensors["whole"].ToFloat32());
        Assert.Equal([6, 4], checkpoint.Tensors["transposed"].Shape);
        Assert.Equal([1, 7, 13, 19], checkpoint.Tensors["transposed"].ToFloat32()[4..8]);
        Assert.Equal(0, checkpoint.Tensors["scalar"].Shape.Rank);
    }

    [Fact]
    public void IntegersAreReadAsIntegersAndRealNumbersAreNot()
    {
        using Checkpoint checkpoint = Checkpoint.Load(Fixtures.Small("dtypes.pt"));
        Assert.Equal([long.MinValue, long.MaxValue, 0, 1, 100], checkpoint.Tensors["int64"].ToInt64());
        Assert.Equal([1, 0, 1], checkpoint.Tensors["bool"].ToInt64());
        InvalidFileException error = Assert.Throws<InvalidFileException>(() => checkpoint.Tensors["float16"].ToInt64());
        Assert.Contains("tensor 'float16'", error.Message, StringComparison.Ordinal);
    }

    private static void AssertSame(Checkpoint checkpoint, string expectedName)
    {
        using Npz expected = Npz.Open(Fixtures.Small(expectedName));
        Assert.Equal(expected.Names, checkpoint.Tensors.Keys);
        foreach ((string name, CheckpointTensor tensor) in checkpoint.Tensors)
        {
            NpyArray array = expected.Read(name);
            Assert.Equal(array.Dims, tensor.Shape.Select(dim => (long)dim));
            Assert.Equal(Bits(array.ToFloat64()), Bits(tensor.ToFloat64()));
            Assert.Equal(Bits(array.ToFloat64().Select(value => (double)(float)value)), Bits(tensor.ToFloat32().Select(value => (double)value)));
            if (!tensor.DType.IsFloatingPoint())
            {
                Assert.Equal(array.ToInt64(), tensor.ToInt64());
            }
        }
    }

    // Bit patterns tell the zeros apart; NaN is NaN whatever its payload.
    private static long[] Bits(IEnumerable<double> values) => [.. values.Select(value => BitConverter.DoubleToInt64Bits(double.IsNaN(value) ? double.NaN : value))];
}

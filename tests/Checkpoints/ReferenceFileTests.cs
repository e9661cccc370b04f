using Kernels.Checkpoints;
using Xunit;

namespace Kernels.Tests.Checkpoints;

/// <summary>The files that PyTorch wrote, against the same weights written as safetensors.</summary>
public sealed class ReferenceFileTests
{
    [Theory]
    [InlineData("checkpoint-zip.pt", "torch zip", DType.F32)]
    [InlineData("checkpoint-legacy.pt", "torch legacy", DType.F32)]
    [InlineData("checkpoint-half.pt", "torch zip", DType.F16)]
    public void EveryTensorIsTheOneThatWasSaved(string name, string format, DType dtype)
    {
        using Checkpoint expected = Checkpoint.Load(Fixtures.Pack("checkpoint-expected.safetensors"), key: "weights");
        using Checkpoint actual = Checkpoint.Load(Fixtures.Pack(name));

        Assert.Equal(format, actual.Format);
        Assert.Equal("safetensors", expected.Format);
        Assert.Equal(124, expected.Tensors.Count);
        Assert.Equal(expected.Tensors.Keys, actual.Tensors.Keys);
        foreach ((string key, CheckpointTensor tensor) in expected.Tensors)
        {
            CheckpointTensor read = actual.Tensors[key];
            Assert.Equal(dtype, read.DType);
            Assert.Equal(tensor.Shape, read.Shape);
            Assert.Equal(key, read.Name);
            float[] values = tensor.ToFloat32();
            Assert.Equal(dtype == DType.F16 ? [.. values.Select(value => (float)(Half)value)] : values, read.ToFloat32());
        }
    }

    [Fact]
    public void SafeTensorsCarryTheirMetadata()
    {
        using Checkpoint checkpoint = Checkpoint.Load(Fixtures.Pack("checkpoint-expected.safetensors"));

        Assert.Equal("checkpoint", checkpoint.Metadata["kind"]);
        Assert.StartsWith("{\"image_size\": 16", checkpoint.Metadata["config"], StringComparison.Ordinal);
        Assert.All(checkpoint.Tensors.Keys, name => Assert.StartsWith("weights/", name, StringComparison.Ordinal));
    }

    [Fact]
    public void EveryPackOpens()
    {
        string[] packs = Directory.GetFiles(Fixtures.Pack(""), "*.safetensors");
        Assert.NotEmpty(packs);
        foreach (string pack in packs)
        {
            using Checkpoint checkpoint = Checkpoint.Load(pack);
            Assert.Contains("kind", checkpoint.Metadata.Keys);
            Assert.NotEmpty(checkpoint.Tensors);
        }
    }
}

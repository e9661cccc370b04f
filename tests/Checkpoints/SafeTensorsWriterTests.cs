using System.Buffers.Binary;
using System.Text;
using Kernels.Checkpoints;
using Kernels.Tests.Files;
using Xunit;

namespace Kernels.Tests.Checkpoints;

public sealed class SafeTensorsWriterTests
{
    [Fact]
    public void WhatIsWrittenIsReadAgain()
    {
        using TemporaryFolder folder = new();
        using Checkpoint source = Checkpoint.Load(Fixtures.Small("dtypes.pt"));
        Dictionary<string, string> metadata = new() { ["config"] = "{\"image_size\": 64}", ["name \u2603"] = "tab\tquote\"back\\slash\nnewline\u0001" };
        SafeTensorsWriter.Write(folder["a.safetensors"], source.Tensors.Values, metadata);

        using Checkpoint written = Checkpoint.Load(folder["a.safetensors"]);
        Assert.Equal(metadata, written.Metadata);
        Assert.Equal(source.Tensors.Keys.Order(), written.Tensors.Keys.Order());
        foreach ((string name, CheckpointTensor tensor) in source.Tensors)
        {
            Assert.Equal(tensor.DType, written.Tensors[name].DType);
            Assert.Equal(tensor.Shape, written.Tensors[name].Shape);
            Assert.Equal(tensor.ToBytes(), written.Tensors[name].ToBytes());
        }
    }

    [Fact]
    public void TheFileIsTheOneOfTheReferencePackByteForByteInItsData()
    {
        using TemporaryFolder folder = new();
        using Checkpoint source = Checkpoint.Load(Fixtures.Pack("checkpoint-zip.pt"));
        SafeTensorsWriter.Write(folder["a.safetensors"], source.Tensors.Values);
        byte[] expected = File.ReadAllBytes(Fixtures.Pack("checkpoint-expected.safetensors"));
        byte[] actual = File.ReadAllBytes(folder["a.safetensors"]);
        Assert.Equal(expected.AsSpan(8 + HeaderLength(expected)), actual.AsSpan(8 + HeaderLength(actual)));
    }

    [Fact]
    public void HeaderAndTensorsAreAligned()
    {
        using TemporaryFolder folder = new();
        for (int length = 1; length < 20; length++)
        {
            CheckpointTensor[] tensors =
            [
                CheckpointTensor.FromBytes(new string('b', length), DType.U8, [3], new byte[3]),
                CheckpointTensor.FromFloat32("f", [1], [1.5f]),
                CheckpointTensor.FromBytes("h", DType.F16, [1], new byte[2]),
                CheckpointTensor.FromBytes("d", DType.F64, [1], new byte[8]),
                CheckpointTensor.FromFloat32("g", [], [2.5f]),
            ];
            SafeTensorsWriter.Write(folder["a"], tensors);
            byte[] file = File.ReadAllBytes(folder["a"]);
            Assert.Equal(0, HeaderLength(file) % 8);
            Assert.Equal((byte)'{', file[8]);

            using Checkpoint checkpoint = Checkpoint.Load(folder["a"]);
            Assert.Equal(["d", "f", "g", "h", new string('b', length)], checkpoint.Tensors.Keys);
            Assert.Equal([2.5f], checkpoint.Tensors["g"].ToFloat32());
        }
    }

    [Theory]
    [InlineData(DType.F16)]
    [InlineData(DType.BF16)]
    [InlineData(DType.F32)]
    [InlineData(DType.F64)]
    public void FloatingPointTensorsTakeTheChosenTypeAndOthersKeepTheirs(DType dtype)
    {
        using TemporaryFolder folder = new();
        float[] values = [1, -0f, 1 / 3f, 1e-6f, float.NaN, float.PositiveInfinity];
        SafeTensorsWriter.Write(
            folder["a"], [CheckpointTensor.FromFloat32("x", [2, 3], values), CheckpointTensor.FromBytes("n", DType.I32, [1], new byte[] { 7, 0, 0, 0 })], dtype: dtype);
        using Checkpoint checkpoint = Checkpoint.Load(folder["a"]);
        Assert.Equal(dtype, checkpoint.Tensors["x"].DType);
        Assert.Equal(DType.I32, checkpoint.Tensors["n"].DType);
        Assert.Equal([7], checkpoint.Tensors["n"].ToInt64());
        float[] expected = dtype switch
        {
            DType.F16 => [.. values.Select(value => (float)(Half)value)],
            DType.BF16 => [1, -0f, 0.333984375f, 9.98377799987793e-07f, float.NaN, float.PositiveInfinity],
            _ => values,
        };
        Assert.Equal(expected, checkpoint.Tensors["x"].ToFloat32());
    }

    [Theory]
    [InlineData(DType.F16, 1e5)]
    [InlineData(DType.F32, 1e300)]
    public void ValuesTooLargeForTheTypeAreRefusedAndNothingIsLeft(DType dtype, double value)
    {
        using TemporaryFolder folder = new();
        CheckpointTensor tensor = CheckpointTensor.FromBytes("w", DType.F64, [1], BitConverter.GetBytes(value));
        ConfigurationException error = Assert.Throws<ConfigurationException>(() => SafeTensorsWriter.Write(folder["a"], [tensor], dtype: dtype));
        Assert.Contains("'w'", error.Message, StringComparison.Ordinal);
        Assert.Empty(folder.Names);
    }

    [Fact]
    public void AFileMayReplaceTheOneItIsReadFrom()
    {
        using TemporaryFolder folder = new();
        File.Copy(Fixtures.Pack("checkpoint-zip.pt"), folder["a"]);
        using Checkpoint source = Checkpoint.Load(folder["a"]);
        SafeTensorsWriter.Write(folder["a"], source.Tensors.Values);
        using Checkpoint written = Checkpoint.Load(folder["a"]);
        Assert.Equal("safetensors", written.Format);
        Assert.Equal(source.Tensors["out.2.bias"].ToFloat32(), written.Tensors["out.2.bias"].ToFloat32());
    }

    [Fact]
    public void NamesThatCollideOrAreReservedAreRefused()
    {
        using TemporaryFolder folder = new();
        CheckpointTensor x = CheckpointTensor.FromFloat32("x", [1], [1]);
        Assert.Throws<ArgumentException>(() => SafeTensorsWriter.Write(folder["a"], [x, x]));
        Assert.Throws<ArgumentException>(() => SafeTensorsWriter.Write(folder["a"], [CheckpointTensor.FromFloat32("__metadata__", [1], [1])]));
        Assert.Throws<ArgumentException>(() => SafeTensorsWriter.Write(folder["a"], [x], dtype: DType.I8));
        Assert.Throws<ArgumentException>(() => CheckpointTensor.FromFloat32("x", [2], [1]));
        Assert.Empty(folder.Names);
    }

    [Fact]
    public void ADamagedSourceLeavesNoFile()
    {
        using TemporaryFolder folder = new();
        byte[] damaged = File.ReadAllBytes(Fixtures.Pack("checkpoint-zip.pt"));
        damaged[700_000] ^= 1;
        File.WriteAllBytes(folder["in"], damaged);
        using Checkpoint source = Checkpoint.Load(folder["in"]);
        Assert.Throws<InvalidFileException>(() => SafeTensorsWriter.Write(folder["out"], source.Tensors.Values));
        Assert.Equal(["in"], folder.Names);
    }

    [Fact]
    public void AnEmptyFileIsWellFormed()
    {
        using TemporaryFolder folder = new();
        SafeTensorsWriter.Write(folder["a"], []);
        Assert.Equal("{}      ", Encoding.ASCII.GetString(File.ReadAllBytes(folder["a"])[8..]));
        using Checkpoint checkpoint = Checkpoint.Load(folder["a"]);
        Assert.Empty(checkpoint.Tensors);
    }

    private static int HeaderLength(byte[] file) => (int)BinaryPrimitives.ReadInt64LittleEndian(file);
}

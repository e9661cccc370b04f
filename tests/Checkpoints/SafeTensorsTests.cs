using System.Buffers.Binary;
using System.Text;
using Kernels.Checkpoints;
using Xunit;
using static Kernels.Tests.Checkpoints.TorchBuilder;

namespace Kernels.Tests.Checkpoints;

public sealed class SafeTensorsTests
{
    private const string Two = """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2,1],"data_offsets":[8,16]}}""";

    [Fact]
    public void TensorsComeInTheOrderOfTheHeader()
    {
        using Checkpoint checkpoint = Open(File(
            """{"b":{"dtype":"F32","shape":[],"data_offsets":[12,16]},"__metadata__":{"k":"v","ü":"☃"},"a":{"shape":[3],"data_offsets":[0,12],"dtype":"F32"},"none":{"dtype":"I64","shape":[5,0],"data_offsets":[12,12]}}  """,
            FourFloats));

        Assert.Equal("safetensors", checkpoint.Format);
        Assert.Equal(["b", "a", "none"], checkpoint.Tensors.Keys);
        Assert.Equal([1, 2, 3], checkpoint.Tensors["a"].ToFloat32());
        Assert.Equal([4], checkpoint.Tensors["b"].ToFloat32());
        Assert.Equal(0, checkpoint.Tensors["b"].Shape.Rank);
        Assert.Empty(checkpoint.Tensors["none"].ToInt64());
        Assert.Equal("☃", checkpoint.Metadata["ü"]);
    }

    [Fact]
    public void AKeySelectsAPrefix()
    {
        byte[] file = File(
            """{"ema.a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"ema/b.c":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"email":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}""",
            FourFloats);
        using Checkpoint checkpoint = Open(file, "ema");
        Assert.Equal(["a", "b.c"], checkpoint.Tensors.Keys);
        Assert.Equal("b.c", checkpoint.Tensors["b.c"].Name);
        Assert.Equal([2], checkpoint.Tensors["b.c"].ToFloat32());
        Refused(file, "no tensors named 'em.", "em");
    }

    [Fact]
    public void ATruncatedFileIsRefused()
    {
        byte[] whole = File(Two, FourFloats);
        ReadAll(whole);
        for (int length = 9; length < whole.Length; length++)
        {
            Refused(whole[..length], length < 8 + Two.Length ? "claims a header" : "past the end");
        }

        Refused(whole[..8], "is no checkpoint");
        Refused([], "is empty");
    }

    [Theory]
    [InlineData(0, "header is not the JSON")]
    [InlineData(109, "header is not the JSON")]
    [InlineData(111, "past the end")]
    [InlineData(126, "header is not UTF-8")]
    [InlineData(127, "claims a header of 127 bytes")]
    [InlineData(-1, "claims a header of 18446744073709551615 bytes")]
    [InlineData(long.MaxValue, "claims a header of 9223372036854775807 bytes")]
    public void AHeaderLengthThatLiesIsRefused(long length, string reason)
    {
        byte[] file = File(Two, FourFloats);
        Assert.Equal(110, Two.Length);
        BinaryPrimitives.WriteInt64LittleEndian(file, length);
        Refused(file, reason);
    }

    [Fact]
    public void AHeaderBeyondTheFormatsLimitIsRefusedBeforeItIsRead()
    {
        string path = Path.GetTempFileName();
        try
        {
            using (FileStream stream = System.IO.File.OpenWrite(path))
            {
                // A sparse file: the claim is true, but no such header is needed by anyone.
                stream.Write([.. BitConverter.GetBytes(100_000_001L), (byte)'{']);
                stream.SetLength(100_000_100);
            }

            long before = GC.GetAllocatedBytesForCurrentThread();
            InvalidFileException error = Assert.Throws<InvalidFileException>(() => Checkpoint.Load(path));
            Assert.Contains("the format allows 100000000", error.Message, StringComparison.Ordinal);
            Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 1 << 20);
        }
        finally
        {
            System.IO.File.Delete(path);
        }
    }

    [Theory]
    [InlineData("[0,8]", "[4,12]", "overlaps the tensor before it")]
    [InlineData("[0,8]", "[0,8]", "overlaps the tensor before it")]
    [InlineData("[8,16]", "[8,16]", "leaves a gap of 8 bytes before it")]
    [InlineData("[4,12]", "[12,20]", "past the end")]
    [InlineData("[8,0]", "[8,16]", "run backwards")]
    [InlineData("[0,8]", "[9223372036854775800,9223372036854775807]", "past the end")]
    [InlineData("[0,8]", "[9,16]", "does not take the 7 bytes")]
    [InlineData("[0,8]", "[8]", "needs a dtype, a shape and two data_offsets")]
    [InlineData("[0,8]", "[8,16,16]", "needs a dtype, a shape and two data_offsets")]
    [InlineData("[-8,0]", "[0,8]", "whole numbers")]
    [InlineData("[0,8.0]", "[8,16]", "whole numbers")]
    [InlineData("[0,1e1]", "[8,16]", "whole numbers")]
    [InlineData("[0,9223372036854775808]", "[8,16]", "whole numbers")]
    [InlineData("[0,\"8\"]", "[8,16]", "whole numbers")]
    [InlineData("{}", "[8,16]", "StartObject where StartArray is expected")]
    [InlineData("null", "[8,16]", "Null where StartArray is expected")]
    public void DataOffsetsThatLieAreRefused(string first, string second, string reason)
    {
        string header = Two.Replace("[8,16]", second, StringComparison.Ordinal).Replace("[0,8]", first, StringComparison.Ordinal);
        Refused(File(header, FourFloats), reason);
    }

    [Fact]
    public void GapsAreRefused()
    {
        Refused(File("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}""", FourFloats), "leaves a gap of 8 bytes before it");
        Refused(File(Two, [.. FourFloats, .. FourFloats]), "16 bytes follow the last tensor");
        Refused(File("{}", FourFloats), "16 bytes follow the last tensor");
    }

    [Theory]
    [InlineData("[4]")]
    [InlineData("[1]")]
    [InlineData("[0]")]
    [InlineData("[4294967296,4294967296]")]
    [InlineData("[2,9223372036854775807]")]
    [InlineData("[9223372036854775807,9223372036854775807,9223372036854775807]")]
    [InlineData("[4611686018427387904,4,2]")]
    public void AShapeThatDoesNotFitItsBytesIsRefused(string shape) =>
        Refused(File(Two.Replace("[2]", shape, StringComparison.Ordinal), FourFloats), "does not take the 8 bytes");

    [Theory]
    [InlineData("[-2]", "whole numbers")]
    [InlineData("[2.0]", "whole numbers")]
    [InlineData("[[2]]", "not the JSON it should be")]
    [InlineData("\"2\"", "String where StartArray is expected")]
    [InlineData("2", "Number where StartArray is expected")]
    public void AShapeOfTheWrongTypeIsRefused(string shape, string reason) =>
        Refused(File(Two.Replace("[2]", shape, StringComparison.Ordinal), FourFloats), reason);

    [Fact]
    public void AnEmptyTensorMayNotHaveExtentsThatNothingHolds() =>
        Refused(File("""{"a":{"dtype":"U8","shape":[65536,65536,0],"data_offsets":[0,0]}}""", []), "is larger than");

    [Theory]
    [InlineData("F32", "F8_E4M3", "dtype 'F8_E4M3' is not supported")]
    [InlineData("\"F32\"", "32", "Number where String is expected")]
    [InlineData("\"dtype\":\"F32\",", "", "needs a dtype")]
    [InlineData("\"shape\":[2],", "", "needs a dtype, a shape")]
    [InlineData("\"dtype\":\"F32\",", "\"dtype\":\"F32\",\"dtype\":\"F32\",", "'dtype' that is unknown or there twice")]
    [InlineData("\"dtype\":\"F32\",", "\"dtype\":\"F32\",\"strides\":[1],", "'strides' that is unknown or there twice")]
    [InlineData("\"b\":", "\"a\":", "tensor 'a' is there twice")]
    [InlineData("\"b\":", "\"\\u0061\":", "tensor 'a' is there twice")]
    [InlineData("\"b\":", "\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"},\"b\":", "metadata 'a' is there twice")]
    [InlineData("\"b\":", "\"__metadata__\":{},\"__metadata__\":{},\"b\":", "'__metadata__' is there twice")]
    [InlineData("\"b\":", "\"__metadata__\":{\"a\":1},\"b\":", "Number where String is expected")]
    [InlineData("\"b\":", "\"__metadata__\":[],\"b\":", "StartArray where StartObject is expected")]
    [InlineData("\"b\":", "\"c\":7,\"b\":", "Number where StartObject is expected")]
    [InlineData("\"b\":", "\"\\ud800\":", "a string that is not text")]
    [InlineData("}}", "}}}", "not the JSON")]
    [InlineData("}}", "},}", "not the JSON")]
    [InlineData("}}", "}", "not the JSON")]
    [InlineData("}}", "}} {}", "not the JSON")]
    [InlineData("\"a\"", "'a'", "not the JSON")]
    [InlineData("{\"a\"", "{/**/\"a\"", "not the JSON")]
    [InlineData("[2]", "[NaN]", "not the JSON")]
    [InlineData("[2]", "[02]", "not the JSON")]
    public void AHeaderThatIsNotOneIsRefused(string part, string replacement, string reason)
    {
        int at = Two.IndexOf(part, StringComparison.Ordinal);
        Refused(File(Two[..at] + replacement + Two[(at + part.Length)..], FourFloats), reason);
    }

    [Fact]
    public void AHeaderThatIsNotUtf8IsRefused()
    {
        byte[] file = File(Two, FourFloats);
        file[Array.IndexOf(file, (byte)'a', 8)] = 0xFF;
        Refused(file, "the header is not UTF-8");
    }

    [Fact]
    public void DeepNestingIsRefusedWithoutRecursion()
    {
        const int Depth = 1_000_000;
        Refused(File("{\"a\":" + new string('[', Depth), []), "StartArray where StartObject is expected");
        Refused(File(string.Concat(Enumerable.Repeat("{\"a\":", Depth)), []), "that is unknown");
        Refused(File("{\"a\":{\"shape\":" + new string('[', Depth), []), "not the JSON it should be");
    }

    [Fact]
    public void NamesOfTheFileDoNotControlTheTerminal()
    {
        InvalidFileException error = Refused(File("""{"\u001b[2J":{"dtype":"F33","shape":[],"data_offsets":[0,0]}}""", []), "F33");
        Assert.DoesNotContain('\u001b', error.Message);
    }

    /// <summary>A safetensors file with any header.</summary>
    internal static byte[] File(string header, byte[] data)
    {
        byte[] json = Encoding.UTF8.GetBytes(header);
        return [.. BitConverter.GetBytes((long)json.Length), .. json, .. data];
    }
}

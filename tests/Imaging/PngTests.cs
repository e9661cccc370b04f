using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using Kernels.Files;
using Kernels.Imaging;
using Kernels.Tests.Files;
using Xunit;

namespace Kernels.Tests.Imaging;

public sealed class PngTests
{
    [Theory]
    [InlineData("grey.png", "grey", 1)]
    [InlineData("rgb.png", "rgb", 3)]
    [InlineData("rgba.png", "rgba", 4)]
    [InlineData("filters.png", "rgb", 3)]
    public void PicturesOfOtherProgramsAreRead(string name, string expected, int channels)
    {
        using Npz pictures = Npz.Open(ImagesTests.Fixture("pictures.npz"));
        Image image = Png.Load(ImagesTests.Fixture(name));
        Assert.Equal((13, 9, channels), (image.Width, image.Height, image.Channels));
        Assert.Equal(pictures.Read(expected).ToBytes(), image.Pixels);
    }

    [Fact]
    public void TextOfOtherProgramsIsRead()
    {
        Image image = Png.Load(ImagesTests.Fixture("rgb.png"));
        Assert.Equal("café", image.Text["Comment"]);
        Assert.Equal("snow ☃", image.Text["Title"]);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(4)]
    public void WhatIsWrittenIsReadAgain(int channels)
    {
        Random random = new(channels);
        foreach ((int width, int height) in new[] { (1, 1), (1, 9), (17, 1), (64, 48) })
        {
            // Noise, gradients and flats: every filter wins somewhere.
            byte[] pixels = new byte[width * height * channels];
            random.NextBytes(pixels);
            for (int i = 0; i < pixels.Length; i++)
            {
                int y = i / (width * channels);
                pixels[i] = (y % 4) switch { 0 => pixels[i], 1 => (byte)(i * 3), 2 => (byte)(y * 5), _ => (byte)(i + pixels[i] % 3) };
            }

            Image written = new(width, height, channels, pixels) { Text = new Dictionary<string, string> { ["Software"] = "Kernels", ["Prompt"] = "größe ☃", ["Empty"] = "" } };
            Image read = Decode(Png.Encode(written));
            Assert.Equal((width, height, channels), (read.Width, read.Height, read.Channels));
            Assert.Equal(pixels, read.Pixels);
            Assert.Equal(written.Text, read.Text);
        }
    }

    [Fact]
    public void FiltersAreChosenByRow()
    {
        // A smooth picture shrinks to a fraction of what the unfiltered bytes compress to.
        byte[] pixels = new byte[128 * 128 * 3];
        for (int i = 0; i < pixels.Length; i++)
        {
            int x = i / 3 % 128;
            int y = i / 384;
            pixels[i] = (byte)(127 + (60 * Math.Sin(x * 0.11)) + (60 * Math.Cos((y * 0.07) + (i % 3))));
        }

        using MemoryStream plain = new();
        using (ZLibStream zlib = new(plain, CompressionLevel.Optimal, leaveOpen: true))
        {
            zlib.Write(pixels);
        }

        Assert.True(Png.Encode(new Image(128, 128, 3, pixels)).Length < plain.Length / 2);
    }

    [Fact]
    public void TheSamePictureGivesTheSameBytes()
    {
        Image image = Png.Load(ImagesTests.Fixture("rgb.png"));
        Assert.Equal(Png.Encode(image), Png.Encode(image));
    }

    [Fact]
    public void AFileIsWrittenWhole()
    {
        using TemporaryFolder folder = new();
        Image image = Png.Load(ImagesTests.Fixture("rgba.png"));
        Png.Save(folder["a.png"], image);
        Assert.Equal(image.Pixels, Png.Load(folder["a.png"]).Pixels);
        Assert.Equal(["a.png"], folder.Names);
    }

    [Theory]
    [InlineData("")]
    [InlineData(" a")]
    [InlineData("a ")]
    [InlineData("a  b")]
    [InlineData("☃")]
    [InlineData("a\nb")]
    [InlineData("0123456789012345678901234567890123456789012345678901234567890123456789012345678901")]
    public void KeywordsThatPngDoesNotAllowAreRefused(string keyword) =>
        Assert.Throws<ArgumentException>(() => Png.Encode(new Image(1, 1, 1, [0]) { Text = new Dictionary<string, string> { [keyword] = "x" } }));

    [Theory]
    [InlineData("palette.png", "colour type 3 of 4 bits is not supported")]
    [InlineData("grey16.png", "colour type 0 of 16 bits is not supported")]
    [InlineData("version-1.npy", "is not a PNG file")]
    [InlineData("missing.png", "there is no such file")]
    public void OtherKindsOfFilesAreRefused(string name, string reason)
    {
        InvalidFileException error = Assert.Throws<InvalidFileException>(() => Png.Load(ImagesTests.Fixture(name)));
        Assert.EndsWith(name, error.File, StringComparison.Ordinal);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void EveryTruncationIsRefused()
    {
        byte[] file = File.ReadAllBytes(ImagesTests.Fixture("filters.png"));
        for (int length = 0; length < file.Length; length++)
        {
            Refused(file[..length], "");
        }
    }

    [Fact]
    public void EveryFlippedBitIsNoticed()
    {
        byte[] file = File.ReadAllBytes(ImagesTests.Fixture("filters.png"));
        for (int at = 0; at < file.Length; at++)
        {
            byte[] damaged = [.. file];
            damaged[at] ^= 0x10;
            Refused(damaged, "");
        }
    }

    [Theory]
    [InlineData(0, 0, "IHDR chunk is damaged")]
    [InlineData(4, 0, "IHDR chunk is damaged")]
    [InlineData(0, 0x80, "IHDR chunk is damaged")]
    [InlineData(0, 0x7F, "more than its")]
    [InlineData(4, 0x7F, "more than its")]
    [InlineData(8, 16, "of 16 bits is not supported")]
    [InlineData(8, 1, "of 1 bits is not supported")]
    [InlineData(9, 4, "colour type 4")]
    [InlineData(9, 7, "colour type 7")]
    [InlineData(10, 1, "IHDR chunk is damaged")]
    [InlineData(11, 1, "IHDR chunk is damaged")]
    [InlineData(12, 1, "interlaced, is not supported")]
    [InlineData(12, 2, "IHDR chunk is damaged")]
    public void AHeaderThatLiesIsRefusedBeforeAnythingIsAllocated(int field, byte value, string reason)
    {
        byte[] header = Header(4, 4);
        header[field] = value;
        if (value == 0)
        {
            header.AsSpan(field, 4).Clear();
        }

        byte[] file = Build(("IHDR", header), ("IDAT", Zlib(new byte[20])), ("IEND", []));
        long before = GC.GetAllocatedBytesForCurrentThread();
        Refused(file, reason);
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 1 << 17);
    }

    [Fact]
    public void ImageDataThatDoNotFitAreRefused()
    {
        Refused(Build(("IHDR", Header(4, 4)), ("IDAT", Zlib(new byte[19])), ("IEND", [])), "the image data end in row 3 of 4");
        Refused(Build(("IHDR", Header(4, 4)), ("IDAT", Zlib(new byte[21])), ("IEND", [])), "more image data than its 4 rows take");
        Refused(Build(("IHDR", Header(4, 4)), ("IEND", [])), "more than its 0 bytes");
        Refused(Build(("IHDR", Header(4, 4)), ("IDAT", [1, 2, 3, 4]), ("IEND", [])), "");
        byte[] rows = new byte[20];
        rows[5] = 5;
        Refused(Build(("IHDR", Header(4, 4)), ("IDAT", Zlib(rows)), ("IEND", [])), "row 1 has the unknown filter 5");
    }

    [Fact]
    public void ChunksOutOfOrderAreRefused()
    {
        (string, byte[]) header = ("IHDR", Header(4, 4));
        (string, byte[]) data = ("IDAT", Zlib(new byte[20]));
        Refused(Build(data, header, ("IEND", [])), "IHDR chunk must come first");
        Refused(Build(header, header, data, ("IEND", [])), "IHDR chunk must come first");
        Refused(Build(header, data, ("tEXt", [65, 0, 65]), data, ("IEND", [])), "other chunks stand between");
        Refused(Build(header, ("ABCD", []), data, ("IEND", [])), "'ABCD' is unknown and critical");
        Refused(Build(header, ("a1cd", []), data, ("IEND", [])), "'a1cd' is unknown and critical");
        Refused(Build(("IHDR", Header(4, 4)[..12]), data, ("IEND", [])), "does not have 13 bytes");
        Refused(Build(header, data), "ends here");
        Assert.Equal(4, Decode(Build(header, ("abcd", [1]), ("tEXt", [65]), ("iTXt", [65, 0, 0, 0]), ("iTXt", [65, 0, 1, 0, 0, 0]), data, ("IEND", []))).Width);
    }

    private static Image Decode(byte[] file) => PngDecoder.Decode(new MemorySource("made.png", file));

    private static void Refused(byte[] file, string reason)
    {
        InvalidFileException error = Assert.Throws<InvalidFileException>(() => Decode(file));
        Assert.Equal("made.png", error.File);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
    }

    private static byte[] Header(int width, int height)
    {
        byte[] header = new byte[13];
        BinaryPrimitives.WriteInt32BigEndian(header, width);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4), height);
        header[8] = 8;
        return header;
    }

    private static byte[] Zlib(byte[] content)
    {
        using MemoryStream output = new();
        using (ZLibStream zlib = new(output, CompressionLevel.Optimal, leaveOpen: true))
        {
            zlib.Write(content);
        }

        return output.ToArray();
    }

    private static byte[] Build(params (string Type, byte[] Content)[] chunks)
    {
        List<byte> file = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A];
        foreach ((string type, byte[] content) in chunks)
        {
            byte[] number = new byte[4];
            byte[] body = [.. Encoding.ASCII.GetBytes(type), .. content];
            BinaryPrimitives.WriteInt32BigEndian(number, content.Length);
            file.AddRange(number);
            file.AddRange(body);
            BinaryPrimitives.WriteUInt32BigEndian(number, Crc32.Compute(body));
            file.AddRange(number);
        }

        return [.. file];
    }
}

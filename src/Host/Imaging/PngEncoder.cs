using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using Kernels.Files;
using static Kernels.Imaging.PngFormat;

namespace Kernels.Imaging;

/// <summary>Writes 8-bit PNG. Every row gets the filter whose output has the least sum of absolute differences, as the specification suggests.</summary>
internal static class PngEncoder
{
    public static byte[] Encode(Image image)
    {
        using MemoryStream output = new();
        output.Write(Signature);

        byte[] header = new byte[13];
        BinaryPrimitives.WriteInt32BigEndian(header, image.Width);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(4), image.Height);
        header[8] = 8;
        header[9] = ColourType(image.Channels);
        WriteChunk(output, "IHDR"u8, header);
        foreach ((string keyword, string text) in image.Text)
        {
            WriteText(output, keyword, text);
        }

        WriteChunk(output, "IDAT"u8, Compress(image));
        WriteChunk(output, "IEND"u8, []);
        return output.ToArray();
    }

    private static void WriteChunk(Stream output, ReadOnlySpan<byte> type, ReadOnlySpan<byte> content)
    {
        Span<byte> number = stackalloc byte[4];
        BinaryPrimitives.WriteInt32BigEndian(number, content.Length);
        output.Write(number);
        output.Write(type);
        output.Write(content);
        BinaryPrimitives.WriteUInt32BigEndian(number, Crc32.Append(Crc32.Compute(type), content));
        output.Write(number);
    }

    // tEXt holds Latin-1, iTXt any text, here uncompressed and without language.
    private static void WriteText(Stream output, string keyword, string text)
    {
        bool plain = keyword.Length is >= 1 and <= 79 && keyword.All(c => c is (>= ' ' and <= '~') or (>= '\u00a1' and <= '\u00ff'));
        if (!plain || keyword.StartsWith(' ') || keyword.EndsWith(' ') || keyword.Contains("  ", StringComparison.Ordinal))
        {
            throw new ArgumentException($"'{keyword}' is no PNG keyword: 1 to 79 Latin-1 characters, single spaces inside only", nameof(keyword));
        }

        if (text.Contains('\0', StringComparison.Ordinal))
        {
            throw new ArgumentException($"the PNG text '{keyword}' contains a null character", nameof(text));
        }

        bool latin1 = text.All(c => c is '\n' or (>= ' ' and <= '~') or (>= '\u00a1' and <= '\u00ff'));
        byte[] name = Encoding.Latin1.GetBytes(keyword);
        if (latin1)
        {
            WriteChunk(output, "tEXt"u8, [.. name, 0, .. Encoding.Latin1.GetBytes(text)]);
        }
        else
        {
            WriteChunk(output, "iTXt"u8, [.. name, 0, 0, 0, 0, 0, .. Encoding.UTF8.GetBytes(text)]);
        }
    }

    private static byte[] Compress(Image image)
    {
        using MemoryStream compressed = new();
        using (ZLibStream zlib = new(compressed, CompressionLevel.Optimal, leaveOpen: true))
        {
            int rowBytes = image.Width * image.Channels;
            byte[] above = new byte[rowBytes];
            byte[][] filtered = [.. Enumerable.Range(0, Filters).Select(filter => new byte[rowBytes])];
            for (int y = 0; y < image.Height; y++)
            {
                ReadOnlySpan<byte> row = image.Pixels.AsSpan(y * rowBytes, rowBytes);
                byte best = ApplyFilters(row, above, image.Channels, filtered);
                zlib.WriteByte(best);
                zlib.Write(filtered[best]);
                row.CopyTo(above);
            }
        }

        return compressed.ToArray();
    }

    private static byte ApplyFilters(ReadOnlySpan<byte> row, ReadOnlySpan<byte> above, int channels, byte[][] filtered)
    {
        Span<long> sums = stackalloc long[Filters];
        sums.Clear();
        for (int i = 0; i < row.Length; i++)
        {
            byte left = i >= channels ? row[i - channels] : (byte)0;
            byte upperLeft = i >= channels ? above[i - channels] : (byte)0;
            filtered[FilterNone][i] = row[i];
            filtered[FilterSub][i] = (byte)(row[i] - left);
            filtered[FilterUp][i] = (byte)(row[i] - above[i]);
            filtered[FilterAverage][i] = (byte)(row[i] - ((left + above[i]) >> 1));
            filtered[FilterPaeth][i] = (byte)(row[i] - Paeth(left, above[i], upperLeft));
            for (int filter = 0; filter < Filters; filter++)
            {
                // Differences are signed: 255 is one below zero.
                sums[filter] += Math.Abs((int)(sbyte)filtered[filter][i]);
            }
        }

        byte best = 0;
        for (byte filter = 1; filter < Filters; filter++)
        {
            best = sums[filter] < sums[best] ? filter : best;
        }

        return best;
    }
}

using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using System.Text.Unicode;
using Kernels.Files;
using static Kernels.Imaging.PngFormat;

namespace Kernels.Imaging;

/// <summary>Reads PNG of 8 bits per sample without interlacing: grey, RGB, RGB with opacity.</summary>
internal sealed class PngDecoder
{
    // Deflate packs 258 bytes into no less than 2 bits; a picture that claims more than the data can hold is refused before it is allocated.
    private const long MaxExpansion = 1032;

    private readonly ByteSource _file;
    private readonly List<(long Offset, long Length)> _data = [];
    private readonly Dictionary<string, string> _text = [];
    private int _width;
    private int _height;
    private int _channels;

    private PngDecoder(ByteSource file) => _file = file;

    public static Image Decode(ByteSource file)
    {
        PngDecoder decoder = new(file);
        decoder.ReadChunks();
        return new Image(decoder._width, decoder._height, decoder._channels, decoder.ReadPixels()) { Text = decoder._text };
    }

    private void ReadChunks()
    {
        Span<byte> head = stackalloc byte[8];
        if (_file.Length < head.Length)
        {
            throw _file.Invalid("is not a PNG file");
        }

        _file.Read(0, head);
        if (!head.SequenceEqual(Signature))
        {
            throw _file.Invalid("is not a PNG file");
        }

        bool ended = false;
        bool dataClosed = false;
        for (long at = head.Length; !ended;)
        {
            _file.Read(at, head);
            uint length = BinaryPrimitives.ReadUInt32BigEndian(head);
            if (length > int.MaxValue || length > _file.Length - at - ChunkOverhead)
            {
                throw _file.Invalid(at, $"a chunk claims {length} bytes; the file ends before: it is truncated");
            }

            string type = Encoding.Latin1.GetString(head[4..]);
            if ((at == Signature.Length) != (type == "IHDR"))
            {
                throw _file.Invalid(at, "the IHDR chunk must come first, once");
            }

            byte[] content = Content(at, (int)length);
            bool data = type == "IDAT";
            if (data && dataClosed)
            {
                throw _file.Invalid(at, "other chunks stand between those of the image data");
            }

            dataClosed = _data.Count > 0 && !data;
            ended = type == "IEND";
            ReadChunk(type, content, at);
            at += length + ChunkOverhead;
        }
    }

    private byte[] Content(long at, int length)
    {
        byte[] chunk = _file.Read(at + 4, length + 8);
        uint crc = BinaryPrimitives.ReadUInt32BigEndian(chunk.AsSpan(length + 4));
        return Crc32.Compute(chunk.AsSpan(0, length + 4)) == crc ? chunk[4..^4] : throw _file.Invalid(at, "the CRC of a chunk is wrong: the file is damaged");
    }

    private void ReadChunk(string type, byte[] content, long at)
    {
        switch (type)
        {
            case "IHDR":
                ReadHeader(content, at);
                break;
            case "IDAT":
                _data.Add((at + 8, content.Length));
                break;
            case "IEND" or "PLTE":
                break;
            case "tEXt" or "iTXt":
                ReadText(type, content);
                break;
            default:
                // An upper-case first letter means that the picture cannot be shown without this chunk.
                if (char.IsAsciiLetterUpper(type[0]) || !type.All(char.IsAsciiLetter))
                {
                    throw _file.Invalid(at, $"the chunk '{type}' is unknown and critical");
                }

                break;
        }
    }

    private void ReadHeader(byte[] content, long at)
    {
        if (content.Length != 13)
        {
            throw _file.Invalid(at, "the IHDR chunk does not have 13 bytes");
        }

        _width = BinaryPrimitives.ReadInt32BigEndian(content);
        _height = BinaryPrimitives.ReadInt32BigEndian(content.AsSpan(4));
        _channels = Channels(content[9]);
        if (_width <= 0 || _height <= 0 || content[10] != 0 || content[11] != 0 || content[12] > 1)
        {
            throw _file.Invalid(at, "the IHDR chunk is damaged");
        }

        if (_channels == 0 || content[8] != 8 || content[12] != 0)
        {
            string interlaced = content[12] != 0 ? ", interlaced," : "";
            throw _file.Invalid(
                at, $"colour type {content[9]} of {content[8]} bits{interlaced} is not supported; save the picture as 8-bit grey, RGB or RGBA");
        }
    }

    private void ReadText(string type, byte[] content)
    {
        int end = Array.IndexOf(content, (byte)0);
        if (end < 1)
        {
            return;
        }

        string keyword = Encoding.Latin1.GetString(content, 0, end);
        ReadOnlySpan<byte> rest = content.AsSpan(end + 1);
        if (type == "tEXt")
        {
            _text.TryAdd(keyword, Encoding.Latin1.GetString(rest));
        }
        else if (rest is [0, 0, ..])
        {
            // Language and translated keyword come first, each with its end.
            rest = rest[2..];
            int language = rest.IndexOf((byte)0);
            int translated = language < 0 ? -1 : rest[(language + 1)..].IndexOf((byte)0);
            if (translated >= 0 && rest[(language + translated + 2)..] is var text && Utf8.IsValid(text))
            {
                _text.TryAdd(keyword, Encoding.UTF8.GetString(text));
            }
        }
    }

    private byte[] ReadPixels()
    {
        long compressed = _data.Sum(chunk => chunk.Length);
        Int128 rowBytes = (Int128)_width * _channels;
        Int128 total = (rowBytes + 1) * _height;
        if (total > Array.MaxLength || total > compressed * MaxExpansion)
        {
            throw _file.Invalid($"claims {_width} x {_height} pixels, more than its {compressed} bytes of image data can hold");
        }

        using ZLibStream zlib = new(new ByteSourceStream(_file, _data), CompressionMode.Decompress);
        byte[] pixels = new byte[(int)(rowBytes * _height)];
        byte[] none = new byte[(int)rowBytes];
        Span<byte> above = none;
        try
        {
            for (int y = 0; y < _height; y++)
            {
                int filter = zlib.ReadByte();
                Span<byte> row = pixels.AsSpan(y * none.Length, none.Length);
                if (filter < 0 || zlib.ReadAtLeast(row, row.Length, throwOnEndOfStream: false) < row.Length)
                {
                    throw _file.Invalid($"the image data end in row {y} of {_height}");
                }

                Unfilter(filter, row, above, y);
                above = row;
            }

            return zlib.ReadByte() < 0 ? pixels : throw _file.Invalid($"has more image data than its {_height} rows take");
        }
        catch (Exception e) when (e is InvalidDataException or IOException)
        {
            // ZLibStream has two ways to say so; IOException is the one for streams that want a preset dictionary.
            throw _file.Invalid("the compressed image data are damaged", e);
        }
    }

    private void Unfilter(int filter, Span<byte> row, ReadOnlySpan<byte> above, int y)
    {
        for (int i = 0; i < row.Length; i++)
        {
            byte left = i >= _channels ? row[i - _channels] : (byte)0;
            byte upperLeft = i >= _channels ? above[i - _channels] : (byte)0;
            row[i] += filter switch
            {
                FilterNone => 0,
                FilterSub => left,
                FilterUp => above[i],
                FilterAverage => (byte)((left + above[i]) >> 1),
                FilterPaeth => Paeth(left, above[i], upperLeft),
                _ => throw _file.Invalid($"row {y} has the unknown filter {filter}"),
            };
        }
    }
}

using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Kernels.Checkpoints;
using Kernels.Files;

namespace Kernels.Imaging;

/// <summary>
/// The header of a <c>.npy</c> file: a magic string, a version, a length, and a Python dict of <c>descr</c>, <c>fortran_order</c> and
/// <c>shape</c>, padded so that the elements begin at a multiple of 64.
/// </summary>
/// <remarks>Format: NEP 1 and numpy/lib/format.py. Version 2 has a longer length field, version 3 a header in UTF-8.</remarks>
internal static class NpyFormat
{
    private const int Alignment = 64;
    private const int MaxHeaderBytes = 1 << 16;
    private const int MaxRank = 64;

    private static ReadOnlySpan<byte> Magic => [0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y'];

    /// <summary>NumPy's name of an element type; null if it has none.</summary>
    public static string? Descr(DType dtype) => dtype switch
    {
        DType.Bool => "|b1",
        DType.U8 => "|u1",
        DType.I8 => "|i1",
        DType.I16 => "<i2",
        DType.I32 => "<i4",
        DType.I64 => "<i8",
        DType.F16 => "<f2",
        DType.F32 => "<f4",
        DType.F64 => "<f8",
        _ => null,
    };

    /// <summary>How many bytes <see cref="Write"/> writes.</summary>
    public static long Length(NpyArray array) => Header(array.DType, array.Dims).Length + array.Bytes;

    /// <summary>Writes header and elements, in version 1.0.</summary>
    public static void Write(Stream stream, NpyArray array)
    {
        stream.Write(Header(array.DType, array.Dims));
        foreach (ReadOnlyMemory<byte> part in array.Parts)
        {
            stream.Write(part.Span);
        }
    }

    /// <summary>Reads a whole file, or an entry of an archive.</summary>
    public static NpyArray Read(ByteSource source)
    {
        if (source.Length < 10 || !source.Read(0, Magic.Length).AsSpan().SequenceEqual(Magic))
        {
            throw source.Invalid("is not a NumPy array (.npy)");
        }

        byte[] version = source.Read(Magic.Length, 2);
        int prefix = version[0] == 1 ? 10 : 12;
        if (version[0] is < 1 or > 3 || version[1] != 0 || source.Length < prefix)
        {
            throw source.Invalid(Magic.Length, $"has version {version[0]}.{version[1]} of the .npy format; 1.0 to 3.0 are known");
        }

        byte[] lengthField = source.Read(8, prefix - 8);
        uint length = prefix == 10 ? BinaryPrimitives.ReadUInt16LittleEndian(lengthField) : BinaryPrimitives.ReadUInt32LittleEndian(lengthField);
        if (length > source.Length - prefix || length > MaxHeaderBytes)
        {
            throw source.Invalid(8, $"claims a header of {length} bytes; the file has {source.Length}, and at most {MaxHeaderBytes} are read");
        }

        string header = Encoding.UTF8.GetString(source.Read(prefix, (int)length));
        (DType dtype, long[] dims) = Parse(source, header);
        long bytes = source.Length - prefix - length;
        if (TensorShapes.Bytes(dims, dtype) != bytes)
        {
            throw source.Invalid($"has {bytes} bytes of elements, which an array [{string.Join(", ", dims)}] of {dtype} does not take");
        }

        return bytes <= Array.MaxLength
            ? new NpyArray(dtype, dims, source.Read(prefix + (int)length, (int)bytes))
            : throw source.Invalid($"has {bytes} bytes of elements; at most {Array.MaxLength} are read at once");
    }

    /// <summary>What comes before the elements, in version 1.0.</summary>
    public static byte[] Header(DType dtype, IReadOnlyList<long> extents)
    {
        string dims = string.Concat(extents.Select((dim, i) => string.Create(CultureInfo.InvariantCulture, $"{(i > 0 ? " " : "")}{dim},")));
        string shape = extents.Count > 1 ? dims.TrimEnd(',') : dims;
        string dict = $"{{'descr': '{Descr(dtype)}', 'fortran_order': False, 'shape': ({shape}), }}";
        int padded = (Magic.Length + 4 + dict.Length + Alignment) / Alignment * Alignment;

        byte[] header = new byte[padded];
        Magic.CopyTo(header);
        header[6] = 1;
        BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(8), (ushort)(padded - 10));
        Encoding.ASCII.GetBytes(dict.PadRight(padded - 11) + "\n").CopyTo(header, 10);
        return header;
    }

    // Three keys, each once, in any order; values of three kinds. Anything more is Python that has no place here.
    private static (DType DType, long[] Dims) Parse(ByteSource source, string header)
    {
        DType? dtype = null;
        bool ordered = false;
        long[]? dims = null;
        Literal text = new(source, header);
        text.Expect('{');
        while (!text.Accept('}'))
        {
            string key = text.Quoted();
            text.Expect(':');
            switch (key)
            {
                case "descr" when dtype is null:
                    dtype = Type(source, text.Quoted());
                    break;
                case "fortran_order" when !ordered:
                    ordered = true;
                    if (text.Word() != "False")
                    {
                        throw source.Invalid("is in Fortran order, or does not say; save numpy.ascontiguousarray of it");
                    }

                    break;
                case "shape" when dims is null:
                    dims = text.Tuple();
                    break;
                default:
                    throw source.Invalid($"its header has a key '{key}' that is unknown or there twice");
            }

            if (!text.Accept(','))
            {
                text.Expect('}');
                break;
            }
        }

        text.ExpectEnd();
        return dtype is { } known && ordered && dims is not null
            ? (known, dims)
            : throw source.Invalid("its header lacks descr, fortran_order or shape");
    }

    private static DType Type(ByteSource source, string descr)
    {
        foreach (DType dtype in Enum.GetValues<DType>())
        {
            string? known = Descr(dtype);

            // Bytes have no order, whatever the first character says.
            bool sameByte = dtype.SizeInBytes() == 1 && descr is ['<' or '>', ..] && known is not null && descr[1..] == known[1..];
            if (descr == known || sameByte)
            {
                return dtype;
            }
        }

        throw source.Invalid(descr.StartsWith('>')
            ? $"its elements '{descr}' are big-endian; save them with astype('<{descr[1..]}')"
            : $"its elements '{descr}' are of a type that is not supported");
    }

    private sealed class Literal(ByteSource source, string text)
    {
        private int _at;

        public bool Accept(char c)
        {
            SkipSpace();
            bool found = _at < text.Length && text[_at] == c;
            _at += found ? 1 : 0;
            return found;
        }

        public void Expect(char c)
        {
            if (!Accept(c))
            {
                throw Damaged();
            }
        }

        public void ExpectEnd()
        {
            SkipSpace();
            if (_at != text.Length)
            {
                throw Damaged();
            }
        }

        public string Quoted()
        {
            char quote = Accept('\'') ? '\'' : Accept('"') ? '"' : throw Damaged();
            int end = text.IndexOf(quote, _at);
            if (end < 0)
            {
                throw Damaged();
            }

            string value = text[_at..end];
            _at = end + 1;
            return value;
        }

        public string Word()
        {
            SkipSpace();
            int start = _at;
            while (_at < text.Length && char.IsAsciiLetterOrDigit(text[_at]))
            {
                _at++;
            }

            return text[start.._at];
        }

        public long[] Tuple()
        {
            List<long> values = [];
            Expect('(');
            while (!Accept(')'))
            {
                if (values.Count == MaxRank || !long.TryParse(Word(), NumberStyles.None, CultureInfo.InvariantCulture, out long value))
                {
                    throw Damaged();
                }

                values.Add(value);
                if (!Accept(','))
                {
                    // (3) is a number in Python, not a tuple.
                    if (values.Count == 1)
                    {
                        throw Damaged();
                    }

                    Expect(')');
                    break;
                }
            }

            return [.. values];
        }

        private void SkipSpace()
        {
            while (_at < text.Length && text[_at] is ' ' or '\n')
            {
                _at++;
            }
        }

        private InvalidFileException Damaged() => source.Invalid($"its .npy header is damaged at character {_at}");
    }
}

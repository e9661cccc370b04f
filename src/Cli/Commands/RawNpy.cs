using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace Kernels.Cli.Commands;

/// <summary>A <c>.npy</c> file as bytes: every element type, the unsigned ones included, that a kernel may take.</summary>
internal sealed partial record RawNpy(string Descr, long[] Dims, byte[] Elements)
{
    /// <summary>NumPy's name of a type; bfloat16, which NumPy does not have, is stored as its bits.</summary>
    public static string DescrOf(string type) => type switch
    {
        "bool" => "|b1",
        "i8" => "|i1",
        "u8" => "|u1",
        "bf16" => "<u2",
        _ => $"<{type[0]}{int.Parse(type.AsSpan(1), CultureInfo.InvariantCulture) / 8}",
    };

    /// <summary>Reads a file.</summary>
    /// <exception cref="InvalidFileException">It is not a dense little-endian array in C order.</exception>
    public static RawNpy Read(string path)
    {
        if (!File.Exists(path))
        {
            throw new InvalidFileException(path, "", "there is no such file");
        }

        using FileStream file = File.OpenRead(path);
        byte[] start = new byte[12];
        int got = file.ReadAtLeast(start, start.Length, throwOnEndOfStream: false);
        if (got < 12 || start[0] != 0x93 || !start.AsSpan(1, 5).SequenceEqual("NUMPY"u8) || start[6] is < 1 or > 3)
        {
            throw new InvalidFileException(path, "", "is not a NumPy array (.npy)");
        }

        int begin = start[6] == 1 ? 10 : 12;
        long length = start[6] == 1 ? BinaryPrimitives.ReadUInt16LittleEndian(start.AsSpan(8)) : BinaryPrimitives.ReadUInt32LittleEndian(start.AsSpan(8));
        if (length > 1 << 16 || begin + length > file.Length)
        {
            throw new InvalidFileException(path, "offset 8", $"claims a header of {length} bytes in a file of {file.Length}");
        }

        byte[] header = new byte[length];
        file.Position = begin;
        file.ReadExactly(header);
        string text = Encoding.UTF8.GetString(header);
        Match descr = DescrField().Match(text), shape = ShapeField().Match(text);
        if (!descr.Success || !shape.Success || !text.Contains("'fortran_order': False", StringComparison.Ordinal))
        {
            throw new InvalidFileException(path, "header", "is not one of a plain array of numbers in C order");
        }

        long[] dims = [.. shape.Groups[1].Value.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)
            .Select(dim => long.TryParse(dim, NumberStyles.None, CultureInfo.InvariantCulture, out long extent) ? extent : -1)];
        UInt128 bytes = dims.Aggregate((UInt128)(descr.Groups[2].Value[0] - '0'), (product, dim) => dim < 0 ? UInt128.MaxValue : UInt128.Min(product * (ulong)dim, (UInt128)1 << 64));
        if (bytes != (ulong)(file.Length - file.Position) || bytes > int.MaxValue)
        {
            throw new InvalidFileException(path, "", $"has {file.Length - file.Position} bytes of elements, which [{string.Join(", ", dims)}] of {descr.Groups[1].Value} does not take");
        }

        byte[] elements = new byte[(int)bytes];
        file.ReadExactly(elements);
        return new RawNpy(descr.Groups[1].Value, dims, elements);
    }

    /// <summary>Writes a file, whole or not at all.</summary>
    public void Write(string path)
    {
        string dims = string.Concat(Dims.Select(dim => dim.ToString(CultureInfo.InvariantCulture) + ","));
        string dict = $"{{'descr': '{Descr}', 'fortran_order': False, 'shape': ({(Dims.Length > 1 ? dims.TrimEnd(',') : dims)}), }}";
        int padded = (10 + dict.Length + 64) / 64 * 64;
        byte[] header = new byte[padded];
        header[0] = 0x93;
        "NUMPY"u8.CopyTo(header.AsSpan(1));
        header[6] = 1;
        BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(8), (ushort)(padded - 10));
        Encoding.ASCII.GetBytes(dict.PadRight(padded - 11) + "\n").CopyTo(header, 10);
        string temporary = path + ".part";
        using (FileStream file = File.Create(temporary))
        {
            file.Write(header);
            file.Write(Elements);
        }

        File.Move(temporary, path, overwrite: true);
    }

    [GeneratedRegex(@"'descr':\s*'([|<](?:[biuf])([1248]))'")]
    private static partial Regex DescrField();

    [GeneratedRegex(@"'shape':\s*\(([0-9, ]*)\)")]
    private static partial Regex ShapeField();
}

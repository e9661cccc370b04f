using System.Buffers.Binary;
using System.Globalization;
using System.Text.RegularExpressions;
using Kernels.Backends.Gpu;

namespace Kernels.Cli.Commands;

/// <summary>One <c>--arg</c> of <c>kernels launch</c>: an array in device memory, read from a file, written to one, or both; or a scalar.</summary>
internal sealed partial class LaunchArgument
{
    private static readonly string[] Types = ["f32", "f64", "f16", "bf16", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool"];

    private readonly string text;
    private readonly string type;
    private readonly long[] dims;
    private readonly string? target;
    private readonly byte[]? initial;
    private readonly byte[]? scalar;
    private ulong address;

    private LaunchArgument(string text, string type, long[] dims, byte[]? initial, string? target, byte[]? scalar)
    {
        this.text = text;
        this.type = type;
        this.dims = dims;
        this.initial = initial;
        this.target = target;
        this.scalar = scalar;
    }

    private long Bytes => dims.Aggregate((long)Size(type), (product, dim) => checked(product * dim));

    /// <summary>Parses an argument and reads its file.</summary>
    /// <exception cref="ConfigurationException">The argument is not of a known form.</exception>
    /// <exception cref="InvalidFileException">The file is not what the argument says.</exception>
    public static LaunchArgument Parse(string text)
    {
        if (ArrayForm().Match(text) is { Success: true } array)
        {
            var (kind, type, files) = (array.Groups["kind"].Value, array.Groups["type"].Value, array.Groups["files"].Value);
            long[]? dims = array.Groups["dims"].Success ? Dims(array.Groups["dims"].Value, text) : null;
            if (kind == "out")
            {
                return dims is null ? throw Unknown(text) : new LaunchArgument(text, Known(type, text), dims, null, files, null);
            }

            string? target = null;
            if (kind == "inout")
            {
                int split = files.IndexOf(".npy:", StringComparison.Ordinal);
                if (split < 0)
                {
                    throw Unknown(text);
                }

                (files, target) = (files[..(split + 4)], files[(split + 5)..]);
            }

            RawNpy file = RawNpy.Read(files);
            if (type.Length > 0 && RawNpy.DescrOf(Known(type, text)) != file.Descr)
            {
                throw new InvalidFileException(files, "", $"holds {file.Descr}; the argument '{text}' says {type}, which is stored as {RawNpy.DescrOf(type)}");
            }

            if (dims is not null && !dims.SequenceEqual(file.Dims))
            {
                throw new InvalidFileException(files, "", $"has the extents [{string.Join(", ", file.Dims)}]; the argument says [{string.Join(", ", dims)}]");
            }

            return new LaunchArgument(text, type.Length > 0 ? type : Types.First(t => RawNpy.DescrOf(t) == file.Descr), file.Dims, file.Elements, target, null);
        }

        int colon = text.IndexOf(':', StringComparison.Ordinal);
        if (colon < 0 || !Types.Contains(text[..colon]))
        {
            throw Unknown(text);
        }

        return new LaunchArgument(text, text[..colon], [], null, null, Scalar(text[..colon], text[(colon + 1)..], text));
    }

    /// <summary>Puts the argument into the block, with device memory if it is an array.</summary>
    public void AddTo(LaunchArguments arguments, Driver driver)
    {
        if (scalar is not null)
        {
            _ = scalar.Length switch
            {
                1 => arguments.Add(scalar[0]),
                2 => arguments.Add(BinaryPrimitives.ReadUInt16LittleEndian(scalar)),
                4 => arguments.Add(BinaryPrimitives.ReadUInt32LittleEndian(scalar)),
                _ => arguments.Add(BinaryPrimitives.ReadUInt64LittleEndian(scalar)),
            };
            return;
        }

        address = driver.Allocate(Math.Max(1, Bytes), text);
        if (initial is { Length: > 0 })
        {
            driver.CopyToDevice(address, initial);
        }

        arguments.Add(address);
    }

    /// <summary>Writes the array to its file, if it has one.</summary>
    /// <returns>The file; null if there is none.</returns>
    public string? Save(Driver driver)
    {
        if (target is null)
        {
            return null;
        }

        byte[] elements = new byte[Bytes];
        driver.CopyToHost(elements, address);
        new RawNpy(RawNpy.DescrOf(type), dims, elements).Write(target);
        return target;
    }

    private static int Size(string type) => type switch { "f64" or "i64" or "u64" => 8, "f32" or "i32" or "u32" => 4, "i8" or "u8" or "bool" => 1, _ => 2 };

    private static string Known(string type, string text) => Types.Contains(type) ? type : throw Unknown(text);

    private static long[] Dims(string list, string text)
    {
        string[] parts = list.Split(',', StringSplitOptions.TrimEntries);
        long[] dims = new long[parts.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            if (!long.TryParse(parts[i], NumberStyles.None, CultureInfo.InvariantCulture, out dims[i]) || dims[i] > int.MaxValue)
            {
                throw Unknown(text);
            }
        }

        return dims;
    }

    private static byte[] Scalar(string type, string value, string text)
    {
        byte[] bytes = new byte[8];
        bool parsed;
        if (type is "f32" or "f64" or "f16" or "bf16")
        {
            parsed = double.TryParse(value, NumberStyles.Float, CultureInfo.InvariantCulture, out double real);
            switch (type)
            {
                case "f64":
                    BinaryPrimitives.WriteDoubleLittleEndian(bytes, real);
                    break;
                case "f32":
                    BinaryPrimitives.WriteSingleLittleEndian(bytes, (float)real);
                    break;
                case "f16":
                    BinaryPrimitives.WriteHalfLittleEndian(bytes, (Half)real);
                    break;
                default:
                    uint single = BitConverter.SingleToUInt32Bits((float)real);
                    BinaryPrimitives.WriteUInt16LittleEndian(bytes, (ushort)((single + 0x7FFF + (single >> 16 & 1)) >> 16));
                    break;
            }
        }
        else
        {
            int bits = 8 * Size(type);
            parsed = Int128.TryParse(value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out Int128 integer);
            Int128 low = type[0] == 'i' ? -(Int128.One << (bits - 1)) : 0;
            Int128 high = type[0] == 'i' ? (Int128.One << (bits - 1)) - 1 : (Int128.One << bits) - 1;
            if (parsed && (integer < low || integer > high))
            {
                throw new ConfigurationException($"--arg '{text}': {value} does not fit {type}, which holds {low} to {high}");
            }

            BinaryPrimitives.WriteUInt64LittleEndian(bytes, (ulong)(UInt128)integer);
        }

        return parsed ? bytes[..Size(type)] : throw Unknown(text);
    }

    private static ConfigurationException Unknown(string text) => new(
        $"--arg '{text}' is none of in:FILE.npy, in:TYPE[DIMS]:FILE.npy, out:TYPE[DIMS]:FILE.npy, inout:IN.npy:OUT.npy or TYPE:VALUE, with TYPE one of {string.Join(", ", Types)}");

    [GeneratedRegex(@"^(?<kind>in|out|inout):(?:(?<type>[a-z]+[0-9]*)\[(?<dims>[^\]]*)\]:)?(?<files>.+)$")]
    private static partial Regex ArrayForm();
}

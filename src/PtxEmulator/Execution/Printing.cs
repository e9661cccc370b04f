using System.Globalization;
using System.Numerics;
using System.Text;
using Kernels.Emulation.Memory;

namespace Kernels.Emulation.Execution;

/// <summary><c>printf</c>: formats as C does and writes to the launch's output, one lane after the other.</summary>
internal sealed unsafe class PrintInstruction(int format, int arguments, int result) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        for (var rest = mask; rest != 0; rest &= rest - 1)
        {
            var lane = BitOperations.TrailingZeroCount(rest);
            var text = DeviceText.Read(warp, ((ulong*)(warp.Frame + format))[lane]);
            var values = ((ulong*)(warp.Frame + arguments))[lane];
            var printed = Format(warp, lane, text, values);
            lock (warp.Block.Launch.Output)
                warp.Block.Launch.Output.Write(printed);
            if (result >= 0)
                ((uint*)(warp.Frame + result))[lane] = (uint)printed.Length;
        }
    }

    private static string Format(Warp warp, int lane, string format, ulong values)
    {
        var to = new StringBuilder();
        var offset = 0UL;
        ulong Next(int bytes)
        {
            offset = (offset + (ulong)bytes - 1) & ~((ulong)bytes - 1);
            var value = DeviceText.Value(warp, lane, values + offset, bytes);
            offset += (ulong)bytes;
            return value;
        }

        for (var i = 0; i < format.Length; i++)
        {
            if (format[i] != '%')
            {
                to.Append(format[i]);
                continue;
            }
            var start = ++i;
            while (i < format.Length && "-+ #0123456789.*hlzjt".Contains(format[i]))
                i++;
            if (i == format.Length)
                break;
            var modifiers = format[start..i];
            var wide = modifiers.Contains('l') || modifiers.Contains('z') || modifiers.Contains('j') || modifiers.Contains('t');
            var flags = modifiers.TrimEnd('h', 'l', 'z', 'j', 't');
            while (flags.Contains('*'))
            {
                var star = flags.IndexOf('*', StringComparison.Ordinal);
                flags = flags[..star] + ((int)Next(4)).ToString(CultureInfo.InvariantCulture) + flags[(star + 1)..];
            }
            switch (format[i])
            {
                case '%':
                    to.Append('%');
                    break;
                case 'd' or 'i':
                    Pad(to, flags, Integer(wide ? (long)Next(8) : (int)Next(4), flags));
                    break;
                case 'u':
                    Pad(to, flags, Next(wide ? 8 : 4).ToString(CultureInfo.InvariantCulture));
                    break;
                case 'x' or 'X':
                    var hex = Next(wide ? 8 : 4).ToString(format[i] == 'x' ? "x" : "X", CultureInfo.InvariantCulture);
                    Pad(to, flags, flags.Contains('#') ? $"0{format[i]}{hex}" : hex);
                    break;
                case 'o':
                    Pad(to, flags, System.Convert.ToString((long)Next(wide ? 8 : 4), 8));
                    break;
                case 'c':
                    Pad(to, flags, ((char)(byte)Next(4)).ToString());
                    break;
                case 's':
                    Pad(to, flags, DeviceText.Read(warp, Next(8)));
                    break;
                case 'p':
                    Pad(to, flags, "0x" + Next(8).ToString("x", CultureInfo.InvariantCulture));
                    break;
                default:
                    Pad(to, flags, Real(BitConverter.UInt64BitsToDouble(Next(8)), format[i], flags));
                    break;
            }
        }
        return to.ToString();
    }

    private static string Integer(long value, string flags) =>
        (value >= 0 && flags.Contains('+') ? "+" : value >= 0 && flags.Contains(' ') ? " " : "") + value.ToString(CultureInfo.InvariantCulture);

    private static string Real(double value, char kind, string flags)
    {
        var dot = flags.IndexOf('.', StringComparison.Ordinal);
        var digits = dot < 0 ? 6 : int.TryParse(flags.AsSpan(dot + 1), CultureInfo.InvariantCulture, out var given) ? given : 0;
        if (!double.IsFinite(value))
            return double.IsNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
        var text = char.ToLowerInvariant(kind) switch
        {
            'e' => value.ToString((digits == 0 ? "0" : "0." + new string('0', digits)) + "e+00", CultureInfo.InvariantCulture),
            'g' => value.ToString("G" + Math.Max(1, digits).ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture),
            _ => value.ToString("F" + digits.ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture),
        };
        return value >= 0 && flags.Contains('+') ? "+" + text : text;
    }

    private static void Pad(StringBuilder to, string flags, string text)
    {
        var left = flags.StartsWith('-');
        var body = flags.TrimStart('-', '+', ' ', '#');
        var zero = body.StartsWith('0') && !left;
        var dot = body.IndexOf('.', StringComparison.Ordinal);
        var width = int.TryParse(dot < 0 ? body : body[..dot], CultureInfo.InvariantCulture, out var given) ? given : 0;
        if (left)
            to.Append(text.PadRight(width));
        else if (zero && text.StartsWith('-'))
            to.Append('-').Append(text[1..].PadLeft(width - 1, '0'));
        else
            to.Append(text.PadLeft(width, zero ? '0' : ' '));
    }
}

/// <summary><c>assert</c>: the message, the file and the line are the source's own.</summary>
internal sealed unsafe class AssertInstruction(int message, int file, int line) : Instruction
{
    internal override void Execute(Warp warp, uint mask)
    {
        var lane = BitOperations.TrailingZeroCount(mask);
        var text = DeviceText.Read(warp, ((ulong*)(warp.Frame + message))[lane]);
        var place = System.IO.Path.GetFileName(DeviceText.Read(warp, ((ulong*)(warp.Frame + file))[lane]));
        var number = ((uint*)(warp.Frame + line))[lane];
        warp.Block.Launch.Report(FindingKind.Assertion, warp, this, mask, $"assertion '{text}' failed at {place}:{number}");
        warp.Block.Launch.Stop();
        warp.Switching = true;
    }
}

/// <summary>Reads what a kernel points at, for messages.</summary>
internal static unsafe class DeviceText
{
    internal static string Read(Warp warp, ulong address)
    {
        if (warp.Block.Launch.Memory.Find(address) is not { } allocation)
            return "(invalid pointer)";
        var bytes = new ReadOnlySpan<byte>((void*)address, (int)Math.Min(int.MaxValue, (long)(allocation.End - address)));
        var end = bytes.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? bytes : bytes[..end]);
    }

    internal static ulong Value(Warp warp, int lane, ulong address, int bytes)
    {
        byte* from;
        if (address >> 56 << 56 == Access.LocalWindow)
        {
            var offset = address - Access.LocalWindow;
            if (offset + (ulong)bytes > (ulong)warp.LocalCapacity)
                return 0;
            from = warp.Local + (long)lane * warp.LocalCapacity + (long)offset;
        }
        else if (warp.Block.Launch.Memory.Find(address) is { } allocation && address + (ulong)bytes <= allocation.End)
        {
            from = (byte*)address;
        }
        else
        {
            return 0;
        }
        return bytes == 8 ? *(ulong*)from : *(uint*)from;
    }
}

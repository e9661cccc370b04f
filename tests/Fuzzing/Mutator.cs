using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace Kernels.Tests.Fuzzing;

/// <summary>Damages bytes in the ways that files get damaged, or are forged.</summary>
internal sealed partial class Mutator(Random random)
{
    private static readonly long[] Interesting =
    [
        0, 1, 2, 3, 4, 7, 8, 63, 64, 65, 127, 128, 255, 256, 1000, 4096, 65535, 65536, int.MaxValue - 1, int.MaxValue, (long)int.MaxValue + 1, uint.MaxValue,
        (long)uint.MaxValue + 1, 1L << 40, 1L << 53, long.MaxValue / 4, long.MaxValue - 1, long.MaxValue, -1, -2, -128, int.MinValue, long.MinValue,
    ];

    private static readonly string[] Numbers =
    [
        "0", "1", "2", "-1", "7", "4294967295", "4294967296", "9223372036854775807", "9223372036854775808", "-0", "1.0", "1e3", "1e999", "[]", "{}", "null", "\"\"", "[[0]]",
    ];

    public Random Random => random;

    /// <summary>One to four mutations of unstructured bytes.</summary>
    public byte[] Bytes(byte[] original, byte[] other)
    {
        List<byte> bytes = [.. original];
        for (int i = random.Next(1, 5); i > 0; i--)
        {
            Mutate(bytes, original, other);
        }

        return [.. bytes];
    }

    /// <summary>Edits of text: numbers replaced, pieces doubled, dropped and moved, characters changed.</summary>
    public string Text(string text)
    {
        for (int i = random.Next(1, 4); i > 0 && text.Length > 0; i--)
        {
            MatchCollection numbers = Number().Matches(text);
            switch (random.Next(6))
            {
                case 0 or 1 when numbers.Count > 0:
                    Match number = numbers[random.Next(numbers.Count)];
                    text = text[..number.Index] + Replacement(number.Value) + text[(number.Index + number.Length)..];
                    break;
                case 2:
                    // A whole item of a JSON object, from comma to comma, doubled or dropped.
                    string[] items = text.Split("},");
                    int item = random.Next(items.Length);
                    text = string.Join("},", random.Next(2) == 0 ? [.. items[..item], .. items[(item + 1)..]] : [.. items[..item], items[item], .. items[item..]]);
                    break;
                case 3:
                    int at = random.Next(text.Length);
                    text = text[..at] + (char)random.Next(1, 0x180) + text[(at + 1)..];
                    break;
                case 4:
                    (int start, int end) = Range(text.Length);
                    text = text.Remove(start, end - start);
                    break;
                default:
                    (start, end) = Range(text.Length);
                    text = text.Insert(random.Next(text.Length), text[start..end]);
                    break;
            }
        }

        return text;
    }

    private string Replacement(string number) => random.Next(3) == 0 && long.TryParse(number, out long value)
        ? (value + random.Next(-2, 3)).ToString(CultureInfo.InvariantCulture)
        : Numbers[random.Next(Numbers.Length)];

    private void Mutate(List<byte> bytes, byte[] original, byte[] other)
    {
        if (bytes.Count == 0)
        {
            bytes.Add((byte)random.Next(256));
            return;
        }

        int at = random.Next(bytes.Count);
        (int start, int end) = Range(bytes.Count);
        switch (random.Next(9))
        {
            case 0:
                bytes[at] ^= (byte)(1 << random.Next(8));
                break;
            case 1:
                bytes[at] = (byte)random.Next(256);
                break;
            case 2 or 3:
                // A field of 1, 2, 4 or 8 bytes.
                byte[] field = BitConverter.GetBytes(random.Next(4) == 0 ? original.Length + random.Next(-2, 3) : Interesting[random.Next(Interesting.Length)]);
                for (int i = 0; i < 1 << random.Next(4) && at + i < bytes.Count; i++)
                {
                    bytes[at + i] = field[i];
                }

                break;
            case 4:
                bytes.RemoveRange(at, bytes.Count - at);
                break;
            case 5:
                bytes.RemoveRange(start, end - start);
                break;
            case 6:
                bytes.InsertRange(at, bytes[start..end]);
                break;
            case 7:
                (start, end) = Range(other.Length);
                bytes.InsertRange(at, other[start..end]);
                break;
            default:
                bytes.Reverse(start, Math.Min(end - start, 8));
                break;
        }
    }

    // Mostly short, now and then long.
    private (int Start, int End) Range(int length)
    {
        int start = random.Next(length + 1);
        int longest = random.Next(4) == 0 ? length : Math.Min(length, 40);
        return (start, Math.Min(length, start + random.Next(longest + 1)));
    }

    [GeneratedRegex("-?[0-9]+")]
    private static partial Regex Number();
}

using Kernels.Files;
using Xunit;

namespace Kernels.Tests.Files;

public sealed class Crc32Tests
{
    [Fact]
    public void TheCheckValueIsTheOneOfTheCatalogue() =>
        Assert.Equal(0xCBF43926u, Crc32.Compute("123456789"u8));

    [Fact]
    public void EveryPathGivesTheRemainderOfTheLongDivision()
    {
        Random random = new(1);
        byte[] bytes = new byte[700];
        random.NextBytes(bytes);
        for (int length = 0; length < 300; length++)
        {
            // From odd addresses too: the wide loads need no alignment.
            ReadOnlySpan<byte> part = bytes.AsSpan(length % 7, length);
            uint expected = Divide(part);
            Assert.Equal(expected, Crc32.Compute(part));
            Assert.Equal(expected, ~Crc32.AppendTables(~0u, part));
            Assert.Equal(expected, Crc32.Append(Crc32.Compute(part[..(length / 3)]), part[(length / 3)..]));
        }

        Assert.Equal(Divide(bytes), Crc32.Compute(bytes));
    }

    [Fact]
    public void LongRunsOfZerosAndOnesAreNoException()
    {
        foreach (byte value in new byte[] { 0, 0xFF })
        {
            byte[] bytes = [.. Enumerable.Repeat(value, 5000)];
            Assert.Equal(Divide(bytes), Crc32.Compute(bytes));
        }
    }

    // Bit by bit: the definition.
    private static uint Divide(ReadOnlySpan<byte> bytes)
    {
        uint state = ~0u;
        foreach (byte b in bytes)
        {
            state ^= b;
            for (int bit = 0; bit < 8; bit++)
            {
                state = (state & 1) != 0 ? (state >> 1) ^ 0xEDB88320 : state >> 1;
            }
        }

        return ~state;
    }
}

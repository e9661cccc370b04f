using Kernels.Backends.Gpu;
using Kernels.Emulation.Memory;

namespace Kernels.Emulation;

/// <content>Products of matrices, which on a device a library computes, as plain loops.</content>
public sealed unsafe partial class EmulatorDriver
{
    /// <inheritdoc/>
    public override GemmLibrary OpenGemm() => new PlainGemm(this);

    private void Multiply(in Gemm gemm)
    {
        var (a, w, c) = (Range(gemm.A, gemm.BytesOfA, "product of matrices, a"), Range(gemm.W, gemm.BytesOfW, "product of matrices, w"), Range(gemm.C, gemm.BytesOfC, "product of matrices, c"));
        CheckWritten(a, gemm.A, gemm.BytesOfA);
        CheckWritten(w, gemm.W, gemm.BytesOfW);
        LastCounters = null;
        var (columns, depth) = (gemm.Columns, gemm.Depth);
        var rows = new float[depth];
        for (long row = 0; row < (long)gemm.Images * gemm.Rows; row++)
        {
            for (var k = 0; k < depth; k++)
                rows[k] = Load(gemm.A, row * depth + k, gemm.Operand, gemm.Precision);
            for (var column = 0; column < columns; column++)
            {
                float sum = 0;
                for (var k = 0; k < depth; k++)
                    sum = MathF.FusedMultiplyAdd(rows[k], Load(gemm.W, gemm.Transposed ? (long)column * depth + k : (long)k * columns + column, gemm.Operand, gemm.Precision), sum);
                Store(gemm.C, row * columns + column, gemm.Result, sum);
            }
        }
        if (c.Written != null)
            new Span<byte>(c.Written + (gemm.C - c.Address), checked((int)gemm.BytesOfC)).Fill(1);
    }

    private void CheckWritten(Allocation allocation, ulong address, long bytes)
    {
        if (allocation.Written == null)
            return;
        var missing = new ReadOnlySpan<byte>(allocation.Written + (address - allocation.Address), checked((int)bytes)).IndexOf((byte)0);
        if (missing >= 0)
            throw new DeviceException($"{Name}: a product of matrices reads offset {address - allocation.Address + (ulong)missing} of {allocation}, which nothing has written");
    }

    private static float Load(ulong address, long index, DType type, Precision precision) => type switch
    {
        DType.F16 => (float)((Half*)address)[index],
        DType.BF16 => BitConverter.UInt32BitsToSingle((uint)((ushort*)address)[index] << 16),
        // cvt.rna.tf32: 10 bits of fraction, halves away from zero.
        _ when precision == Precision.Tf32 => BitConverter.UInt32BitsToSingle((((uint*)address)[index] + 0x1000) & 0xFFFFE000),
        _ => ((float*)address)[index],
    };

    private static void Store(ulong address, long index, DType type, float value)
    {
        switch (type)
        {
            case DType.F16:
                ((Half*)address)[index] = (Half)value;
                break;
            case DType.BF16:
                var bits = BitConverter.SingleToUInt32Bits(value);
                ((ushort*)address)[index] = (ushort)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
                break;
            default:
                ((float*)address)[index] = value;
                break;
        }
    }

    private sealed class PlainGemm(EmulatorDriver driver) : GemmLibrary
    {
        public override string Name => "plain loops";

        public override void Multiply(in Gemm gemm, int lane, DriverStream stream)
        {
            var kept = gemm;
            Do(stream, () => driver.Multiply(kept));
        }

        protected override void Dispose(bool disposing)
        {
        }
    }
}

using Kernels.Emulation.Execution;
using Kernels.Emulation.Memory;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Tensor;

/// <summary>
/// <c>ldmatrix</c> and <c>stmatrix</c> of 8 x 8 matrices of 16-bit elements. Lane 8 m + r gives the address of row r of matrix m; lane 4 g + t holds elements 2t and 2t + 1
/// of row g, or with <c>.trans</c> of column g.
/// </summary>
internal sealed unsafe class MatrixTransfer(bool store, bool transposed, StateSpace space, int[] registers, AddressSource address) : WarpOperation(-1)
{
    protected override void Perform(Warp warp, uint mask, uint named)
    {
        address.Compute(warp);
        var rows = registers.Length == 4 ? Lanes.All : (1u << (8 * registers.Length)) - 1;
        var good = Access.Resolve(warp, this, space, 16, store ? AccessKind.Write : AccessKind.Read, rows);
        if (good != rows)
            return;
        for (var m = 0; m < registers.Length; m++)
        {
            var values = (uint*)(warp.Frame + registers[m]);
            for (var lane = 0; lane < 32; lane++)
            {
                var (g, t) = (lane / 4, lane % 4);
                var first = transposed ? Element(warp, m, 2 * t, g) : Element(warp, m, g, 2 * t);
                var second = transposed ? Element(warp, m, 2 * t + 1, g) : Element(warp, m, g, 2 * t + 1);
                if (store)
                    (*first, *second) = ((ushort)values[lane], (ushort)(values[lane] >> 16));
                else
                    values[lane] = *first | (uint)*second << 16;
            }
        }
    }

    private static ushort* Element(Warp warp, int matrix, int row, int column) => (ushort*)warp.HostAddresses[8 * matrix + row] + column;
}

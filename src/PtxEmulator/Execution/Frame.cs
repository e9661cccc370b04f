using System.Runtime.InteropServices;

namespace Kernels.Emulation.Execution;

/// <summary>Registers of one activation of a function by one warp. Kept for reuse, because the constant slots are written only once.</summary>
internal sealed unsafe class Frame : IDisposable
{
    internal Frame(FunctionCode function)
    {
        Function = function;
        Base = (byte*)NativeMemory.AlignedAlloc((nuint)Math.Max(64, function.FrameBytes), 64);
        new Span<byte>(Base, function.FrameBytes).Clear();
        foreach (var (offset, wide, bits) in function.Constants)
        {
            if (wide)
                new Span<ulong>(Base + offset, 32).Fill(bits);
            else
                new Span<uint>(Base + offset, 32).Fill((uint)bits);
        }
    }

    internal FunctionCode Function { get; }

    internal byte* Base { get; private set; }

    internal Frame? Caller { get; set; }

    /// <summary>The path that made the call and takes the return.</summary>
    internal int Owner { get; set; }

    internal int ReturnPc { get; set; }

    internal int SavedReconverge { get; set; }

    internal CallInstruction? Call { get; set; }

    /// <summary>Where this activation's local memory begins in each thread's.</summary>
    internal int LocalBase { get; set; }

    /// <summary>Writes the slots of special registers for a warp of a block.</summary>
    internal void SetSpecials(Warp warp)
    {
        var block = warp.Block;
        var launch = block.Launch;
        foreach (var (offset, register) in Function.Specials)
        {
            var to = new Span<uint>(Base + offset, 32);
            var first = warp.Number * 32;
            var (width, height) = (launch.Block.X, launch.Block.Y);
            switch (register)
            {
                case SpecialRegister.TidX:
                    for (var i = 0; i < 32; i++)
                        to[i] = (uint)((first + i) % width);
                    break;
                case SpecialRegister.TidY:
                    for (var i = 0; i < 32; i++)
                        to[i] = (uint)((first + i) / width % height);
                    break;
                case SpecialRegister.TidZ:
                    for (var i = 0; i < 32; i++)
                        to[i] = (uint)((first + i) / (width * height));
                    break;
                case SpecialRegister.LaneId:
                    for (var i = 0; i < 32; i++)
                        to[i] = (uint)i;
                    break;
                case SpecialRegister.LaneMaskEq:
                    for (var i = 0; i < 32; i++)
                        to[i] = 1u << i;
                    break;
                case SpecialRegister.LaneMaskLt:
                    for (var i = 0; i < 32; i++)
                        to[i] = (1u << i) - 1;
                    break;
                case SpecialRegister.LaneMaskLe:
                    for (var i = 0; i < 32; i++)
                        to[i] = (2u << i) - 1;
                    break;
                case SpecialRegister.LaneMaskGt:
                    for (var i = 0; i < 32; i++)
                        to[i] = ~((2u << i) - 1);
                    break;
                case SpecialRegister.LaneMaskGe:
                    for (var i = 0; i < 32; i++)
                        to[i] = ~((1u << i) - 1);
                    break;
                default:
                    to.Fill(Uniform(register, warp));
                    break;
            }
        }
    }

    private static uint Uniform(SpecialRegister register, Warp warp)
    {
        var block = warp.Block;
        var launch = block.Launch;
        return (uint)(register switch
        {
            SpecialRegister.NtidX => launch.Block.X,
            SpecialRegister.NtidY => launch.Block.Y,
            SpecialRegister.NtidZ => launch.Block.Z,
            SpecialRegister.CtaidX => block.Index.X,
            SpecialRegister.CtaidY => block.Index.Y,
            SpecialRegister.CtaidZ => block.Index.Z,
            SpecialRegister.NctaidX => launch.Grid.X,
            SpecialRegister.NctaidY => launch.Grid.Y,
            SpecialRegister.NctaidZ => launch.Grid.Z,
            SpecialRegister.WarpId => warp.Number,
            SpecialRegister.NwarpId => block.Warps.Length,
            SpecialRegister.NsmId => launch.Workers,
            SpecialRegister.DynamicSharedBytes => launch.DynamicSharedBytes,
            SpecialRegister.TotalSharedBytes => launch.SharedBytes,
            SpecialRegister.One => 1,
            _ => 0,
        });
    }

    public void Dispose()
    {
        NativeMemory.AlignedFree(Base);
        Base = null;
    }
}

namespace Kernels.Backends.Gpu;
internal static class GroupNorm
{
    public static void Lower(GpuLowering lowering, Node node) => throw new GraphException("group norm");
}

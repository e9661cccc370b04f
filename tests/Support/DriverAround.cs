using Kernels.Backends.Gpu;

namespace Kernels.Tests.Support;

/// <summary>A driver that stands around another one and looks at the calls; it is the same device.</summary>
/// <param name="inner">The device; disposed with this one.</param>
internal abstract class DriverAround(Driver inner) : Driver
{
    /// <summary>The device.</summary>
    protected Driver Inner => inner;

    public override string Name => inner.Name;

    public override string Architecture => inner.Architecture;

    public override long TotalBytes => inner.TotalBytes;

    public override long FreeBytes => inner.FreeBytes;

    public override int Multiprocessors => inner.Multiprocessors;

    public override int MaximumSharedBytes => inner.MaximumSharedBytes;

    public override bool RunsMachineCode => inner.RunsMachineCode;

    public override DriverStream DefaultStream => inner.DefaultStream;

    protected override void Dispose(bool disposing) => inner.Dispose();
}

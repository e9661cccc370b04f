using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Kernels.Backends.Gpu;

/// <summary>Builds a kernel's argument block: every value at its natural alignment, in parameter order. A builder is reused from launch to launch without allocating.</summary>
public sealed class LaunchArguments
{
    private byte[] bytes = new byte[64];
    private int length;

    /// <summary>The block so far.</summary>
    public ReadOnlySpan<byte> Bytes => bytes.AsSpan(0, length);

    /// <summary>Forgets all values.</summary>
    public LaunchArguments Clear()
    {
        length = 0;
        return this;
    }

    /// <summary>Appends a value at its natural alignment; a struct is aligned as its largest primitive allows, at most 8.</summary>
    /// <typeparam name="T">A primitive, or a struct laid out as the kernel declares it.</typeparam>
    /// <param name="value">The value; a device address is a <see cref="ulong"/>.</param>
    public LaunchArguments Add<T>(T value)
        where T : unmanaged
    {
        var size = Unsafe.SizeOf<T>();
        var alignment = size % 8 == 0 ? 8 : size % 4 == 0 ? 4 : size % 2 == 0 ? 2 : 1;
        var at = (length + alignment - 1) & -alignment;
        if (at + size > bytes.Length)
            Array.Resize(ref bytes, Math.Max(2 * bytes.Length, at + size));
        bytes.AsSpan(length, at - length).Clear();
        MemoryMarshal.Write(bytes.AsSpan(at), in value);
        length = at + size;
        return this;
    }
}

namespace Kernels.Backends.Gpu;

/// <summary>How many consecutive elements a thread of a memory-bound kernel takes, and how many threads that makes.</summary>
internal static class Packs
{
    /// <summary>Threads per block where nothing asks for another number.</summary>
    public const int Threads = 256;

    /// <summary>Elements per thread: 16 bytes at most, in whole packs of every extent.</summary>
    /// <param name="extent">What it must divide: channels, or all elements.</param>
    /// <param name="dtypes">The types that are read and written.</param>
    public static int Width(int extent, params ReadOnlySpan<DType> dtypes)
    {
        int width = 8;
        foreach (DType dtype in dtypes)
        {
            width = Math.Min(width, 16 / dtype.SizeInBytes());
        }

        while (extent % width != 0)
        {
            width /= 2;
        }

        return width;
    }

    /// <summary>A launch of so many threads, in blocks of <see cref="Threads"/>.</summary>
    /// <param name="threads">The threads that have work.</param>
    public static LaunchGeometry Geometry(long threads) => LaunchGeometry.Linear((int)((threads + Threads - 1) / Threads), Threads);
}

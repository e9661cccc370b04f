using Kernels.Imaging;

namespace Kernels.Sampling;

/// <summary>Latents of a .npz that <c>kernels invert</c> has written.</summary>
/// <param name="Path">The file.</param>
/// <param name="Dims">Extents <c>[N, H, W, C]</c>.</param>
/// <param name="Values">The values.</param>
/// <param name="Labels">The labels; null if there are none.</param>
public sealed record LatentFile(string Path, IReadOnlyList<long> Dims, float[] Values, IReadOnlyList<int>? Labels)
{
    /// <summary>Number of images.</summary>
    public int Count => (int)Dims[0];

    /// <summary>Reads a file.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidFileException">It holds no latents.</exception>
    public static LatentFile Read(string path)
    {
        using Npz npz = Npz.Open(path);
        NpyArray array = npz.Read("arr_0");
        if (array.DType != DType.F32 || array.Dims.Count != 4 || array.Dims.Any(d => d is <= 0 or > int.MaxValue))
        {
            throw new InvalidFileException(path, "arr_0", $"latents are binary32 [N, H, W, C], these are {array.DType} [{string.Join(", ", array.Dims)}]; 'kernels invert' makes them");
        }

        float[] values = array.ToFloat32();
        if (!values.All(float.IsFinite))
        {
            throw new InvalidFileException(path, "arr_0", "holds NaN or infinities");
        }

        int[]? labels = npz.Names.Contains("arr_1") ? [.. npz.Read("arr_1").ToInt64().Select(l => l is >= 0 and <= int.MaxValue ? (int)l : throw new InvalidFileException(path, "arr_1", $"{l} is no label"))] : null;
        return labels is null || labels.Length == array.Dims[0] ? new LatentFile(path, array.Dims, values, labels)
            : throw new InvalidFileException(path, "arr_1", $"{labels.Length} labels do not name a class of each of the {array.Dims[0]} latents");
    }

    /// <summary>Requires latents of a size, at least so many.</summary>
    /// <param name="count">How many.</param>
    /// <param name="height">Height.</param>
    /// <param name="width">Width.</param>
    /// <param name="channels">Channels.</param>
    /// <exception cref="InvalidFileException">They are others.</exception>
    public void Require(int count, int height, int width, int channels)
    {
        if ((Dims[1], Dims[2], Dims[3]) != (height, width, channels) || Count < count)
        {
            throw new InvalidFileException(Path, "arr_0", $"the latents are [{string.Join(", ", Dims)}], [{count}, {height}, {width}, {channels}] are needed");
        }
    }

    /// <summary>The latents of the first images.</summary>
    /// <param name="count">How many.</param>
    /// <exception cref="InvalidFileException">There are fewer.</exception>
    public float[] Take(int count) => count <= Count
        ? Values[..(int)(count * Dims[1] * Dims[2] * Dims[3])]
        : throw new InvalidFileException(Path, "arr_0", $"holds {Count} latents, {count} are needed");
}

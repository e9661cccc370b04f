using Kernels.Files;

namespace Kernels.Imaging;

/// <summary>Files of one NumPy array.</summary>
public static class Npy
{
    /// <summary>Reads a <c>.npy</c> file of version 1 to 3, in C order and little-endian.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidFileException">The file is missing, damaged, or of a kind that is not supported.</exception>
    public static NpyArray Read(string path)
    {
        using FileSource file = FileSource.Open(path);
        return NpyFormat.Read(file);
    }

    /// <summary>Writes a <c>.npy</c> file, whole or not at all.</summary>
    /// <param name="path">The file to create or replace.</param>
    /// <param name="array">The array.</param>
    /// <exception cref="InvalidFileException">The file cannot be written.</exception>
    public static void Write(string path, NpyArray array) => AtomicFile.Write(path, stream => NpyFormat.Write(stream, array));
}

using Kernels.Files;

namespace Kernels.Imaging;

/// <summary>PNG files of 8 bits per sample: grey, RGB, RGB with opacity.</summary>
/// <remarks>Format: Portable Network Graphics (PNG) Specification, W3C Recommendation.</remarks>
public static class Png
{
    /// <summary>The file's bytes; the same for the same picture with the same .NET runtime.</summary>
    /// <param name="image">The picture; its <see cref="Image.Text"/> goes along, as tEXt where Latin-1 suffices and as iTXt elsewhere.</param>
    /// <exception cref="ArgumentException">A keyword of the text is none that PNG allows.</exception>
    public static byte[] Encode(Image image)
    {
        ArgumentNullException.ThrowIfNull(image);
        return PngEncoder.Encode(image);
    }

    /// <summary>Writes a file, whole or not at all.</summary>
    /// <param name="path">The file to create or replace.</param>
    /// <param name="image">The picture.</param>
    /// <exception cref="ArgumentException">A keyword of the text is none that PNG allows.</exception>
    /// <exception cref="InvalidFileException">The file cannot be written.</exception>
    public static void Save(string path, Image image)
    {
        byte[] bytes = Encode(image);
        AtomicFile.Write(path, stream => stream.Write(bytes));
    }

    /// <summary>Reads a file, with its text.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidFileException">The file is missing, damaged, or of a kind that is not supported.</exception>
    public static Image Load(string path)
    {
        using FileSource file = FileSource.Open(path);
        return PngDecoder.Decode(file);
    }
}

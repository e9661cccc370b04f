namespace Kernels.Sampling;

/// <summary>Makes sure that an output can be written, before an hour of sampling rather than after.</summary>
public static class OutputFolder
{
    /// <summary>Makes the folder of a file.</summary>
    /// <param name="file">The file.</param>
    /// <exception cref="ConfigurationException">It cannot be made, or the file is a folder.</exception>
    public static void Prepare(string file)
    {
        if (Directory.Exists(file))
        {
            throw new ConfigurationException($"--output {file}: is a folder");
        }

        if (Path.GetDirectoryName(file) is { Length: > 0 } folder)
        {
            Make(folder, file);
        }
    }

    /// <summary>Makes a folder.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="output">What it is for, for messages.</param>
    /// <exception cref="ConfigurationException">It cannot be made.</exception>
    public static void Make(string folder, string output)
    {
        try
        {
            Directory.CreateDirectory(folder);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"--output {output}: {e.Message}");
        }
    }
}

namespace Kernels.Files;

/// <summary>
/// Writes a file whole or not at all: beside its destination under a temporary name, flushed to the disk, then renamed over it, and the directory flushed.
/// A reader never sees half a file, a failure leaves what was there before, and what was written is there after a loss of power.
/// </summary>
public static class AtomicFile
{
    private const string Extension = ".tmp";

    /// <summary>Creates or replaces <paramref name="path"/> with what <paramref name="write"/> writes.</summary>
    /// <param name="path">The destination. A symbolic link stays one: its target is replaced.</param>
    /// <param name="write">Writes the content to a seekable stream. What it throws passes through, and the temporary file is removed.</param>
    /// <exception cref="InvalidFileException">The destination cannot be written.</exception>
    public static void Write(string path, Action<Stream> write)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(write);
        string? temporary = null;
        try
        {
            FileInfo destination = new(path);
            string target = destination.LinkTarget is null ? destination.FullName : destination.ResolveLinkTarget(returnFinalTarget: true)!.FullName;
            if (Directory.Exists(target))
            {
                throw new InvalidFileException(path, "", "cannot be written: it is a directory");
            }

            string folder = Path.GetDirectoryName(target)!;
            temporary = Path.Combine(folder, $".{Path.GetFileName(target)}.{Guid.NewGuid():N}{Extension}");
            using (FileStream stream = new(temporary, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, bufferSize: 1 << 16))
            {
                write(stream);
                stream.Flush(flushToDisk: true);
            }

            File.Move(temporary, target, overwrite: true);
            temporary = null;
            DirectorySync.Flush(folder);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidFileException(path, "", $"cannot be written: {e.Message}", e);
        }
        finally
        {
            Remove(temporary);
        }
    }

    /// <summary>
    /// Removes what a killed process left half-written. A temporary file is open without sharing (flock(2)) while it is written, so those of processes that live stay, as far as the file
    /// system knows of them.
    /// </summary>
    /// <param name="path">The destination.</param>
    public static void RemoveLeftovers(string path)
    {
        string full = Path.GetFullPath(path);
        RemoveAbandoned(Path.GetDirectoryName(full)!, $".{Path.GetFileName(full)}.*{Extension}");
    }

    /// <summary>The same for all files of a folder, and for files of other purposes that are called <c>.NAME.tmp</c> and open without sharing as long as they are needed.</summary>
    /// <param name="folder">The folder.</param>
    public static void RemoveAllLeftovers(string folder) => RemoveAbandoned(folder, $".*{Extension}");

    private static void RemoveAbandoned(string folder, string pattern)
    {
        foreach (string leftover in Directory.EnumerateFiles(folder, pattern))
        {
            try
            {
                using (new FileStream(leftover, FileMode.Open, FileAccess.ReadWrite, FileShare.None))
                {
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                continue;
            }

            Remove(leftover);
        }
    }

    private static void Remove(string? temporary)
    {
        if (temporary is null)
        {
            return;
        }

        try
        {
            File.Delete(temporary);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The error that brought us here is the one worth reporting.
        }
    }
}

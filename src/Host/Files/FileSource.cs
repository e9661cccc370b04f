using Microsoft.Win32.SafeHandles;

namespace Kernels.Files;

/// <summary>
/// A file on disk, open for reading until disposed. Reads are positioned system calls into the caller's memory rather than a mapping:
/// a mapped file that another program truncates kills the process, a read that comes up short is an error with a message.
/// </summary>
internal sealed class FileSource : ByteSource
{
    private readonly SafeFileHandle _handle;

    private FileSource(string path, SafeFileHandle handle, long length)
        : base(path, "", length) => _handle = handle;

    /// <exception cref="InvalidFileException">The file is missing, a directory, unreadable, or cannot be read at random.</exception>
    public static FileSource Open(string path)
    {
        SafeFileHandle? handle = null;
        try
        {
            handle = System.IO.File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete);
            return new FileSource(path, handle, RandomAccess.GetLength(handle));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException or ArgumentException)
        {
            handle?.Dispose();
            throw new InvalidFileException(path, "", e switch
            {
                FileNotFoundException or DirectoryNotFoundException => "there is no such file",
                _ when Directory.Exists(path) => "is a directory, not a file",
                NotSupportedException => "is a pipe or a device; give a regular file",
                _ => $"cannot be opened: {e.Message}",
            }, e);
        }
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        _handle.Dispose();
        base.Dispose();
    }

    /// <inheritdoc/>
    protected override void ReadCore(long offset, Span<byte> destination)
    {
        while (destination.Length > 0)
        {
            int read;
            try
            {
                read = RandomAccess.Read(_handle, destination, offset);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw Invalid(offset, $"cannot be read: {e.Message}", e);
            }

            if (read == 0)
            {
                throw Invalid(offset, "ends here, though it was longer when it was opened: another program is writing it");
            }

            offset += read;
            destination = destination[read..];
        }
    }
}

using System.Runtime.InteropServices;

namespace Kernels.Files;

/// <summary>Makes names durable: after a loss of power, a file that was flushed is found only if the directory that names it was flushed too (fsync(2)).</summary>
internal static partial class DirectorySync
{
    // The same number on every Unix that .NET runs on, as are those of errno below.
    private const int ReadOnly = 0;
    private const int InvalidArgument = 22;
    private const int AccessDenied = 13;

    /// <summary>Flushes the entries of a directory. Windows journals them and has no call for it; file systems that have none either are left in peace.</summary>
    /// <param name="path">The directory.</param>
    /// <exception cref="IOException">The device failed.</exception>
    public static void Flush(string path)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        int descriptor = Open(path, ReadOnly);
        int error = descriptor < 0 ? Marshal.GetLastPInvokeError() : 0;
        if (descriptor >= 0)
        {
            error = Synchronize(descriptor) < 0 ? Marshal.GetLastPInvokeError() : 0;
            _ = Close(descriptor);
        }

        // A directory may be writable and not readable.
        if (error is not (0 or InvalidArgument or AccessDenied))
        {
            throw new IOException($"the directory {path} cannot be flushed: {Marshal.GetPInvokeErrorMessage(error)}");
        }
    }

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int Synchronize(int descriptor);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    private static partial int Close(int descriptor);
}

namespace Kernels;

/// <summary>Base of every error this library reports on purpose: the message says what, where and what to do.</summary>
public abstract class KernelsException : Exception
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">What went wrong, where, and what to do.</param>
    /// <param name="innerException">The cause, if another exception revealed it.</param>
    protected KernelsException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }
}

/// <summary>A file that cannot be trusted or understood: refused before memory is allocated for what it claims.</summary>
public sealed class InvalidFileException : KernelsException
{
    /// <summary>Creates the exception with the message "<c>file: place: reason</c>".</summary>
    /// <param name="file">The file's path.</param>
    /// <param name="place">An offset, an entry or a tensor inside the file; empty if it is the file as a whole.</param>
    /// <param name="reason">What is wrong and, where it helps, what to do.</param>
    /// <param name="innerException">The cause, if another exception revealed it.</param>
    public InvalidFileException(string file, string place, string reason, Exception? innerException = null)
        : base(Printable(place.Length == 0 ? $"{file}: {reason}" : $"{file}: {place}: {reason}"), innerException)
    {
        File = file;
        Place = Printable(place);
        Reason = Printable(reason);
    }

    /// <summary>The file's path.</summary>
    public string File { get; }

    /// <summary>An offset, an entry or a tensor inside the file; empty if it is the file as a whole.</summary>
    public string Place { get; }

    /// <summary>What is wrong.</summary>
    public string Reason { get; }

    // Messages quote what hostile files contain: no escape sequence of theirs reaches a terminal, and no name of megabytes.
    private static string Printable(string text)
    {
        const int MaxLength = 1000;
        string shown = text.Length <= MaxLength ? text : string.Concat(text.AsSpan(0, MaxLength), "…");
        return shown.Any(char.IsControl) ? string.Concat(shown.Select(c => char.IsControl(c) ? '\uFFFD' : c)) : shown;
    }
}

/// <summary>Settings that contradict each other, the weights, or what the models admit.</summary>
public sealed class ConfigurationException : KernelsException
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">The setting, the contradiction and the remedy.</param>
    public ConfigurationException(string message)
        : base(message)
    {
    }
}

/// <summary>A graph that is not well formed: shapes that do not fit an op, an unknown tensor, a missing gradient.</summary>
public sealed class GraphException : KernelsException
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">The op's name, what it expected and what it got.</param>
    public GraphException(string message)
        : base(message)
    {
    }
}

/// <summary>What a device's failure leaves behind.</summary>
public enum DeviceFault
{
    /// <summary>A call failed; what was asked for was not done, the device goes on.</summary>
    Failed,

    /// <summary>There was too little memory; with less the device goes on.</summary>
    OutOfMemory,

    /// <summary>The device is lost to this process, such as after a kernel's illegal access: nothing can be computed on it any more.</summary>
    Lost,
}

/// <summary>A device that is missing, failed, or has too little memory.</summary>
public sealed class DeviceException : KernelsException
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">The device, the call and the remedy.</param>
    /// <param name="innerException">The cause, if another exception revealed it.</param>
    public DeviceException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }

    /// <summary>What it leaves behind.</summary>
    public DeviceFault Fault { get; init; }
}

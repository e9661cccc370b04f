namespace Kernels.Emulation;

/// <summary>PTX that cannot be loaded: malformed, or with an instruction the emulator does not execute. Raised at load time, never during a launch.</summary>
public sealed class PtxException : KernelsException
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">The module, the line, the instruction and the reason.</param>
    public PtxException(string message)
        : base(message)
    {
    }
}

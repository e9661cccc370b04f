namespace Kernels.Cli;

/// <summary>What the process returns.</summary>
internal static class ExitCode
{
    public const int Done = 0;
    public const int Usage = 1;
    public const int InvalidFile = 2;
    public const int Device = 3;
    public const int VerificationFailed = 4;
    public const int Interrupted = 130;
}

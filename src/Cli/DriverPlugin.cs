using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using Kernels.Backends.Gpu;

namespace Kernels.Cli;

/// <summary>Drivers that are not part of the build: an assembly beside the program with one public <see cref="Driver"/> that takes the number of a device.</summary>
internal static class DriverPlugin
{
    /// <summary>Opens a device.</summary>
    /// <param name="assembly">Name of the assembly.</param>
    /// <param name="ordinal">Number of the device.</param>
    /// <exception cref="DeviceException">There is no such assembly, or it holds no driver.</exception>
    [UnconditionalSuppressMessage("Trimming", "IL2026", Justification = "What is loaded was never part of the trimmed program.")]
    [UnconditionalSuppressMessage("Trimming", "IL2072", Justification = "What is loaded was never part of the trimmed program.")]
    [UnconditionalSuppressMessage("Trimming", "IL2075", Justification = "What is loaded was never part of the trimmed program.")]
    public static Driver Open(string assembly, int ordinal)
    {
        string path = Path.Combine(AppContext.BaseDirectory, assembly + ".dll");
        if (!File.Exists(path))
        {
            throw new DeviceException($"{assembly} is not built: {path} does not exist. The README says how to build it");
        }

        try
        {
            Type driver = Assembly.LoadFrom(path).GetExportedTypes().First(t => t.IsSubclassOf(typeof(Driver)));
            return (Driver)Activator.CreateInstance(driver, ordinal)!;
        }
        catch (TargetInvocationException e) when (e.InnerException is not null)
        {
            throw new DeviceException($"{assembly}: {e.InnerException.Message}", e.InnerException);
        }
        catch (Exception e) when (e is InvalidOperationException or IOException or BadImageFormatException or MissingMethodException)
        {
            throw new DeviceException($"{path} holds no driver that can be used: {e.Message}", e);
        }
    }
}

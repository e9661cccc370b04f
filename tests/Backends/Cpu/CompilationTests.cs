using System.Reflection;
using Kernels.Backends.Cpu;
using Xunit;

namespace Kernels.Tests.Backends.Cpu;

/// <summary>How the runtime is told to compile the kernels of the CPU.</summary>
public sealed class CompilationTests
{
    /// <summary>No kernel's entry is left to the runtime's profile, which would take it apart in its caller (<see cref="CpuKernel"/>).</summary>
    [Fact]
    public void Every_kernel_is_fully_optimised_at_its_first_call()
    {
        const BindingFlags Own = BindingFlags.Instance | BindingFlags.NonPublic | BindingFlags.Public | BindingFlags.DeclaredOnly;
        MethodInfo[] entries =
        [
            .. typeof(CpuKernel).Assembly.GetTypes().Where(type => type.IsSubclassOf(typeof(CpuKernel)))
                .SelectMany(type => type.GetMethods(Own)).Where(method => method is { IsVirtual: true, IsAbstract: false, Name: "Run" or "RunRange" }),
            .. typeof(WorkerPool).GetMethods(Own).Where(method => method.Name is "Run" or "Work" or "Claim"),
        ];
        Assert.True(entries.Length > 40, $"only {entries.Length} entries were found");
        Assert.All(entries, method => Assert.True(
            method.MethodImplementationFlags.HasFlag(MethodImplAttributes.AggressiveOptimization), $"{method.DeclaringType!.Name}.{method.Name} is compiled from a profile"));
    }
}

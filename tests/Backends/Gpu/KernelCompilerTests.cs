using System.Text;
using Kernels.Backends.Gpu;
using Kernels.Tests.PtxEmulator;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

/// <summary>What is asked of a compiler whose assembler cannot be trusted with a target.</summary>
public sealed class KernelCompilerTests
{
    private const string Source = "extern \"C\" __global__ void f(float* x) { x[threadIdx.x] = 1; }";
    private static readonly Version s_old = new(11, 8), s_new = new(12, 0);

    [Theory]
    [InlineData("sm_75", true), InlineData("sm_80", true), InlineData("sm_87", true), InlineData("sm_89", false), InlineData("sm_90", false), InlineData("sm_90a", false)]
    public void Version_11_writes_no_machine_code_from_compute_capability_89_on(string architecture, bool does)
    {
        Assert.Equal(does, KernelCompiler.MakesMachineCode(architecture, s_old, out string reason));
        Assert.Equal(does, reason.Length == 0);
        if (!does)
        {
            Assert.Contains($"NVRTC 11.8 writes no machine code for {architecture}", reason, StringComparison.Ordinal);
            Assert.Contains("NVRTC 12 or later does", reason, StringComparison.Ordinal);
        }

        Assert.True(KernelCompiler.MakesMachineCode(architecture, s_new, out _));
    }

    [Fact]
    public void A_virtual_architecture_has_none_of_any_version()
    {
        Assert.False(KernelCompiler.MakesMachineCode("compute_90", s_new, out string reason));
        Assert.Contains("compute_90 is a virtual architecture", reason, StringComparison.Ordinal);
    }

    [Fact]
    public void What_has_no_machine_code_is_compiled_to_PTX_that_runs()
    {
        Cuda.Require();
        CompiledKernels compiled = KernelCompiler.CompileAs(s_old, Source, "f.cu", "sm_90");
        Assert.Equal("compute_90", compiled.Architecture);
        Assert.Empty(compiled.Cubin);
        Assert.Empty(compiled.Resources);
        Assert.Same(compiled.Ptx, compiled.Image);
        Assert.Contains(".target sm_90", Encoding.UTF8.GetString(compiled.Ptx), StringComparison.Ordinal);
        using KernelRun run = new(compiled);
        ulong x = run.Put(new float[32]);
        run.Launch("f", 1, 32, new LaunchArguments().Add(x));
        Assert.All(run.Get<float>(x, 32), v => Assert.Equal(1, v));
    }

    [Fact]
    public void What_has_machine_code_is_given_to_a_device_as_such()
    {
        Cuda.RequireMachineCode("sm_80");
        CompiledKernels compiled = KernelCompiler.CompileAs(s_old, Source, "f.cu", "sm_80");
        Assert.Equal("sm_80", compiled.Architecture);
        Assert.Single(compiled.Resources);
        Assert.Same(compiled.Cubin, compiled.Image);
    }
}

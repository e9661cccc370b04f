using Kernels.Backends.Gpu;
using Kernels.Tests.Files;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

public sealed class KernelSourcesTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void The_hash_is_that_of_the_lines_of_sha256sum()
    {
        File.WriteAllText(_folder["b.cu"], "one\n");
        File.WriteAllText(_folder["a.cuh"], "two µ\n");
        File.WriteAllText(_folder["README.md"], "no kernel");

        // LC_ALL=C sha256sum *.cu* | sha256sum, of GNU coreutils.
        Assert.Equal("f315972d6f565b92ecc5d0938c4d60b2192424173ac0b938435f140c98bc0267", KernelSources.Open(_folder.Path).Sha256);
    }

    [Fact]
    public void The_hash_is_of_names_and_texts_wherever_they_lie()
    {
        string builtIn = KernelSources.BuiltIn.Sha256;
        KernelFolder.Write(_folder.Path);
        Assert.Equal(builtIn, KernelSources.Open(_folder.Path).Sha256);

        File.Move(_folder["copy.cu"], _folder["copied.cu"]);
        string renamed = KernelSources.Open(_folder.Path).Sha256;
        File.Move(_folder["copied.cu"], _folder["copy.cu"]);
        KernelFolder.Edit(_folder.Path, "common.cuh", "#pragma once", "#pragma once ");
        string edited = KernelSources.Open(_folder.Path).Sha256;
        Assert.Equal(3, new[] { builtIn, renamed, edited }.Distinct().Count());
    }
}

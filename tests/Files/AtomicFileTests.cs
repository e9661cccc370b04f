using Kernels.Files;
using Xunit;

namespace Kernels.Tests.Files;

public sealed class AtomicFileTests
{
    [Fact]
    public void AFileIsCreatedOrReplaced()
    {
        using TemporaryFolder folder = new();
        AtomicFile.Write(folder["a"], stream => stream.Write([1, 2, 3]));
        Assert.Equal([1, 2, 3], File.ReadAllBytes(folder["a"]));
        AtomicFile.Write(folder["a"], stream => stream.WriteByte(9));
        Assert.Equal([9], File.ReadAllBytes(folder["a"]));
        Assert.Equal(["a"], folder.Names);
    }

    [Fact]
    public void AFailureLeavesWhatWasThereAndNothingElse()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder["a"], "before");
        foreach (string name in new[] { "a", "b" })
        {
            Assert.Throws<OperationCanceledException>(() => AtomicFile.Write(folder[name], stream =>
            {
                stream.Write(new byte[1 << 20]);
                throw new OperationCanceledException();
            }));
        }

        Assert.Equal(["a"], folder.Names);
        Assert.Equal("before", File.ReadAllText(folder["a"]));
    }

    [Fact]
    public void TheOldContentIsThereUntilTheNewIsWhole()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder["a"], "before");
        AtomicFile.Write(folder["a"], stream =>
        {
            stream.Write("after"u8);
            stream.Flush();
            Assert.Equal("before", File.ReadAllText(folder["a"]));
        });
        Assert.Equal("after", File.ReadAllText(folder["a"]));
    }

    [Fact]
    public void ASymbolicLinkStaysOne()
    {
        if (OperatingSystem.IsWindows())
        {
            Assert.Skip("links need a privilege on Windows");
        }

        using TemporaryFolder folder = new();
        File.WriteAllText(folder["target"], "before");
        File.CreateSymbolicLink(folder["link"], folder["target"]);
        AtomicFile.Write(folder["link"], stream => stream.Write("after"u8));
        Assert.Equal("after", File.ReadAllText(folder["target"]));
        Assert.Equal(["link", "target"], folder.Names);
        Assert.NotNull(new FileInfo(folder["link"]).LinkTarget);
    }

    [Fact]
    public void WhatCannotBeWrittenIsNamed()
    {
        using TemporaryFolder folder = new();
        foreach (string path in new[] { folder["no/such/folder"], folder.Path })
        {
            InvalidFileException error = Assert.Throws<InvalidFileException>(() => AtomicFile.Write(path, _ => Assert.Fail("there is nothing to write to")));
            Assert.Equal(path, error.File);
            Assert.Contains("cannot be written", error.Message, StringComparison.Ordinal);
        }

        Assert.Empty(folder.Names);
    }

    [Fact]
    public void AFullDiskIsAnErrorThatNamesTheFile()
    {
        using TemporaryFolder folder = new();
        InvalidFileException error = Assert.Throws<InvalidFileException>(() => AtomicFile.Write(folder["a"], _ => throw new IOException("No space left on device")));
        Assert.Equal(folder["a"], error.File);
        Assert.Contains("No space left", error.Message, StringComparison.Ordinal);
        Assert.Empty(folder.Names);
    }
}

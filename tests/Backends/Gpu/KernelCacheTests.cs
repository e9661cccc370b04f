using Kernels.Backends.Gpu;
using Kernels.Tests.Files;
using Xunit;

namespace Kernels.Tests.Backends.Gpu;

public sealed class KernelCacheTests : IDisposable
{
    private static readonly Version s_version = new(12, 4);
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Everything_that_matters_is_in_the_name()
    {
        KernelSpec spec = new("a.cu", "f", ("C", 4));
        KeyValuePair<string, string>[] headers = [new("h.cuh", "int x;")];
        string key = KernelCache.Key("text", headers, spec, "sm_90");
        Assert.Equal(key, KernelCache.Key("text", headers, new KernelSpec("a.cu", "g", ("C", 4)), "sm_90"));
        string[] others =
        [
            KernelCache.Key("texu", headers, spec, "sm_90"),
            KernelCache.Key("text", [new("h.cuh", "int y;")], spec, "sm_90"),
            KernelCache.Key("text", [new("i.cuh", "int x;")], spec, "sm_90"),
            KernelCache.Key("text", [], spec, "sm_90"),
            KernelCache.Key("text", headers, new KernelSpec("a.cu", "f", ("C", 5)), "sm_90"),
            KernelCache.Key("text", headers, new KernelSpec("a.cu", "f", ("D", 4)), "sm_90"),
            KernelCache.Key("text", headers, new KernelSpec("b.cu", "f", ("C", 4)), "sm_90"),
            KernelCache.Key("text", headers, spec, "sm_89"),
        ];
        Assert.Equal(others.Length + 1, others.Append(key).Distinct().Count());
    }

    [Fact]
    public void What_is_kept_is_found_by_the_same_compiler_and_where_there_is_none()
    {
        KernelCache cache = new(_folder["kept"]);
        Assert.Null(cache.Find("k", s_version));
        cache.Add("k", s_version, [1, 2, 3]);
        Assert.Equal([1, 2, 3], cache.Find("k", s_version)!);
        Assert.Equal([1, 2, 3], new KernelCache(_folder["kept"]).Find("k", null)!);
        Assert.Null(cache.Find("k", new Version(13, 0)));
    }

    [Fact]
    public void A_damaged_file_is_not_there()
    {
        KernelCache cache = new(_folder.Path);
        cache.Add("k", s_version, [.. Enumerable.Range(0, 100).Select(i => (byte)i)]);
        byte[] good = File.ReadAllBytes(_folder["k.image"]);
        for (int i = 0; i < good.Length; i++)
        {
            byte[] bad = [.. good];
            bad[i] ^= 0x40;
            File.WriteAllBytes(_folder["k.image"], bad);
            Assert.Null(cache.Find("k", s_version));
            File.WriteAllBytes(_folder["k.image"], good[..i]);
            Assert.Null(cache.Find("k", s_version));
        }
    }

    [Fact]
    public void A_folder_that_cannot_be_written_costs_a_compilation_and_no_more()
    {
        File.WriteAllText(_folder["file"], "");
        KernelCache cache = new(_folder["file"]);
        cache.Add("k", s_version, [1]);
        Assert.Null(cache.Find("k", s_version));
        Assert.Null(new KernelCache("").Directory);
    }

    [Fact]
    public void Many_writers_leave_one_whole_file()
    {
        KernelCache cache = new(_folder.Path);
        byte[][] images = [.. Enumerable.Range(0, 16).Select(i => Enumerable.Repeat((byte)i, 50_000).ToArray())];
        Parallel.For(0, 64, i =>
        {
            cache.Add("k", s_version, images[i % 16]);
            byte[]? found = cache.Find("k", s_version);
            Assert.True(found is null || images.Any(image => image.AsSpan().SequenceEqual(found)));
        });
        Assert.NotNull(cache.Find("k", s_version));
        Assert.Single(Directory.GetFiles(_folder.Path));
    }

    [Fact]
    public void A_backend_compiles_into_the_folder_and_then_out_of_it()
    {
        using (GpuBackend first = SmallPlan.Open(new GpuOptions { CacheDirectory = _folder.Path }))
        {
            SmallPlan.Run(first);
        }

        Dictionary<string, DateTime> written = Directory.GetFiles(_folder.Path).ToDictionary(f => f, File.GetLastWriteTimeUtc);
        Assert.NotEmpty(written);
        using GpuBackend second = SmallPlan.Open(new GpuOptions { CacheDirectory = _folder.Path });
        SmallPlan.Run(second);
        Assert.Equal(written, Directory.GetFiles(_folder.Path).ToDictionary(f => f, File.GetLastWriteTimeUtc));
    }
}

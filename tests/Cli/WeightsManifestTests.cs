using System.Security.Cryptography;
using System.Text.Json;
using Xunit;

namespace Kernels.Tests.Cli;

public sealed class WeightsManifestTests
{
    [Fact]
    public void The_manifest_lists_the_weights_as_they_are()
    {
        string folder = Path.Combine(AppContext.BaseDirectory, "weights");
        using JsonDocument manifest = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "manifest.json")));
        List<string> listed = [];
        foreach (JsonElement entry in manifest.RootElement.EnumerateArray())
        {
            string file = entry.GetProperty("file").GetString()!;
            byte[] bytes = File.ReadAllBytes(Path.Combine(folder, file));
            Assert.Equal(bytes.Length, entry.GetProperty("bytes").GetInt64());
            Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(bytes)), entry.GetProperty("sha256").GetString());
            listed.Add(file);
        }

        Assert.Equal(Directory.GetFiles(folder, "*.safetensors").Select(p => Path.GetFileName(p)!).Order(), listed.Order());
    }
}

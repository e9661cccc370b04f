using System.Text;
using Kernels.Files;

namespace Kernels.Checkpoints;

/// <summary>
/// The weights in a file: safetensors, or a state dict written by <c>torch.save</c> in either of its containers. Opening reads and checks
/// the file's structure; the elements are read when a tensor is asked for them, so the file stays open until disposed.
/// </summary>
public sealed class Checkpoint : IDisposable
{
    private readonly ByteSource _source;

    private Checkpoint(
        ByteSource source, string format, OrderedDictionary<string, CheckpointTensor> tensors, IReadOnlyDictionary<string, string> metadata)
    {
        _source = source;
        Format = format;
        Tensors = tensors;
        Metadata = metadata;
    }

    /// <summary>The path of the file.</summary>
    public string File => _source.File;

    /// <summary>The container: <c>safetensors</c>, <c>torch zip</c> or <c>torch legacy</c>.</summary>
    public string Format { get; }

    /// <summary>The strings that the file holds beside its tensors: the header's metadata of safetensors, the top-level strings of a saved dict.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>The tensors by their keys in the state dict, in the order of the file.</summary>
    public IReadOnlyDictionary<string, CheckpointTensor> Tensors { get; }

    /// <summary>Opens a checkpoint. The container is recognised by its content, whatever the name.</summary>
    /// <param name="path">The file.</param>
    /// <param name="key">
    /// Where the state dict is in the saved object, as <c>ema</c> or <c>models.ema</c>; empty for the top level. Null takes the only one there is.
    /// In a safetensors file, which cannot nest, it selects the tensors named <c>key/...</c> or <c>key.</c>... and leaves that part of the names out.
    /// </param>
    /// <exception cref="InvalidFileException">
    /// The file is missing, damaged, dishonest or no checkpoint; or it holds several state dicts and no key chooses one, in which case the message lists them.
    /// </exception>
    public static Checkpoint Load(string path, string? key = null)
    {
        ArgumentNullException.ThrowIfNull(path);
        return Load(FileSource.Open(path), key);
    }

    /// <summary>Opens a checkpoint in any source of bytes, which the result owns.</summary>
    internal static Checkpoint Load(ByteSource source, string? key = null)
    {
        try
        {
            byte[] head = source.Read(0, (int)Math.Min(source.Length, 64));
            if (SafeTensorsReader.Recognizes(head))
            {
                (OrderedDictionary<string, CheckpointTensor> tensors, Dictionary<string, string> metadata) = SafeTensorsReader.Read(source);
                return new Checkpoint(source, SafeTensorsReader.Format, SafeTensorsReader.Select(source, tensors, key), metadata);
            }

            if (ZipContainer.Recognizes(head))
            {
                ZipContainer zip = ZipContainer.Open(source);
                return TorchZip.Recognizes(zip)
                    ? FromTorch(source, TorchZip.Format, TorchZip.Read(source, zip), key)
                    : throw source.Invalid("is a ZIP file without a data.pkl: not a checkpoint of torch.save");
            }

            return TorchLegacy.Recognizes(head)
                ? FromTorch(source, TorchLegacy.Format, TorchLegacy.Read(source), key)
                : throw source.Invalid(WhatElse(head));
        }
        catch
        {
            source.Dispose();
            throw;
        }
    }

    /// <summary>Closes the file; tensors cannot be read any more.</summary>
    public void Dispose() => _source.Dispose();

    private static Checkpoint FromTorch(ByteSource source, string format, object? saved, string? key) =>
        new(source, format, StateDicts.Select(source, saved, key), StateDicts.Metadata(saved));

    // The files that come out of failed downloads, and those of neighbouring programs.
    private static string WhatElse(ReadOnlySpan<byte> head)
    {
        string text = Encoding.Latin1.GetString(head);
        return text switch
        {
            "" => "is empty",
            _ when text.StartsWith("version https://git-lfs", StringComparison.Ordinal) => "is a Git LFS pointer, not the file itself; run 'git lfs pull'",
            _ when text.TrimStart().StartsWith('<') => "is a web page, not a checkpoint; download the file itself",
            _ when text.StartsWith("\u001f\u008b", StringComparison.Ordinal) => "is compressed with gzip; unpack it first",
            _ when text.StartsWith("\u0093NUMPY", StringComparison.Ordinal) => "is a NumPy array, not a checkpoint",
            _ => $"is no checkpoint that Kernels reads (safetensors, torch.save); it begins with {Convert.ToHexStringLower(head[..Math.Min(8, head.Length)])}",
        };
    }
}

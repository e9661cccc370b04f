using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace Kernels.Sampling;

/// <summary>
/// SHA-256 of x after every step, of every image by itself: h(i, s) = SHA-256 of the binary32 values of image i after step s, little-endian, in the order <c>[H, W, C]</c>. So the
/// hashes of an image are the same whatever the batch, the shard or the process that it was sampled in.
/// </summary>
public sealed class StepHashes
{
    /// <summary>Bytes of one hash.</summary>
    public const int HashBytes = SHA256.HashSizeInBytes;

    /// <summary>Makes room for the hashes of some images.</summary>
    /// <param name="images">Number of images N.</param>
    /// <param name="steps">Number of steps S.</param>
    public StepHashes(int images, int steps)
        : this(steps, new byte[checked(images * steps * HashBytes)])
    {
    }

    internal StepHashes(int steps, byte[] bytes)
    {
        Steps = steps;
        Bytes = bytes;
    }

    /// <summary>Number of steps S.</summary>
    public int Steps { get; }

    /// <summary>Number of images N.</summary>
    public int Images => Bytes.Length / (Steps * HashBytes);

    /// <summary>All hashes, <c>[N, S, 32]</c>.</summary>
    internal byte[] Bytes { get; }

    /// <summary>The hash of one image after one step.</summary>
    /// <param name="image">The image, from 0.</param>
    /// <param name="step">The step, from 0.</param>
    public ReadOnlySpan<byte> Of(int image, int step) => Bytes.AsSpan(((image * Steps) + step) * HashBytes, HashBytes);

    /// <summary>The hashes of one image after all steps, <c>[S, 32]</c>.</summary>
    /// <param name="image">The image, from 0.</param>
    public ReadOnlySpan<byte> Of(int image) => Bytes.AsSpan(image * Steps * HashBytes, Steps * HashBytes);

    /// <summary>The hashes of one image by themselves.</summary>
    /// <param name="image">The image, from 0.</param>
    internal StepHashes Slice(int image) => new(Steps, Of(image).ToArray());

    /// <summary>Hashes what a batch looks like after a step.</summary>
    /// <param name="first">Where its images begin among these.</param>
    /// <param name="count">Number of its images.</param>
    /// <param name="step">The step, from 0.</param>
    /// <param name="x">x after the step, <c>[count, H, W, C]</c>.</param>
    public void Record(int first, int count, int step, ReadOnlySpan<float> x)
    {
        int elements = x.Length / count;
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(x.Slice(i * elements, elements));
            SHA256.HashData(bytes, Bytes.AsSpan((((first + i) * Steps) + step) * HashBytes, HashBytes));
        }
    }
}

using System.Numerics;
using System.Runtime.CompilerServices;

namespace Kernels.Diffusion;

/// <summary>
/// Random numbers that are functions of what they are for: every image has its own stream, so an image does not depend on the batch it
/// was sampled in, on the number of threads, or on the device. Values come from <c>Philox4x32-10</c> with key = seed and counter =
/// (element / 4, draw, image, image >> 32); its words (a, b) and (c, d) make elements 4k, 4k + 1 and 4k + 2, 4k + 3 by Box and
/// Muller's transform. Elements count through one image in channels-last order [H, W, C].
/// </summary>
public static class RandomStreams
{
    /// <summary>The draw that starts sampling: x_T.</summary>
    public const uint InitialNoise = 0;

    // Out of reach of any step of any process.
    private const uint LabelDraw = uint.MaxValue;
    private const int BlockPairs = 128;

    /// <summary>The draw for the noise of a step.</summary>
    /// <param name="step">Steps executed before it: the row in a <see cref="StepTable"/>.</param>
    public static uint StepNoise(int step) => (uint)step + 1;

    /// <summary>The draw for the noise that the known part of an image gets after a step of inpainting. Steps stay below 2^29, so no two kinds of draws meet.</summary>
    /// <param name="step">Steps executed before it.</param>
    public static uint KnownNoise(int step) => 0x4000_0000u + (uint)step;

    /// <summary>The draw for the noise with which resampling jumps back up after a step.</summary>
    /// <param name="step">Steps executed before it.</param>
    public static uint JumpNoise(int step) => 0x8000_0000u + (uint)step;

    /// <summary>Fills a run of elements of one image with standard normal values.</summary>
    /// <param name="seed">The job's seed.</param>
    /// <param name="image">The image's index in the job.</param>
    /// <param name="draw"><see cref="InitialNoise"/>, <see cref="StepNoise"/> or another of the draws named here.</param>
    /// <param name="firstElement">Index in the image of the first value; any, so that threads may share an image.</param>
    /// <param name="destination">Receives the values.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="firstElement"/> is negative.</exception>
    [SkipLocalsInit]
    public static void Normals(ulong seed, ulong image, uint draw, int firstElement, Span<float> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(firstElement);
        Span<uint> radii = stackalloc uint[BlockPairs];
        Span<uint> angles = stackalloc uint[BlockPairs];
        Span<float> values = stackalloc float[2 * BlockPairs];
        uint counter = (uint)firstElement / 4;
        int skip = firstElement % 4;
        while (!destination.IsEmpty)
        {
            int wanted = Math.Min(destination.Length + skip, values.Length);
            int pairs = (wanted + 3) / 4 * 2;
            for (int i = 0; i < pairs; i += 2)
            {
                (radii[i], angles[i], radii[i + 1], angles[i + 1]) = Philox.Words(counter++, draw, (uint)image, (uint)(image >> 32), seed);
            }

            Transform(radii, angles, pairs, values);
            values[skip..wanted].CopyTo(destination);
            destination = destination[(wanted - skip)..];
            skip = 0;
        }
    }

    /// <summary>A class label drawn evenly from [0, <paramref name="classes"/>).</summary>
    /// <param name="seed">The job's seed.</param>
    /// <param name="image">The image's index in the job.</param>
    /// <param name="classes">Number of classes.</param>
    /// <exception cref="ArgumentOutOfRangeException">No class to draw.</exception>
    public static int Label(ulong seed, ulong image, int classes)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(classes);
        uint word = Philox.Words(0, LabelDraw, (uint)image, (uint)(image >> 32), seed).R0;
        return (int)(((ulong)word * (uint)classes) >> 32);
    }

    // Whole vectors only: words past the last pair are left from before, and what they turn into is not used.
    private static void Transform(Span<uint> radii, Span<uint> angles, int pairs, Span<float> values)
    {
        Span<float> first = stackalloc float[Vector<float>.Count];
        Span<float> second = stackalloc float[Vector<float>.Count];
        for (int i = 0; i < pairs; i += Vector<float>.Count)
        {
            (Vector<float> cosines, Vector<float> sines) = BoxMuller.Transform(new Vector<uint>(radii[i..]), new Vector<uint>(angles[i..]));
            cosines.CopyTo(first);
            sines.CopyTo(second);
            for (int k = 0; k < first.Length; k++)
            {
                values[2 * (i + k)] = first[k];
                values[(2 * (i + k)) + 1] = second[k];
            }
        }
    }
}

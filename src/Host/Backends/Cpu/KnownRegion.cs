using System.Runtime.CompilerServices;
using Kernels.Diffusion;

namespace Kernels.Backends.Cpu;

/// <summary>The row of an <see cref="InpaintingSchedule"/> that the counter selects.</summary>
/// <param name="levels">The rows.</param>
/// <param name="steps">Number of rows.</param>
/// <param name="step">The counter.</param>
internal readonly unsafe struct Levels(float* levels, int steps, int* step)
{
    /// <summary>The counter.</summary>
    public int Step => *step;

    /// <summary>Weights of the known image and its noise, then of the forward process and its noise.</summary>
    public ReadOnlySpan<float> Row => (uint)*step < (uint)steps
        ? new ReadOnlySpan<float>(levels + ((nint)(*step) * InpaintingSchedule.Columns), InpaintingSchedule.Columns)
        : throw new GraphException($"step {*step} is not one of the {steps} levels of inpainting");
}

/// <summary>Puts what is known into the result of a step; an item is a row of pixels.</summary>
internal sealed unsafe class KnownRegionKernel(float* x, float* known, float* mask, Levels levels, int* seed, int* indices, float* y, Shape shape)
    : RangeKernel(new WorkItems(shape[0] * shape[1], shape[2] * shape[3]))
{
    // Elements whose noise is on the stack at a time.
    private const int Block = 256;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        int row = shape[2] * shape[3];
        for (int item = begin; item < end; item++)
        {
            (int image, int line) = Math.DivRem(item, shape[1]);
            for (int e = 0; e < row; e += Block)
            {
                Run(image, (line * row) + e, Math.Min(Block, row - e));
            }
        }
    }

    // The same operations in the same order as the device's kernel, each rounded by itself.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Run(int image, int first, int count)
    {
        ReadOnlySpan<float> row = levels.Row;
        int channels = shape[3];
        nint at = ((nint)image * shape[1] * shape[2] * channels) + first;
        ulong key = Word(seed), index = Word(indices + (2 * image));
        Span<float> noise = stackalloc float[Block];
        noise = noise[..count];
        RandomStreams.Normals(key, index, RandomStreams.KnownNoise(levels.Step), first, noise);
        for (int i = 0; i < count; i++)
        {
            float m = mask[(at + i) / channels], noised = (row[0] * known[at + i]) + (row[1] * noise[i]);
            y[at + i] = m >= 1 ? noised : m > 0 ? (m * noised) + ((1 - m) * x[at + i]) : x[at + i];
        }

        if (row[3] != 0)
        {
            RandomStreams.Normals(key, index, RandomStreams.JumpNoise(levels.Step), first, noise);
            for (int i = 0; i < count; i++)
            {
                y[at + i] = (row[2] * y[at + i]) + (row[3] * noise[i]);
            }
        }
    }

    private static ulong Word(int* words) => ((ulong)(uint)words[1] << 32) | (uint)words[0];
}

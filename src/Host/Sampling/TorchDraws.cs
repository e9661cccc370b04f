using Kernels.Diffusion;

namespace Kernels.Sampling;

/// <summary>What PyTorch would draw for the batches of a job, one batch after the other.</summary>
/// <param name="source">The generator.</param>
/// <param name="seed">The seed.</param>
/// <param name="shape">Batch and images.</param>
/// <param name="steps">Steps of a batch.</param>
/// <param name="classes">Number of classes to draw labels from; 0 to draw none.</param>
internal sealed class TorchDraws(RandomSource source, ulong seed, Shape shape, int steps, int classes)
{
    private readonly float[] _noise = new float[shape.Elements];
    private readonly int _images = shape[0];
    private ITorchGenerator _generator = source.Create(seed);

    // The batch that the generator stands before; -1 within one.
    private long _next;
    private int _drawn;
    private long _batch;

    /// <summary>Draws what a batch begins with.</summary>
    /// <param name="batch">Index of the batch.</param>
    /// <returns>Its labels, none if none are drawn, and x_T of all its images <c>[N, H, W, C]</c>, good until the first step.</returns>
    public (int[] Labels, float[] Initial) Begin(long batch)
    {
        if (_next != batch)
        {
            // Earlier batches have to be drawn, though nobody looks at them.
            _generator = source.Create(seed);
            int[] passed = new int[classes > 0 ? _images : 0];
            for (long b = 0; b < batch; b++)
            {
                Labels(passed);
                for (int draw = 0; draw <= steps; draw++)
                {
                    _generator.SkipRandn(_noise.Length);
                }
            }
        }

        (_next, _drawn, _batch) = (-1, 0, batch);
        int[] labels = new int[classes > 0 ? _images : 0];
        Labels(labels);
        Draw();
        return (labels, _noise);
    }

    /// <summary>Draws the noise of the next step of the batch.</summary>
    /// <param name="noise">Receives that of its first images.</param>
    public void Step(Span<float> noise)
    {
        Draw();
        _noise.AsSpan(0, noise.Length).CopyTo(noise);
        if (++_drawn == steps)
        {
            _next = _batch + 1;
        }
    }

    private void Labels(int[] labels)
    {
        if (classes > 0)
        {
            _generator.RandInt(classes, labels);
        }
    }

    private void Draw() => _generator.RandnChannelsLast(shape[3], shape[1] * shape[2], _noise);
}

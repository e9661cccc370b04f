using System.Runtime.CompilerServices;
using Kernels.Diffusion;
using Kernels.Diffusion.Steps;

namespace Kernels.Backends.Cpu;

/// <summary>Lowering of the ops around the models: what makes a step of the sampler.</summary>
internal sealed unsafe partial class CpuLowering
{
    private CpuKernel? Sampling(Op node, Node n)
    {
        IReadOnlyList<Tensor> i = n.Inputs;
        Shape s = n.Output.Shape;
        switch (node)
        {
            case StepTimesteps:
                return new StepTimestepsKernel(F(i[0]), i[0].Shape[0], I(i[1]), F(n.Output), s[0]);
            case ChunkTimesteps op:
                return new ChunkTimestepsKernel(F(i[0]), i[0].Shape[0], I(i[1]), F(n.Output), op.Steps, op.Images);
            case SelectStep:
                return new SelectStepKernel(I(i[0]), I(i[1]), i[2].Shape[0], [.. n.Outputs.Select((y, b) => new StepTablePointer(F(i[2 + b]), i[2 + b].Shape[1], F(y), y.Shape))]);
            case AdvanceStep:
                return new AdvanceStepKernel(I(i[0]), I(n.Output));
            case StepNoise:
                return new StepNoiseKernel(I(i[0]), I(i[1]), I(i[2]), F(n.Output), s[0], s.Elements / s[0]);
            case KnownRegion:
                return new KnownRegionKernel(F(i[0]), F(i[1]), F(i[2]), new Levels(F(i[3]), i[3].Shape[0], I(i[4])), I(i[5]), I(i[6]), F(n.Output), s);
            case ClassifierFreeGuidance op:
                return new ClassifierFreeGuidanceKernel(op.Parameterization, F(i[0]), Row(i, 1), F(n.Output), s);
            default:
                return null;
        }
    }

    private void Lower(SamplerUpdate op, Node node)
    {
        IReadOnlyList<Tensor> i = node.Inputs, y = node.Outputs;
        Shape s = y[0].Shape;
        float* noise = op.Noise ? F(i[SamplerUpdate.NoiseInput]) : null;
        if (op.DrawsNoise)
        {
            // The noise waits where pred_xstart will be, and each element is read before that is written over it.
            noise = F(y[1]);
            Emit(new StepNoiseKernel(I(i[SamplerUpdate.NoiseInput]), I(i[SamplerUpdate.NoiseInput + 1]), I(i[SamplerUpdate.StepInput]), noise, s[0], s.Elements / s[0]));
        }

        HistoryPointer history = op.HistoryLength == 0 ? default : new(F(i[op.HistoryInput]), F(y[SamplerUpdate.HistoryOutput]));
        Emit(new SamplerUpdateKernel(op, F(i[0]), F(i[1]), Row(i, 2), noise, op.Guided ? F(i[op.GradientInput]) : null, history, F(y[0]), F(y[1]), s));
        if (op.Advances)
        {
            Emit(new AdvanceStepKernel(I(i[SamplerUpdate.StepInput]), I(y[^1])));
        }
    }

    private StepRowPointer Row(IReadOnlyList<Tensor> inputs, int table) => new(F(inputs[table]), inputs[table].Shape[0], I(inputs[table + 1]));
}

/// <summary>The row of a step table that the counter selects.</summary>
/// <param name="table">The table.</param>
/// <param name="steps">Number of rows.</param>
/// <param name="step">The counter.</param>
internal readonly unsafe struct StepRowPointer(float* table, int steps, int* step)
{
    public StepRow Row =>
        (uint)*step < (uint)steps
            ? new StepRow(new ReadOnlySpan<float>(table + ((nint)(*step) * StepTable.Columns), StepTable.Columns))
            : throw new GraphException($"step {*step} is not one of the {steps} of the step table");
}

/// <summary>t[n] = the timestep of the current step.</summary>
internal sealed unsafe class StepTimestepsKernel(float* table, int steps, int* step, float* t, int images) : RangeKernel(new WorkItems(images, 1))
{
    private readonly StepRowPointer _row = new(table, steps, step);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end) => new Span<float>(t + begin, end - begin).Fill(_row.Row[StepColumn.ModelTimestep]);
}

/// <summary>t[k·N + n] = the timestep of step first + k, or of the last.</summary>
internal sealed unsafe class ChunkTimestepsKernel(float* table, int steps, int* first, float* t, int chunk, int images) : RangeKernel(new WorkItems(chunk, images))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        if ((uint)*first >= (uint)steps)
        {
            throw new GraphException($"first step {*first} is not one of the {steps} of the step table");
        }

        for (int k = begin; k < end; k++)
        {
            StepRow row = new(new ReadOnlySpan<float>(table + ((nint)Math.Min(*first + k, steps - 1) * StepTable.Columns), StepTable.Columns));
            new Span<float>(t + ((nint)k * images), images).Fill(row[StepColumn.ModelTimestep]);
        }
    }
}

/// <summary>A table <c>[K, Rows, C]</c> and where the rows of the current step go.</summary>
internal readonly unsafe struct StepTablePointer(float* table, int rows, float* target, Shape shape)
{
    /// <summary>Copies the rows of one step.</summary>
    /// <param name="row">The step's position in the table.</param>
    public void Copy(int row)
    {
        int width = shape[1], images = shape[0], run = rows == 1 ? width : width * images;
        ReadOnlySpan<float> source = new(table + ((nint)row * rows * width), run);
        for (int n = 0; n < width * images; n += run)
        {
            source.CopyTo(new Span<float>(target + n, run));
        }
    }
}

/// <summary>The rows of the current step; an item is a table.</summary>
internal sealed unsafe class SelectStepKernel(int* step, int* first, int steps, StepTablePointer[] tables) : RangeKernel(new WorkItems(tables.Length, 1))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        int row = *step - *first;
        if ((uint)row >= (uint)steps)
        {
            throw new GraphException($"step {*step} is not one of the {steps} from step {*first} on that the tables hold");
        }

        for (int b = begin; b < end; b++)
        {
            tables[b].Copy(row);
        }
    }
}

/// <summary>The counter plus one.</summary>
internal sealed unsafe class AdvanceStepKernel(int* step, int* next) : RangeKernel(new WorkItems(1, 1))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end) => *next = *step + 1;
}

/// <summary>Normal noise; an item is an image.</summary>
internal sealed unsafe class StepNoiseKernel(int* seed, int* indices, int* step, float* noise, int images, int elements) : RangeKernel(new WorkItems(images, elements))
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        ulong key = ((ulong)(uint)seed[1] << 32) | (uint)seed[0];
        for (int n = begin; n < end; n++)
        {
            ulong image = ((ulong)(uint)indices[(2 * n) + 1] << 32) | (uint)indices[2 * n];
            RandomStreams.Normals(key, image, RandomStreams.StepNoise(*step), 0, new Span<float>(noise + ((nint)n * elements), elements));
        }
    }
}

/// <summary>Combines the two halves of a classifier-free pass; an item is a pixel.</summary>
internal sealed unsafe class ClassifierFreeGuidanceKernel(Parameterization parameterization, float* both, StepRowPointer row, float* y, Shape shape)
    : RangeKernel(new WorkItems(shape.Elements / shape[3], shape[3]))
{
    private readonly int _outputs = shape[3];
    private readonly nint _half = shape.Elements;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        nint offset = (nint)begin * _outputs;
        int n = (end - begin) * _outputs;
        SamplerMath.ClassifierFreeGuidance(
            row.Row,
            parameterization,
            _outputs / parameterization.OutputsPerChannel,
            new ReadOnlySpan<float>(both + offset, n),
            new ReadOnlySpan<float>(both + _half + offset, n),
            new Span<float>(y + offset, n));
    }
}

/// <summary>Where earlier evaluations lie before an update and after it.</summary>
internal readonly unsafe struct HistoryPointer(float* previous, float* next)
{
    /// <summary>The elements of a range of pixels, of all evaluations.</summary>
    /// <param name="sampler">The sampler.</param>
    /// <param name="stride">Elements of one evaluation.</param>
    /// <param name="offset">The first element.</param>
    /// <param name="count">Number of elements.</param>
    public UpdateHistory Slice(SamplerKind sampler, int stride, nint offset, int count)
    {
        int length = sampler.HistoryLength(), span = ((length - 1) * stride) + count;
        return length == 0 ? default : new UpdateHistory(new ReadOnlySpan<float>(previous + offset, span), new Span<float>(next + offset, span), stride, length, sampler.History());
    }
}

/// <summary>The sampler update; an item is a pixel.</summary>
internal sealed unsafe class SamplerUpdateKernel(
    SamplerUpdate op, float* x, float* modelOutput, StepRowPointer row, float* noise, float* gradient, HistoryPointer history, float* xNext, float* predXstart, Shape shape)
    : RangeKernel(new WorkItems(shape.Elements / shape[3], shape[3]))
{
    // Pixels whose two halves are combined at a time, on the stack.
    private const int CombinedPixels = 64;

    private readonly int _channels = shape[3];
    private readonly int _outputs = shape[3] * op.Parameterization.OutputsPerChannel;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void RunRange(int begin, int end)
    {
        if (!op.ClassifierFree)
        {
            Update(begin, end, new ReadOnlySpan<float>(modelOutput + ((nint)begin * _outputs), (end - begin) * _outputs));
            return;
        }

        Span<float> combined = stackalloc float[CombinedPixels * _outputs];
        nint half = (nint)shape.Elements * op.Parameterization.OutputsPerChannel;
        for (int first = begin; first < end; first += CombinedPixels)
        {
            int pixels = Math.Min(CombinedPixels, end - first);
            nint offset = (nint)first * _outputs;
            Span<float> output = combined[..(pixels * _outputs)];
            SamplerMath.ClassifierFreeGuidance(
                row.Row,
                op.Parameterization,
                _channels,
                new ReadOnlySpan<float>(modelOutput + offset, output.Length),
                new ReadOnlySpan<float>(modelOutput + half + offset, output.Length),
                output);
            Update(first, first + pixels, output);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Update(int begin, int end, ReadOnlySpan<float> output)
    {
        nint offset = (nint)begin * _channels;
        int n = (end - begin) * _channels;
        ReadOnlySpan<float> g = gradient is null ? [] : new(gradient + offset, n);
        ReadOnlySpan<float> z = noise is null ? [] : new(noise + offset, n);
        ReadOnlySpan<float> current = new(x + offset, n);
        Span<float> next = new(xNext + offset, n);
        Span<float> xStart = new(predXstart + offset, n);
        if (op.Sampler == SamplerKind.Ddpm)
        {
            SamplerMath.DdpmUpdate(row.Row, op.Parameterization, _channels, current, output, g, z, next, xStart);
        }
        else
        {
            SamplerMath.LinearUpdate(row.Row, op.Parameterization, _channels, current, output, g, z, next, xStart, history.Slice(op.Sampler, shape.Elements, offset, n));
        }
    }
}

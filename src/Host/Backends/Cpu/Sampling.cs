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
            case AdvanceStep:
                return new AdvanceStepKernel(I(i[0]), I(n.Output));
            case StepNoise:
                return new StepNoiseKernel(I(i[0]), I(i[1]), I(i[2]), F(n.Output), s[0], s.Elements / s[0]);
            case ClassifierFreeGuidance op:
                return new ClassifierFreeGuidanceKernel(op.Parameterization, F(i[0]), Row(i, 1), F(n.Output), s);
            case SamplerUpdate op:
                return new SamplerUpdateKernel(
                    op, F(i[0]), F(i[1]), Row(i, 2), op.Noise ? F(i[4]) : null, op.Guided ? F(i[^1]) : null, F(n.Output), F(n.Outputs[1]), s);
            default:
                return null;
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

    protected override void RunRange(int begin, int end) => new Span<float>(t + begin, end - begin).Fill(_row.Row[StepColumn.ModelTimestep]);
}

/// <summary>The counter plus one.</summary>
internal sealed unsafe class AdvanceStepKernel(int* step, int* next) : RangeKernel(new WorkItems(1, 1))
{
    protected override void RunRange(int begin, int end) => *next = *step + 1;
}

/// <summary>Normal noise; an item is an image.</summary>
internal sealed unsafe class StepNoiseKernel(int* seed, int* indices, int* step, float* noise, int images, int elements) : RangeKernel(new WorkItems(images, elements))
{
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

/// <summary>The sampler update; an item is a pixel.</summary>
internal sealed unsafe class SamplerUpdateKernel(
    SamplerUpdate op, float* x, float* modelOutput, StepRowPointer row, float* noise, float* gradient, float* xNext, float* predXstart, Shape shape)
    : RangeKernel(new WorkItems(shape.Elements / shape[3], shape[3]))
{
    private readonly int _channels = shape[3];

    protected override void RunRange(int begin, int end)
    {
        nint offset = (nint)begin * _channels;
        int n = (end - begin) * _channels;
        int k = op.Parameterization.OutputsPerChannel;
        ReadOnlySpan<float> output = new(modelOutput + (offset * k), n * k);
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
            SamplerMath.DdimUpdate(row.Row, op.Parameterization, _channels, current, output, g, z, next, xStart);
        }
    }
}

using System.Numerics.Tensors;
using Kernels.Backends.Cpu;
using Kernels.Models;
using Kernels.Passes;
using Kernels.Runtime;
using Xunit;

namespace Kernels.Tests.Models;

/// <summary>Random models stand in for real ones: the same everywhere, scaled so that no activation dies or explodes.</summary>
public sealed class PresetModelsTests
{
    [Fact]
    public void Weights_are_functions_of_seed_and_name()
    {
        Model a = PresetModels.Random("shapes32", 1);
        Model b = PresetModels.Random("shapes32", 1);
        Model other = PresetModels.Random("shapes32", 2);
        Assert.Equal(Values(a, "out.2.weight"), Values(b, "out.2.weight"));
        Assert.NotEqual(Values(a, "out.2.weight"), Values(other, "out.2.weight"));
        Assert.NotEqual(Values(a, "input_blocks.1.0.out_layers.3.weight"), Values(a, "input_blocks.2.0.out_layers.3.weight"));
    }

    [Fact]
    public void Weights_are_uniform_with_the_variance_of_their_fan_in()
    {
        Model model = PresetModels.Random("shapes32", 3);
        float[] w = Values(model, "output_blocks.0.0.in_layers.2.weight");
        double fanIn = 128 * 9;

        // 73728 draws: the standard error of the mean is 1/271 of a standard deviation, that of the variance 1/303 of itself; five of each.
        Assert.Equal(0, w.Average(v => (double)v) * Math.Sqrt(fanIn), 5.0 / 271);
        Assert.Equal(1, w.Average(v => (double)v * v) * fanIn, 5.0 / 303);
        Assert.InRange(w.Max() * Math.Sqrt(fanIn), 0.99 * Math.Sqrt(3), 1.000001 * Math.Sqrt(3));
        Assert.All(Values(model, "out.0.weight"), v => Assert.InRange(v, 0.9f, 1.1f));
        Assert.All(Values(model, "out.0.bias"), v => Assert.InRange(v, -0.1f, 0.1f));
    }

    [Theory]
    [InlineData("shapes32")]
    [InlineData("shapes32-classifier")]
    public void Activations_keep_their_scale(string preset)
    {
        Model model = PresetModels.Random(preset);
        using CpuBackend backend = new();
        Graph graph = WeightList.Forward(model.Config, 32);
        using Executor executor = backend.Compile(Plan.Create(Fusion.Apply(graph, null).Graph), model.Weights);
        executor.Write("x", Enumerable.Range(0, 32 * 32 * 3).Select(i => MathF.Sin(i)).ToArray());
        executor.Write("t", new float[] { 500 });
        if (model.Config.NumClasses is not null)
        {
            executor.Write("y", new[] { 3 });
        }

        executor.Run();
        float[] output = executor.Read(graph.Outputs.Keys.Single());
        Assert.InRange(TensorPrimitives.Norm<float>(output) / Math.Sqrt(output.Length), 0.1, 10);
    }

    [Fact]
    public void Names_and_shapes_are_those_of_the_model()
    {
        Model model = PresetModels.Random("adm64");
        model.Weights.Check(WeightList.Forward(model.Config, 64));
        Assert.Equal(295_904_454, model.Weights.Names.Sum(n => (long)model.Weights.ShapeOf(n)!.Value.Elements));
    }

    private static float[] Values(Model model, string name)
    {
        float[] values = new float[model.Weights.ShapeOf(name)!.Value.Elements];
        model.Weights.CopyTo(name, values);
        return values;
    }
}

using Kernels.Diffusion;
using Kernels.Diffusion.Steps;
using Kernels.Passes;
using Kernels.Runtime;
using Kernels.Tests.Support;
using Kernels.Tests.Verification;
using Xunit;

namespace Kernels.Tests.Diffusion;

/// <summary>The tail of a step as one launch: guidance, noise, update and counter.</summary>
public sealed class SamplerFusionTests(CpuFixture cpu) : IClassFixture<CpuFixture>
{
    private static readonly Parameterization s_parameterization = new(ModelMeanType.Epsilon, ModelVarType.LearnedRange, true);

    [Theory]
    [InlineData(SamplerKind.Ddpm, 0, 0, false, 2)]
    [InlineData(SamplerKind.Ddpm, 0, 1.5, false, 3)]
    [InlineData(SamplerKind.Ddpm, 0, 1.5, true, 2)]
    [InlineData(SamplerKind.Ddim, 0.5, 1.5, false, 3)]
    [InlineData(SamplerKind.Ddim, 0, 0, false, 1)]
    [InlineData(SamplerKind.DdimReverse, 0, 0, false, 1)]
    [InlineData(SamplerKind.Heun, 0, 1.5, false, 2)]
    [InlineData(SamplerKind.DpmSolverPlusPlus2MSde, 0, 1.5, false, 3)]
    [InlineData(SamplerKind.Plms, 0, 0, false, 1)]
    public void The_tail_of_a_step_is_one_launch_of_the_same_bits(SamplerKind sampler, double eta, double cfgScale, bool suppliedNoise, int absorbed)
    {
        SamplerSettings settings = new() { Sampler = sampler, Eta = eta, CfgScale = cfgScale, NullLabel = 10 };
        StepTable table = new(new GaussianDiffusion(new DiffusionConfig { TimestepRespacing = "4", LearnSigma = true }), sampler, eta, cfgScale: cfgScale);
        Graph graph = GuidedStep.Build(TestModels.UNet(), null, table, settings, 2, 8, 8, suppliedNoise);
        FusionResult with = Rewrites.Fuse(graph), without = Rewrites.Fuse(graph, ["sampler_update"]);
        Assert.Equal(absorbed, without.Graph.Launches - with.Graph.Launches);
        Node update = Assert.Single(with.Graph.Nodes, n => n.Op is SamplerUpdate or StepNoise or ClassifierFreeGuidance or AdvanceStep);
        Assert.Equal(
            new SamplerUpdate(
                sampler, s_parameterization, sampler.IsNoisy(eta), Guided: false, !suppliedNoise && sampler.IsNoisy(eta), cfgScale != 0, Advances: true),
            update.Op);
        string[] outputs = sampler.HistoryLength() > 0 ? ["x_next", "pred_xstart", "history_next", "step_next"] : ["x_next", "pred_xstart", "step_next"];
        Assert.Equal(outputs.Select(with.Graph.Output), update.Outputs);

        Dictionary<string, float[]> expected = Steps(without.Graph, table);
        foreach ((string name, float[] values) in Steps(with.Graph, table))
        {
            Assert.Equal(expected[name], values);
        }
    }

    [Fact]
    public void A_result_that_is_read_before_the_counter_moves_on_keeps_the_update_in_front()
    {
        GraphBuilder builder = Tail(out Tensor step, out Node update);
        builder.Output("y", builder.Add("between", new Kernels.Ops.Activation(Kernels.Ops.ActivationKind.SiLU), update.Outputs[1]));
        builder.Output("step_next", builder.Add("advance", new AdvanceStep(), step), updates: step);
        FusionResult result = Rewrites.Fuse(builder.Build());
        Assert.Equal(["SamplerUpdate", "Activation", "AdvanceStep"], result.Graph.Nodes.Select(n => n.Op.Name));
        Assert.Equal(0, result.Applied["sampler_update"]);
    }

    [Fact]
    public void The_counter_that_others_still_read_is_advanced_apart()
    {
        GraphBuilder builder = Tail(out Tensor step, out _);
        Tensor other = builder.Input("other", [1], DType.I32);
        builder.Output("other_next", builder.Add("advance", new AdvanceStep(), other), updates: other);
        builder.Output("t", builder.Add("late", new StepTimesteps(1), builder.Input("rows", [4, StepTable.Columns]), step));
        Assert.Equal(0, Rewrites.Fuse(builder.Build()).Applied["sampler_update"]);
    }

    private static GraphBuilder Tail(out Tensor step, out Node update)
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [1, 4, 4, 3]), output = builder.Input("output", [1, 4, 4, 6]), rows = builder.Input("step_table", [4, StepTable.Columns]);
        step = builder.Input("step", [1], DType.I32);
        update = builder.AddNode("update", new SamplerUpdate(SamplerKind.Ddim, s_parameterization, Noise: false, Guided: false), x, output, rows, step);
        builder.Output("x_next", update.Outputs[0], updates: x);
        return builder;
    }

    // All steps of the table, one after the other.
    private Dictionary<string, float[]> Steps(Graph graph, StepTable table)
    {
        using Executor executor = cpu.Backend.Compile(
            Plan.Create(graph), Weights.Combine([(GuidedStep.DiffusionPrefix, Kernels.Models.PresetModels.Random(TestModels.UNet()).Weights)]));
        foreach (Tensor input in graph.Inputs)
        {
            int n = input.Shape.Elements;
            switch (input.Name)
            {
                case "step_table":
                    executor.Write(input.Name, table.Values);
                    break;
                case "y_unet":
                    executor.Write(input.Name, [.. Enumerable.Range(0, n).Select(i => i < 2 ? i + 3 : 10)]);
                    break;
                case "image_index":
                    executor.Write(input.Name, [5, 0, -1, 2]);
                    break;
                case "seed" or "step":
                    executor.Write(input.Name, new int[n]);
                    break;
                default:
                    executor.Write(input.Name, Array.ConvertAll(TestModels.Normals(new Random(4), n), v => (float)v));
                    break;
            }
        }

        for (int i = 0; i < table.Count; i++)
        {
            executor.Run();
        }

        return graph.Outputs.Keys.Where(k => k != "step_next").ToDictionary(k => k, executor.Read);
    }
}

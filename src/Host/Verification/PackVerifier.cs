using Kernels.Checkpoints;
using Kernels.Diffusion;
using Kernels.Imaging;
using Kernels.Models;
using Kernels.Runtime;

namespace Kernels.Verification;

/// <summary>Computes what a reference pack recorded, and compares.</summary>
/// <param name="backend">The device.</param>
/// <param name="disabledFusions">Rewrites to leave out (<see cref="Rewrites.All"/>).</param>
/// <param name="tolerance">Replaces the tolerance of every output; null for the packs' own.</param>
public sealed class PackVerifier(Backend backend, IReadOnlyCollection<string>? disabledFusions = null, double? tolerance = null)
{
    private const double ForwardTolerance = 1e-5;
    private const double GradientTolerance = 1e-4;
    private const double TableTolerance = 1e-12;
    private const double TrajectoryTolerance = 1e-3;
    private const double BitsTolerance = 1e-4;
    private const double RandomTolerance = 1e-6;

    /// <summary>Verifies a pack.</summary>
    /// <param name="path">The file.</param>
    /// <param name="against">For a <c>checkpoint</c> pack, the checkpoint that must hold the same weights.</param>
    /// <param name="key">Where the state dict is in <paramref name="against"/>.</param>
    /// <param name="cancellationToken">Ends the work within a step.</param>
    /// <returns>One comparison per output.</returns>
    /// <exception cref="InvalidFileException">The file is no pack, or is damaged.</exception>
    /// <exception cref="ConfigurationException">A <c>checkpoint</c> pack without a file to compare with.</exception>
    public IReadOnlyList<Comparison> Verify(string path, string? against = null, string? key = null, CancellationToken cancellationToken = default)
    {
        using Pack pack = Pack.Open(path);
        return pack.Kind switch
        {
            "unet" or "superres" => [.. UNet(pack, cancellationToken)],
            "classifier" => [.. Classifier(pack, cancellationToken)],
            "diffusion" => [.. Tables(pack)],
            "sample" => [.. Sample(pack, cancellationToken)],
            "encode" => [.. Encode(pack, cancellationToken)],
            "bpd" => [.. Bits(pack, cancellationToken)],
            "rng" => [.. Random(pack)],
            "checkpoint" when against is not null => [.. Weights(pack, against, key)],
            "checkpoint" => throw new ConfigurationException($"{path} lists the weights of a checkpoint; name the checkpoint to compare with (--against FILE)"),
            string kind => throw new InvalidFileException(path, "metadata 'kind'", $"'{kind}' is not a kind of reference pack that this version knows"),
        };
    }

    private IEnumerable<Comparison> UNet(Pack pack, CancellationToken cancellationToken)
    {
        bool superres = pack.Kind == "superres";
        ModelConfig config = Config(pack, "config", superres ? ModelKind.SuperRes : ModelKind.UNet);
        Shape x = ImageShape(pack, "inputs/x");
        Shape? low = superres ? ImageShape(pack, "inputs/low_res") : null;
        Graph graph = ModelGraphs.UNet(config, x[0], x[2], x[3], low is Shape l ? (l[2], l[3]) : null);
        using Executor executor = Compile(graph, pack.Weights("weights/"));
        executor.Write("x", pack.Images("inputs/x"));
        executor.Write("t", pack.Tensor("inputs/t").ToFloat32());
        if (config.NumClasses is not null)
        {
            executor.Write("y", pack.Labels("inputs/y"));
        }

        if (superres)
        {
            executor.Write("low_res", pack.Images("inputs/low_res"));
        }

        executor.Run(cancellationToken);
        yield return Images(pack, "out", executor.Read("out"), ForwardTolerance);
    }

    private IEnumerable<Comparison> Classifier(Pack pack, CancellationToken cancellationToken)
    {
        Shape x = ImageShape(pack, "inputs/x");
        Graph graph = ModelGraphs.Classifier(Config(pack, "config", ModelKind.Encoder), x[0], x[2], x[3], (float)pack.Number("classifier_scale"));
        using Executor executor = Compile(graph, pack.Weights("weights/"));
        executor.Write("x", pack.Images("inputs/x"));
        executor.Write("t", pack.Tensor("inputs/t").ToFloat32());
        executor.Write("y", pack.Labels("inputs/y"));
        executor.Run(cancellationToken);
        yield return Values(pack, "logits", executor.Read("logits"), ForwardTolerance);
        yield return Values(pack, "log_probs", executor.Read("log_probs"), ForwardTolerance);
        yield return Images(pack, "grad", executor.Read("grad"), GradientTolerance);
    }

    private IEnumerable<Comparison> Sample(Pack pack, CancellationToken cancellationToken)
    {
        double classifierScale = pack.Number("classifier_scale");
        SamplerSettings settings = new()
        {
            Sampler = pack.Text("sampler") switch
            {
                "ddpm" => SamplerKind.Ddpm,
                "ddim" => SamplerKind.Ddim,
                string name => throw new InvalidFileException(pack.File, "metadata 'sampler'", $"'{name}' is not a sampler that this version knows"),
            },
            Eta = pack.Number("eta"),
            ClipDenoised = pack.Text("clip_denoised") == "true",
            ClassifierScale = classifierScale,
            CfgScale = pack.Number("cfg_scale"),
            NullLabel = pack.Number("null_label") is double label and >= 0 ? (int)label : null,
        };
        Model? classifier = classifierScale == 0 ? null : new Model(Config(pack, "classifier_config", ModelKind.Encoder), pack.Weights("classifier/"));
        Trajectory trajectory = Run(pack, settings, classifier, "inputs/noise", pack.Images("inputs/step_noise"), cancellationToken);
        yield return Images(pack, "sample", trajectory.Final, TrajectoryTolerance);
        yield return Images(pack, "trajectory", trajectory.X, TrajectoryTolerance);
        yield return Images(pack, "pred_xstart", trajectory.PredXstart, TrajectoryTolerance);
    }

    private IEnumerable<Comparison> Encode(Pack pack, CancellationToken cancellationToken)
    {
        SamplerSettings settings = new() { Sampler = SamplerKind.DdimReverse };
        Trajectory trajectory = Run(pack, settings, null, "inputs/x", null, cancellationToken);
        yield return Images(pack, "latent", trajectory.Final, TrajectoryTolerance);
        yield return Images(pack, "trajectory", trajectory.X, TrajectoryTolerance);
    }

    private IEnumerable<Comparison> Bits(Pack pack, CancellationToken cancellationToken)
    {
        DiffusionConfig process = DiffusionConfig.FromJson(pack.Text("diffusion"));
        ModelConfig config = Config(pack, "config", ModelKind.UNet);
        Shape x = ImageShape(pack, "inputs/x");
        StepTable table = new(new GaussianDiffusion(process), SamplerKind.Ddpm);
        Graph graph = ModelGraphs.UNet(config, x[0], x[2], x[3]);
        using Executor executor = Compile(graph, pack.Weights("diffusion/"));
        if (config.NumClasses is not null)
        {
            executor.Write("y", pack.Labels("inputs/y"));
        }

        float[] noise = pack.Images("inputs/step_noise");
        BitsPerDimensionResult result = BitsPerDimension.CalcBpdLoop(
            table,
            clipDenoised: true,
            x[0],
            x[1],
            pack.Images("inputs/x"),
            (step, xt, output) =>
            {
                executor.Write("x", xt);
                executor.Write("t", Enumerable.Repeat(table.ModelTimesteps[step], x[0]).ToArray());
                executor.Run(cancellationToken);
                executor.Read("out", output);
            },
            (step, z) => noise.AsSpan(step * z.Length, z.Length).CopyTo(z),
            cancellationToken);
        yield return Values(pack, "total_bpd", result.TotalBpd.ToArray(), BitsTolerance);
        yield return Values(pack, "prior_bpd", result.PriorBpd.ToArray(), BitsTolerance);
        yield return Values(pack, "vb", result.Vb.ToArray(), BitsTolerance);
        yield return Values(pack, "xstart_mse", result.XstartMse.ToArray(), BitsTolerance);
        yield return Values(pack, "mse", result.Mse.ToArray(), BitsTolerance);
    }

    private IEnumerable<Comparison> Tables(Pack pack)
    {
        GaussianDiffusion diffusion = new(DiffusionConfig.FromJson(pack.Text("diffusion")));
        foreach (string name in pack.Outputs)
        {
            double[] actual = name switch
            {
                "timestep_map" => [.. diffusion.TimestepMap.ToArray().Select(t => (double)t)],
                "betas" => diffusion.Betas.ToArray(),
                "alphas_cumprod" => diffusion.AlphasCumprod.ToArray(),
                "alphas_cumprod_prev" => diffusion.AlphasCumprodPrev.ToArray(),
                "sqrt_recip_alphas_cumprod" => diffusion.SqrtRecipAlphasCumprod.ToArray(),
                "sqrt_recipm1_alphas_cumprod" => diffusion.SqrtRecipm1AlphasCumprod.ToArray(),
                "posterior_variance" => diffusion.PosteriorVariance.ToArray(),
                "posterior_log_variance_clipped" => diffusion.PosteriorLogVarianceClipped.ToArray(),
                "posterior_mean_coef1" => diffusion.PosteriorMeanCoef1.ToArray(),
                "posterior_mean_coef2" => diffusion.PosteriorMeanCoef2.ToArray(),
                _ => throw new InvalidFileException(pack.File, $"outputs/{name}", "is not a schedule table that this version knows"),
            };
            yield return Compare(pack, name, actual, pack.Tensor($"outputs/{name}").ToFloat64(), name == "timestep_map" ? 0 : TableTolerance);
        }
    }

    private IEnumerable<Comparison> Random(Pack pack)
    {
        foreach (string first in pack.Outputs.Where(name => name.EndsWith("_first", StringComparison.Ordinal)))
        {
            string[] parts = first.Split('_');
            if (parts.Length != 3 || !ulong.TryParse(parts[0], out ulong seed) || !int.TryParse(parts[1], out int count) || count < 0 || count > 1 << 24)
            {
                throw new InvalidFileException(pack.File, $"outputs/{first}", "is not named SEED_COUNT_first");
            }

            TorchCpuGenerator generator = new(seed);
            foreach (string name in new[] { first, $"{parts[0]}_{parts[1]}_second" })
            {
                float[] values = new float[count];
                generator.Randn(values);
                yield return Values(pack, name, values, RandomTolerance, ErrorMeasure.MaxAbs);
            }
        }
    }

    private IEnumerable<Comparison> Weights(Pack pack, string against, string? key)
    {
        using Checkpoint checkpoint = Checkpoint.Load(against, key);
        CheckpointWeights expected = pack.Weights("weights/");
        foreach (string name in expected.Names)
        {
            CheckpointTensor recorded = pack.Tensor($"weights/{name}");
            if (!checkpoint.Tensors.TryGetValue(name, out CheckpointTensor? tensor) || tensor.Shape != recorded.Shape)
            {
                throw new InvalidFileException(against, name, $"a tensor of shape {recorded.Shape} was expected");
            }

            // A half-precision checkpoint holds the recorded weights rounded to its own type, and must hold exactly those.
            byte[] rounded = new byte[tensor.Bytes];
            ElementConversion.FromFloat32(recorded.ToFloat32(), tensor.DType, rounded);
            yield return Compare(pack, name, tensor.ToFloat64(), CheckpointTensor.FromBytes(name, tensor.DType, tensor.Shape, rounded).ToFloat64(), 0);
        }

        if (checkpoint.Tensors.Keys.FirstOrDefault(k => expected.ShapeOf(k) is null) is string extra)
        {
            throw new InvalidFileException(against, extra, "this tensor is not in the reference pack");
        }
    }

    private Trajectory Run(Pack pack, SamplerSettings settings, Model? classifier, string initial, float[]? stepNoise, CancellationToken cancellationToken)
    {
        Shape shape = ImageShape(pack, initial);
        Model diffusion = new(Config(pack, "config", ModelKind.UNet), pack.Weights("diffusion/"));
        using DiffusionSampler sampler = new(
            backend, diffusion, DiffusionConfig.FromJson(pack.Text("diffusion")), classifier, settings, (shape[2], shape[3]), disabledFusions);
        int elements = shape.Elements;
        float[] x = new float[sampler.Table.Count * elements];
        float[] predXstart = new float[x.Length];
        SampleBatch batch = new()
        {
            Count = shape[0],
            Labels = pack.Find("inputs/y") is null ? [] : pack.Labels("inputs/y"),
            Initial = pack.Images(initial),
            StepNoise = stepNoise,
        };
        float[] final = sampler.Sample(
            batch,
            result =>
            {
                result.ReadX(x.AsSpan(result.Step * elements, elements));
                result.ReadPredXstart(predXstart.AsSpan(result.Step * elements, elements));
            },
            cancellationToken);
        return new Trajectory(final, x, predXstart);
    }

    private Executor Compile(Graph graph, Weights weights) => backend.Compile(backend.Plan(Rewrites.Fuse(graph, disabledFusions).Graph), weights);

    private static ModelConfig Config(Pack pack, string key, ModelKind kind)
    {
        try
        {
            return ModelConfigJson.Read(pack.Text(key), kind);
        }
        catch (ConfigurationException e)
        {
            throw new InvalidFileException(pack.File, $"metadata '{key}'", e.Message, e);
        }
    }

    private static Shape ImageShape(Pack pack, string name)
    {
        Shape shape = pack.Tensor(name).Shape;
        return shape.Rank == 4 ? shape : throw new InvalidFileException(pack.File, name, $"has shape {shape}; images [N, C, H, W] were expected");
    }

    private Comparison Images(Pack pack, string output, float[] channelsLast, double tolerance)
    {
        Shape shape = pack.Tensor($"outputs/{output}").Shape;
        float[] channelsFirst = new float[channelsLast.Length];
        ChannelOrder.ToChannelsFirst(channelsLast, shape[-3], shape[-2] * shape[-1], channelsFirst);
        return Values(pack, output, channelsFirst, tolerance);
    }

    private Comparison Values(Pack pack, string output, float[] actual, double tolerance, ErrorMeasure measure = ErrorMeasure.RelativeL2) =>
        Compare(pack, output, Array.ConvertAll(actual, v => (double)v), pack.Tensor($"outputs/{output}").ToFloat64(), tolerance, measure);

    private Comparison Compare(
        Pack pack, string output, double[] actual, double[] expected, double own, ErrorMeasure measure = ErrorMeasure.RelativeL2) =>
        Comparison.Of(
            Path.GetFileName(pack.File), output, (pack.Find($"outputs/{output}") ?? pack.Tensor($"weights/{output}")).Shape, actual, expected, tolerance ?? own, measure);

    private sealed record Trajectory(float[] Final, float[] X, float[] PredXstart);
}

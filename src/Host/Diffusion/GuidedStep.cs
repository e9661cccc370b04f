using Kernels.Diffusion.Steps;
using Kernels.Models;
using Kernels.Passes;

namespace Kernels.Diffusion;

/// <summary>What is sampled and how it is guided.</summary>
public sealed record SamplerSettings
{
    /// <summary>The update.</summary>
    public SamplerKind Sampler { get; init; }

    /// <summary>η of DDIM.</summary>
    public double Eta { get; init; }

    /// <summary>How the noise levels of the steps are spaced, <c>timestep_respacing</c> saying how many they are; null for the sampler's own (<see cref="SamplerKinds.OwnSpacing"/>).</summary>
    public StepSpacing? Spacing { get; init; }

    /// <summary>Whether pred_xstart is clamped to [-1, 1].</summary>
    public bool ClipDenoised { get; init; } = true;

    /// <summary>Factor on the classifier's gradient; 0 skips the classifier.</summary>
    public double ClassifierScale { get; init; }

    /// <summary>w of classifier-free guidance; 0 skips the unconditional half.</summary>
    public double CfgScale { get; init; }

    /// <summary>The highest noise level σ that is guided (<see cref="GuidanceInterval"/>).</summary>
    public double GuidanceStart { get; init; } = double.PositiveInfinity;

    /// <summary>The noise level σ below all that are guided.</summary>
    public double GuidanceStop { get; init; }

    /// <summary>The label that means "no class"; classifier-free guidance needs one.</summary>
    public int? NullLabel { get; init; }

    /// <summary>Whether a class-conditional UNet is fed its null label throughout, so that only the classifier steers.</summary>
    public bool Unconditional { get; init; }
}

/// <summary>The graph of one guided step: UNet, classifier, its gradient, guidance, noise and update; x_t in, x_{t−1} out, in the same memory.</summary>
/// <remarks>
/// Inputs: <c>x</c> <c>[N, H, W, C]</c>; <c>step_table</c> <c>[S, 16]</c> and the counter <c>step</c> <c>[1]</c>; <c>y_unet</c> <c>[N]</c> (<c>[2N]</c> under classifier-free
/// guidance) for a class-conditional UNet; <c>y</c> <c>[N]</c> with a classifier; <c>low_res</c> for super-resolution; for a sampler with noise either <c>noise</c> like x, or
/// <c>seed</c> <c>[2]</c> and <c>image_index</c> <c>[N, 2]</c>; for inpainting those and <c>known</c> like x, <c>mask</c> <c>[N, H, W, 1]</c>, <c>levels</c>
/// <c>[S, 4]</c>; for a sampler that remembers evaluations <c>history</c> <c>[K, N, H, W, C]</c>, at first of any finite values. Outputs:
/// <c>x_next</c>, <c>history_next</c> and <c>step_next</c>, which update <c>x</c>, <c>history</c> and <c>step</c>; <c>pred_xstart</c>.
/// </remarks>
public static class GuidedStep
{
    /// <summary>Prefix of the UNet's weights.</summary>
    public const string DiffusionPrefix = "diffusion/";

    /// <summary>Prefix of the classifier's weights.</summary>
    public const string ClassifierPrefix = "classifier/";

    /// <summary>Builds the graph, unfused.</summary>
    /// <param name="unet">The diffusion model.</param>
    /// <param name="classifier">The classifier; read only if the classifier scale is not zero.</param>
    /// <param name="table">The steps.</param>
    /// <param name="settings">Sampler and guidance.</param>
    /// <param name="batch">Number of images N.</param>
    /// <param name="height">Height of the images.</param>
    /// <param name="width">Width of the images.</param>
    /// <param name="suppliedNoise">Whether the caller writes the noise of every step, rather than a seed.</param>
    /// <param name="lowRes">Height and width of the low-resolution images, for a super-resolution model.</param>
    /// <param name="inpaints">Whether part of the images is known (<see cref="KnownRegion"/>).</param>
    /// <exception cref="ConfigurationException">Settings, models and sizes do not fit together.</exception>
    public static Graph Build(
        ModelConfig unet,
        ModelConfig? classifier,
        StepTable table,
        SamplerSettings settings,
        int batch,
        int height,
        int width,
        bool suppliedNoise = false,
        (int Height, int Width)? lowRes = null,
        bool inpaints = false)
    {
        ArgumentNullException.ThrowIfNull(unet);
        ArgumentNullException.ThrowIfNull(table);
        ArgumentNullException.ThrowIfNull(settings);
        Parameterization parameterization = Parameterization.Of(table.Diffusion.Config, settings.ClipDenoised);
        Check(unet, classifier, settings, parameterization, batch);
        bool noisy = settings.Sampler.IsNoisy(settings.Eta);
        bool guided = settings.ClassifierScale != 0;
        bool classifierFree = settings.CfgScale != 0;

        GraphBuilder builder = new();
        Shape shape = [batch, height, width, unet.InChannels];
        Tensor x = builder.Input("x", shape);
        Tensor rows = builder.Input("step_table", [table.Count, StepTable.Columns]);
        Tensor step = builder.Input("step", [1], DType.I32);
        Tensor? gradient = null;
        if (guided)
        {
            Graph graph = ClassifierGradient(builder, classifier!, x, rows, step, batch);
            gradient = graph.Output("gradient");
            builder = GraphBuilder.From(graph, withoutOutputs: true);
        }

        Tensor output = Denoise(builder, unet, x, rows, step, classifierFree, lowRes);
        if (classifierFree)
        {
            output = builder.Add("classifier_free_guidance", new ClassifierFreeGuidance(parameterization), output, rows, step);
        }

        List<Tensor> inputs = [x, output, rows, step];
        bool seeded = inpaints || (noisy && !suppliedNoise);
        Tensor? seed = seeded ? builder.Input("seed", [2], DType.I32) : null, images = seeded ? builder.Input("image_index", [batch, 2], DType.I32) : null;
        if (noisy)
        {
            inputs.Add(suppliedNoise ? builder.Input("noise", shape) : builder.Add("step_noise", new StepNoise(shape), seed!, images!, step));
        }

        if (gradient is not null)
        {
            inputs.Add(gradient);
        }

        Tensor? history = settings.Sampler.History() == SamplerHistory.None ? null : builder.Input("history", [settings.Sampler.HistoryLength(), .. shape]);
        if (history is not null)
        {
            inputs.Add(history);
        }

        Node update = builder.AddNode("sampler_update", new SamplerUpdate(settings.Sampler, parameterization, noisy, guided), [.. inputs]);
        Tensor next = update.Outputs[0];
        if (inpaints)
        {
            Tensor known = builder.Input("known", shape), mask = builder.Input("mask", shape.With(3, 1)), levels = builder.Input("levels", [table.Count, InpaintingSchedule.Columns]);
            next = builder.Add("known_region", new KnownRegion(), next, known, mask, levels, step, seed!, images!);
        }

        builder.Output("x_next", next, updates: x);
        builder.Output("pred_xstart", update.Outputs[1]);
        if (history is not null)
        {
            builder.Output("history_next", update.Outputs[2], updates: history);
        }

        builder.Output("step_next", builder.Add("advance_step", new AdvanceStep(), step), updates: step);
        return builder.Build();
    }

    private static Graph ClassifierGradient(GraphBuilder builder, ModelConfig classifier, Tensor x, Tensor rows, Tensor step, int batch)
    {
        Tensor y = builder.Input("y", [batch], DType.I32);
        Tensor selected;
        using (builder.Scope(ClassifierPrefix))
        {
            Tensor t = builder.Add("step_timesteps", new StepTimesteps(batch), rows, step);
            selected = EncoderUNetModel.LogProbability(builder, EncoderUNetModel.Build(builder, classifier, x, t), y).Selected;
        }

        return Gradient.Append(builder.Build(), selected, x);
    }

    private static Tensor Denoise(
        GraphBuilder builder, ModelConfig unet, Tensor x, Tensor rows, Tensor step, bool classifierFree, (int Height, int Width)? lowRes)
    {
        int batch = x.Shape[0] * (classifierFree ? 2 : 1);
        Tensor? y = unet.NumClasses is null ? null : builder.Input("y_unet", [batch], DType.I32);
        Tensor? low = lowRes is (int h, int w) ? builder.Input("low_res", [x.Shape[0], h, w, unet.InChannels]) : null;
        using (builder.Scope(DiffusionPrefix))
        {
            if (classifierFree)
            {
                x = builder.Add("both_halves", new Ops.Concat(0), x, x);
                low = low is null ? null : builder.Add("low_res.both_halves", new Ops.Concat(0), low, low);
            }

            Tensor t = builder.Add("step_timesteps", new StepTimesteps(batch), rows, step);
            return ModelGraphs.Denoiser(builder, unet, x, t, y, low);
        }
    }

    private static void Check(ModelConfig unet, ModelConfig? classifier, SamplerSettings settings, Parameterization parameterization, int batch)
    {
        Require(batch > 0, $"a batch of {batch} images cannot be sampled; it must have one at least");
        Require(unet.Kind != ModelKind.Encoder, "a classifier cannot predict noise; give a diffusion model");
        int expected = unet.InChannels * parameterization.OutputsPerChannel;
        Require(
            unet.OutChannels == expected,
            $"the diffusion model has {unet.OutChannels} output channels; with {(parameterization.OutputsPerChannel == 2 ? "a learned" : "a fixed")} variance it must have {expected} (learn_sigma)");
        Require(settings.CfgScale == 0 || settings.NullLabel is not null, "classifier-free guidance (cfg_scale) needs the label that means \"no class\"");
        Require(settings.CfgScale == 0 || unet.NumClasses is not null, "classifier-free guidance (cfg_scale) needs a class-conditional diffusion model");
        Require(settings.CfgScale == 0 || !settings.Unconditional, "classifier-free guidance (cfg_scale) and unconditional sampling exclude each other");
        Require(!settings.Unconditional || unet.NumClasses is null || settings.NullLabel is not null, "unconditional sampling needs the label that means \"no class\"");
        Require(
            settings.NullLabel is not int label || unet.NumClasses is not int classes || (label >= 0 && label < classes),
            $"the null label {settings.NullLabel} is not one of the {unet.NumClasses} labels of the diffusion model");
        if (settings.ClassifierScale != 0)
        {
            Require(settings.Sampler != SamplerKind.DdimReverse, "DDIM inversion takes no classifier; set classifier_scale to 0");
            Require(classifier is not null, "classifier guidance (classifier_scale) needs a classifier");
            Require(classifier!.Kind == ModelKind.Encoder, "the classifier's checkpoint holds a diffusion model");
            Require(classifier.InChannels == unet.InChannels, $"the classifier takes images of {classifier.InChannels} channels, the diffusion model of {unet.InChannels}");
        }

        static void Require(bool condition, string message)
        {
            if (!condition)
            {
                throw new ConfigurationException(message);
            }
        }
    }
}

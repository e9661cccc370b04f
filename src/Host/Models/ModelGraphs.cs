using Kernels.Passes;

namespace Kernels.Models;

/// <summary>Whole graphs of single models: one forward pass, or the classifier with its gradient.</summary>
public static class ModelGraphs
{
    /// <summary>
    /// One forward pass of a UNet. Inputs <c>x</c> <c>[N, H, W, C]</c>, <c>t</c> <c>[N]</c>, <c>y</c> <c>[N]</c> if class-conditional, <c>low_res</c> for super-resolution;
    /// output <c>out</c> <c>[N, H, W, out_channels]</c>.
    /// </summary>
    /// <param name="config">The model.</param>
    /// <param name="batch">Number of images N.</param>
    /// <param name="height">Height of the images.</param>
    /// <param name="width">Width of the images.</param>
    /// <param name="lowRes">Height and width of the low-resolution images, for a <see cref="ModelKind.SuperRes"/> model.</param>
    /// <exception cref="ConfigurationException">The settings or the sizes do not fit.</exception>
    public static Graph UNet(ModelConfig config, int batch, int height, int width, (int Height, int Width)? lowRes = null)
    {
        ArgumentNullException.ThrowIfNull(config);
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [batch, height, width, config.InChannels]);
        Tensor t = builder.Input("t", [batch]);
        Tensor? y = config.NumClasses is null ? null : builder.Input("y", [batch], DType.I32);
        builder.Output("out", Denoiser(builder, config, x, t, y, lowRes is (int h, int w) ? builder.Input("low_res", [batch, h, w, config.InChannels]) : null));
        return builder.Build();
    }

    /// <summary>
    /// One forward pass of a classifier and the gradient of its chosen log-probabilities. Inputs <c>x</c>, <c>t</c>, <c>y</c>; outputs <c>logits</c> and <c>log_probs</c>
    /// <c>[N, K]</c>, <c>grad</c> = scale · ∇ₓ Σ log p(y | x, t) like x.
    /// </summary>
    /// <param name="config">The classifier.</param>
    /// <param name="batch">Number of images N.</param>
    /// <param name="height">Height of the images.</param>
    /// <param name="width">Width of the images.</param>
    /// <param name="scale">The classifier scale.</param>
    /// <exception cref="ConfigurationException">The settings or the sizes do not fit.</exception>
    public static Graph Classifier(ModelConfig config, int batch, int height, int width, float scale)
    {
        ArgumentNullException.ThrowIfNull(config);
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [batch, height, width, config.InChannels]);
        Tensor t = builder.Input("t", [batch]);
        Tensor y = builder.Input("y", [batch], DType.I32);
        Tensor logits = EncoderUNetModel.Build(builder, config, x, t);
        (Tensor logProbs, Tensor selected) = EncoderUNetModel.LogProbability(builder, logits, y);
        builder.Output("logits", logits);
        builder.Output("log_probs", logProbs);
        return Gradient.Append(builder.Build(), selected, x, scale, "grad");
    }

    /// <summary>Emits a UNet with or without a low-resolution input.</summary>
    internal static Tensor Denoiser(GraphBuilder builder, ModelConfig config, Tensor x, Tensor t, Tensor? y, Tensor? lowRes) => config.Kind switch
    {
        ModelKind.UNet when lowRes is null => UNetModel.Build(builder, config, x, t, y),
        ModelKind.UNet => throw new ConfigurationException("only a super-resolution model takes low-resolution images"),
        ModelKind.SuperRes when lowRes is not null => SuperResModel.Build(builder, config, x, t, y, lowRes),
        ModelKind.SuperRes => throw new ConfigurationException("a super-resolution model needs low-resolution images"),
        _ => throw new ConfigurationException("a classifier cannot predict noise; give a diffusion model"),
    };
}

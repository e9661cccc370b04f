using Kernels.Ops;

namespace Kernels.Models;

/// <summary>The super-resolution UNet of guided-diffusion: it sees the low-resolution image, enlarged, beside x_t.</summary>
public static class SuperResModel
{
    /// <summary>Emits <c>SuperResModel.forward</c>.</summary>
    /// <param name="builder">Where the nodes go; weights take its scope as a prefix.</param>
    /// <param name="config">The constructor arguments.</param>
    /// <param name="x">Images <c>[N, H, W, in_channels]</c>.</param>
    /// <param name="timesteps"><c>[N]</c>, possibly fractional.</param>
    /// <param name="labels"><c>[N]</c> of <see cref="DType.I32"/>, for a class-conditional model only.</param>
    /// <param name="lowRes">Low-resolution images <c>[N, h, w, in_channels]</c> of any size.</param>
    /// <returns><c>[N, H, W, out_channels]</c>.</returns>
    /// <exception cref="ConfigurationException">The settings, or the size of the images, do not fit.</exception>
    public static Tensor Build(GraphBuilder builder, ModelConfig config, Tensor x, Tensor timesteps, Tensor? labels, Tensor lowRes)
    {
        ArgumentNullException.ThrowIfNull(builder);
        ArgumentNullException.ThrowIfNull(x);
        Tensor enlarged = builder.Add("low_res.interpolate", new BilinearUpsample(x.Shape[1], x.Shape[2]), lowRes);
        return UNetModel.Build(builder, config, builder.Add("low_res.cat", new Concat(), x, enlarged), timesteps, labels);
    }
}

using Kernels.Diffusion;
using Kernels.Imaging;

namespace Kernels.Sampling;

/// <summary>Image to image (SDEdit; Meng et al. 2022): sampling begins with given images at a noise level, in place of pure noise.</summary>
/// <param name="Images">The images; image i of the job begins with image i of these.</param>
/// <param name="Strength">
/// The fraction of the steps that are executed, the last ones, in (0, 1]: round(strength · S) of them, one at least. x begins as sqrt(ᾱ_t) x_0 + sqrt(1 - ᾱ_t) z with t the first step executed
/// and z the noise that would have been x_T. With 1 all steps are executed, from where of the image there is left what the last noise level leaves.
/// </param>
public sealed record InitialImages(ImageSet Images, double Strength)
{
    /// <summary>How many steps are left out.</summary>
    /// <param name="steps">Steps in all.</param>
    /// <exception cref="ConfigurationException">The strength is not in (0, 1].</exception>
    public int FirstStep(int steps) => Strength is > 0 and <= 1
        ? steps - Math.Max(1, (int)Math.Round(Strength * steps, MidpointRounding.AwayFromZero))
        : throw new ConfigurationException(FormattableString.Invariant($"strength is {Strength}; it is the fraction of the steps that are executed and must be above 0 and at most 1"));
}

/// <summary>Inpainting: what is known of the images, and where.</summary>
/// <param name="Images">The images; image i of the job keeps what is known of image i of these.</param>
/// <param name="Masks">The masks, of one channel: white (255) is kept, black (0) is made, grey is mixed. Repeated as the images are.</param>
public sealed record KnownImages(ImageSet Images, ImageSet Masks)
{
    /// <summary>The masks of some images in [0, 1], <c>[count, H, W]</c>.</summary>
    /// <param name="first">The first image.</param>
    /// <param name="count">How many.</param>
    public float[] ReadMasks(long first, int count)
    {
        int pixels = Masks.Height * Masks.Width;
        float[] masks = new float[count * pixels];
        for (int i = 0; i < masks.Length; i++)
        {
            masks[i] = Masks[first + (i / pixels)][i % pixels] / 255f;
        }

        return masks;
    }
}

/// <summary>Spherical interpolation of noise (Shoemake 1985; DDIM, Song et al. 2021, section 5.3): of normal values it makes normal values, as a straight line would not.</summary>
public static class Slerp
{
    /// <summary>sin((1 - u) θ) / sin θ · a + sin(u θ) / sin θ · b, with θ the angle between a and b; a itself at u = 0 and b itself at u = 1.</summary>
    /// <param name="a">One end.</param>
    /// <param name="b">The other.</param>
    /// <param name="u">Where between them, 0 to 1.</param>
    /// <param name="destination">Receives the point.</param>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void Interpolate(ReadOnlySpan<float> a, ReadOnlySpan<float> b, double u, Span<float> destination)
    {
        if (a.Length != b.Length || a.Length != destination.Length)
        {
            throw new ArgumentException($"{a.Length} and {b.Length} values do not go into {destination.Length}");
        }

        double dot = 0, aa = 0, bb = 0;
        for (int i = 0; i < a.Length; i++)
        {
            dot += (double)a[i] * b[i];
            aa += (double)a[i] * a[i];
            bb += (double)b[i] * b[i];
        }

        // Vectors along one line have no arc between them; there a straight line is the limit.
        double cosine = Math.Clamp(dot / Math.Sqrt(aa * bb), -1, 1), angle = Math.Acos(cosine), sine = Math.Sin(angle);
        (double weightA, double weightB) = sine > 1e-6 ? (Math.Sin((1 - u) * angle) / sine, Math.Sin(u * angle) / sine) : (1 - u, u);
        for (int i = 0; i < a.Length; i++)
        {
            destination[i] = u <= 0 ? a[i] : u >= 1 ? b[i] : (float)((weightA * a[i]) + (weightB * b[i]));
        }
    }
}

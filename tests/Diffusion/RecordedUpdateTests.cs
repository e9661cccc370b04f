using Kernels.Diffusion;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Diffusion;

/// <summary>
/// The packs record x and pred_xstart after every step. Where no classifier moves the mean and the variance is fixed, or DDIM needs
/// none, those determine the next x: a recorded pred_xstart, fed as a model's prediction of x_0, must lead from one recorded x to the next.
/// </summary>
public class RecordedUpdateTests
{
    [Theory]
    [InlineData("sample-fixed-large")]
    [InlineData("sample-fixed-small-xstart")]
    [InlineData("sample-ddim-eta")]
    [InlineData("sample-cfg-ddim")]
    public void Updates_lead_along_the_recorded_trajectory(string name)
    {
        PackFile pack = new(name);
        DiffusionConfig config = DiffusionConfig.FromJson(pack.Metadata("diffusion"));
        bool ddim = pack.Metadata("sampler") == "ddim";
        double eta = double.Parse(pack.Metadata("eta"), System.Globalization.CultureInfo.InvariantCulture);
        StepTable table = new(new GaussianDiffusion(config), ddim ? SamplerKind.Ddim : SamplerKind.Ddpm, eta);
        Parameterization predictsX = new(ModelMeanType.XStart, config.SigmaSmall ? ModelVarType.FixedSmall : ModelVarType.FixedLarge, false);

        float[] x = pack.Read<float>("inputs/noise");
        float[] noise = pack.Read<float>("inputs/step_noise");
        float[] trajectory = pack.Read<float>("outputs/trajectory");
        float[] predXstart = pack.Read<float>("outputs/pred_xstart");
        float[] next = new float[x.Length];
        Assert.Equal(table.Count, trajectory.Length / x.Length);
        for (int step = 0; step < table.Count; step++)
        {
            // Updates are element by element, so the packs' channel-first order does as well as any.
            Range range = (step * x.Length)..((step + 1) * x.Length);
            if (ddim)
            {
                SamplerMath.LinearUpdate(table[step], predictsX, 1, x, predXstart[range], [], noise[range], next, []);
            }
            else
            {
                SamplerMath.DdpmUpdate(table[step], predictsX, 1, x, predXstart[range], [], noise[range], next, []);
            }

            // Reading pred_xstart rather than eps spares a rounding of sqrt(1/alpha-bar) x, up to 2e4 ulps of x at the noisiest step,
            // so roundings of x remain.
            x = trajectory[range];
            Assert.InRange(Agreement.RelativeL2(next, x), 0, 2e-7);
        }
    }
}

using FsCheck;
using FsCheck.Fluent;
using Kernels.Diffusion;
using Xunit;

namespace Kernels.Tests.Diffusion;

public class RespacingTests
{
    [Theory]
    [InlineData(5, "", new[] { 0, 1, 2, 3, 4 })]
    [InlineData(5, "5", new[] { 0, 1, 2, 3, 4 })]
    [InlineData(10, "1", new[] { 0 })]
    [InlineData(10, "2", new[] { 0, 9 })]
    [InlineData(10, " 3 ", new[] { 0, 4, 9 })] // 4.5 rounds to the even neighbour
    [InlineData(8, "3", new[] { 0, 4, 7 })] // 3.5 too
    [InlineData(10, "2,2", new[] { 0, 4, 5, 9 })]
    [InlineData(11, "2,2", new[] { 0, 5, 6, 10 })] // the first section takes what is left over
    [InlineData(9, "1,0,3", new[] { 0, 6, 7, 8 })]
    [InlineData(10, "ddim5", new[] { 0, 2, 4, 6, 8 })]
    [InlineData(10, "ddim4", new[] { 0, 3, 6, 9 })]
    [InlineData(10, "ddim10", new[] { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 })]
    public void Every_form_gives_the_steps_of_the_original(int numTimesteps, string setting, int[] expected) =>
        Assert.Equal(expected, Respacing.SpaceTimesteps(numTimesteps, setting));

    [Fact]
    public void The_documented_example_has_its_strides()
    {
        int[] steps = Respacing.SpaceTimesteps(300, "10,15,20");
        Assert.Equal(45, steps.Length);
        Assert.Equal([0, 11, 22, 33, 44, 55, 66, 77, 88, 99], steps[..10]);
        Assert.Equal(100, steps[10]);
        Assert.Equal(199, steps[24]);
        Assert.Equal(200, steps[25]);
        Assert.Equal(299, steps[^1]);
    }

    [Theory]
    [InlineData(10, "11", "cannot divide section of 10 steps into 11")]
    [InlineData(10, "3,8", "cannot divide section of 5 steps into 8")]
    [InlineData(2, "1,1,1", "cannot divide section of 0 steps into 1")]
    [InlineData(1000, "ddim300", "cannot create exactly 300 steps out of 1000 with an integer stride")]
    [InlineData(1000, "ddim1", "cannot create exactly 1 steps")]
    [InlineData(1000, "ddim0", "cannot create exactly 0 steps")]
    [InlineData(1, "ddim1", "cannot create exactly 1 steps")]
    [InlineData(10, "0", "keeps no step")]
    [InlineData(10, "-3", "'-3' is not a number of steps")]
    [InlineData(10, "3,,3", "'' is not a number of steps")]
    [InlineData(10, "ddim", "'' is not a number of steps")]
    [InlineData(10, "ddim-5", "'-5' is not a number of steps")]
    [InlineData(10, "ten", "'ten' is not a number of steps")]
    [InlineData(10, "2.5", "'2.5' is not a number of steps")]
    [InlineData(10, "99999999999", "'99999999999' is not a number of steps")]
    [InlineData(10, "DDIM5", "'DDIM5' is not a number of steps")]
    public void What_cannot_be_made_is_refused_with_the_reason(int numTimesteps, string setting, string reason)
    {
        ConfigurationException e = Assert.Throws<ConfigurationException>(() => Respacing.SpaceTimesteps(numTimesteps, setting));
        Assert.Contains(reason, e.Message, StringComparison.Ordinal);
        Assert.Contains("timestep_respacing", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Sections_have_the_asked_counts_inside_their_bounds()
    {
        Gen<(int Total, int[] Counts)> cases =
            from sections in Gen.Choose(1, 6)
            from total in Gen.Choose(60, 2000)
            from counts in Gen.Choose(1, 10).ArrayOf(sections)
            select (total, counts);
        Prop.ForAll(cases.ToArbitrary(), c =>
        {
            int[] steps = Respacing.SpaceTimesteps(c.Total, string.Join(',', c.Counts));
            int start = 0;
            for (int i = 0; i < c.Counts.Length; i++)
            {
                int size = (c.Total / c.Counts.Length) + (i < c.Total % c.Counts.Length ? 1 : 0);
                int[] inside = [.. steps.Where(s => s >= start && s < start + size)];
                Assert.Equal(c.Counts[i], inside.Length);
                Assert.Equal(start, inside[0]);
                Assert.True(c.Counts[i] == 1 || inside[^1] == start + size - 1);
                start += size;
            }

            Assert.Equal(steps.Order().Distinct(), steps);
            return true;
        }).QuickCheckThrowOnFailure();
    }
}

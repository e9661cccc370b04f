using System.Globalization;

namespace Kernels.Diffusion;

/// <summary>Choice of the steps of a long diffusion process that sampling visits.</summary>
public static class Respacing
{
    private const string DdimPrefix = "ddim";

    /// <summary>
    /// The timesteps to keep (<c>space_timesteps</c>). <c>""</c> keeps all. <c>"250"</c> spreads 250 steps evenly, ends included.
    /// <c>"10,15,20"</c> cuts the process into equal sections, low noise first, and spreads so many steps over each. <c>"ddim50"</c>
    /// takes the fixed integer stride of the DDIM paper that gives 50 steps from 0.
    /// </summary>
    /// <param name="numTimesteps">Length of the original process.</param>
    /// <param name="sectionCounts">The setting <c>timestep_respacing</c>.</param>
    /// <returns>Distinct timesteps of the original process, ascending, at least one.</returns>
    /// <exception cref="ConfigurationException">The setting is malformed, or these steps cannot be made of so many.</exception>
    public static int[] SpaceTimesteps(int numTimesteps, string sectionCounts)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(numTimesteps);
        ArgumentNullException.ThrowIfNull(sectionCounts);
        if (sectionCounts.Length == 0)
        {
            return [.. Enumerable.Range(0, numTimesteps)];
        }

        return sectionCounts.StartsWith(DdimPrefix, StringComparison.Ordinal)
            ? FixedStride(numTimesteps, ParseCount(sectionCounts, sectionCounts[DdimPrefix.Length..]))
            : Sections(numTimesteps, sectionCounts);
    }

    private static int[] FixedStride(int numTimesteps, int count)
    {
        for (int stride = 1; stride < numTimesteps; stride++)
        {
            // Rounded up: the length of 0, stride, 2 stride, ... below numTimesteps.
            if ((numTimesteps + stride - 1) / stride == count)
            {
                int[] steps = new int[count];
                for (int i = 0; i < count; i++)
                {
                    steps[i] = i * stride;
                }

                return steps;
            }
        }

        throw new ConfigurationException(
            $"timestep_respacing '{DdimPrefix}{count}': cannot create exactly {count} steps out of {numTimesteps} with an integer stride");
    }

    private static int[] Sections(int numTimesteps, string sectionCounts)
    {
        string[] parts = sectionCounts.Split(',');
        int sizePer = numTimesteps / parts.Length;
        int extra = numTimesteps % parts.Length;
        int start = 0;
        List<int> steps = [];
        for (int i = 0; i < parts.Length; i++)
        {
            int count = ParseCount(sectionCounts, parts[i]);
            int size = sizePer + (i < extra ? 1 : 0);
            if (size < count)
            {
                throw new ConfigurationException(
                    $"timestep_respacing '{sectionCounts}': cannot divide section of {size} steps into {count}");
            }

            // Summing the stride and rounding half to even, as the original does, decides which neighbour is taken.
            double stride = count <= 1 ? 1 : (double)(size - 1) / (count - 1);
            double current = 0;
            for (int k = 0; k < count; k++)
            {
                steps.Add(start + (int)Math.Round(current, MidpointRounding.ToEven));
                current += stride;
            }

            start += size;
        }

        return steps.Count > 0
            ? [.. steps.Distinct()]
            : throw new ConfigurationException($"timestep_respacing '{sectionCounts}' keeps no step; ask for at least one");
    }

    private static int ParseCount(string setting, string text)
    {
        if (!int.TryParse(text, NumberStyles.Integer, CultureInfo.InvariantCulture, out int count) || count < 0)
        {
            throw new ConfigurationException(
                $"timestep_respacing '{setting}': '{text}' is not a number of steps; write it as 250, as 10,15,20 or as ddim50");
        }

        return count;
    }
}

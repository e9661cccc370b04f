namespace Kernels.Diffusion;

/// <summary>How one step follows from the last.</summary>
public enum SamplerKind
{
    /// <summary>Ancestral sampling, <c>p_sample</c>; Ho et al. 2020. Guided through <c>condition_mean</c>. Written <c>ddpm</c>.</summary>
    Ddpm,

    /// <summary><c>ddim_sample</c>; Song et al. 2021, equation 12. Guided through <c>condition_score</c>, as all that follow. Written <c>ddim</c>.</summary>
    Ddim,

    /// <summary>DDIM inversion, <c>ddim_reverse_sample</c>: from the image towards noise, without noise of its own.</summary>
    DdimReverse,

    /// <summary>Euler's method for the probability-flow ODE in σ (Karras et al. 2022). It is DDIM of η = 0, with coefficients from float64. Written <c>euler</c>.</summary>
    Euler,

    /// <summary>Euler's method down to less noise than the step ends with, and fresh noise up to that (<c>sample_euler_ancestral</c> of k-diffusion). It is DDIM of η = 1. Written
    /// <c>euler-a</c>.</summary>
    EulerAncestral,

    /// <summary>Heun's method for the probability-flow ODE in σ, two evaluations a step but for the last (Karras et al. 2022, algorithm 1). Of second order. Written
    /// <c>heun</c>.</summary>
    Heun,

    /// <summary>DPM-Solver++(2M), a multistep method of second order in log σ (Lu et al. 2022, algorithm 2). Written <c>dpm++2m</c>.</summary>
    DpmSolverPlusPlus2M,

    /// <summary>SDE-DPM-Solver++(2M), the same for the reverse SDE (Lu et al. 2022). Written <c>dpm++2m-sde</c>.</summary>
    DpmSolverPlusPlus2MSde,

    /// <summary>Pseudo linear multistep, four steps of Adams and Bashforth on eps (Liu et al. 2022, PNDM). Of second order. Written <c>plms</c>.</summary>
    Plms,
}

/// <summary>What an update keeps of earlier evaluations of the model.</summary>
public enum SamplerHistory
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>pred_xstart.</summary>
    XStart,

    /// <summary>eps, derived again from pred_xstart.</summary>
    Eps,
}

/// <summary>What the samplers have in common and what tells them apart.</summary>
public static class SamplerKinds
{
    private static readonly (SamplerKind Kind, string Name)[] s_names =
    [
        (SamplerKind.Ddpm, "ddpm"),
        (SamplerKind.Ddim, "ddim"),
        (SamplerKind.Euler, "euler"),
        (SamplerKind.EulerAncestral, "euler-a"),
        (SamplerKind.Heun, "heun"),
        (SamplerKind.DpmSolverPlusPlus2M, "dpm++2m"),
        (SamplerKind.DpmSolverPlusPlus2MSde, "dpm++2m-sde"),
        (SamplerKind.Plms, "plms"),
    ];

    /// <summary>The names of all samplers; inversion, which does not sample, has none.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. s_names.Select(s => s.Name)];

    /// <summary>The sampler of a name.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <exception cref="ConfigurationException">There is none of this name; the message lists those there are.</exception>
    public static SamplerKind Parse(string name)
    {
        foreach ((SamplerKind kind, string known) in s_names)
        {
            if (known == name)
            {
                return kind;
            }
        }

        throw new ConfigurationException($"there is no sampler '{name}'; there are {string.Join(", ", Names)}");
    }

    /// <summary>The name of a sampler.</summary>
    /// <param name="kind">The sampler.</param>
    public static string NameOf(SamplerKind kind) => Array.Find(s_names, s => s.Kind == kind).Name ?? "ddim-reverse";

    /// <summary>
    /// The spacing where none is asked for: even timesteps for the samplers of guided-diffusion, <see cref="StepSpacing.Karras"/> for the others. Heun's trapezoid over σ needs it: where levels fall a
    /// thousandfold in one step, as at the beginning of an evenly spaced cosine schedule, it is far from any solution.
    /// </summary>
    /// <param name="kind">The sampler.</param>
    public static StepSpacing OwnSpacing(this SamplerKind kind) =>
        kind is SamplerKind.Ddpm or SamplerKind.Ddim or SamplerKind.DdimReverse ? StepSpacing.Linear : StepSpacing.Karras;

    /// <summary>How many earlier evaluations of the model an update reads.</summary>
    /// <param name="kind">The sampler.</param>
    public static int HistoryLength(this SamplerKind kind) => kind switch
    {
        SamplerKind.Plms => 3,
        SamplerKind.Heun or SamplerKind.DpmSolverPlusPlus2M or SamplerKind.DpmSolverPlusPlus2MSde => 1,
        _ => 0,
    };

    /// <summary>What of them it reads.</summary>
    /// <param name="kind">The sampler.</param>
    public static SamplerHistory History(this SamplerKind kind) => kind switch
    {
        SamplerKind.Plms or SamplerKind.Heun => SamplerHistory.Eps,
        SamplerKind.DpmSolverPlusPlus2M or SamplerKind.DpmSolverPlusPlus2MSde => SamplerHistory.XStart,
        _ => SamplerHistory.None,
    };

    // What earlier steps have left cannot be had where a step is the first, nor after a jump.
    internal static void RequireMemoryless(this SamplerKind kind, string task)
    {
        if (kind.History() != SamplerHistory.None)
        {
            throw new ConfigurationException($"{task} needs a sampler that keeps nothing of earlier steps; {NameOf(kind)} does, take ddpm, ddim, euler or euler-a");
        }
    }

    /// <summary>Whether the update adds noise.</summary>
    /// <param name="kind">The sampler.</param>
    /// <param name="eta">η of DDIM.</param>
    public static bool IsNoisy(this SamplerKind kind, double eta) =>
        kind is SamplerKind.Ddpm or SamplerKind.EulerAncestral or SamplerKind.DpmSolverPlusPlus2MSde || (kind == SamplerKind.Ddim && eta > 0);
}

using System.Globalization;
using Kernels.Diffusion;

namespace Kernels.Sampling;

/// <summary>Which generators a random source may be.</summary>
public enum RandomKind
{
    /// <summary><see cref="RandomStreams"/>: a function of seed, image and step, the same on every device and in every batch. Written <c>philox</c>.</summary>
    Philox,

    /// <summary><see cref="TorchCpuGenerator"/>. Written <c>torch-cpu</c>.</summary>
    TorchCpu,

    /// <summary><see cref="TorchCudaGenerator"/>. Written <c>torch-cuda</c>.</summary>
    TorchCuda,
}

/// <summary>
/// Where a job's noise comes from. Those of PyTorch repeat the runs of guided-diffusion's scripts seed for seed, draw for draw: per batch the classes (<c>randint</c>) where they are random, x_T
/// (<c>randn</c>), and noise for every step (<c>randn_like</c>), whether the step uses it or not. By their nature they depend on the batch size and on all batches before.
/// </summary>
/// <param name="Kind">The generator.</param>
/// <param name="Device">The GPU whose stream <see cref="RandomKind.TorchCuda"/> repeats.</param>
public sealed record RandomSource(RandomKind Kind = RandomKind.Philox, TorchCudaDevice Device = default)
{
    /// <summary>The default.</summary>
    public static RandomSource Philox { get; } = new();

    /// <summary>Whether it is one of PyTorch's.</summary>
    public bool IsTorch => Kind != RandomKind.Philox;

    /// <summary>Reads <c>philox</c>, <c>torch-cpu</c>, <c>torch-cuda</c> (of an A100), <c>torch-cuda:v100</c> or <c>torch-cuda:80x2048</c>.</summary>
    /// <param name="text">The name.</param>
    /// <exception cref="ConfigurationException">It is none.</exception>
    public static RandomSource Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        switch (text)
        {
            case "philox":
                return Philox;
            case "torch-cpu":
                return new RandomSource(RandomKind.TorchCpu);
            case "torch-cuda":
                return new RandomSource(RandomKind.TorchCuda, TorchCudaDevice.Named["a100"]);
            default:
                string[] parts = text.Split(':');
                return parts is ["torch-cuda", string device] ? new RandomSource(RandomKind.TorchCuda, DeviceOf(text, device)) : throw Unknown(text);
        }
    }

    /// <summary>A generator of PyTorch.</summary>
    /// <param name="seed">The seed.</param>
    /// <exception cref="InvalidOperationException">It is not one of PyTorch's.</exception>
    public ITorchGenerator Create(ulong seed) => Kind switch
    {
        RandomKind.TorchCpu => new TorchCpuGenerator(seed),
        RandomKind.TorchCuda => new TorchCudaGenerator(seed, Device),
        _ => throw new InvalidOperationException("Philox streams have no state"),
    };

    /// <summary>The name that <see cref="Parse"/> reads.</summary>
    public override string ToString() => Kind switch
    {
        RandomKind.TorchCpu => "torch-cpu",
        RandomKind.TorchCuda => $"torch-cuda:{Device}",
        _ => "philox",
    };

    private static TorchCudaDevice DeviceOf(string text, string device)
    {
        if (TorchCudaDevice.Named.TryGetValue(device, out TorchCudaDevice named))
        {
            return named;
        }

        if (device.Split('x') is not [string multiprocessors, string threads]
            || !int.TryParse(multiprocessors, NumberStyles.None, CultureInfo.InvariantCulture, out int count)
            || !int.TryParse(threads, NumberStyles.None, CultureInfo.InvariantCulture, out int each))
        {
            throw Unknown(text);
        }

        // Refuses what no GPU has.
        TorchCudaDevice given = new(count, each);
        _ = new TorchCudaGenerator(0, given);
        return given;
    }

    private static ConfigurationException Unknown(string text) => new(
        $"there is no random source '{text}'; there are philox, torch-cpu, torch-cuda (of an A100), torch-cuda:{string.Join(", torch-cuda:", TorchCudaDevice.Named.Keys)}, and torch-cuda:MULTIPROCESSORSxTHREADS");
}

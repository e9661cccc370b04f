using System.Globalization;

namespace Kernels.Diffusion;

/// <summary>A GPU as far as PyTorch's random numbers depend on it: they are drawn by a grid of threads whose size is the device's.</summary>
/// <param name="Multiprocessors">Number of multiprocessors.</param>
/// <param name="ThreadsPerMultiprocessor">The most threads that one of them holds.</param>
public readonly record struct TorchCudaDevice(int Multiprocessors, int ThreadsPerMultiprocessor)
{
    /// <summary>The devices that have a name here.</summary>
    public static IReadOnlyDictionary<string, TorchCudaDevice> Named { get; } = new Dictionary<string, TorchCudaDevice>
    {
        ["a100"] = new(108, 2048),
        ["v100"] = new(80, 2048),
        ["h100"] = new(132, 2048),
    };

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Multiprocessors}x{ThreadsPerMultiprocessor}");
}

/// <summary>
/// PyTorch's random numbers on a CUDA device (the algorithm of versions 1.5 to 2.x): Philox4x32-10 with key = seed and counter = (offset / 4 + round, thread), in a grid of
/// min(multiprocessors · ⌊threads / 256⌋, ⌈n / 256⌉) blocks of 256 threads; thread i of T makes elements i, i + T, i + 2T, i + 3T from the four words of a counter, then goes on 4T further. Normal
/// values come from cuRAND's Box-Muller transform, u = a 2^-32 + 2^-33, v = (b 2^-32 + 2^-33) 2π: sqrt(-2 ln u) sin v, then cos v.
/// </summary>
/// <remarks>
/// Compared with values that PyTorch printed on an RTX 3060, an A100 and an H100, to the four digits of public reports (pytorch/pytorch issues 158398 and 143086), not yet with a GPU's stream as a
/// whole. The words are those of the algorithm; the transform is evaluated with this machine's logarithm, sine and cosine, where the device uses faster ones of its own, so values may differ in
/// their last digits (about 1e-6).
/// Source: calc_execution_policy and distribution_elementwise_grid_stride_kernel of PyTorch's DistributionTemplates.h, and the documented device functions of cuRAND.
/// </remarks>
public sealed class TorchCudaGenerator : ITorchGenerator
{
    private const int BlockSize = 256;
    private const int Unroll = 4;
    private const float TwoToMinus32 = 2.3283064e-10f;
    private const float TwoPi = 6.2831855f;

    private readonly ulong _seed;
    private readonly ulong _threads;
    private ulong _offset;

    /// <summary>Creates a generator (<c>torch.cuda.manual_seed</c>).</summary>
    /// <param name="seed">The seed.</param>
    /// <param name="device">The device that draws.</param>
    /// <exception cref="ConfigurationException">There is no such device.</exception>
    public TorchCudaGenerator(ulong seed, TorchCudaDevice device)
    {
        if (device.Multiprocessors is < 1 or > 4096 || device.ThreadsPerMultiprocessor is < BlockSize or > 65536)
        {
            throw new ConfigurationException($"a GPU of {device} is none: give its multiprocessors and the threads that each holds, as 108x2048");
        }

        _seed = seed;
        _threads = (ulong)device.Multiprocessors * (ulong)(device.ThreadsPerMultiprocessor / BlockSize);
    }

    /// <inheritdoc/>
    public void RandnChannelsLast(int channels, int pixels, Span<float> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(channels);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(pixels);
        ArgumentOutOfRangeException.ThrowIfNotEqual(destination.Length % checked(channels * pixels), 0, nameof(destination));
        ChannelsLast layout = new(channels, pixels);
        (ulong stride, ulong rounds) = Grid(destination.Length);
        for (ulong thread = 0; thread < stride; thread++)
        {
            for (ulong round = 0; round < rounds; round++)
            {
                (uint a, uint b, uint c, uint d) = Words(thread, round);
                (float first, float second) = BoxMuller(a, b);
                (float third, float fourth) = BoxMuller(c, d);
                ReadOnlySpan<float> four = [first, second, third, fourth];
                for (int k = 0; k < Unroll; k++)
                {
                    ulong element = thread + (stride * ((round * Unroll) + (ulong)k));
                    if (element < (ulong)destination.Length)
                    {
                        destination[layout.Index((int)element)] = four[k];
                    }
                }
            }
        }

        _offset += rounds * Unroll;
    }

    /// <inheritdoc/>
    public void RandInt(int high, Span<int> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(high);
        (ulong stride, ulong rounds) = Grid(destination.Length);
        for (ulong element = 0; element < (ulong)destination.Length; element++)
        {
            ulong place = element / stride;
            (uint a, uint b, uint c, uint d) = Words(element % stride, place / Unroll);
            uint word = (place % Unroll) switch { 0 => a, 1 => b, 2 => c, _ => d };
            destination[(int)element] = (int)(word % (uint)high);
        }

        _offset += rounds * Unroll;
    }

    /// <inheritdoc/>
    public void SkipRandn(int count) => _offset += Grid(count).Rounds * Unroll;

    // cuRAND's transform, in float32; the device contracts product and sum.
    private static (float First, float Second) BoxMuller(uint a, uint b)
    {
        float u = MathF.FusedMultiplyAdd(a, TwoToMinus32, TwoToMinus32 / 2);
        float v = MathF.FusedMultiplyAdd(b, TwoToMinus32 * TwoPi, TwoToMinus32 * TwoPi / 2);
        float radius = MathF.Sqrt(-2 * MathF.Log(u));
        (float sine, float cosine) = MathF.SinCos(v);
        return (sine * radius, cosine * radius);
    }

    private (ulong Stride, ulong Rounds) Grid(int count)
    {
        if (count == 0)
        {
            return (1, 0);
        }

        ulong n = (ulong)count, blocks = Math.Min(_threads, (n + BlockSize - 1) / BlockSize), stride = blocks * BlockSize;
        return (stride, ((n - 1) / (stride * Unroll)) + 1);
    }

    private (uint R0, uint R1, uint R2, uint R3) Words(ulong thread, ulong round)
    {
        ulong counter = (_offset / Unroll) + round;
        return Philox.Words((uint)counter, (uint)(counter >> 32), (uint)thread, (uint)(thread >> 32), _seed);
    }
}

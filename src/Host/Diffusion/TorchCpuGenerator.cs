namespace Kernels.Diffusion;

/// <summary>
/// PyTorch's random numbers on the CPU (as of version 1.13): the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998) and the ways
/// in which <c>torch.randn</c> and <c>torch.randint</c> use it, so that a job with the same seed starts from the same noise as the
/// original code. Drawing changes the state: order matters.
/// </summary>
public sealed class TorchCpuGenerator : ITorchGenerator
{
    private const int StateLength = 624;
    private const int ShiftLength = 397;

    // randn fills blocks of this many values; fewer are drawn one by one in float64.
    private const int Block = 16;

    private readonly uint[] _state = new uint[StateLength];
    private int _next;
    private double? _cachedNormal;

    /// <summary>Creates a generator.</summary>
    /// <param name="seed">The seed.</param>
    public TorchCpuGenerator(ulong seed) => ManualSeed(seed);

    /// <summary>Starts over (<c>torch.manual_seed</c>). The twister takes the lower 32 bits; a negative seed of Python is its two's
    /// complement.</summary>
    /// <param name="seed">The seed.</param>
    public void ManualSeed(ulong seed)
    {
        _state[0] = (uint)seed;
        for (uint i = 1; i < StateLength; i++)
        {
            uint previous = _state[i - 1];
            _state[i] = (1812433253u * (previous ^ (previous >> 30))) + i;
        }

        _next = StateLength;
        _cachedNormal = null;
    }

    /// <summary>Standard normal values (<c>torch.randn</c>, <c>torch.randn_like</c>), in memory order of a contiguous tensor.</summary>
    /// <param name="destination">Receives the values.</param>
    public void Randn(Span<float> destination) => Randn(new ChannelsLast(1, destination.Length), destination);

    /// <inheritdoc/>
    public void RandnChannelsLast(int channels, int pixels, Span<float> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(channels);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(pixels);
        ArgumentOutOfRangeException.ThrowIfNotEqual(destination.Length % checked(channels * pixels), 0, nameof(destination));
        Randn(new ChannelsLast(channels, pixels), destination);
    }

    /// <inheritdoc/>
    public void RandInt(int high, Span<int> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(high);
        foreach (ref int value in destination)
        {
            value = (int)(NextWord() % (uint)high);
        }
    }

    /// <inheritdoc/>
    public void SkipRandn(int count)
    {
        for (int i = 0; count < Block && i < count; i++)
        {
            NextNormal();
        }

        for (int i = 0; count >= Block && i < count + (count % Block != 0 ? Block : 0); i++)
        {
            NextWord();
        }
    }

    private void Randn(ChannelsLast layout, Span<float> destination)
    {
        int n = destination.Length;
        if (n < Block)
        {
            for (int i = 0; i < n; i++)
            {
                destination[layout.Index(i)] = (float)NextNormal();
            }

            return;
        }

        Span<float> block = stackalloc float[Block];
        for (int i = 0; i <= n - Block; i += Block)
        {
            FillUniform(block);
            TransformBlock(block);
            for (int k = 0; k < Block; k++)
            {
                destination[layout.Index(i + k)] = block[k];
            }
        }

        if (n % Block != 0)
        {
            // The original draws uniforms for the remainder too, then draws the last sixteen values anew.
            for (int i = 0; i < n % Block; i++)
            {
                NextWord();
            }

            FillUniform(block);
            TransformBlock(block);
            for (int k = 0; k < Block; k++)
            {
                destination[layout.Index(n - Block + k)] = block[k];
            }
        }
    }

    private void FillUniform(Span<float> block)
    {
        foreach (ref float value in block)
        {
            value = (NextWord() & 0xFFFFFF) * (1f / (1 << 24));
        }
    }

    // Box-Muller on values k and k + 8, in float32.
    private static void TransformBlock(Span<float> block)
    {
        for (int k = 0; k < Block / 2; k++)
        {
            float radius = MathF.Sqrt(-2f * MathF.Log(1f - block[k]));
            float theta = 2f * MathF.PI * block[k + (Block / 2)];
            block[k] = radius * MathF.Cos(theta);
            block[k + (Block / 2)] = radius * MathF.Sin(theta);
        }
    }

    // Box-Muller in float64; the second value of a pair waits for the next call, whatever is drawn in between.
    private double NextNormal()
    {
        if (_cachedNormal is double cached)
        {
            _cachedNormal = null;
            return cached;
        }

        double u1 = NextUniform53();
        double u2 = NextUniform53();
        double radius = Math.Sqrt(-2 * LogOnePlus(-u2));
        double theta = 2 * Math.PI * u1;
        _cachedNormal = radius * Math.Sin(theta);
        return radius * Math.Cos(theta);
    }

    private double NextUniform53()
    {
        ulong high = NextWord();
        ulong bits = (high << 32) | NextWord();
        return (bits & ((1UL << 53) - 1)) * (1.0 / (1UL << 53));
    }

    // log(1 + x) for x in (-1, 0]; Kahan's correction of the rounding in 1 + x.
    private static double LogOnePlus(double x)
    {
        double sum = 1 + x;
        return sum == 1 ? x : Math.Log(sum) * x / (sum - 1);
    }

    private uint NextWord()
    {
        if (_next == StateLength)
        {
            Twist();
        }

        uint y = _state[_next++];
        y ^= y >> 11;
        y ^= (y << 7) & 0x9D2C5680u;
        y ^= (y << 15) & 0xEFC60000u;
        return y ^ (y >> 18);
    }

    private void Twist()
    {
        for (int i = 0; i < StateLength; i++)
        {
            uint joined = (_state[i] & 0x80000000u) | (_state[(i + 1) % StateLength] & 0x7FFFFFFFu);
            uint twisted = (joined & 1) != 0 ? (joined >> 1) ^ 0x9908B0DFu : joined >> 1;
            _state[i] = _state[(i + ShiftLength) % StateLength] ^ twisted;
        }

        _next = 0;
    }
}

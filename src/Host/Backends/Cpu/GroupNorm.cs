using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>Group normalisation (Wu and He 2018) with the modulation and activation that follow it in these models, forward and backward.</summary>
internal static unsafe class GroupNorm
{
    /// <summary>y = act(((x - mean) rstd gamma + beta) (1 + scale) + shift).</summary>
    /// <param name="shape">Extents.</param>
    /// <param name="x">[N, Pixels, C], or two tensors that make that up.</param>
    /// <param name="gamma">[C].</param>
    /// <param name="beta">[C].</param>
    /// <param name="scaleShift">[N, 2 C], the C scales of an image, then its C shifts; or null for none.</param>
    /// <param name="silu">Whether act is SiLU rather than the identity.</param>
    /// <param name="pooledWidth">0; or the width of the image, to average y over blocks of two by two pixels.</param>
    /// <param name="y">[N, Pixels, C], and may then be <paramref name="x"/>; pooled [N, Pixels / 4, C].</param>
    /// <param name="statistics">[N, Groups, 2], mean and rstd of every group.</param>
    /// <param name="scratch">Scratch memory of the pool.</param>
    public static CpuKernel Forward(
        in GroupNormShape shape, GroupNormInput x, float* gamma, float* beta, float* scaleShift, bool silu, int pooledWidth, float* y, float* statistics, WorkerScratch scratch)
    {
        shape.Validate();
        return Simd.Bits switch
        {
            512 => new GroupNormForward<Simd512>(shape, x, gamma, beta, scaleShift, silu, pooledWidth, y, statistics, scratch),
            256 => new GroupNormForward<Simd256>(shape, x, gamma, beta, scaleShift, silu, pooledWidth, y, statistics, scratch),
            _ => new GroupNormForward<Simd128>(shape, x, gamma, beta, scaleShift, silu, pooledWidth, y, statistics, scratch),
        };
    }

    /// <summary>The gradient of <see cref="Forward"/> with respect to x.</summary>
    /// <param name="shape">Extents.</param>
    /// <param name="x">[N, Pixels, C], the input of the forward direction.</param>
    /// <param name="statistics">[N, Groups, 2], what the forward direction gave.</param>
    /// <param name="gamma">[C].</param>
    /// <param name="beta">[C]; null will do without SiLU, whose derivative alone depends on it.</param>
    /// <param name="scaleShift">[N, 2 C], or null.</param>
    /// <param name="silu">Whether the forward direction ended with SiLU.</param>
    /// <param name="dy">[N, Pixels, C].</param>
    /// <param name="residual">What is added to dx.</param>
    /// <param name="dx">[N, Pixels, C]; may be <paramref name="dy"/> but neither <paramref name="x"/> nor the residual.</param>
    /// <param name="scratch">Scratch memory of the pool.</param>
    public static CpuKernel Backward(
        in GroupNormShape shape, float* x, float* statistics, float* gamma, float* beta, float* scaleShift, bool silu, float* dy, GroupNormResidual residual, float* dx, WorkerScratch scratch)
    {
        shape.Validate();
        return Simd.Bits switch
        {
            512 => new GroupNormBackward<Simd512>(shape, x, statistics, gamma, beta, scaleShift, silu, dy, residual, dx, scratch),
            256 => new GroupNormBackward<Simd256>(shape, x, statistics, gamma, beta, scaleShift, silu, dy, residual, dx, scratch),
            _ => new GroupNormBackward<Simd128>(shape, x, statistics, gamma, beta, scaleShift, silu, dy, residual, dx, scratch),
        };
    }
}

/// <summary>
/// Some groups of one image per part. Lanes are channels, whatever the group size: statistics are gathered per channel and merged into groups at the end.
/// Means and squared deviations come from blocks of pixels that fit the first-level cache, two passes over each, merged by the rule of Chan, Golub and
/// LeVeque (1979): one pass over memory, and no E[x^2] - E[x]^2.
/// </summary>
internal sealed unsafe class GroupNormForward<T> : CpuKernel
    where T : unmanaged, ISimd<T>
{
    // Pixels per block: a multiple of the four running sums that hide the latency of the additions.
    private const int BlockPixels = 64;

    private readonly GroupNormShape _shape;
    private readonly GroupNormInput _x;
    private readonly float* _gamma;
    private readonly float* _beta;
    private readonly float* _scaleShift;
    private readonly bool _silu;
    private readonly int _pooledWidth;
    private readonly float* _y;
    private readonly float* _statistics;
    private readonly WorkerScratch _scratch;
    private readonly int _groupsPerPart;
    private readonly int _partsPerImage;

    public GroupNormForward(
        in GroupNormShape shape, GroupNormInput x, float* gamma, float* beta, float* scaleShift, bool silu, int pooledWidth, float* y, float* statistics, WorkerScratch scratch)
    {
        _shape = shape;
        _x = x;
        _gamma = gamma;
        _beta = beta;
        _scaleShift = scaleShift;
        _silu = silu;
        _pooledWidth = pooledWidth;
        _y = y;
        _statistics = statistics;
        _scratch = scratch;
        _groupsPerPart = shape.GroupsPerPart(T.Count, scratch.Workers);
        _partsPerImage = (shape.Groups + _groupsPerPart - 1) / _groupsPerPart;
        scratch.Reserve(3 * WorkerScratch.Align((nint)_groupsPerPart * shape.GroupChannels));
    }

    public override int Parts => _shape.N * _partsPerImage;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Run(int part, int worker)
    {
        int image = part / _partsPerImage, firstGroup = part % _partsPerImage * _groupsPerPart;
        int groups = Math.Min(_groupsPerPart, _shape.Groups - firstGroup);
        int first = firstGroup * _shape.GroupChannels, channels = groups * _shape.GroupChannels;
        float* mean = _scratch.Of(worker);
        float* m2 = mean + WorkerScratch.Align(channels);
        float* shift = m2 + WorkerScratch.Align(channels);

        // The channels of the part lie in one tensor or in both; they are treated one tensor after the other, and a channel by itself.
        int split = _x.Split(_shape, first, channels);
        Gather(_x.First(_shape, image, first), mean, m2, split);
        Gather(_x.Second(_shape, image, first + split), mean + split, m2 + split, channels - split);

        float* factor = m2;
        for (int group = 0; group < groups; group++)
        {
            float* statistics = _statistics + (2 * ((nint)image * _shape.Groups + firstGroup + group));
            int from = group * _shape.GroupChannels;
            MergeChannels(mean + from, m2 + from, statistics);
            GroupNormCoefficients.Fill(_shape, image, first + from, statistics, _gamma, _beta, _scaleShift, mean + from, factor + from, shift + from);
        }

        Finish(_x.First(_shape, image, first), image, first, mean, factor, shift, split);
        Finish(_x.Second(_shape, image, first + split), image, first + split, mean + split, factor + split, shift + split, channels - split);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Gather(GroupNormRows x, float* mean, float* m2, int channels)
    {
        int whole = channels - (channels % T.Count);
        for (int pixel = 0; channels > 0 && pixel < _shape.Pixels; pixel += BlockPixels)
        {
            int pixels = Math.Min(BlockPixels, _shape.Pixels - pixel);
            Moments<T>(x.At(pixel), x.Stride, pixel, pixels, mean, m2, 0, whole);
            Moments<Simd1>(x.At(pixel), x.Stride, pixel, pixels, mean, m2, whole, channels);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Finish(GroupNormRows x, int image, int first, float* mean, float* factor, float* shift, int channels)
    {
        int whole = channels - (channels % T.Count);
        if (channels > 0 && _pooledWidth > 0)
        {
            ApplyPooled(x.At(0), _y + ((nint)image * _shape.Pixels / 4 * _shape.C) + first, mean, factor, shift, whole, channels);
            return;
        }

        float* y = _y + ((nint)image * _shape.Pixels * _shape.C) + first;
        for (int pixel = 0; channels > 0 && pixel < _shape.Pixels; pixel += BlockPixels, y += BlockPixels * (nint)_shape.C)
        {
            int pixels = Math.Min(BlockPixels, _shape.Pixels - pixel);
            Apply<T>(x.At(pixel), x.Stride, y, pixels, mean, factor, shift, 0, whole);
            Apply<Simd1>(x.At(pixel), x.Stride, y, pixels, mean, factor, shift, whole, channels);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void ApplyPooled(float* x, float* y, float* mean, float* factor, float* shift, int whole, int channels)
    {
        nint row = (nint)_pooledWidth * _shape.C;
        for (int pixel = 0; pixel < _shape.Pixels; pixel += 2 * _pooledWidth, x += 2 * row, y += row / 2)
        {
            ApplyPooled<T>(x, y, mean, factor, shift, 0, whole);
            ApplyPooled<Simd1>(x, y, mean, factor, shift, whole, channels);
        }
    }

    // Two rows of pixels to one, the four summed in the order of Pool2xKernel.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void ApplyPooled<TV>(float* x, float* y, float* mean, float* factor, float* shift, int from, int to)
        where TV : unmanaged, ISimd<TV>
    {
        nint pixel = _shape.C, row = _pooledWidth * pixel;
        TV quarter = TV.Create(0.25f);
        for (int c = from; c < to; c += TV.Count)
        {
            TV m = TV.Load(mean + c), f = TV.Load(factor + c), s = TV.Load(shift + c);
            float* source = x + c;
            float* target = y + c;
            for (int j = 0; j < _pooledWidth; j += 2, source += 2 * pixel, target += pixel)
            {
                TV a = Act(TV.MultiplyAdd(TV.Load(source) - m, f, s)), b = Act(TV.MultiplyAdd(TV.Load(source + pixel) - m, f, s));
                TV d = Act(TV.MultiplyAdd(TV.Load(source + row) - m, f, s)), e = Act(TV.MultiplyAdd(TV.Load(source + row + pixel) - m, f, s));
                ((a + b + d + e) * quarter).Store(target);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private TV Act<TV>(TV value)
        where TV : unmanaged, ISimd<TV> => _silu ? VectorMath.SiLU(value) : value;

    // Merges one block's mean and sum of squared deviations into those of the pixels before it, channel by channel.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Moments<TV>(float* x, nint row, int before, int pixels, float* mean, float* m2, int from, int to)
        where TV : unmanaged, ISimd<TV>
    {
        TV share = TV.Create((float)pixels / (before + pixels)), weight = TV.Create((float)((double)before * pixels / (before + pixels)));
        TV reciprocal = TV.Create(1f / pixels), zero = TV.Create(0f);
        for (int c = from; c < to; c += TV.Count)
        {
            TV s0 = zero, s1 = zero, s2 = zero, s3 = zero;
            float* p = x + c;
            int i = 0;
            for (; i <= pixels - 4; i += 4, p += 4 * row)
            {
                s0 += TV.Load(p);
                s1 += TV.Load(p + row);
                s2 += TV.Load(p + (2 * row));
                s3 += TV.Load(p + (3 * row));
            }

            for (; i < pixels; i++, p += row)
            {
                s0 += TV.Load(p);
            }

            TV average = (s0 + s1 + (s2 + s3)) * reciprocal;
            s0 = s1 = s2 = s3 = zero;
            p = x + c;
            for (i = 0; i <= pixels - 4; i += 4, p += 4 * row)
            {
                TV d0 = TV.Load(p) - average, d1 = TV.Load(p + row) - average;
                TV d2 = TV.Load(p + (2 * row)) - average, d3 = TV.Load(p + (3 * row)) - average;
                s0 = TV.MultiplyAdd(d0, d0, s0);
                s1 = TV.MultiplyAdd(d1, d1, s1);
                s2 = TV.MultiplyAdd(d2, d2, s2);
                s3 = TV.MultiplyAdd(d3, d3, s3);
            }

            for (; i < pixels; i++, p += row)
            {
                TV d = TV.Load(p) - average;
                s0 = TV.MultiplyAdd(d, d, s0);
            }

            TV deviation = s0 + s1 + (s2 + s3);
            if (before > 0)
            {
                TV old = TV.Load(mean + c), delta = average - old;
                average = TV.MultiplyAdd(delta, share, old);
                deviation = TV.MultiplyAdd(delta * delta, weight, deviation + TV.Load(m2 + c));
            }

            average.Store(mean + c);
            deviation.Store(m2 + c);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void MergeChannels(float* mean, float* m2, float* statistics)
    {
        int channels = _shape.GroupChannels;
        double sum = 0, deviation = 0;
        for (int c = 0; c < channels; c++)
        {
            sum += mean[c];
        }

        double average = sum / channels;
        for (int c = 0; c < channels; c++)
        {
            double delta = mean[c] - average;
            deviation += m2[c] + (delta * delta * _shape.Pixels);
        }

        statistics[0] = (float)average;
        statistics[1] = (float)(1 / Math.Sqrt((deviation / ((double)channels * _shape.Pixels)) + _shape.Epsilon));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Apply<TV>(float* x, nint xRow, float* y, int pixels, float* mean, float* factor, float* shift, int from, int to)
        where TV : unmanaged, ISimd<TV>
    {
        nint row = _shape.C;
        for (int c = from; c < to; c += TV.Count)
        {
            TV m = TV.Load(mean + c), f = TV.Load(factor + c), s = TV.Load(shift + c);
            float* source = x + c;
            float* target = y + c;
            if (_silu)
            {
                for (int i = 0; i < pixels; i++, source += xRow, target += row)
                {
                    VectorMath.SiLU(TV.MultiplyAdd(TV.Load(source) - m, f, s)).Store(target);
                }
            }
            else
            {
                for (int i = 0; i < pixels; i++, source += xRow, target += row)
                {
                    TV.MultiplyAdd(TV.Load(source) - m, f, s).Store(target);
                }
            }
        }
    }
}

/// <summary>The normalisation and the modulation of a channel as one step: u = (x - mean) factor + shift.</summary>
internal static unsafe class GroupNormCoefficients
{
    /// <summary>Writes the three numbers of every channel of one group.</summary>
    /// <param name="shape">Extents.</param>
    /// <param name="image">The image.</param>
    /// <param name="first">First channel of the group.</param>
    /// <param name="statistics">Mean and rstd of the group.</param>
    /// <param name="gamma">[C].</param>
    /// <param name="beta">[C], or null where the shift is not needed.</param>
    /// <param name="scaleShift">[N, 2 C], or null.</param>
    /// <param name="mean">Receives the group's mean, once per channel.</param>
    /// <param name="factor">Receives rstd gamma (1 + scale).</param>
    /// <param name="shift">Receives beta (1 + scale) + shift.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Fill(
        in GroupNormShape shape, int image, int first, float* statistics, float* gamma, float* beta, float* scaleShift, float* mean, float* factor, float* shift)
    {
        float* scales = scaleShift is null ? null : scaleShift + (2 * (nint)image * shape.C) + first;
        for (int c = 0; c < shape.GroupChannels; c++)
        {
            float scale = scales is null ? 1f : 1f + scales[c];
            mean[c] = statistics[0];
            factor[c] = statistics[1] * gamma[first + c] * scale;
            shift[c] = ((beta is null ? 0f : beta[first + c]) * scale) + (scales is null ? 0f : scales[shape.C + c]);
        }
    }
}

using System.Runtime.CompilerServices;

namespace Kernels.Backends.Cpu;

/// <summary>What is added to the gradient of a group normalisation.</summary>
/// <param name="pointer">[N, Pixels, C], or spread from [N, Pixels / 4, C]; or null for nothing.</param>
/// <param name="width">0; or the width of the image, if each element counts a quarter in a block of two by two pixels.</param>
internal readonly unsafe struct GroupNormResidual(float* pointer, int width)
{
    /// <summary>Whether anything is added.</summary>
    public bool IsThere => pointer is not null;

    /// <summary>What an element counts.</summary>
    public float Factor => width == 0 ? 1 : 0.25f;

    /// <summary>First element of an image.</summary>
    /// <param name="image">The image.</param>
    /// <param name="shape">Extents of the normalisation.</param>
    public float* Image(int image, in GroupNormShape shape) => pointer + ((nint)image * (width == 0 ? shape.Pixels : shape.Pixels / 4) * shape.C);

    /// <summary>The pixel that is added to a pixel of dx.</summary>
    /// <param name="pixel">Position in the image.</param>
    public int At(int pixel) => width == 0 ? pixel : (pixel / width / 2 * (width / 2)) + (pixel % width / 2);
}

/// <summary>
/// Gradient of group normalisation, some groups of one image per part. With u = (x - mean) f + s as in the forward direction, h = f dy act'(u) and means over
/// the elements of a group: dx = h - mean(h) - (x - mean) rstd^2 mean(h (x - mean)).
/// </summary>
internal sealed unsafe class GroupNormBackward<T> : CpuKernel
    where T : unmanaged, ISimd<T>
{
    // Two levels of summation, within and across blocks, keep the rounding of a long sum near that of its square root.
    private const int BlockPixels = 64;

    private readonly GroupNormShape _shape;
    private readonly float* _x;
    private readonly float* _statistics;
    private readonly float* _gamma;
    private readonly float* _beta;
    private readonly float* _scaleShift;
    private readonly bool _silu;
    private readonly float* _dy;
    private readonly GroupNormResidual _residual;
    private readonly float* _dx;
    private readonly WorkerScratch _scratch;
    private readonly int _groupsPerPart;
    private readonly int _partsPerImage;

    public GroupNormBackward(
        in GroupNormShape shape, float* x, float* statistics, float* gamma, float* beta, float* scaleShift, bool silu, float* dy, GroupNormResidual residual, float* dx, WorkerScratch scratch)
    {
        _shape = shape;
        _x = x;
        _statistics = statistics;
        _gamma = gamma;
        _beta = beta;
        _scaleShift = scaleShift;
        _silu = silu;
        _dy = dy;
        _residual = residual;
        _dx = dx;
        _scratch = scratch;
        _groupsPerPart = shape.GroupsPerPart(T.Count, scratch.Workers);
        _partsPerImage = (shape.Groups + _groupsPerPart - 1) / _groupsPerPart;
        scratch.Reserve(5 * WorkerScratch.Align((nint)_groupsPerPart * shape.GroupChannels));
    }

    public override int Parts => _shape.N * _partsPerImage;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Run(int part, int worker)
    {
        int image = part / _partsPerImage, firstGroup = part % _partsPerImage * _groupsPerPart;
        int groups = Math.Min(_groupsPerPart, _shape.Groups - firstGroup), size = _shape.GroupChannels;
        int first = firstGroup * size, channels = groups * size, whole = channels - (channels % T.Count);
        nint offset = ((nint)image * _shape.Pixels * _shape.C) + first, aligned = WorkerScratch.Align(channels);
        float* statistics = _statistics + (2 * (((nint)image * _shape.Groups) + firstGroup));
        float* mean = _scratch.Of(worker);
        float* factor = mean + aligned;
        float* shift = factor + aligned;
        float* sums = shift + aligned;
        float* products = sums + aligned;
        for (int group = 0; group < groups; group++)
        {
            int from = group * size;
            GroupNormCoefficients.Fill(
                _shape, image, first + from, statistics + (2 * group), _gamma, _beta, _scaleShift, mean + from, factor + from, shift + from);
        }

        new Span<float>(sums, (int)(2 * aligned)).Clear();
        for (int pixel = 0; pixel < _shape.Pixels; pixel += BlockPixels)
        {
            int pixels = Math.Min(BlockPixels, _shape.Pixels - pixel);
            nint block = offset + ((nint)pixel * _shape.C);
            Sum<T>(block, pixels, mean, factor, shift, sums, products, 0, whole);
            Sum<Simd1>(block, pixels, mean, factor, shift, sums, products, whole, channels);
        }

        // From here on the two arrays of sums hold, per channel, the constant and the slope in x that its group subtracts.
        for (int group = 0; group < groups; group++)
        {
            Merge(factor + (group * size), sums + (group * size), products + (group * size), statistics[(2 * group) + 1]);
        }

        for (int pixel = 0; pixel < _shape.Pixels; pixel += BlockPixels)
        {
            int pixels = Math.Min(BlockPixels, _shape.Pixels - pixel);
            nint block = offset + ((nint)pixel * _shape.C);
            Apply<T>(block, pixels, mean, factor, sums, products, 0, whole);
            Apply<Simd1>(block, pixels, mean, factor, sums, products, whole, channels);
            if (_residual.IsThere)
            {
                // While the block is in the first-level cache.
                Add<T>(image, pixel, pixels, first, 0, whole);
                Add<Simd1>(image, pixel, pixels, first, whole, channels);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Add<TV>(int image, int pixel, int pixels, int first, int from, int to)
        where TV : unmanaged, ISimd<TV>
    {
        TV factor = TV.Create(_residual.Factor);
        float* residual = _residual.Image(image, _shape) + first;
        float* dx = _dx + ((((nint)image * _shape.Pixels) + pixel) * _shape.C) + first;
        for (int i = 0; i < pixels; i++, dx += _shape.C)
        {
            float* r = residual + ((nint)_residual.At(pixel + i) * _shape.C);
            for (int c = from; c < to; c += TV.Count)
            {
                TV.MultiplyAdd(TV.Load(r + c), factor, TV.Load(dx + c)).Store(dx + c);
            }
        }
    }

    // sums += sum of g, products += sum of g (x - mean); leaves g in dx if it is not dy itself, since the derivative of SiLU is worth computing once.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Sum<TV>(nint offset, int pixels, float* mean, float* factor, float* shift, float* sums, float* products, int from, int to)
        where TV : unmanaged, ISimd<TV>
    {
        nint row = _shape.C;
        for (int c = from; c < to; c += TV.Count)
        {
            TV m = TV.Load(mean + c), f = TV.Load(factor + c), s = TV.Load(shift + c);
            TV sum = TV.Create(0f), product = TV.Create(0f);
            float* x = _x + offset + c;
            float* dy = _dy + offset + c;
            float* dx = _dx + offset + c;
            for (int i = 0; i < pixels; i++, x += row, dy += row, dx += row)
            {
                TV centred = TV.Load(x) - m, g = TV.Load(dy);
                if (_silu)
                {
                    g *= VectorMath.SiLUDerivative(TV.MultiplyAdd(centred, f, s));
                    g.Store(dx);
                }

                sum += g;
                product = TV.MultiplyAdd(g, centred, product);
            }

            (TV.Load(sums + c) + sum).Store(sums + c);
            (TV.Load(products + c) + product).Store(products + c);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Merge(float* factor, float* sums, float* products, float rstd)
    {
        int channels = _shape.GroupChannels;
        double sum = 0, product = 0, count = (double)channels * _shape.Pixels;
        for (int c = 0; c < channels; c++)
        {
            sum += (double)factor[c] * sums[c];
            product += (double)factor[c] * products[c];
        }

        new Span<float>(sums, channels).Fill((float)(-sum / count));
        new Span<float>(products, channels).Fill((float)(-product / count * rstd * rstd));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Apply<TV>(nint offset, int pixels, float* mean, float* factor, float* constant, float* slope, int from, int to)
        where TV : unmanaged, ISimd<TV>
    {
        nint row = _shape.C;
        float* gradient = _silu ? _dx : _dy;
        for (int c = from; c < to; c += TV.Count)
        {
            TV m = TV.Load(mean + c), f = TV.Load(factor + c), k = TV.Load(constant + c), l = TV.Load(slope + c);
            float* x = _x + offset + c;
            float* g = gradient + offset + c;
            float* dx = _dx + offset + c;
            for (int i = 0; i < pixels; i++, x += row, g += row, dx += row)
            {
                TV.MultiplyAdd(TV.Load(g), f, TV.MultiplyAdd(TV.Load(x) - m, l, k)).Store(dx);
            }
        }
    }
}

// Group normalisation with scale and shift, SiLU and 2x2 pooling.
//
//   x^ = (x - mean_g) * rstd_g      rstd_g = 1 / sqrt(var_g + EPSILON), biased variance over the pixels and the D = CHANNELS / GROUPS channels of a group of one image
//   z = (x^ * gamma_c + beta_c) * (1 + scale_nc) + shift_nc            y = silu(z), averaged over 2x2 pixels where the next op halves the image
//
// Inputs and outputs: x [N][PIXELS][CHANNELS] of X, or of two tensors, SPLIT channels of X and the rest of X2; gamma, beta [CHANNELS]; scale_shift [N][2 CHANNELS];
// y [N][PIXELS / QUAD][CHANNELS] of Y; statistics [N][GROUPS][2], mean and rstd, of STATISTICS.
// Threads: group_norm.cuh. Where the groups that make up whole sectors fit into a block's registers:
//   group_norm_fused        block (x, 0, n) has COLUMNS channels, whole groups of them, of all pixels; mean, then squares about it, then y: x is read once, y written once
// elsewhere three launches, of which the first falls away where a convolution has left its partials:
//   group_norm_partials     block (x, t, n): of tile t, TILE_ROWS pixels, each channel's mean and sum of squares about it, partials [N][TILES][CHANNELS] float2
//   group_norm_statistics   block (g, n): partials of a group to mean and rstd, in fixed order (Chan, Golub and LeVeque 1979)
//   group_norm_apply        block (x, t, n): y
// Which of the two depends on one image's shape only, so that its bits do not depend on the batch.
// Least bytes: N * PIXELS * CHANNELS * (sizeof(X) + sizeof(Y) / QUAD); the three launches read x twice. Operations: 12 per element and an exponential: memory-bound.
// y may lie over x: a block reads all its elements before it writes the first, or a thread each element before it writes it. No __restrict__ on either.
// Source: Wu and He 2018; GroupNorm32 and use_scale_shift_norm of guided-diffusion. Two passes over registers cost nothing beside memory and lose no digits.
#include "group_norm.cuh"

#ifndef Y
#define Y float
#endif
#ifndef EPSILON
#define EPSILON 1e-5f
#endif
#ifndef TILE_ROWS
#define TILE_ROWS 64
#define TILES 1
#endif

__device__ __forceinline__ float finish(float x, float mean, float a, float b)
{
    const float z = fmaf(x - mean, a, b);
    return SILU ? silu(z) : z;
}

// The readable one: a block of 256 threads per group.
extern "C" __global__ void group_norm_naive(
    const X* x, const X2* x2, const float* gamma, const float* beta, const SCALE_SHIFT* scale_shift, Y* y, STATISTICS* statistics)
{
    __shared__ float s[8];
    const int g = blockIdx.x, n = blockIdx.y;
    auto at = [&](int i) {
        const int c = g * D + i % D;
        const long long pixel = (long long)n * PIXELS + i / D;
        return c < SPLIT ? to_float(x[pixel * SPLIT + c]) : to_float(x2[pixel * (CHANNELS - SPLIT) + c - SPLIT]);
    };
    float sum = 0, squares = 0;
    for (int i = threadIdx.x; i < PIXELS * D; i += 256)
        sum += at(i);
    const float mean = block_sum<8>(sum, s) / (PIXELS * D);
    for (int i = threadIdx.x; i < PIXELS * D; i += 256)
        squares += (at(i) - mean) * (at(i) - mean);
    const float rstd = 1.0f / sqrtf(block_sum<8>(squares, s) / (PIXELS * D) + EPSILON);
    for (int i = threadIdx.x; i < UNITS * D; i += 256) {
        const int c = g * D + i % D, unit = i / D;
        float a = gamma[c], b = beta[c], sum = 0;
#if MODULATED
        const float scale = 1.0f + to_float(scale_shift[(long long)n * 2 * CHANNELS + c]);
        a *= scale;
        b = b * scale + to_float(scale_shift[(long long)n * 2 * CHANNELS + CHANNELS + c]);
#endif
        for (int q = 0; q < QUAD; q++)
            sum += finish(at((QUAD == 1 ? unit : (unit / (WIDTH / 2) * 2 + q / 2) * WIDTH + unit % (WIDTH / 2) * 2 + q % 2) * D + i % D), mean, rstd * a, b);
        y[((long long)n * UNITS + unit) * CHANNELS + c] = from_float<Y>(sum / QUAD);
    }
    if (threadIdx.x < 2)
        statistics[((long long)n * GROUPS + g) * 2 + threadIdx.x] = from_float<STATISTICS>(threadIdx.x ? rstd : mean);
}

// One unit of y: the pixels' values, or their average.
__device__ __forceinline__ void write(const Place& p, int step, const Pack<HELD, V> (&rX)[QUAD], const float (&mean)[PLANES], const float (&a)[V], const float (&b)[V], Y* y)
{
    float v[V] = {};
#pragma unroll
    for (int q = 0; q < QUAD; q++)
#pragma unroll
        for (int i = 0; i < V; i++)
            v[i] += finish(to_float(rX[q].at[i]), mean[i / UNITED], a[i], b[i]);
#pragma unroll
    for (int i = 0; i < V; i++)
        v[i] *= 1.0f / QUAD;
    store_whole(p.image(y, UNITS * CHANNELS) + p.unit(step) * CHANNELS + p.channel, v);
}

extern "C" __global__ __launch_bounds__(THREADS) void group_norm_fused(
    const X* x, const X2* x2, const float* gamma, const float* beta, const SCALE_SHIFT* scale_shift, Y* y, STATISTICS* statistics)
{
    __shared__ GroupSums<1> s;
    __shared__ __align__(16) Parameters sParameters;
    const Place p;
    sParameters.read(gamma, beta, scale_shift);
    Pack<HELD, V> rX[STEPS][QUAD];
#pragma unroll
    for (int k = 0; k < STEPS; k++)
#pragma unroll
        for (int q = 0; q < QUAD; q++)
            if (p.valid(k))
                rX[k][q] = take_x(p, x, x2, p.pixel(k, q));

    float v[1][V] = {}, sums[1][PLANES], mean[PLANES], rstd[PLANES];
#pragma unroll
    for (int k = 0; k < STEPS; k++)
#pragma unroll
        for (int q = 0; q < QUAD; q++)
            if (p.valid(k))
#pragma unroll
                for (int i = 0; i < V; i++)
                    v[0][i] += to_float(rX[k][q].at[i]);
    group_sums(v, sums, s);
#pragma unroll
    for (int j = 0; j < PLANES; j++)
        mean[j] = sums[0][j] / (PIXELS * D);

#pragma unroll
    for (int i = 0; i < V; i++)
        v[0][i] = 0;
#pragma unroll
    for (int k = 0; k < STEPS; k++)
#pragma unroll
        for (int q = 0; q < QUAD; q++)
            if (p.valid(k))
#pragma unroll
                for (int i = 0; i < V; i++) {
                    const float d = to_float(rX[k][q].at[i]) - mean[i / UNITED];
                    v[0][i] = fmaf(d, d, v[0][i]);
                }
    group_sums(v, sums, s);
    if (!p.active)
        return;
    float a[V], b[V];
    sParameters.of(p, a, b);
#pragma unroll
    for (int j = 0; j < PLANES; j++)
        rstd[j] = 1.0f / sqrtf(sums[0][j] / (PIXELS * D) + EPSILON);
#pragma unroll
    for (int i = 0; i < V; i++)
        a[i] *= rstd[i / UNITED];

    // The first row's threads hold every channel once; the one with a group's first channel writes for it.
    if (p.row == 0)
#pragma unroll
        for (int j = 0; j < PLANES; j++)
            if ((p.channel + j * UNITED) % D == 0) {
                const float pair[2] = {mean[j], rstd[j]};
                store(statistics + ((long long)p.n * GROUPS + (p.channel + j * UNITED) / D) * 2, pair);
            }
#pragma unroll
    for (int k = 0; k < STEPS; k++)
        if (p.valid(k))
            write(p, k, rX[k], mean, a, b, y);
}

extern "C" __global__ __launch_bounds__(THREADS) void group_norm_partials(const X* x, const X2* x2, float2* partials)
{
    __shared__ ColumnSums s;
    __shared__ float sMean[COLUMNS];
    const Place p;
    Pack<HELD, V> rX[STEPS];
    const int tile = blockIdx.y, rows = min(TILE_ROWS, PIXELS - tile * TILE_ROWS);
    float v[V] = {}, mean[V], squares[V];
#pragma unroll
    for (int k = 0; k < STEPS; k++)
        if (p.valid(k))
            rX[k] = take_x(p, x, x2, p.pixel(k, 0));
#pragma unroll
    for (int k = 0; k < STEPS; k++)
        if (p.valid(k))
#pragma unroll
            for (int i = 0; i < V; i++)
                v[i] += to_float(rX[k].at[i]);
    column_sums(v, mean, s);
#pragma unroll
    for (int i = 0; i < V; i++) {
        mean[i] /= rows;
        v[i] = 0;
        if (p.row == 0)
            sMean[threadIdx.x * V + i] = mean[i];
    }
#pragma unroll
    for (int k = 0; k < STEPS; k++)
        if (p.valid(k))
#pragma unroll
            for (int i = 0; i < V; i++) {
                const float d = to_float(rX[k].at[i]) - mean[i];
                v[i] = fmaf(d, d, v[i]);
            }
    column_sums(v, squares, s);
    for (int c = threadIdx.x; c < COLUMNS; c += THREADS)
        partials[((long long)p.n * TILES + tile) * CHANNELS + blockIdx.x * COLUMNS + c] = make_float2(sMean[c], s.total[c]);
}

extern "C" __global__ void group_norm_statistics(const float2* partials, STATISTICS* statistics) // 128 threads
{
    __shared__ float s[4];
    const int g = blockIdx.x, n = blockIdx.y;
    const float2* part = partials + (long long)n * TILES * CHANNELS + g * D; // [TILES][CHANNELS]
    auto rows = [](int t) { return (float)min(TILE_ROWS, PIXELS - t * TILE_ROWS); };
    float sum = 0, squares = 0;
    for (int i = threadIdx.x; i < TILES * D; i += 128)
        sum = fmaf(rows(i / D), part[i / D * CHANNELS + i % D].x, sum);
    const float mean = block_sum<4>(sum, s) / (PIXELS * D);
    for (int i = threadIdx.x; i < TILES * D; i += 128) {
        const float2 value = part[i / D * CHANNELS + i % D];
        squares += value.y + rows(i / D) * (value.x - mean) * (value.x - mean);
    }
    const float rstd = 1.0f / sqrtf(block_sum<4>(squares, s) / (PIXELS * D) + EPSILON);
    if (threadIdx.x < 2)
        statistics[((long long)n * GROUPS + g) * 2 + threadIdx.x] = from_float<STATISTICS>(threadIdx.x ? rstd : mean);
}

extern "C" __global__ __launch_bounds__(THREADS) void group_norm_apply(
    const X* x, const X2* x2, const float* gamma, const float* beta, const SCALE_SHIFT* scale_shift, const STATISTICS* statistics, Y* y)
{
    __shared__ __align__(16) Parameters sParameters;
    __shared__ Statistics sStatistics;
    const Place p;
    sParameters.read(gamma, beta, scale_shift);
    sStatistics.read(statistics);
    Pack<HELD, V> rX[STEPS][QUAD];
#pragma unroll
    for (int k = 0; k < STEPS; k++)
#pragma unroll
        for (int q = 0; q < QUAD; q++)
            if (p.valid(k))
                rX[k][q] = take_x(p, x, x2, p.pixel(k, q));
    __syncthreads();
    float mean[PLANES], rstd[PLANES], a[V], b[V];
    sStatistics.of(p, mean, rstd);
    sParameters.of(p, a, b);
#pragma unroll
    for (int i = 0; i < V; i++)
        a[i] *= rstd[i / UNITED];
#pragma unroll
    for (int k = 0; k < STEPS; k++)
        if (p.valid(k))
            write(p, k, rX[k], mean, a, b, y);
}

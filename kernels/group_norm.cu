// Group normalisation with scale and shift, SiLU and 2x2 pooling.
//
//   x^ = (x - mean_g) * rstd_g      rstd_g = 1 / sqrt(var_g + EPSILON), biased variance over the pixels and the D = CHANNELS / GROUPS channels of a group of one image
//   z = (x^ * gamma_c + beta_c) * (1 + scale_nc) + shift_nc            y = silu(z), averaged over 2x2 pixels where the next op halves the image
//
// Inputs and outputs: x [N][PIXELS][CHANNELS] of X, or of two tensors, SPLIT channels of X and the rest of X2; gamma, beta [CHANNELS]; scale_shift [N][2 CHANNELS];
// y [N][PIXELS / QUAD][CHANNELS] of Y; statistics [N][GROUPS][2], mean and rstd, of STATISTICS.
// Threads: group_norm.cuh. Where the groups that make up whole sectors fit into a block's registers:
//   group_norm_fused        block (x, 0, n) has COLUMNS channels, whole groups of them, of all pixels; mean, then squares about it, then y: x is read once, y written once
// elsewhere two launches, of which the first falls away where the convolutions that wrote x have left the statistics, and the second is all there is:
//   group_norm_partials     block (x, t, n): of tile t, TILE_ROWS pixels, each channel's mean and sum of squares about it, partials [N][TILES][CHANNELS] float2; the last block of an
//                           image (last_block.cuh) makes mean and rstd of its groups of them, given [N][GROUPS] float2
//   group_norm_apply        block (x, t, n): y
// Which of the two depends on one image's shape only, so that its bits do not depend on the batch.
// Least bytes: N * PIXELS * CHANNELS * (sizeof(X) + sizeof(Y) / QUAD); two launches read x twice, one behind convolutions once. Operations: 12 per element and an exponential: memory-bound.
// y may lie over x: a block reads all its elements before it writes the first, or a thread each element before it writes it. No __restrict__ on either.
// Source: Wu and He 2018; GroupNorm32 and use_scale_shift_norm of guided-diffusion. Two passes over registers cost nothing beside memory and lose no digits.
#include "group_norm.cuh"
#include "last_block.cuh"

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
        float a, b, sum = 0;
        norm_coefficients(gamma, beta, scale_shift, n, CHANNELS, c, a, b);
        for (int q = 0; q < QUAD; q++)
            sum += norm_forward<SILU, Y>(at((QUAD == 1 ? unit : (unit / (WIDTH / 2) * 2 + q / 2) * WIDTH + unit % (WIDTH / 2) * 2 + q % 2) * D + i % D), mean, rstd * a, b);
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
            v[i] += norm_forward<SILU, Y>(to_float(rX[q].at[i]), mean[i / UNITED], a[i], b[i]);
#pragma unroll
    for (int i = 0; i < V; i++)
        v[i] *= 1.0f / QUAD;
    store_whole(p.image(y, UNITS * CHANNELS) + p.unit(step) * CHANNELS + p.channel, v);
}

// A pack that stays in registers from the first pass to the last: 16-bit elements two to a register, opened anew at every use. Left to itself the compiler gives each element a register
// of its own, and keeps what it has widened.
template <typename H>
struct Kept {
    static constexpr bool PAIRED = sizeof(H) == 2 && V % 2 == 0;
    unsigned words[PAIRED ? V / 2 : V];

    __device__ __forceinline__ void keep(const Pack<H, V>& pack)
    {
        if constexpr (PAIRED) {
#pragma unroll
            for (int i = 0; i < V / 2; i++)
                asm volatile("mov.b32 %0, {%1, %2};" : "=r"(words[i]) : "h"(pack.at[2 * i].bits), "h"(pack.at[2 * i + 1].bits));
        } else if constexpr (sizeof(H) == 2) {
#pragma unroll
            for (int i = 0; i < V; i++)
                words[i] = pack.at[i].bits;
        } else {
#pragma unroll
            for (int i = 0; i < V; i++)
                words[i] = __float_as_uint(pack.at[i]);
        }
    }

    __device__ __forceinline__ Pack<H, V> open() const
    {
        Pack<H, V> pack;
        if constexpr (PAIRED) {
#pragma unroll
            for (int i = 0; i < V / 2; i++)
                asm volatile("mov.b32 {%0, %1}, %2;" : "=h"(pack.at[2 * i].bits), "=h"(pack.at[2 * i + 1].bits) : "r"(words[i]));
        } else if constexpr (sizeof(H) == 2) {
#pragma unroll
            for (int i = 0; i < V; i++)
                pack.at[i].bits = (unsigned short)words[i];
        } else {
#pragma unroll
            for (int i = 0; i < V; i++)
                pack.at[i] = __uint_as_float(words[i]);
        }
        return pack;
    }
};

extern "C" __global__ __launch_bounds__(THREADS) void group_norm_fused(
    const X* x, const X2* x2, const float* gamma, const float* beta, const SCALE_SHIFT* scale_shift, Y* y, STATISTICS* statistics)
{
    __shared__ GroupSums<1> s;
    __shared__ __align__(16) Parameters sParameters;
    const Place p;
    sParameters.read(gamma, beta, scale_shift);
    Kept<HELD> rX[STEPS][QUAD];
#pragma unroll
    for (int k = 0; k < STEPS; k++)
#pragma unroll
        for (int q = 0; q < QUAD; q++)
            if (p.valid(k))
                rX[k][q].keep(take_x(p, x, x2, p.pixel(k, q)));

    float v[1][V] = {}, sums[1][PLANES], mean[PLANES], rstd[PLANES];
#pragma unroll
    for (int k = 0; k < STEPS; k++)
#pragma unroll
        for (int q = 0; q < QUAD; q++)
            if (p.valid(k)) {
                const Pack<HELD, V> pack = rX[k][q].open();
#pragma unroll
                for (int i = 0; i < V; i++)
                    v[0][i] += to_float(pack.at[i]);
            }
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
            if (p.valid(k)) {
                const Pack<HELD, V> pack = rX[k][q].open();
#pragma unroll
                for (int i = 0; i < V; i++) {
                    const float d = to_float(pack.at[i]) - mean[i / UNITED];
                    v[0][i] = fmaf(d, d, v[0][i]);
                }
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
        if (p.valid(k)) {
            Pack<HELD, V> packs[QUAD];
#pragma unroll
            for (int q = 0; q < QUAD; q++)
                packs[q] = rX[k][q].open();
            write(p, k, packs, mean, a, b, y);
        }
}

extern "C" __global__ __launch_bounds__(THREADS) void group_norm_partials(
    const X* x, const X2* x2, float2* partials, float2* given, unsigned* tickets)
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
    if (is_last_block(tickets + p.n, gridDim.x * gridDim.y))
        group_statistics<THREADS / 32, PIXELS, GROUPS, Tiles<TILES, TILE_ROWS, CHANNELS>>(
            partials + (long long)p.n * TILES * CHANNELS, nullptr, EPSILON, given + p.n * GROUPS);
}

extern "C" __global__ __launch_bounds__(THREADS) void group_norm_apply(
    const X* x, const X2* x2, const float* gamma, const float* beta, const SCALE_SHIFT* scale_shift, const float2* given, Y* y, STATISTICS* statistics)
{
    __shared__ __align__(16) Parameters sParameters;
    __shared__ Statistics sStatistics;
    const Place p;
    sParameters.read(gamma, beta, scale_shift);
    sStatistics.read(&given->x);

    // For the gradient: one block writes for the groups that begin among its channels.
    if (blockIdx.y == 0)
        for (int c = blockIdx.x * COLUMNS + threadIdx.x; c < (blockIdx.x + 1) * COLUMNS; c += THREADS)
            if (c % D == 0) {
                const float2 group = given[p.n * GROUPS + c / D];
                const float pair[2] = {group.x, group.y};
                store(statistics + (p.n * GROUPS + c / D) * 2, pair);
            }
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

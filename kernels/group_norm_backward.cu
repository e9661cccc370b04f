// Gradient of group normalisation (with scale and shift, SiLU, 2x2 pooling) to x, plus the gradient of another branch.
//
//   g = dy * silu'(z) * a      z = x^ a + b, a = gamma (1 + scale), b = beta (1 + scale) + shift      dy of a pooled image counts a quarter in four places
//   dx = rstd * (g - mean(g) - x^ * mean(g x^)) + residual      x^ = (x - mean) * rstd, means over a group; mean and rstd are those of the forward pass
//
// Inputs and outputs: dy [N][PIXELS / (POOL ? 4 : 1)][CHANNELS] of DY; x [N][PIXELS][CHANNELS] of X; statistics [N][GROUPS][2] of STATISTICS; gamma, beta [CHANNELS];
// scale_shift [N][2 CHANNELS]; residual like dx, or a quarter of it, spread, with RESIDUAL_POOL; dx [N][PIXELS][CHANNELS] of DX.
// Threads: group_norm.cuh; QUAD = 4 where anything is spread. As in the forward pass either one launch, group_norm_backward_fused, or two:
//   group_norm_backward_partials   block (x, t, n): sums of g and of g x^ of each channel over a tile, partials [N][TILES][CHANNELS] float2; the last block of an image
//                                  (last_block.cuh) makes means [N][GROUPS] float2 of them
//   group_norm_backward_apply      block (x, t, n): dx; alone where the convolution that wrote dy has left the means (convolution_norm.cuh)
// Least bytes: N * PIXELS * CHANNELS * (sizeof(DY) / 4 or 1 + sizeof(X) + sizeof(DX) + the residual's); two launches read dy and x twice, one launch or apply alone once.
// Operations: 25 per element and an exponential, computed twice rather than kept: memory-bound all the same.
// dx may lie over dy: a block, or a thread, reads what it needs before it writes there. No __restrict__ on either.
// Source: the gradient that autograd derives from GroupNorm32, SiLU and avg_pool2d.
#include "group_norm.cuh"
#include "group_norm_gradient.cuh"
#include "last_block.cuh"

#ifndef DY
#define DY float
#endif
#ifndef DX
#define DX float
#endif
#ifndef POOL
#define POOL 0
#endif
#ifndef RESIDUAL // its type; ADDED: there is one
#define RESIDUAL float
#endif
#ifndef ADDED
#define ADDED 0
#endif
#ifndef RESIDUAL_POOL
#define RESIDUAL_POOL 0
#endif
#ifndef TILES
#define TILES 1
#endif

static_assert(QUAD == (POOL || RESIDUAL_POOL ? 4 : 1) && SPLIT == CHANNELS, "what is spread goes by quads; the gradient has one x");

constexpr int DYS = POOL ? 1 : QUAD;              // packs of dy in a unit
constexpr int RESIDUALS = RESIDUAL_POOL ? 1 : QUAD;

// The readable one: a block of 256 threads per group.
extern "C" __global__ void group_norm_backward_naive(
    const DY* dy, const X* x, const STATISTICS* statistics, const float* gamma, const float* beta, const SCALE_SHIFT* scale_shift, const RESIDUAL* residual, DX* dx)
{
    __shared__ float s[8];
    const int group = blockIdx.x, n = blockIdx.y;
    const float mean = to_float(statistics[((long long)n * GROUPS + group) * 2]), rstd = to_float(statistics[((long long)n * GROUPS + group) * 2 + 1]);
    auto spread = [&](int pixel, bool pooled) {
        return pooled ? (long long)n * PIXELS / 4 + pixel / WIDTH / 2 * (WIDTH / 2) + pixel % WIDTH / 2 : (long long)n * PIXELS + pixel;
    };
    auto at = [&](int i, float& x_hat) {
        const int c = group * D + i % D, pixel = i / D;
        float a, b;
        norm_coefficients(gamma, beta, scale_shift, n, CHANNELS, c, a, b);
        return norm_gradient<SILU, POOL, X>(to_float(dy[spread(pixel, POOL) * CHANNELS + c]), to_float(x[((long long)n * PIXELS + pixel) * CHANNELS + c]), mean, rstd, a, b, x_hat);
    };
    float sum = 0, product = 0, x_hat;
    for (int i = threadIdx.x; i < PIXELS * D; i += 256) {
        const float g = at(i, x_hat);
        sum += g;
        product += g * x_hat;
    }
    const float m1 = block_sum<8>(sum, s) / (PIXELS * D), m2 = block_sum<8>(product, s) / (PIXELS * D);
    for (int i = threadIdx.x; i < PIXELS * D; i += 256) {
        const int c = group * D + i % D, pixel = i / D;
        const float g = at(i, x_hat);
        float d = rstd * (g - m1 - x_hat * m2);
        if (ADDED)
            d += to_float(residual[spread(pixel, RESIDUAL_POOL) * CHANNELS + c]) * (RESIDUAL_POOL ? 0.25f : 1.0f);
        dx[((long long)n * PIXELS + pixel) * CHANNELS + c] = from_float<DX>(d);
    }
}

// What the block knows of its channels, and a thread of its own.
struct SharedChannels {
    Parameters parameters;
    Statistics statistics;
};

struct Channels {
    float mean[PLANES], rstd[PLANES], a[V], b[V];

    // All threads of the block call it.
    __device__ __forceinline__ Channels(
        const Place& p, const STATISTICS* statistics, const float* gamma, const float* beta, const SCALE_SHIFT* scale_shift, SharedChannels& s)
    {
        s.parameters.read(gamma, beta, scale_shift);
        s.statistics.read(statistics);
        __syncthreads();
        s.parameters.of(p, a, b);
        s.statistics.of(p, mean, rstd);
    }
};

__device__ __forceinline__ void take_unit(const Place& p, int step, const DY* dy, const X* x, Pack<DY, V> (&rDY)[DYS], Pack<X, V> (&rX)[QUAD])
{
#pragma unroll
    for (int q = 0; q < QUAD; q++)
        rX[q] = take<X>(p.image(x, PIXELS * CHANNELS) + p.pixel(step, q) * CHANNELS + p.channel);
#pragma unroll
    for (int q = 0; q < DYS; q++)
        rDY[q] = take<DY>(p.image(dy, (POOL ? UNITS : PIXELS) * CHANNELS) + (POOL ? p.unit(step) : p.pixel(step, q)) * CHANNELS + p.channel);
}

__device__ __forceinline__ void add_unit(const Pack<DY, V> (&rDY)[DYS], const Pack<X, V> (&rX)[QUAD], const Channels& c, float (&sums)[2][V])
{
#pragma unroll
    for (int q = 0; q < QUAD; q++)
#pragma unroll
        for (int i = 0; i < V; i++) {
            float x_hat;
            const float g = norm_gradient<SILU, POOL, X>(to_float(rDY[q % DYS].at[i]), to_float(rX[q].at[i]), c.mean[i / UNITED], c.rstd[i / UNITED], c.a[i], c.b[i], x_hat);
            sums[0][i] += g;
            sums[1][i] = fmaf(g, x_hat, sums[1][i]);
        }
}

__device__ __forceinline__ void write_unit(
    const Place& p, int step, const Pack<DY, V> (&rDY)[DYS], const Pack<X, V> (&rX)[QUAD], const Channels& c, const float (&means)[2][PLANES], const RESIDUAL* residual, DX* dx)
{
    float r[RESIDUALS][V];
    if (ADDED)
#pragma unroll
        for (int q = 0; q < RESIDUALS; q++)
            load(p.image(residual, (RESIDUAL_POOL ? UNITS : PIXELS) * CHANNELS) + (RESIDUAL_POOL ? p.unit(step) : p.pixel(step, q)) * CHANNELS + p.channel, r[q]);
#pragma unroll
    for (int q = 0; q < QUAD; q++) {
        float v[V];
#pragma unroll
        for (int i = 0; i < V; i++) {
            const int j = i / UNITED;
            float x_hat;
            const float g = norm_gradient<SILU, POOL, X>(to_float(rDY[q % DYS].at[i]), to_float(rX[q].at[i]), c.mean[j], c.rstd[j], c.a[i], c.b[i], x_hat);
            v[i] = c.rstd[j] * (g - means[0][j] - x_hat * means[1][j]);
            if (ADDED)
                v[i] += r[q % RESIDUALS][i] * (RESIDUAL_POOL ? 0.25f : 1.0f);
        }
        store_whole(p.image(dx, PIXELS * CHANNELS) + p.pixel(step, q) * CHANNELS + p.channel, v);
    }
}

extern "C" __global__ __launch_bounds__(THREADS) void group_norm_backward_fused(
    const DY* dy, const X* x, const STATISTICS* statistics, const float* gamma, const float* beta, const SCALE_SHIFT* scale_shift, const RESIDUAL* residual, DX* dx)
{
    __shared__ GroupSums<2> s;
    __shared__ __align__(16) SharedChannels sChannels;
    const Place p;
    Pack<DY, V> rDY[STEPS][DYS];
    Pack<X, V> rX[STEPS][QUAD];
#pragma unroll
    for (int k = 0; k < STEPS; k++)
        if (p.valid(k))
            take_unit(p, k, dy, x, rDY[k], rX[k]);
    const Channels c(p, statistics, gamma, beta, scale_shift, sChannels);
    float v[2][V] = {}, means[2][PLANES];
#pragma unroll
    for (int k = 0; k < STEPS; k++)
        if (p.valid(k))
            add_unit(rDY[k], rX[k], c, v);
    group_sums(v, means, s);
#pragma unroll
    for (int j = 0; j < PLANES; j++) {
        means[0][j] /= PIXELS * D;
        means[1][j] /= PIXELS * D;
    }
#pragma unroll
    for (int k = 0; k < STEPS; k++)
        if (p.valid(k))
            write_unit(p, k, rDY[k], rX[k], c, means, residual, dx);
}

extern "C" __global__ __launch_bounds__(THREADS) void group_norm_backward_partials(
    const DY* dy, const X* x, const STATISTICS* statistics, const float* gamma, const float* beta, const SCALE_SHIFT* scale_shift, float2* partials,
    float2* means, unsigned* tickets)
{
    __shared__ ColumnSums s;
    __shared__ float sSum[COLUMNS];
    __shared__ __align__(16) SharedChannels sChannels;
    const Place p;
    const Channels c(p, statistics, gamma, beta, scale_shift, sChannels);
    float v[2][V] = {}, sum[V], product[V];
#pragma unroll 4
    for (int k = 0; k < STEPS; k++)
        if (p.valid(k)) {
            Pack<DY, V> rDY[DYS];
            Pack<X, V> rX[QUAD];
            take_unit(p, k, dy, x, rDY, rX);
            add_unit(rDY, rX, c, v);
        }
    column_sums(v[0], sum, s);
    if (p.row == 0)
#pragma unroll
        for (int i = 0; i < V; i++)
            sSum[threadIdx.x * V + i] = sum[i];
    column_sums(v[1], product, s);
    for (int i = threadIdx.x; i < COLUMNS; i += THREADS)
        partials[((long long)p.n * TILES + blockIdx.y) * CHANNELS + blockIdx.x * COLUMNS + i] = make_float2(sSum[i], s.total[i]);
    if (is_last_block(tickets + p.n, gridDim.x * gridDim.y))
        group_means<THREADS / 32, PIXELS, GROUPS, D, TILES>(partials + (long long)p.n * TILES * CHANNELS, means + p.n * GROUPS);
}

extern "C" __global__ __launch_bounds__(THREADS) void group_norm_backward_apply(
    const DY* dy, const X* x, const STATISTICS* statistics, const float* gamma, const float* beta, const SCALE_SHIFT* scale_shift, const RESIDUAL* residual,
    const float2* group_means, DX* dx)
{
    __shared__ __align__(16) SharedChannels sChannels;
    const Place p;
    const Channels c(p, statistics, gamma, beta, scale_shift, sChannels);
    float means[2][PLANES];
#pragma unroll
    for (int j = 0; j < PLANES; j++) {
        const float2 m = group_means[p.n * GROUPS + (p.channel + j * UNITED) / D];
        means[0][j] = m.x;
        means[1][j] = m.y;
    }
#pragma unroll 2
    for (int k = 0; k < STEPS; k++)
        if (p.valid(k)) {
            Pack<DY, V> rDY[DYS];
            Pack<X, V> rX[QUAD];
            take_unit(p, k, dy, x, rDY, rX);
            write_unit(p, k, rDY, rX, c, means, residual, dx);
        }
}

// What the kernels of group normalisation share: which elements a thread holds, and sums over columns and groups of a block.
//
// A block has COLUMNS channels of one image, P packs of V to the pixel; thread i holds pack i % P of units i / P, i / P + ROWS, .., STEPS of them. A unit is a pixel, or with QUAD = 4
// the 2x2 pixels that pooling averages. A thread's channels stay the same, so that their coefficients stay in registers, and the threads of a pixel read it in one run.
// The channels of x may be those of two tensors, SPLIT of the first and the rest of the second; a pack never straddles the border.
#pragma once
#include "common.cuh"

#ifndef X
#define X float
#endif
#ifndef X2 // the second tensor
#define X2 X
#endif
#ifndef HELD // what registers hold: X, or binary32 where X and X2 differ
#define HELD X
#endif
#ifndef CHANNELS
#define CHANNELS 32
#define SPLIT 32
#define GROUPS 32
#define PIXELS 64
#define WIDTH 8
#define V 4
#define COLUMNS 8
#define ROWS 64
#define STEPS 1
#endif
#ifndef QUAD
#define QUAD 1
#endif
#ifndef SCALE_SHIFT // the type of scale and shift, if there are any
#define SCALE_SHIFT void
#endif
#ifndef MODULATED
#define MODULATED 0
#endif
#ifndef SILU
#define SILU 0
#endif
#ifndef STATISTICS
#define STATISTICS float
#endif

__device__ constexpr int greatest_common_divisor(int a, int b) { return b == 0 ? a : greatest_common_divisor(b, a % b); }

constexpr int D = CHANNELS / GROUPS;                    // channels of a group
constexpr int P = COLUMNS / V;                          // packs of a pixel
constexpr int UNITS = PIXELS / QUAD;
constexpr int THREADS = (P * ROWS + 31) / 32 * 32;
constexpr int UNITED = greatest_common_divisor(V, D);   // neighbours in a pack that are always of one group
constexpr int PLANES = V / UNITED;                      // sums over a group that a pack adds to
static_assert(CHANNELS % GROUPS == 0 && CHANNELS % COLUMNS == 0 && COLUMNS % V == 0 && SPLIT % V == 0, "shapes");
static_assert(QUAD == 1 || (QUAD == 4 && WIDTH % 2 == 0 && PIXELS % (2 * WIDTH) == 0), "images that are pooled are even");

struct Place {
    int n, channel, row;
    bool active; // the last threads of the block may have no work
    __device__ __forceinline__ Place()
        : n(blockIdx.z), channel(blockIdx.x * COLUMNS + threadIdx.x % P * V), row(threadIdx.x / P), active(threadIdx.x < P * ROWS) {}

    // Unit of a step, and whether there is one.
    __device__ __forceinline__ int unit(int step) const { return (blockIdx.y * STEPS + step) * ROWS + row; }
    __device__ __forceinline__ bool valid(int step) const { return active && unit(step) < UNITS; }

    // The pixel's number in all images.
    __device__ __forceinline__ long long pixel(int step, int q) const
    {
        const int u = unit(step);
        if constexpr (QUAD == 1)
            return (long long)n * PIXELS + u;
        constexpr int HALF = WIDTH / 2 > 0 ? WIDTH / 2 : 1;
        return (long long)n * PIXELS + (u / HALF * 2 + q / 2) * WIDTH + u % HALF * 2 + q % 2;
    }

    // The number of the pixel of the pooled image.
    __device__ __forceinline__ long long pooled(int step) const { return (long long)n * UNITS + unit(step); }
};

template <typename A, typename B> struct same { static constexpr bool value = false; };
template <typename A> struct same<A, A> { static constexpr bool value = true; };

template <typename H, typename S>
__device__ __forceinline__ Pack<H, V> take(const S* p)
{
    if constexpr (same<H, S>::value) {
        return *reinterpret_cast<const Pack<H, V>*>(p);
    } else {
        float v[V];
        load(p, v);
        Pack<H, V> pack;
#pragma unroll
        for (int i = 0; i < V; i++)
            pack.at[i] = from_float<H>(v[i]);
        return pack;
    }
}

__device__ __forceinline__ Pack<HELD, V> take_x(const X* x, const X2* x2, long long pixel, int channel)
{
    if (SPLIT == CHANNELS || channel < SPLIT)
        return take<HELD>(x + pixel * SPLIT + channel);
    return take<HELD>(x2 + pixel * (CHANNELS - SPLIT) + channel - SPLIT);
}

// Sums over the block's groups, of K numbers at once: v[k][i] is what this thread has for channel i of its pack, sums[k][j] what all have for the group of channel UNITED * j.
// Warps share the groups of a block evenly, add in ascending order of lane, and lanes in butterflies: the same order every time.
constexpr int BLOCK_GROUPS = COLUMNS / D > 0 ? COLUMNS / D : 1;
constexpr int BLOCK_WARPS = THREADS / 32;
constexpr int SHARE = BLOCK_WARPS / BLOCK_GROUPS > 0 ? BLOCK_WARPS / BLOCK_GROUPS : 1; // warps of one group
template <int K>
struct GroupSums {
    float part[K][PLANES][THREADS];
    float total[K][BLOCK_GROUPS][SHARE];
};

template <int K>
__device__ __forceinline__ void group_sums(const float (&v)[K][V], float (&sums)[K][PLANES], GroupSums<K>& s)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; k++)
#pragma unroll
        for (int j = 0; j < PLANES; j++) {
            float sum = 0;
#pragma unroll
            for (int i = 0; i < UNITED; i++)
                sum += v[k][j * UNITED + i];
            s.part[k][j][threadIdx.x] = sum;
        }
    __syncthreads();
    for (int group = warp / SHARE; group < BLOCK_GROUPS; group += BLOCK_WARPS / SHARE) {
        constexpr int WIDE = D / UNITED; // parts of a group in a pixel
        float sum[K] = {};
#pragma unroll 4
        for (int i = warp % SHARE * 32 + lane; i < WIDE * ROWS; i += 32 * SHARE) {
            const int part = group * WIDE + i % WIDE, thread = i / WIDE * P + part / PLANES;
#pragma unroll
            for (int k = 0; k < K; k++)
                sum[k] += s.part[k][part % PLANES][thread];
        }
#pragma unroll
        for (int k = 0; k < K; k++) {
            sum[k] = warp_sum(sum[k]);
            if (lane == 0)
                s.total[k][group][warp % SHARE] = sum[k];
        }
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; k++)
#pragma unroll
        for (int j = 0; j < PLANES; j++) {
            const int group = (threadIdx.x % P * V + j * UNITED) / D;
            sums[k][j] = 0;
#pragma unroll
            for (int i = 0; i < SHARE; i++)
                sums[k][j] += s.total[k][group][i];
        }
}

// The sum over the block's rows for each channel of the thread's pack, in every thread of the column; rows add in ascending order.
struct ColumnSums {
    float part[V][THREADS];
    float total[COLUMNS];
};

__device__ __forceinline__ void column_sums(const float (&v)[V], float (&sums)[V], ColumnSums& s)
{
    __syncthreads();
#pragma unroll
    for (int i = 0; i < V; i++)
        s.part[i][threadIdx.x] = v[i];
    __syncthreads();
    for (int c = threadIdx.x; c < COLUMNS; c += THREADS) {
        float sum = 0;
#pragma unroll 4
        for (int r = 0; r < ROWS; r++)
            sum += s.part[c % V][r * P + c / V];
        s.total[c] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < V; i++)
        sums[i] = s.total[threadIdx.x % P * V + i];
}

// z = x^ * a + b with x^ = (x - mean) * rstd: gamma and beta, scale and shift as one multiplication and one addition.
__device__ __forceinline__ void affine(const Place& p, const float* gamma, const float* beta, const SCALE_SHIFT* scale_shift, float (&a)[V], float (&b)[V])
{
    load(gamma + p.channel, a);
    if (beta)
        load(beta + p.channel, b);
    else
        for (int i = 0; i < V; i++)
            b[i] = 0;
#if MODULATED
    float scale[V], shift[V];
    load(scale_shift + (long long)p.n * 2 * CHANNELS + p.channel, scale);
    load(scale_shift + (long long)p.n * 2 * CHANNELS + CHANNELS + p.channel, shift);
#pragma unroll
    for (int i = 0; i < V; i++) {
        a[i] *= 1.0f + scale[i];
        b[i] = b[i] * (1.0f + scale[i]) + shift[i];
    }
#endif
}

__device__ __forceinline__ void read_statistics(const Place& p, const STATISTICS* statistics, float (&mean)[PLANES], float (&rstd)[PLANES])
{
#pragma unroll
    for (int j = 0; j < PLANES; j++) {
        float s[2];
        load(statistics + ((long long)p.n * GROUPS + (p.channel + j * UNITED) / D) * 2, s);
        mean[j] = s[0];
        rstd[j] = s[1];
    }
}

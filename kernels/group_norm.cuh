// What the kernels of group normalisation share: which elements a thread holds, and sums over columns and groups of a block.
//
// A block has COLUMNS channels of one image, P packs of V to the pixel; thread i holds pack i % P of units i / P, i / P + ROWS, .., STEPS of them. A unit is a pixel, or with QUAD = 4
// the 2x2 pixels that pooling averages. A thread's channels stay the same, so that their coefficients stay in registers, and the threads of a pixel read it in one run.
// The channels of x may be those of two tensors, SPLIT of the first and the rest of the second; a pack never straddles the border.
#pragma once
#include "norm_coefficients.cuh"

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
static_assert((long long)PIXELS * CHANNELS < 1ll << 31, "offsets within an image are of 32 bits");
static_assert(QUAD == 1 || (QUAD == 4 && WIDTH % 2 == 0 && PIXELS % (2 * WIDTH) == 0), "images that are pooled are even");

struct Place {
    int n, channel, row;
    bool active; // the last threads of the block may have no work
    __device__ __forceinline__ Place()
        : n(blockIdx.z), channel(blockIdx.x * COLUMNS + threadIdx.x % P * V), row(threadIdx.x / P), active(threadIdx.x < P * ROWS) {}

    // Unit of a step, and whether there is one.
    __device__ __forceinline__ int unit(int step) const { return (blockIdx.y * STEPS + step) * ROWS + row; }
    __device__ __forceinline__ bool valid(int step) const { return active && unit(step) < UNITS; }

    // The pixel's number in its image.
    __device__ __forceinline__ int pixel(int step, int q) const
    {
        const int u = unit(step);
        if constexpr (QUAD == 1)
            return u;
        constexpr int HALF = WIDTH / 2 > 0 ? WIDTH / 2 : 1;
        return (u / HALF * 2 + q / 2) * WIDTH + u % HALF * 2 + q % 2;
    }

    // This image of a tensor of so many elements to the image.
    template <typename S>
    __device__ __forceinline__ S* image(S* tensor, int elements) const { return tensor + (long long)n * elements; }
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

__device__ __forceinline__ Pack<HELD, V> take_x(const Place& p, const X* x, const X2* x2, int pixel)
{
    // One address and one stride where the types allow it: which tensor a thread reads never changes.
    if constexpr (SPLIT != CHANNELS && same<X, X2>::value) {
        const bool first = p.channel < SPLIT;
        const X* from = first ? p.image(x, PIXELS * SPLIT) + p.channel : p.image(x2, PIXELS * (CHANNELS - SPLIT)) + p.channel - SPLIT;
        return take<HELD>(from + pixel * (first ? SPLIT : CHANNELS - SPLIT));
    }
    if (SPLIT == CHANNELS || p.channel < SPLIT)
        return take<HELD>(p.image(x, PIXELS * SPLIT) + pixel * SPLIT + p.channel);
    return take<HELD>(p.image(x2, PIXELS * (CHANNELS - SPLIT)) + pixel * (CHANNELS - SPLIT) + p.channel - SPLIT);
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

// What is to be known of the block's channels, read once by the block. There after the next barrier.
struct Parameters {
    float a[COLUMNS], b[COLUMNS];

    __device__ __forceinline__ void read(const float* gamma, const float* beta, const SCALE_SHIFT* scale_shift)
    {
        for (int i = threadIdx.x; i < COLUMNS; i += THREADS)
            norm_coefficients(gamma, beta, scale_shift, blockIdx.z, CHANNELS, blockIdx.x * COLUMNS + i, a[i], b[i]);
    }

    __device__ __forceinline__ void of(const Place& p, float (&pack_a)[V], float (&pack_b)[V]) const
    {
        load(a + p.channel % COLUMNS, pack_a);
        load(b + p.channel % COLUMNS, pack_b);
    }
};

struct Statistics {
    float mean[COLUMNS], rstd[COLUMNS];

    template <typename T>
    __device__ __forceinline__ void read(const T* statistics)
    {
        for (int i = threadIdx.x; i < COLUMNS; i += THREADS) {
            float pair[2];
            load(statistics + ((long long)blockIdx.z * GROUPS + (blockIdx.x * COLUMNS + i) / D) * 2, pair);
            mean[i] = pair[0];
            rstd[i] = pair[1];
        }
    }

    __device__ __forceinline__ void of(const Place& p, float (&pack_mean)[PLANES], float (&pack_rstd)[PLANES]) const
    {
#pragma unroll
        for (int j = 0; j < PLANES; j++) {
            pack_mean[j] = mean[p.channel % COLUMNS + j * UNITED];
            pack_rstd[j] = rstd[p.channel % COLUMNS + j * UNITED];
        }
    }
};

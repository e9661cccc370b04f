// What the forward and the backward pass of attention share: tiles in shared memory and the two products of a warp, for every precision.
//
// A tile is rows of one head's q, k, v or dout in shared memory, sT[rows][LD] of E, zeros beyond T tokens and beyond HS channels. A warp owns MT * 16 rows of the left operand.
// Its accumulators lie as mma.sync leaves them: c[i][j][0..1] = (row 16i + g, columns 8j + 2t, +1), c[i][j][2..3] = row + 8, with g = lane / 4 and t = lane % 4.
//   product_nt   c[row, n] += sum_k  sA[row][k] * sB[n][k]        scores: both operands have channels innermost
//   product_nn   c[row, d] += sum_k   p[row, k] * sB[k][d]        p are accumulators of product_nt, never in memory
// MODE 0: binary32 fused multiply-adds on the same layout. MODE 1: tf32, sums over k in the order (2t, 2t+1) that makes accumulators left operands without a shuffle.
// MODE 2: E is half or bfloat16.
// LD is an odd number of 16-byte units, so that eight rows of 16 bytes, what one wavefront takes, lie in different banks.
#pragma once
#include "mma.cuh"

#ifndef MODE
#define MODE 2
#define ELEMENT half
#define QKV half
#define OUT half
#define LSE float
#define HS 64
#define HEADS 6
#define TOKENS 1024
#define NEW_ORDER 0
#define SCALE 0.125f
#endif
#ifndef MT
#define BLOCK_WARPS 4
#define MT 2
#define BN 64
#define STAGES 2
#endif

typedef ELEMENT E;                                      // operands of products
constexpr int T = TOKENS;
constexpr int UNIT = 16 / sizeof(E);                    // elements of 16 bytes
constexpr int KSTEP = 2 * UNIT;                         // depth of one mma
constexpr int HSP = (HS + KSTEP - 1) / KSTEP * KSTEP;   // head size padded to it
constexpr int LD = HSP + UNIT;
constexpr int DT = HSP / 8;                             // 8-column tiles of a head
constexpr int NT = BN / 8;                              // 8-column tiles of a block of keys
constexpr int THREADS = 32 * BLOCK_WARPS;
constexpr int BM = BLOCK_WARPS * MT * 16;                     // rows a block owns
constexpr int TILES = (T + BN - 1) / BN;
constexpr int CHANNELS = HEADS * HS;
constexpr int TOKEN = 3 * CHANNELS;                     // elements from one token of qkv to the next
constexpr int STEP = NEW_ORDER ? CHANNELS : HS;         // from a head's queries to its keys, and to its values
constexpr int HEAD = NEW_ORDER ? HS : 3 * HS;           // from one head's queries to the next's
static_assert(BN % 16 == 0 && HS >= 1 && T >= 1, "shapes");
static_assert(MODE != 2 || sizeof(E) == 2, "tensor cores take 16-bit operands in MODE 2");

template <typename A, typename B> struct same { static constexpr bool value = false; };
template <typename A> struct same<A, A> { static constexpr bool value = true; };

template <typename S>
__device__ __forceinline__ constexpr bool copies_asynchronously() { return same<S, E>::value && HS % UNIT == 0; }

__device__ __forceinline__ float rounded(float x)
{
#if MODE == 1
    return __uint_as_float(to_tf32(__float_as_uint(x)));
#else
    return x;
#endif
}

// Rows first .. first + ROWS of g into a tile, by all threads of the block. What is copied asynchronously is there after land_tile and a barrier.
template <int ROWS, typename S>
__device__ __forceinline__ void load_tile(E* sT, const S* g, int stride, int first)
{
    constexpr int V = HS % UNIT == 0 ? UNIT : 1;
    constexpr int CHUNKS = HSP / V;
#pragma unroll 4
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
        const int row = i / CHUNKS, column = i % CHUNKS * V;
        const bool valid = first + row < T && column < HS;
        const S* from = valid ? g + (long long)(first + row) * stride + column : g;
        E* to = sT + row * LD + column;
        if constexpr (copies_asynchronously<S>()) {
            copy_async(to, from, valid);
        } else {
            float v[V] = {};
            if (valid)
                load(from, v);
#pragma unroll
            for (int k = 0; k < V; k++)
                v[k] = rounded(v[k]);
            store(to, v);
        }
    }
}

// After the wait: tf32 operands are rounded in place, each by the thread that copied it, so that no barrier is needed before.
template <int ROWS, typename S>
__device__ __forceinline__ void land_tile(E* sT)
{
#if MODE == 1
    if constexpr (copies_asynchronously<S>()) {
        constexpr int CHUNKS = HSP / UNIT;
#pragma unroll 4
        for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
            E* at = sT + i / CHUNKS * LD + i % CHUNKS * UNIT;
            float v[UNIT];
            load(at, v);
#pragma unroll
            for (int k = 0; k < UNIT; k++)
                v[k] = rounded(v[k]);
            store(at, v);
        }
    }
#endif
}

template <int I, int J>
__device__ __forceinline__ void clear(float (&c)[I][J][4])
{
#pragma unroll
    for (int i = 0; i < I; i++)
#pragma unroll
        for (int j = 0; j < J; j++)
#pragma unroll
            for (int k = 0; k < 4; k++)
                c[i][j][k] = 0.0f;
}

#if MODE == 0

__device__ __forceinline__ void product_nt(float (&c)[MT][NT][4], const E* sA, const E* sB)
{
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll 2
    for (int k = 0; k < HSP; k += 4) {
        float a[MT][2][4];
#pragma unroll
        for (int i = 0; i < MT; i++) {
            load(sA + (16 * i + g) * LD + k, a[i][0]);
            load(sA + (16 * i + g + 8) * LD + k, a[i][1]);
        }
#pragma unroll
        for (int j = 0; j < NT; j++) {
            float b[2][4];
            load(sB + (8 * j + 2 * t) * LD + k, b[0]);
            load(sB + (8 * j + 2 * t + 1) * LD + k, b[1]);
#pragma unroll
            for (int i = 0; i < MT; i++)
#pragma unroll
                for (int e = 0; e < 4; e++)
#pragma unroll
                    for (int d = 0; d < 4; d++)
                        c[i][j][e] = fmaf(a[i][e / 2][d], b[e % 2][d], c[i][j][e]);
        }
    }
}

__device__ __forceinline__ void product_nn(float (&c)[MT][DT][4], const float (&p)[MT][NT][4], const E* sB)
{
    const int t = threadIdx.x % 4, quad = threadIdx.x % 32 & ~3;
#pragma unroll
    for (int j = 0; j < NT; j++) {
#pragma unroll
        for (int k = 0; k < 8; k++) {
            float a[MT][2];
#pragma unroll
            for (int i = 0; i < MT; i++) {
                a[i][0] = __shfl_sync(0xffffffffu, p[i][j][k % 2], quad + k / 2);
                a[i][1] = __shfl_sync(0xffffffffu, p[i][j][2 + k % 2], quad + k / 2);
            }
#pragma unroll
            for (int d = 0; d < DT; d++) {
                float b[2];
                load(sB + (8 * j + k) * LD + 8 * d + 2 * t, b);
#pragma unroll
                for (int i = 0; i < MT; i++)
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        c[i][d][e] = fmaf(a[i][e / 2], b[e % 2], c[i][d][e]);
            }
        }
    }
}

#else

// Rows of 16 bytes are rows of an 8x8 matrix of 16 bits, or of an 8x4 one of 32 bits: ldmatrix serves both.
__device__ __forceinline__ void product_nt(float (&c)[MT][NT][4], const E* sA, const E* sB)
{
    const int lane = threadIdx.x % 32;
    sA += lane % 16 * LD + lane / 16 * UNIT;
    sB += (lane / 16 * 8 + lane % 8) * LD + lane / 8 % 2 * UNIT;
#pragma unroll
    for (int k = 0; k < HSP; k += KSTEP) {
        unsigned a[MT][4];
#pragma unroll
        for (int i = 0; i < MT; i++)
            load_matrices(a[i], sA + 16 * i * LD + k);
#pragma unroll
        for (int j = 0; j < NT; j += 2) {
            unsigned b[4];
            load_matrices(b, sB + 8 * j * LD + k);
#pragma unroll
            for (int i = 0; i < MT; i++) {
                mma<E>(c[i][j], a[i], {b[0], b[1]});
                mma<E>(c[i][j + 1], a[i], {b[2], b[3]});
            }
        }
    }
}

__device__ __forceinline__ void product_nn(float (&c)[MT][DT][4], const float (&p)[MT][NT][4], const E* sB)
{
    const int lane = threadIdx.x % 32;
#if MODE == 1
    // Keys 2t and 2t+1 take the places of t and t+4 on both sides: a sum does not mind the order of its terms.
    sB += 2 * (lane % 4) * LD + lane / 4;
#pragma unroll
    for (int j = 0; j < NT; j++) {
        unsigned a[MT][4];
#pragma unroll
        for (int i = 0; i < MT; i++) {
            a[i][0] = to_tf32(__float_as_uint(p[i][j][0]));
            a[i][1] = to_tf32(__float_as_uint(p[i][j][2]));
            a[i][2] = to_tf32(__float_as_uint(p[i][j][1]));
            a[i][3] = to_tf32(__float_as_uint(p[i][j][3]));
        }
#pragma unroll
        for (int d = 0; d < DT; d++) {
            const unsigned b[2] = {__float_as_uint(sB[8 * j * LD + 8 * d]), __float_as_uint(sB[(8 * j + 1) * LD + 8 * d])};
#pragma unroll
            for (int i = 0; i < MT; i++)
                mma<E>(c[i][d], a[i], b);
        }
    }
#else
    sB += lane % 16 * LD + lane / 16 * 8;
#pragma unroll
    for (int j = 0; j < NT; j += 2) {
        unsigned a[MT][4];
#pragma unroll
        for (int i = 0; i < MT; i++) {
            a[i][0] = pair<E>(p[i][j][0], p[i][j][1]);
            a[i][1] = pair<E>(p[i][j][2], p[i][j][3]);
            a[i][2] = pair<E>(p[i][j + 1][0], p[i][j + 1][1]);
            a[i][3] = pair<E>(p[i][j + 1][2], p[i][j + 1][3]);
        }
#pragma unroll
        for (int d = 0; d < DT; d += 2) {
            unsigned b[4];
            load_matrices_transposed(b, sB + 8 * j * LD + 8 * d);
#pragma unroll
            for (int i = 0; i < MT; i++) {
                mma<E>(c[i][d], a[i], {b[0], b[1]});
                mma<E>(c[i][d + 1], a[i], {b[2], b[3]});
            }
        }
    }
#endif
}

#endif

// e^x with x in the units that scores are kept in: nats where binary32 is exact, bits where the exponential is the hardware's.
#if MODE == 0
constexpr float NATS = 1.0f; // a unit in nats
__device__ __forceinline__ float exponential(float x) { return expf(x); }
#else
constexpr float NATS = 0.69314718055994531f;
__device__ __forceinline__ float exponential(float x) { return exp2f(x); }
#endif

// The sum, or the maximum, over the four lanes that share an accumulator's row.
__device__ __forceinline__ float quad_sum(float x)
{
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

__device__ __forceinline__ float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

// Accumulators times factor into rows of global memory, channels [0, HS) of rows below T. sT, the warp's own rows of a tile that it has done with, makes the writes 16 bytes wide
// where the type is that of the tile; binary32 pairs fill sectors as they are.
template <typename Y>
__device__ __forceinline__ void store_rows(Y* g, int stride, int first, const float (&c)[MT][DT][4], const float (&factor)[MT][2], E* sT)
{
    const int lane = threadIdx.x % 32;
    if constexpr (MODE == 2 && same<Y, E>::value && HS % UNIT == 0) {
        __syncwarp();
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int d = 0; d < DT; d++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const float v[2] = {c[i][d][2 * h] * factor[i][h], c[i][d][2 * h + 1] * factor[i][h]};
                    store(sT + (16 * i + 8 * h + lane / 4) * LD + 8 * d + 2 * (lane % 4), v);
                }
        __syncwarp();
        constexpr int CHUNKS = HS / UNIT;
#pragma unroll 4
        for (int i = lane; i < MT * 16 * CHUNKS; i += 32) {
            const int row = i / CHUNKS, column = i % CHUNKS * UNIT;
            if (first + row < T)
                *reinterpret_cast<Pack<E, UNIT>*>(g + (long long)(first + row) * stride + column) = *reinterpret_cast<const Pack<E, UNIT>*>(sT + row * LD + column);
        }
    } else {
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int d = 0; d < DT; d++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const int row = first + 16 * i + 8 * h + lane / 4, column = 8 * d + 2 * (lane % 4);
                    Y* to = g + (long long)row * stride + column;
                    const float v[2] = {c[i][d][2 * h] * factor[i][h], c[i][d][2 * h + 1] * factor[i][h]};
                    if constexpr (HS % 2 == 0) {
                        if (row < T && column < HS)
                            store(to, v);
                    } else {
                        if (row < T && column < HS)
                            to[0] = from_float<Y>(v[0]);
                        if (row < T && column + 1 < HS)
                            to[1] = from_float<Y>(v[1]);
                    }
                }
    }
}

// Gradient of multi-head self-attention (Dao et al. 2022, FlashAttention, appendix B); P is computed again from the log-sum-exp.
//
//   P = exp(q k^T * s - lse)     D = rowsum(dout * out)     dS = P * (dout v^T - D)        s = HS^-1/2
//   dq = s dS k                  dk = s dS^T q              dv = P^T dout
//
// Inputs and outputs: dout, out [N][T][C] of DOUT and OUT; qkv [N][T][3C] of QKV; lse [N][HEADS][T] of LSE; dqkv [N][T][3C] of DQKV in qkv's order of channels.
// Threads: one launch of two kinds of block, each with BM rows of one head, a warp MT * 16 of them, so that every sum has one owner and needs no atomics.
//   keys       the first half of the grid's x: queries and dout pass by in blocks of BN, S^T and dP^T are computed, so that P^T and dS^T are left operands as they lie; dk and dv stay
//              in accumulators
//   queries    the second half: keys and values pass by, dq stays
// Both compute D from dout and out, the keys once per block: less than a further launch would cost.
// Least bytes: N * T * (6C of qkv and dqkv, 2C of dout and out, HEADS of lse), each times its size. Operations: 10 * N * T * T * C for five products; seven are computed, 14 * N * T *
// T * C, S and dP twice. Five would do if blocks of keys left their parts of dq, in binary32, for a fixed order of summing: T/BM parts of 4 * T * C bytes, written and read, are
// T * T * C / 8 bytes at BM = 64, to save 4 * T * T * C operations, 32 to the byte. A device has more to spare: 989e12 / 3.35e12 = 295 operations of tensor cores to the byte of memory
// on an H100, 312e12 / 2.04e12 = 153 on an A100 of 80 GB (NVIDIA's data sheets). For T <= BM a block could have all of a head: five products behind each other in half as many blocks,
// where now four and three run side by side in blocks that do not fill the device.
// Source: the gradient that autograd derives from QKVAttention of guided-diffusion.
#ifndef MT // the gradient's tile for heads of 64
#define BLOCK_WARPS 4
#define MT 1
#define BN 32
#define STAGES 2
#endif
#include "attention.cuh"

#ifndef DOUT
#define DOUT half
#define DQKV half
#endif

constexpr float SCORE = SCALE / NATS; // from products to scores in the units of exponential()

template <typename S>
__device__ __forceinline__ float at(const S* g, int stride, int row, int d) { return to_float(g[(long long)row * stride + d]); }

// The readable one: a warp per token, as a query and as a key.
extern "C" __global__ void attention_backward_naive(const DOUT* dout, const QKV* qkv, const OUT* out, const LSE* lse, DQKV* dqkv)
{
    const int t = blockIdx.x, h = blockIdx.y, n = blockIdx.z;
    const QKV* gQ = qkv + (long long)n * T * TOKEN + h * HEAD;                // [T][TOKEN]
    const DOUT* gDO = dout + (long long)n * T * CHANNELS + h * HS;            // [T][CHANNELS]
    const OUT* gO = out + (long long)n * T * CHANNELS + h * HS;               // [T][CHANNELS]
    const LSE* gL = lse + ((long long)n * HEADS + h) * T;                     // [T]
    for (int d = threadIdx.x; d < HS; d += 32) {
        float dq = 0, dk = 0, dv = 0;
        for (int j = 0; j < T; j++) {
            // Scores, products with dout and D of (query t, key j) and of (query j, key t).
            float s = 0, sT = 0, dP = 0, dPT = 0, Dt = 0, Dj = 0;
            for (int c = 0; c < HS; c++) {
                s = fmaf(at(gQ, TOKEN, t, c), at(gQ + STEP, TOKEN, j, c), s);
                sT = fmaf(at(gQ, TOKEN, j, c), at(gQ + STEP, TOKEN, t, c), sT);
                dP = fmaf(at(gDO, CHANNELS, t, c), at(gQ + 2 * STEP, TOKEN, j, c), dP);
                dPT = fmaf(at(gDO, CHANNELS, j, c), at(gQ + 2 * STEP, TOKEN, t, c), dPT);
                Dt = fmaf(at(gDO, CHANNELS, t, c), at(gO, CHANNELS, t, c), Dt);
                Dj = fmaf(at(gDO, CHANNELS, j, c), at(gO, CHANNELS, j, c), Dj);
            }
            const float p = expf(s * SCALE - to_float(gL[t])), pT = expf(sT * SCALE - to_float(gL[j]));
            dq = fmaf(SCALE * p * (dP - Dt), at(gQ + STEP, TOKEN, j, d), dq);
            dk = fmaf(SCALE * pT * (dPT - Dj), at(gQ, TOKEN, j, d), dk);
            dv = fmaf(pT, at(gDO, CHANNELS, j, d), dv);
        }
        DQKV* g = dqkv + ((long long)n * T + t) * TOKEN + h * HEAD + d;
        g[0] = from_float<DQKV>(dq);
        g[STEP] = from_float<DQKV>(dk);
        g[2 * STEP] = from_float<DQKV>(dv);
    }
}

// D of a row from the four lanes of a quad, 16 bytes of dout each at a time where they are aligned.
__device__ __forceinline__ float row_dot(const DOUT* a, const OUT* b)
{
    constexpr int V = HS % UNIT == 0 ? UNIT : 1;
    float sum = 0;
    for (int d = threadIdx.x % 4 * V; d < HS; d += 4 * V) {
        float x[V], y[V];
        load(a + d, x);
        load(b + d, y);
#pragma unroll
        for (int k = 0; k < V; k++)
            sum = fmaf(x[k], y[k], sum);
    }
    return quad_sum(sum);
}

__device__ __forceinline__ void queries(
    const DOUT* __restrict__ dout, const QKV* __restrict__ qkv, const OUT* __restrict__ out, const LSE* __restrict__ lse, DQKV* __restrict__ dqkv, int first, unsigned char* shared)
{
    E* sQ = reinterpret_cast<E*>(shared);  // [BM][LD]
    E* sDO = sQ + BM * LD;                 // [BM][LD]
    E* sK = sDO + BM * LD;                 // [STAGES][BN][LD]
    E* sV = sK + STAGES * BN * LD;         // [STAGES][BN][LD]
    const int h = blockIdx.y, n = blockIdx.z, lane = threadIdx.x % 32, own = threadIdx.x / 32 * MT * 16;
    const QKV* gQ = qkv + (long long)n * T * TOKEN + h * HEAD;       // [T][TOKEN]
    const DOUT* gDO = dout + (long long)n * T * CHANNELS + h * HS;   // [T][CHANNELS]
    const OUT* gO = out + (long long)n * T * CHANNELS + h * HS;      // [T][CHANNELS]
    const long long row0 = ((long long)n * HEADS + h) * T;

    load_tile<BM>(sQ, gQ, TOKEN, first);
    load_tile<BM>(sDO, gDO, CHANNELS, first);
    load_tile<BN>(sK, gQ + STEP, TOKEN, 0);
    load_tile<BN>(sV, gQ + 2 * STEP, TOKEN, 0);
    commit_copies();

    float rDQ[MT][DT][4], L[MT][2], D[MT][2], factor[MT][2];
    clear(rDQ);
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int row = first + own + 16 * i + 8 * r + lane / 4, there = row < T ? row : T - 1;
            D[i][r] = row_dot(gDO + (long long)there * CHANNELS, gO + (long long)there * CHANNELS);
            L[i][r] = to_float(lse[row0 + there]) / NATS;
            factor[i][r] = SCALE;
        }

#pragma unroll 1
    for (int tile = 0; tile < TILES; tile++) {
        E* sKey = sK + tile % STAGES * BN * LD;
        E* sValue = sV + tile % STAGES * BN * LD;
        wait_copies<0>();
        if (tile == 0) {
            land_tile<BM, QKV>(sQ);
            land_tile<BM, DOUT>(sDO);
        }
        land_tile<BN, QKV>(sKey);
        land_tile<BN, QKV>(sValue);
        __syncthreads();
        if (tile + 1 < TILES) {
            load_tile<BN>(sK + (tile + 1) % STAGES * BN * LD, gQ + STEP, TOKEN, (tile + 1) * BN);
            load_tile<BN>(sV + (tile + 1) % STAGES * BN * LD, gQ + 2 * STEP, TOKEN, (tile + 1) * BN);
            commit_copies();
        }

        float rS[MT][NT][4], rDP[MT][NT][4];
        clear(rS);
        clear(rDP);
        product_nt(rS, sQ + own * LD, sKey);
        product_nt(rDP, sDO + own * LD, sValue);

        // Keys beyond T are rows of zeros: whatever dS is there, it adds nothing to dq.
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int j = 0; j < NT; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    rS[i][j][e] = exponential(fminf(rS[i][j][e] * SCORE - L[i][e / 2], 0.0f)) * (rDP[i][j][e] - D[i][e / 2]);
        product_nn(rDQ, rS, sKey);
    }
    store_rows(dqkv + (long long)n * T * TOKEN + h * HEAD, TOKEN, first + own, rDQ, factor, sQ + own * LD);
}

__device__ __forceinline__ void keys(
    const DOUT* __restrict__ dout, const QKV* __restrict__ qkv, const OUT* __restrict__ out, const LSE* __restrict__ lse, DQKV* __restrict__ dqkv, int first, unsigned char* shared)
{
    E* sK = reinterpret_cast<E*>(shared);                                // [BM][LD]
    E* sV = sK + BM * LD;                                                // [BM][LD]
    E* sQ = sV + BM * LD;                                                // [STAGES][BN][LD]
    E* sDO = sQ + STAGES * BN * LD;                                      // [STAGES][BN][LD]
    float* sL = reinterpret_cast<float*>(sDO + STAGES * BN * LD);        // [STAGES][BN]
    float* sD = sL + STAGES * BN;                                        // [STAGES][BN]
    const int h = blockIdx.y, n = blockIdx.z, lane = threadIdx.x % 32, own = threadIdx.x / 32 * MT * 16;
    const QKV* gQ = qkv + (long long)n * T * TOKEN + h * HEAD;       // [T][TOKEN]
    const DOUT* gDO = dout + (long long)n * T * CHANNELS + h * HS;   // [T][CHANNELS]
    const OUT* gO = out + (long long)n * T * CHANNELS + h * HS;      // [T][CHANNELS]
    const long long row0 = ((long long)n * HEADS + h) * T;

    auto load_queries = [&](int tile) {
        const int stage = tile % STAGES;
        load_tile<BN>(sQ + stage * BN * LD, gQ, TOKEN, tile * BN);
        load_tile<BN>(sDO + stage * BN * LD, gDO, CHANNELS, tile * BN);
        commit_copies();

        // A quad of lanes has a row. Queries beyond T: P = exp(0 - inf) = 0.
        for (int i = threadIdx.x / 4; i < BN; i += THREADS / 4) {
            const int row = tile * BN + i, there = row < T ? row : T - 1;
            const float D = row_dot(gDO + (long long)there * CHANNELS, gO + (long long)there * CHANNELS);
            if (lane % 4 == 0) {
                sL[stage * BN + i] = row < T ? to_float(lse[row0 + row]) / NATS : INFINITY;
                sD[stage * BN + i] = D;
            }
        }
    };
    load_tile<BM>(sK, gQ + STEP, TOKEN, first);
    load_tile<BM>(sV, gQ + 2 * STEP, TOKEN, first);
    load_queries(0);

    float rDK[MT][DT][4], rDV[MT][DT][4], scale[MT][2], one[MT][2];
    clear(rDK);
    clear(rDV);
#pragma unroll
    for (int i = 0; i < MT; i++)
        scale[i][0] = scale[i][1] = SCALE, one[i][0] = one[i][1] = 1.0f;

#pragma unroll 1
    for (int tile = 0; tile < TILES; tile++) {
        const int stage = tile % STAGES;
        E* sQuery = sQ + stage * BN * LD;
        E* sOut = sDO + stage * BN * LD;
        wait_copies<0>();
        if (tile == 0) {
            land_tile<BM, QKV>(sK);
            land_tile<BM, QKV>(sV);
        }
        land_tile<BN, QKV>(sQuery);
        land_tile<BN, DOUT>(sOut);
        __syncthreads();
        if (tile + 1 < TILES)
            load_queries(tile + 1);

        float rP[MT][NT][4], rDP[MT][NT][4]; // transposed: rows are keys, columns queries
        clear(rP);
        clear(rDP);
        product_nt(rP, sK + own * LD, sQuery);
        product_nt(rDP, sV + own * LD, sOut);
#pragma unroll
        for (int j = 0; j < NT; j++) {
            float L[2], D[2];
            load(sL + stage * BN + 8 * j + 2 * (lane % 4), L);
            load(sD + stage * BN + 8 * j + 2 * (lane % 4), D);
#pragma unroll
            for (int i = 0; i < MT; i++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    rP[i][j][e] = exponential(rP[i][j][e] * SCORE - L[e % 2]);
                    rDP[i][j][e] = rP[i][j][e] * (rDP[i][j][e] - D[e % 2]);
                }
        }
        product_nn(rDV, rP, sOut);
        product_nn(rDK, rDP, sQuery);
    }
    DQKV* gDK = dqkv + (long long)n * T * TOKEN + h * HEAD + STEP;
    store_rows(gDK, TOKEN, first + own, rDK, scale, sK + own * LD);
    store_rows(gDK + STEP, TOKEN, first + own, rDV, one, sV + own * LD);
}

extern "C" __global__ __launch_bounds__(THREADS, 1) void attention_backward(
    const DOUT* __restrict__ dout, const QKV* __restrict__ qkv, const OUT* __restrict__ out, const LSE* __restrict__ lse, DQKV* __restrict__ dqkv)
{
    extern __shared__ __align__(16) unsigned char shared[];
    constexpr int BLOCKS = (T + BM - 1) / BM;
    if (blockIdx.x < BLOCKS)
        keys(dout, qkv, out, lse, dqkv, blockIdx.x * BM, shared);
    else
        queries(dout, qkv, out, lse, dqkv, (blockIdx.x - BLOCKS) * BM, shared);
}

// Multi-head self-attention over tokens, forward (Dao et al. 2022, FlashAttention): no T x T matrix is in memory.
//
//   out[n,t,h,:] = sum_j softmax_j(q_t . k_j * HS^-1/2) v_j        lse[n,h,t] = log sum_j exp(q_t . k_j * HS^-1/2)
//
// Inputs and outputs: qkv [N][T][3C] of QKV, in either order of channels; out [N][T][C] of OUT, channel h * HS + d; lse [N][HEADS][T]. C = HEADS * HS.
// Threads: block (x, h, n) takes BM queries of head h of image n, a warp MT * 16 of them; keys and values come in blocks of BN through STAGES buffers, copied asynchronously while
// the block before is worked on. For each block: S = q k^T in accumulators, the running maximum m and sum l of every row follow, accumulators of the output are scaled by
// exp(m_old - m), and P = exp(S - m) multiplies v straight out of the registers. Up to 256 tokens one block has all queries, so that q, k and v are read once.
// Least bytes: N * T * (3C * sizeof(QKV) + C * sizeof(OUT) + 4 * HEADS). Operations: 4 * N * T * T * C for the two products and an exponential for every score.
// Source: QKVAttention and QKVAttentionLegacy of guided-diffusion. They multiply q and k by HS^-1/4 each, so that products of 16 bits stay in range; products are summed in
// binary32 here, where they do anyway, and the scores are multiplied by HS^-1/2. The sum over keys runs in blocks in ascending order whatever the batch.
#include "attention.cuh"

constexpr float SCORE = SCALE / NATS; // from products to scores in the units of exponential()

// The readable one: a warp per query.
extern "C" __global__ void attention_naive(const QKV* qkv, OUT* out, LSE* lse)
{
    __shared__ float sP[T];
    const int t = blockIdx.x, h = blockIdx.y, n = blockIdx.z, lane = threadIdx.x;
    const QKV* gQ = qkv + (long long)n * T * TOKEN + h * HEAD; // [T][TOKEN]
    const QKV* gK = gQ + STEP;
    const QKV* gV = gK + STEP;
    float m = -INFINITY, l = 0;
    for (int j = lane; j < T; j += 32) {
        float s = 0;
        for (int d = 0; d < HS; d++)
            s = fmaf(to_float(gQ[(long long)t * TOKEN + d]), to_float(gK[(long long)j * TOKEN + d]), s);
        sP[j] = s * SCALE;
        m = fmaxf(m, sP[j]);
    }
    m = warp_max(m);
    for (int j = lane; j < T; j += 32) {
        sP[j] = expf(sP[j] - m);
        l += sP[j];
    }
    l = warp_sum(l);
    __syncwarp();
    for (int d = lane; d < HS; d += 32) {
        float o = 0;
        for (int j = 0; j < T; j++)
            o = fmaf(sP[j], to_float(gV[(long long)j * TOKEN + d]), o);
        out[((long long)n * T + t) * CHANNELS + h * HS + d] = from_float<OUT>(o / l);
    }
    if (lane == 0)
        lse[((long long)n * HEADS + h) * T + t] = from_float<LSE>(m + logf(l));
}

extern "C" __global__ __launch_bounds__(THREADS, 1) void attention_forward(const QKV* __restrict__ qkv, OUT* __restrict__ out, LSE* __restrict__ lse)
{
    extern __shared__ __align__(16) unsigned char shared[];
    E* sQ = reinterpret_cast<E*>(shared);  // [BM][LD]
    E* sK = sQ + BM * LD;                  // [STAGES][BN][LD]
    E* sV = sK + STAGES * BN * LD;         // [STAGES][BN][LD]
    const int h = blockIdx.y, n = blockIdx.z, lane = threadIdx.x % 32, own = threadIdx.x / 32 * MT * 16, first = blockIdx.x * BM;
    const QKV* gQ = qkv + (long long)n * T * TOKEN + h * HEAD; // [T][TOKEN]

    load_tile<BM>(sQ, gQ, TOKEN, first);
    load_tile<BN>(sK, gQ + STEP, TOKEN, 0);
    load_tile<BN>(sV, gQ + 2 * STEP, TOKEN, 0);
    commit_copies();

    float rO[MT][DT][4], m[MT][2], l[MT][2];
    clear(rO);
#pragma unroll
    for (int i = 0; i < MT; i++)
        m[i][0] = m[i][1] = -INFINITY, l[i][0] = l[i][1] = 0.0f;

#pragma unroll 1
    for (int tile = 0; tile < TILES; tile++) {
        E* sKey = sK + tile % STAGES * BN * LD;
        E* sValue = sV + tile % STAGES * BN * LD;
        wait_copies<0>();
        if (tile == 0)
            land_tile<BM, QKV>(sQ);
        land_tile<BN, QKV>(sKey);
        land_tile<BN, QKV>(sValue);
        __syncthreads();

        // Every warp is past the tile before, whose buffer this is.
        if (tile + 1 < TILES) {
            load_tile<BN>(sK + (tile + 1) % STAGES * BN * LD, gQ + STEP, TOKEN, (tile + 1) * BN);
            load_tile<BN>(sV + (tile + 1) % STAGES * BN * LD, gQ + 2 * STEP, TOKEN, (tile + 1) * BN);
            commit_copies();
        }

        float rS[MT][NT][4];
        clear(rS);
        product_nt(rS, sQ + own * LD, sKey);
#pragma unroll
        for (int i = 0; i < MT; i++) {
#pragma unroll
            for (int r = 0; r < 2; r++) {
                float top = m[i][r];
#pragma unroll
                for (int j = 0; j < NT; j++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        const bool beyond = T % BN != 0 && tile * BN + 8 * j + 2 * (lane % 4) + e >= T;
                        float& s = rS[i][j][2 * r + e];
                        s = beyond ? -INFINITY : s * SCORE;
                        top = fmaxf(top, s);
                    }

                // The first key of a tile is always there, so the maximum is finite from the first tile on.
                top = quad_max(top);
                const float fade = exponential(m[i][r] - top);
                float sum = 0;
#pragma unroll
                for (int j = 0; j < NT; j++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        float& s = rS[i][j][2 * r + e];
                        s = exponential(s - top);
                        sum += s;
                    }
                m[i][r] = top;
                l[i][r] = l[i][r] * fade + sum;
#pragma unroll
                for (int d = 0; d < DT; d++)
                    rO[i][d][2 * r] *= fade, rO[i][d][2 * r + 1] *= fade;
            }
        }
        product_nn(rO, rS, sValue);
    }

#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const float sum = quad_sum(l[i][r]);
            const int row = first + own + 16 * i + 8 * r + lane / 4;
            if (lane % 4 == 0 && row < T)
                lse[((long long)n * HEADS + h) * T + row] = from_float<LSE>(m[i][r] * NATS + logf(sum));
            l[i][r] = 1.0f / sum;
        }
    store_rows(out + (long long)n * T * CHANNELS + h * HS, CHANNELS, first + own, rO, l, sQ + own * LD);
}

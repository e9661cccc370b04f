// What a convolution knows of group-norms: of the one that x passes through on its way in (convolution_patch.cuh), or of the one in front of it in the forward pass, where y is dy of that.
// For the latter it leaves, beside y, sums over the block's tile of g and of g x^ (group_norm_gradient.cuh) for every channel. The norm's x is read here, once, where y is in registers, so
// that the gradient need not read both for its means before it reads both again. Included by convolution.cu alone.
#pragma once
#include "group_norm_gradient.cuh"
#include "norm_coefficients.cuh"

// What a norm reads and computes: in front of the convolution, or in the forward pass before the gradient behind it.
struct NormInputs
{
    const NORM_X* x;                          // of the gradient: [N,PIXELS,O], four times the pixels with NORM_POOL
    const NORM_STATISTICS* statistics;        // [N,GROUPS or NORM_INPUT,2], mean and rstd
    const float *gamma, *beta;                // [O or C]; beta is null where nothing depends on it
    const NORM_SCALE_SHIFT* scale_shift;      // [N,2*O or 2*C]
};

#if NORM_GRADIENT

// What is to be known of the block's channels.
struct NormParameters
{
    float mean[BN], rstd[BN], a[BN], b[BN];

    // There after the next barrier.
    __device__ __forceinline__ void read(const NormInputs& norm, int n, int first_o)
    {
        for (int i = threadIdx.x; i < BN; i += THREADS)
        {
            const int o = first_o + i < O ? first_o + i : O - 1; // any there is, beyond the last
            float pair[2];
            load(norm.statistics + (n * GROUPS + o / (O / GROUPS)) * 2, pair);
            mean[i] = pair[0];
            rstd[i] = pair[1];
            norm_coefficients(norm.gamma, norm.beta, norm.scale_shift, n, O, o, a[i], b[i]);
        }
    }
};

// A thread's part: V channels of the pixels that it writes.
template <int V>
struct NormSums
{
    float mean[V], rstd[V], a[V], b[V];
    float sums[2][V] = {};

    __device__ __forceinline__ NormSums(const NormParameters& parameters, int column)
    {
        load(parameters.mean + column, mean);
        load(parameters.rstd + column, rstd);
        load(parameters.a + column, a);
        load(parameters.b + column, b);
    }

    // Takes in dy, as it is stored, of pixel (n, i, j), channels from o on.
    __device__ __forceinline__ void add(const NORM_X* x, int n, int i, int j, int o, const float (&dy)[V])
    {
        constexpr int SIDE = NORM_POOL ? 2 : 1;
#pragma unroll
        for (int q = 0; q < SIDE * SIDE; q++)
        {
            float value[V];
            load(x + (unsigned)(((n * (SIDE * OH) + SIDE * i + q / SIDE) * (SIDE * OW) + SIDE * j + q % SIDE) * O + o), value);
#pragma unroll
            for (int v = 0; v < V; v++)
            {
                float x_hat;
                const float g = norm_gradient<NORM_SILU, NORM_POOL, NORM_X>(dy[v], value[v], mean[v], rstd[v], a[v], b[v], x_hat);
                sums[0][v] += g;
                sums[1][v] = fmaf(g, x_hat, sums[1][v]);
            }
        }
    }

    // The sums of all threads that share a channel, in their order. All threads of the block call it; shared memory is free for it.
    __device__ __forceinline__ void write(float* shared, int first_o, float2* partials) const
    {
        constexpr int SHARES = THREADS / (BN / V);
        float(*sSums)[SHARES][BN] = reinterpret_cast<float(*)[SHARES][BN]>(shared);
        const int share = threadIdx.x / (BN / V), column = threadIdx.x % (BN / V) * V;
        __syncthreads();
#pragma unroll
        for (int k = 0; k < 2; k++)
            if (share < SHARES)
                store(&sSums[k][share][column], sums[k]);
        __syncthreads();
        for (int c = threadIdx.x; c < BN && first_o + c < O; c += THREADS)
        {
            float2 total = make_float2(0, 0);
#pragma unroll
            for (int s = 0; s < SHARES; s++)
            {
                total.x += sSums[0][s][c];
                total.y += sSums[1][s][c];
            }
            partials[blockIdx.x * O + first_o + c] = total;
        }
    }
};

#endif

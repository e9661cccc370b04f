// Linear layer over few rows: embeddings, a block's scale and shift, the logits. (Over the pixels of an image it is a convolution with a window of one: convolution.cu.)
//
//   y[r,m] = sum over k of x[r,k] * w[m,k]  + bias[m] + residual[r,m]        the data gradient is this with the transposed weight
//
// Inputs and outputs: x [rows,K] of X, w [M,K] float, bias [M] float, residual of R and y of Y [rows,M].
// Threads: a warp has one feature m for ROWS rows; its lanes take every 32nd group of V elements along k. A block is FEATURES features; blockIdx.y counts groups of ROWS rows.
// Least bytes: M*K*4 + rows*(K*sizeof(X) + M*sizeof(Y)). Operations: 2*rows*M*K, at two per weight and row: reading the weights is all that costs, so each is read once for ROWS rows,
//   16 bytes a lane, and x stays in the first-level cache. Products are binary32 in every mode, since what is saved by less would not be felt.
// Source: torch.nn.functional.linear. The order of a sum depends on K alone: first along each lane, then lanes by halves.
// y may lie over residual, which is read by the lane that writes there: neither carries __restrict__.
#include "common.cuh"

#ifndef X
#define X float
#endif
#ifndef Y
#define Y float
#endif
#ifndef R
#define R Y
#endif
#ifndef BIAS
#define BIAS 0
#endif
#ifndef RESIDUAL
#define RESIDUAL 0
#endif
#ifndef K // by itself: the time embedding of the 64x64 UNet
#define K 768
#define M 768
#endif
#ifndef ROWS
#define ROWS 8
#endif
#ifndef FEATURES
#define FEATURES 4
#endif

static_assert(ROWS <= 32, "a lane finishes one row");

// The specification: one thread per element of y.
extern "C" __global__ void linear_naive(const X* x, const float* w, const float* bias, const R* residual, Y* y, int rows)
{
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= rows * M)
        return;
    float sum = 0;
    for (int k = 0; k < K; k++)
        sum = fmaf(to_float(x[at / M * K + k]), w[at % M * K + k], sum);
    if (BIAS)
        sum += bias[at % M];
    if (RESIDUAL)
        sum += to_float(residual[at]);
    y[at] = from_float<Y>(sum);
}

extern "C" __global__ void __launch_bounds__(FEATURES * 32) linear(const X* x, const float* w, const float* bias, const R* residual, Y* y, int rows)
{
    constexpr int V = K % 4 == 0 ? 4 : 1;
    const int m = blockIdx.x * FEATURES + threadIdx.x / 32, lane = threadIdx.x % 32, first = blockIdx.y * ROWS;
    if (m >= M)
        return;
    float sums[ROWS] = {};
#pragma unroll 2
    for (int k = lane * V; k < K; k += 32 * V)
    {
        float rW[V];
        load(w + (long long)m * K + k, rW);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (first + r < rows)
            {
                float rX[V];
                load(x + (long long)(first + r) * K + k, rX);
#pragma unroll
                for (int v = 0; v < V; v++)
                    sums[r] = fmaf(rX[v], rW[v], sums[r]);
            }
    }
    float mine = 0;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
    {
        const float sum = warp_sum(sums[r]);
        mine = lane == r ? sum : mine;
    }
    if (lane >= ROWS || first + lane >= rows)
        return;
    const long long at = (long long)(first + lane) * M + m;
    if (BIAS)
        mine += bias[m];
    if (RESIDUAL)
        mine += to_float(residual[at]);
    y[at] = from_float<Y>(mine);
}

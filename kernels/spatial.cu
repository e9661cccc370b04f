// The sum over the positions of an image, and its adjoint.
//
//   spatial_sum         y[n,c] = factor * sum over r of x[n,r,c]
//   spatial_broadcast   y[n,r,c] = factor * x[n,c] + residual[n,r,c]
//
// Inputs and outputs: x and y of X and Y, residual, with RESIDUAL, of R; ROWS positions of C channels per image. y may lie over residual.
// Threads of spatial_sum: one block per (V * PACKS channels, slice of SLICE rows, image); thread t takes pack t % PACKS of the rows t / PACKS, + LANES, ...; then the LANES sums are added
// as a tree in shared memory. An image of more than one slice leaves one sum per slice, and a second launch over those, in their order, finishes. The tree depends on ROWS and C alone,
// so an image's bits do not depend on the batch. Threads of spatial_broadcast: one per V elements.
// Least bytes: |x| * sizeof(X) + |y| * sizeof(Y). Operations: the number of elements of the larger. Memory-bound: wide loads, enough rows under way at once.
// Source: AdaptiveAvgPool2d((1, 1)) and mean(dim=(2, 3)) of guided-diffusion's EncoderUNetModel.
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
#ifndef RESIDUAL
#define RESIDUAL 0
#endif
#ifndef V
#define V 1
#endif
#ifndef C
#define C 1
#endif
#ifndef ROWS
#define ROWS 1
#endif
#ifndef SLICE
#define SLICE 512
#endif
#ifndef PACKS
#define PACKS 1
#endif

#define THREADS 256
#define LANES (THREADS / PACKS)

static_assert(C % V == 0 && (PACKS & (PACKS - 1)) == 0 && PACKS <= THREADS, "a block is PACKS packs of channels times a power of two of rows");

// The specification: one thread per (n, c).
extern "C" __global__ void spatial_sum_naive(const X* x, Y* y, float factor, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    float sum = 0;
    for (int r = 0; r < ROWS; r++)
        sum += to_float(x[((size_t)(i / C) * ROWS + r) * C + i % C]);
    y[i] = from_float<Y>(factor * sum);
}

extern "C" __global__ void __launch_bounds__(THREADS) spatial_sum(const X* x, Y* y, float factor)
{
    __shared__ float sSum[THREADS * V]; // [LANES, PACKS, V]
    const int pack = blockIdx.x * PACKS + threadIdx.x % PACKS, lane = threadIdx.x / PACKS;
    const bool inside = pack * V < C;
    const int begin = blockIdx.y * SLICE, end = min(begin + SLICE, ROWS);
    const X* column = x + (size_t)blockIdx.z * ROWS * C + (inside ? pack * V : 0);
    float sum[V] = {};
    if (inside)
    {
#pragma unroll 4
        for (int r = begin + lane; r < end; r += LANES)
        {
            float a[V];
            load(column + (size_t)r * C, a);
#pragma unroll
            for (int k = 0; k < V; k++)
                sum[k] += a[k];
        }
    }

    float* mine = sSum + threadIdx.x * V;
    store(mine, sum);
#pragma unroll
    for (int lanes = LANES / 2; lanes > 0; lanes /= 2)
    {
        __syncthreads();
        if (lane < lanes)
        {
            float a[V];
            load(mine + lanes * PACKS * V, a);
#pragma unroll
            for (int k = 0; k < V; k++)
                sum[k] += a[k];
            store(mine, sum);
        }
    }

    if (inside && lane == 0)
    {
#pragma unroll
        for (int k = 0; k < V; k++)
            sum[k] *= factor;
        store(y + ((size_t)blockIdx.z * gridDim.y + blockIdx.y) * C + pack * V, sum);
    }
}

extern "C" __global__ void spatial_broadcast(const X* x, const R* residual, Y* y, float factor, unsigned n)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    float a[V];
    load(x + (size_t)(i / (C / V) / ROWS) * C + i % (C / V) * V, a);
#pragma unroll
    for (int k = 0; k < V; k++)
        a[k] *= factor;
    if (RESIDUAL)
    {
        float r[V];
        load(residual + (size_t)i * V, r);
#pragma unroll
        for (int k = 0; k < V; k++)
            a[k] += r[k];
    }
    store(y + (size_t)i * V, a);
}

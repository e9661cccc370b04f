// From logits to log p(y | x) and its gradient.
//
//   log_softmax            y[n,k] = (x[n,k] - m) - log sum over j of exp(x[n,j] - m), m the row's maximum
//   log_softmax_backward   dx[n,k] = dy[n,k] - exp(y[n,k]) * sum over j of dy[n,j]
//   label_gradient         dx[n,k] = factor * ([k = label[n]] - exp(y[n,k])), l[n] = y[n,label[n]], y as in log_softmax
//   select_label           y[n] = x[n,label[n]]
//   scatter_label          y[n,k] = x[n] where k is label[n], else 0
//
// Inputs and outputs: float, rows of K; labels int. A label that is not one of K makes NaN.
// Threads: one block of THREADS per row, which keeps its PER values per thread in registers; the last two one per element of y.
// Least bytes: 4 * 2 N K, 4 * 3 N K, 4 * 2 N (K + 1), 12 N, 4 * N (K + 2). Operations: 5 N K, 4 N K, 6 N K, 0, 0. Bound by the launch: a row is a few kilobytes, and label_gradient does
// in one what the others take four for.
// y and dx may lie over x, and dx over dy: a block has read its row before it writes it.
// Source: F.log_softmax and the indexing in guided-diffusion's cond_fn. The maximum goes first and the logarithm is subtracted on its own: with logits of 10^4 the sum of the two would
// lose the logarithm's digits.
#include "common.cuh"

#ifndef K
#define K 1
#endif
#ifndef THREADS
#define THREADS 32
#endif

#define WARPS (THREADS / 32)
#define PER ((K + THREADS - 1) / THREADS)

static_assert(THREADS % 32 == 0 && THREADS <= 1024, "whole warps");

// The row's values of this thread: thread t has t, t + THREADS, ...; `none` beyond the row.
__device__ __forceinline__ void load_row(const float* row, float none, float (&x)[PER])
{
#pragma unroll
    for (int i = 0; i < PER; i++)
    {
        const int k = i * THREADS + threadIdx.x;
        x[i] = k < K ? row[k] : none;
    }
}

__device__ __forceinline__ void store_row(float* row, const float (&x)[PER])
{
#pragma unroll
    for (int i = 0; i < PER; i++)
    {
        const int k = i * THREADS + threadIdx.x;
        if (k < K)
            row[k] = x[i];
    }
}

// The specification: one thread per row.
extern "C" __global__ void log_softmax_naive(const float* x, float* y, int rows)
{
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= rows)
        return;
    float m = -INFINITY, sum = 0;
    for (int k = 0; k < K; k++)
        m = fmaxf(m, x[n * K + k]);
    for (int k = 0; k < K; k++)
        sum += expf(x[n * K + k] - m);
    for (int k = 0; k < K; k++)
        y[n * K + k] = x[n * K + k] - m - logf(sum);
}

// x becomes its log-softmax.
__device__ __forceinline__ void log_softmax_row(float (&x)[PER], float* s)
{
    float m = x[0], sum = 0;
#pragma unroll
    for (int i = 1; i < PER; i++)
        m = fmaxf(m, x[i]);
    m = block_max<WARPS>(m, s);
#pragma unroll
    for (int i = 0; i < PER; i++)
    {
        x[i] -= m;
        sum += expf(x[i]); // 0 beyond the row
    }
    const float log_sum = logf(block_sum<WARPS>(sum, s));
#pragma unroll
    for (int i = 0; i < PER; i++)
        x[i] -= log_sum;
}

extern "C" __global__ void __launch_bounds__(THREADS) log_softmax(const float* x, float* y)
{
    __shared__ float sSum[WARPS];
    float row[PER];
    load_row(x + (size_t)blockIdx.x * K, -INFINITY, row);
    log_softmax_row(row, sSum);
    store_row(y + (size_t)blockIdx.x * K, row);
}

extern "C" __global__ void __launch_bounds__(THREADS) log_softmax_backward(const float* dy, const float* y, float* dx)
{
    __shared__ float sSum[WARPS];
    float gradient[PER], row[PER], sum = 0;
    load_row(dy + (size_t)blockIdx.x * K, 0, gradient);
    load_row(y + (size_t)blockIdx.x * K, 0, row);
#pragma unroll
    for (int i = 0; i < PER; i++)
        sum += gradient[i];
    sum = block_sum<WARPS>(sum, sSum);
#pragma unroll
    for (int i = 0; i < PER; i++)
        gradient[i] -= expf(row[i]) * sum;
    store_row(dx + (size_t)blockIdx.x * K, gradient);
}

extern "C" __global__ void __launch_bounds__(THREADS) label_gradient(const float* x, const int* labels, float* dx, float* l, float factor)
{
    __shared__ float sSum[WARPS];
    const int label = labels[blockIdx.x];
    const bool known = (unsigned)label < K;
    float row[PER];
    load_row(x + (size_t)blockIdx.x * K, -INFINITY, row);
    log_softmax_row(row, sSum);
#pragma unroll
    for (int i = 0; i < PER; i++)
    {
        const int k = i * THREADS + threadIdx.x;
        if (known ? k == label : k == 0)
            l[blockIdx.x] = known ? row[i] : NAN;
        row[i] = known ? (k == label ? factor : 0.0f) - expf(row[i]) * factor : NAN;
    }
    store_row(dx + (size_t)blockIdx.x * K, row);
}

extern "C" __global__ void select_label(const float* x, const int* labels, float* y, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const int label = labels[i];
    y[i] = (unsigned)label < K ? x[(size_t)i * K + label] : NAN;
}

extern "C" __global__ void scatter_label(const float* x, const int* labels, float* y, unsigned n)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const int label = labels[i / K];
    y[i] = (unsigned)label >= K ? NAN : (unsigned)label == i % K ? x[i / K] : 0.0f;
}

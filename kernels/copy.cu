// Rows of one tensor into rows of another: concatenation, slices, zero padding, change of storage type.
//
//   strided_copy     y[r * y_stride + i] = x[r * x_stride + i]      0 <= r < rows, 0 <= i < run
//   strided_clear    y[r * y_stride + i] = 0
//
// Inputs and outputs: x of X, y of Y; strides and run in elements, divisible by V.
// Threads: one per V consecutive elements of a row.
// Least bytes: rows * run * (sizeof(X) + sizeof(Y)). No arithmetic.
// Source: torch.cat, torch.narrow, torch.nn.functional.pad.
#include "common.cuh"

#ifndef X
#define X float
#endif
#ifndef Y
#define Y float
#endif
#ifndef V
#define V 1
#endif

extern "C" __global__ void strided_copy(const X* x, Y* y, int rows, int run, long long x_stride, long long y_stride)
{
    const long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= (long long)rows * run)
        return;
    const long long row = i / run, column = i % run;
    float v[V];
    load(x + row * x_stride + column, v);
    store(y + row * y_stride + column, v);
}

extern "C" __global__ void strided_clear(Y* y, int rows, int run, long long y_stride)
{
    const long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= (long long)rows * run)
        return;
    const float zeros[V] = {};
    store(y + i / run * y_stride + i % run, zeros);
}

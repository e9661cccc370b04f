// Rows of one or two tensors into rows of another: concatenation, slices, zero padding, change of storage type.
//
//   strided_copy     y[r * y_stride + i] = x[r * x_stride + i]      0 <= r < rows, 0 <= i < run
//   concatenate      y[r * (a_run + b_run) + i] = a[r * a_run + i] for i < a_run, and b[r * b_run + i - a_run] behind
//   pad              y[r * (before + run + after) + i] = x[r * run + i - before] in the middle, zero before and behind
//
// Inputs and outputs: x and a of X, b of X2, y of Y; strides, runs and widths in elements, divisible by V.
// Threads: one per V consecutive elements of a row of y.
// Least bytes: what is read of x, a and b, and what is written of y. No arithmetic.
// Source: torch.narrow, torch.cat, torch.nn.functional.pad.
#include "common.cuh"

#ifndef X
#define X float
#endif
#ifndef X2
#define X2 X
#endif
#ifndef Y
#define Y float
#endif
#ifndef V
#define V 1
#endif

#define FIRST_ELEMENT (((long long)blockIdx.x * blockDim.x + threadIdx.x) * V)

extern "C" __global__ void strided_copy(const X* x, Y* y, int rows, int run, long long x_stride, long long y_stride)
{
    const long long i = FIRST_ELEMENT;
    if (i >= (long long)rows * run)
        return;
    const long long row = i / run, column = i % run;
    float v[V];
    load(x + row * x_stride + column, v);
    store(y + row * y_stride + column, v);
}

extern "C" __global__ void concatenate(const X* a, const X2* b, Y* y, int rows, int a_run, int b_run)
{
    const long long i = FIRST_ELEMENT;
    const int run = a_run + b_run;
    if (i >= (long long)rows * run)
        return;
    const long long row = i / run, column = i % run;
    float v[V];
    if (column < a_run)
        load(a + row * a_run + column, v);
    else
        load(b + row * b_run + column - a_run, v);
    store(y + i, v);
}

extern "C" __global__ void pad(const X* x, Y* y, int rows, int before, int run, int after)
{
    const long long i = FIRST_ELEMENT;
    const int width = before + run + after;
    if (i >= (long long)rows * width)
        return;
    const long long row = i / width, column = i % width - before;
    float v[V] = {};
    if (column >= 0 && column < run)
        load(x + row * run + column, v);
    store(y + i, v);
}

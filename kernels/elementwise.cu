// Chains of element-wise work that no other kernel takes in.
//
//   add               y = a + b                 multiply        y = a * b               fill    y = value
//   silu, relu        y = f(a)                  *_gradient      y = a * f'(b), a = dy, b = x
//   add_row           y[r,c] = a[r,c] + b[r / ROWS_PER_B, c]                            bias (one row b), embedding (one row per image)
//   scale_shift       y[r,c] = a[r,c] * (1 + b[n,c]) + b[n,C+c], n = r / ROWS_PER_B; with GRADIENT y = a * (1 + b[n,c])
//   add_positional    y[n,t,c] = a[n,t,c] + b[c,t]
//   epilogue          y[r,c] = a[r,c] + b[c] + r[r,c], bias b and residual r where BIAS and RESIDUAL say so: behind a matrix product that a library has left in binary32
//
// Inputs and outputs: a, b, y of A, B and Y, n elements in rows of C; b may be smaller.
// Threads: one per V consecutive elements of a row, V dividing C, so that loads and stores of the widest type are 16 bytes wide.
// Least bytes: n * (sizeof(A) + sizeof(Y)) + |b| * sizeof(B). Operations: n. Memory-bound by two orders of magnitude: wide loads and one pass are all there is to win.
// y may lie over a or b: an element is read before it is written, by the same thread.
// Source: the corresponding functions of torch; GroupNorm's modulation and the positional embedding are guided-diffusion's.
#include "common.cuh"

#ifndef A
#define A float
#endif
#ifndef B
#define B float
#endif
#ifndef Y
#define Y float
#endif
#ifndef V
#define V 1
#endif
#ifndef C
#define C 1
#endif
#ifndef ROWS_PER_B
#define ROWS_PER_B 1
#endif
#ifndef GRADIENT
#define GRADIENT 0
#endif
#ifndef R
#define R Y
#endif
#ifndef BIAS
#define BIAS 0
#define RESIDUAL 0
#endif

#define FIRST_ELEMENT (((long long)blockIdx.x * blockDim.x + threadIdx.x) * V)

#define UNARY(name, expression)                                            \
    extern "C" __global__ void name(const A* a, Y* y, int n)               \
    {                                                                      \
        const long long i = FIRST_ELEMENT;                                 \
        if (i >= n)                                                        \
            return;                                                        \
        float u[V];                                                        \
        load(a + i, u);                                                    \
        _Pragma("unroll") for (int k = 0; k < V; k++) u[k] = (expression); \
        store(y + i, u);                                                   \
    }

#define BINARY(name, expression)                                           \
    extern "C" __global__ void name(const A* a, const B* b, Y* y, int n)   \
    {                                                                      \
        const long long i = FIRST_ELEMENT;                                 \
        if (i >= n)                                                        \
            return;                                                        \
        float u[V], v[V];                                                  \
        load(a + i, u);                                                    \
        load(b + i, v);                                                    \
        _Pragma("unroll") for (int k = 0; k < V; k++) u[k] = (expression); \
        store(y + i, u);                                                   \
    }

UNARY(silu_forward, silu(u[k]))
UNARY(relu_forward, fmaxf(u[k], 0.0f))
BINARY(add, u[k] + v[k])
BINARY(multiply, u[k] * v[k])
BINARY(silu_backward, u[k] * silu_gradient(v[k]))
BINARY(relu_backward, v[k] > 0.0f ? u[k] : 0.0f)

extern "C" __global__ void fill(Y* y, float value, int n)
{
    const long long i = FIRST_ELEMENT;
    if (i >= n)
        return;
    float u[V];
#pragma unroll
    for (int k = 0; k < V; k++)
        u[k] = value;
    store(y + i, u);
}

extern "C" __global__ void add_row(const A* a, const B* b, Y* y, int n)
{
    const long long i = FIRST_ELEMENT;
    if (i >= n)
        return;
    float u[V], v[V];
    load(a + i, u);
    load(b + i / C / ROWS_PER_B * C + i % C, v);
#pragma unroll
    for (int k = 0; k < V; k++)
        u[k] += v[k];
    store(y + i, u);
}

extern "C" __global__ void epilogue(const A* a, const B* bias, const R* residual, Y* y, int n)
{
    const long long i = FIRST_ELEMENT;
    if (i >= n)
        return;
    float u[V], v[V];
    load(a + i, u);
    if (BIAS) {
        load(bias + i % C, v);
#pragma unroll
        for (int k = 0; k < V; k++)
            u[k] += v[k];
    }
    if (RESIDUAL) {
        load(residual + i, v);
#pragma unroll
        for (int k = 0; k < V; k++)
            u[k] += v[k];
    }
    store(y + i, u);
}

extern "C" __global__ void scale_shift(const A* a, const B* b, Y* y, int n)
{
    const long long i = FIRST_ELEMENT;
    if (i >= n)
        return;
    const B* row = b + i / C / ROWS_PER_B * (2 * C) + i % C;
    float u[V], scale[V];
    load(a + i, u);
    load(row, scale);
#if GRADIENT
#pragma unroll
    for (int k = 0; k < V; k++)
        u[k] *= 1.0f + scale[k];
#else
    float shift[V];
    load(row + C, shift);
#pragma unroll
    for (int k = 0; k < V; k++)
        u[k] = u[k] * (1.0f + scale[k]) + shift[k];
#endif
    store(y + i, u);
}

// One thread per element: b is read across, a few kilobytes that stay in the cache.
extern "C" __global__ void add_positional(const A* a, const B* b, Y* y, int n, int tokens)
{
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = from_float<Y>(to_float(a[i]) + to_float(b[i % C * tokens + i / C % tokens]));
}

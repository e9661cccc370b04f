// Halving and doubling of images, and bilinear interpolation with its adjoint.
//
//   pool_2x             y[n,i,j,c] = factor * (x[n,2i,2j,c] + x[n,2i,2j+1,c] + x[n,2i+1,2j,c] + x[n,2i+1,2j+1,c])
//   upsample_2x         y[n,i,j,c] = factor * x[n,i/2,j/2,c], 0 where that lies outside x (an odd last row or column)
//   bilinear            y[n,i,j,c] = (1-v) * ((1-u) * x[n,i0,j0,c] + u * x[n,i0,j1,c]) + v * ((1-u) * x[n,i1,j0,c] + u * x[n,i1,j1,c])
//                       i0 = floor(p), i1 = min(i0 + 1, H - 1), v = p - i0 at p = max(0, (i + 1/2) * H / OH - 1/2); likewise j0, j1, u of columns
//   bilinear_backward   dx[n,i,j,c] = sum over output pixels of dy * what bilinear gives this pixel there
//
// Inputs and outputs: x of X and y of Y, channels innermost. H, W: the larger image of pool_2x and upsample_2x, the source of bilinear; OH, OW: the target of bilinear. n counts
// threads.
// Threads: pool_2x and bilinear one per V channels of an output pixel; upsample_2x one per V channels of a 2x2 block, so that x is read once; bilinear_backward one per element of dx,
// which gathers from the output rows and columns that can reach it, in their order: nothing is added concurrently.
// Least bytes: |x| * sizeof(X) + |y| * sizeof(Y). Operations: 4 |y| (pool_2x), |y| (upsample_2x), 7 |y| (bilinear), 8 |dy| (bilinear_backward). Memory-bound.
// Source: avg_pool2d(2), interpolate(scale_factor=2, mode="nearest") and interpolate(mode="bilinear", align_corners=False) of torch, whose float32 arithmetic of positions is kept:
// every product is rounded before it is added.
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
#ifndef C
#define C 1
#endif
#ifndef H
#define H 2
#endif
#ifndef W
#define W 2
#endif
#ifndef OH
#define OH 1
#endif
#ifndef OW
#define OW 1
#endif

static_assert(C % V == 0, "threads take whole packs of a pixel's channels");

#define THREAD (blockIdx.x * blockDim.x + threadIdx.x)

extern "C" __global__ void pool_2x(const X* x, Y* y, float factor, unsigned n)
{
    const unsigned i = THREAD;
    if (i >= n)
        return;
    const unsigned c = i % (C / V) * V, column = i / (C / V) % (W / 2), row = i / (C / V) / (W / 2); // row of all images
    const X* upper = x + (((size_t)(row / (H / 2)) * H + row % (H / 2) * 2) * W + 2 * column) * C + c;
    float a[V], b[V];
    load(upper, a);
    load(upper + C, b);
#pragma unroll
    for (int k = 0; k < V; k++)
        a[k] += b[k];
    load(upper + W * C, b);
#pragma unroll
    for (int k = 0; k < V; k++)
        a[k] += b[k];
    load(upper + W * C + C, b);
#pragma unroll
    for (int k = 0; k < V; k++)
        a[k] = (a[k] + b[k]) * factor;
    store(y + (size_t)i * V, a);
}

// The specification: one thread per output element.
extern "C" __global__ void upsample_2x_naive(const X* x, Y* y, float factor, unsigned n)
{
    const unsigned i = THREAD;
    if (i >= n)
        return;
    const unsigned c = i % C, column = i / C % W / 2, row = i / C / W % H / 2;
    const bool inside = row < H / 2 && column < W / 2;
    y[i] = from_float<Y>(inside ? to_float(x[(((size_t)(i / C / W / H) * (H / 2) + row) * (W / 2) + column) * C + c]) * factor : 0.0f);
}

extern "C" __global__ void upsample_2x(const X* x, Y* y, float factor, unsigned n)
{
    const unsigned i = THREAD;
    if (i >= n)
        return;
    const unsigned rows = (H + 1) / 2, columns = (W + 1) / 2;
    const unsigned c = i % (C / V) * V, column = i / (C / V) % columns, row = i / (C / V) / columns % rows;
    const size_t image = i / (C / V) / columns / rows;
    float a[V] = {};
    if (row < H / 2 && column < W / 2)
    {
        load(x + ((image * (H / 2) + row) * (W / 2) + column) * C + c, a);
#pragma unroll
        for (int k = 0; k < V; k++)
            a[k] *= factor;
    }
    Y* corner = y + ((image * H + 2 * row) * W + 2 * column) * C + c;
    const bool right = 2 * column + 1 < W, below = 2 * row + 1 < H;
    store(corner, a);
    if (right)
        store(corner + C, a);
    if (below)
        store(corner + W * C, a);
    if (right && below)
        store(corner + W * C + C, a);
}

// Where the target position i of an axis reads: two positions and the weight of the second.
struct Tap
{
    int low, high;
    float weight;
};

__device__ __forceinline__ Tap tap(int i, int source, int target)
{
    const float scale = (float)source / (float)target;
    const float position = fmaxf(0.0f, __fsub_rn(__fmul_rn(scale, (float)i + 0.5f), 0.5f));
    const int low = min((int)position, source - 1);
    return {low, min(low + 1, source - 1), position - (float)low};
}

extern "C" __global__ void bilinear(const X* x, Y* y, unsigned n)
{
    const unsigned i = THREAD;
    if (i >= n)
        return;
    const unsigned c = i % (C / V) * V;
    const Tap column = tap(i / (C / V) % OW, W, OW), row = tap(i / (C / V) / OW % OH, H, OH);
    const X* image = x + (size_t)(i / (C / V) / OW / OH) * (H * W * C) + c;
    float a[V], b[V], d[V], e[V];
    load(image + (row.low * W + column.low) * C, a);
    load(image + (row.low * W + column.high) * C, b);
    load(image + (row.high * W + column.low) * C, d);
    load(image + (row.high * W + column.high) * C, e);
    const float u = column.weight, v = row.weight;
#pragma unroll
    for (int k = 0; k < V; k++)
        a[k] = (1 - v) * ((1 - u) * a[k] + u * b[k]) + v * ((1 - u) * d[k] + u * e[k]);
    store(y + (size_t)i * V, a);
}

// What a tap gives a source position.
__device__ __forceinline__ float share(const Tap t, int position)
{
    return (t.low == position ? 1.0f - t.weight : 0.0f) + (t.high == position ? t.weight : 0.0f);
}

// The specification: every thread looks at every output pixel.
extern "C" __global__ void bilinear_backward_naive(const X* dy, Y* dx, unsigned n)
{
    const unsigned i = THREAD;
    if (i >= n)
        return;
    const int c = i % C, column = i / C % W, row = i / C / W % H;
    const X* image = dy + (size_t)(i / C / W / H) * (OH * OW * C) + c;
    float sum = 0;
    for (int r = 0; r < OH; r++)
        for (int s = 0; s < OW; s++)
            sum += share(tap(r, H, OH), row) * share(tap(s, W, OW), column) * to_float(image[(r * OW + s) * C]);
    dx[i] = from_float<Y>(sum);
}

// The target positions whose source position can lie in (i - 1, i + 1); at the edges, all that is clamped to them. One to either side covers rounding.
__device__ __forceinline__ int first(int i, int source, int target)
{
    return i == 0 ? 0 : max(0, (int)floorf(((float)i - 0.5f) * (float)target / (float)source - 0.5f) - 1);
}

__device__ __forceinline__ int last(int i, int source, int target)
{
    return i == source - 1 ? target - 1 : min(target - 1, (int)ceilf(((float)i + 1.5f) * (float)target / (float)source - 0.5f) + 1);
}

extern "C" __global__ void bilinear_backward(const X* dy, Y* dx, unsigned n)
{
    const unsigned i = THREAD;
    if (i >= n)
        return;
    const int c = i % C, column = i / C % W, row = i / C / W % H;
    const X* image = dy + (size_t)(i / C / W / H) * (OH * OW * C) + c;
    const int end = last(column, W, OW);
    float sum = 0;
    for (int r = first(row, H, OH); r <= last(row, H, OH); r++)
    {
        const float v = share(tap(r, H, OH), row);
        if (v == 0)
            continue;
        for (int s = first(column, W, OW); s <= end; s++)
            sum += v * share(tap(s, W, OW), column) * to_float(image[(r * OW + s) * C]);
    }
    dx[i] = from_float<Y>(sum);
}

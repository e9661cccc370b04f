// Inpainting: what is known of an image goes into the result of a step, at the noise level that the step has reached.
//
//   known_region   y = f * (m * (a * x0 + b * z) + (1 - m) * x) + g * z', with (a, b, f, g) = levels[step]
//
// Inputs and output: x, x0, y [N, H, W, C], mask m [N, H, W, 1] in [0, 1], levels [S, 4], all float; step [1], seed [2], image_index [N, 2] int. z and z' are the normal values of
// (seed, image_index[n], 2^30 + step, e) and (..., 2^31 + step, e) (philox.cuh). Where m is 0 y has the bits of x, where it is 1 those of a * x0 + b * z; g = 0 adds nothing.
// A counter beyond the levels makes NaN.
// Threads: one per V consecutive elements; V is 1 or, where an image's elements are a multiple of 4, 4: one Philox counter makes 4 values. V = 1 is the specification.
// Least bytes: 4 (3 |x| + |m|). Operations: 6 |x|, and 60 |x| for the noise, twice where g is not 0. Memory-bound.
// y may lie over x: a thread reads its elements before it writes them.
// Source: Lugmayr et al. 2022 (RePaint), equation 8 and algorithm 1.
#include "common.cuh"
#include "philox.cuh"

#ifndef V
#define V 1
#endif
#ifndef C
#define C 3
#endif
#ifndef ELEMENTS // of an image
#define ELEMENTS 4
#endif

static_assert(V == 1 || (V == 4 && ELEMENTS % 4 == 0), "4 elements of a thread belong to one image and one Philox counter");

enum Level { SIGNAL, NOISE, FORWARD_SIGNAL, FORWARD_NOISE, LEVELS };

extern "C" __global__ void known_region(
    const float* x, const float* known, const float* mask, const float* levels, const int* step, int steps, const int* seed, const int* image_index, float* y, unsigned n)
{
    const unsigned i = (blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= n)
        return;
    const int row = *step;
    const bool inside = (unsigned)row < (unsigned)steps;
    const float signal = inside ? levels[row * LEVELS + SIGNAL] : NAN, noise = inside ? levels[row * LEVELS + NOISE] : NAN;
    const float forward_signal = inside ? levels[row * LEVELS + FORWARD_SIGNAL] : NAN, forward_noise = inside ? levels[row * LEVELS + FORWARD_NOISE] : NAN;
    float value[V], original[V], m[V], z[V];
    load(x + i, value);
    load(known + i, original);
    bool any = false;
#pragma unroll
    for (int k = 0; k < V; k++)
    {
        m[k] = mask[(i + k) / C];
        any = any || m[k] > 0.0f;
    }

    if (any || !inside)
    {
        normals_at<V>(seed, image_index, 0x40000000u + (unsigned)row, i, ELEMENTS, z);
#pragma unroll
        for (int k = 0; k < V; k++)
        {
            const float noised = __fadd_rn(__fmul_rn(signal, original[k]), __fmul_rn(noise, z[k]));
            const float mixed = __fadd_rn(__fmul_rn(m[k], noised), __fmul_rn(__fsub_rn(1.0f, m[k]), value[k]));
            value[k] = !inside || m[k] >= 1.0f ? noised : m[k] > 0.0f ? mixed : value[k];
        }
    }

    if (forward_noise != 0.0f)
    {
        normals_at<V>(seed, image_index, 0x80000000u + (unsigned)row, i, ELEMENTS, z);
#pragma unroll
        for (int k = 0; k < V; k++)
            value[k] = __fadd_rn(__fmul_rn(forward_signal, value[k]), __fmul_rn(forward_noise, z[k]));
    }

    store(y + i, value);
}

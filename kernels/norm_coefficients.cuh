// What group normalisation does to one element, in every kernel that does it: those of group_norm.cu and group_norm_backward.cu, and convolutions that take a norm's work in.
//
//   z = (x - mean) * rstd * a + b      a = gamma (1 + scale)      b = beta (1 + scale) + shift
#pragma once
#include "common.cuh"

template <typename S>
__device__ __forceinline__ float scale_of(const S* scale_shift, long long at) { return 1.0f + to_float(scale_shift[at]); }
__device__ __forceinline__ float scale_of(const void*, long long) { return 1.0f; }

template <typename S>
__device__ __forceinline__ float shift_of(const S* scale_shift, long long at) { return to_float(scale_shift[at]); }
__device__ __forceinline__ float shift_of(const void*, long long) { return 0.0f; }

// a and b of channel c of image n. beta is null where nothing depends on b; scale_shift [N][2 channels] points to void where there are neither.
template <typename S>
__device__ __forceinline__ void norm_coefficients(const float* gamma, const float* beta, const S* scale_shift, int n, int channels, int c, float& a, float& b)
{
    const long long at = (long long)n * 2 * channels + c;
    const float scale = scale_of(scale_shift, at);
    a = gamma[c] * scale;
    b = (beta ? beta[c] : 0.0f) * scale + shift_of(scale_shift, at + channels);
}

// y of one element, to be kept as a T; a has taken in rstd.
template <bool silu_follows, typename T>
__device__ __forceinline__ float norm_forward(float x, float mean, float a, float b)
{
    const float z = fmaf(x - mean, a, b);
    return silu_follows ? silu<T>(z) : z;
}

// What the gradient of group normalisation is made of, for the kernels of group_norm_backward.cu and for the convolution that writes dy and leaves the sums which the gradient wants.
//
//   g = dy * silu'(z) * a      z = x^ a + b, a = gamma (1 + scale), b = beta (1 + scale) + shift      x^ = (x - mean) * rstd      a quarter of dy where four pixels were averaged
//
// Source: the gradient that autograd derives from GroupNorm32, SiLU and avg_pool2d.
#pragma once
#include "common.cuh"

// g of one element of a norm of Ts, and x^.
template <bool silu, bool pool, typename T>
__device__ __forceinline__ float norm_gradient(float dy, float x, float mean, float rstd, float a, float b, float& x_hat)
{
    x_hat = (x - mean) * rstd;
    float g = dy * a;
    if (pool)
        g *= 0.25f;
    return silu ? g * silu_gradient<T>(fmaf(x_hat, a, b)) : g;
}

// Means of g and of g x^ over the groups of an image of so many pixels, from sums over tiles: partials [tiles][groups * width]. A warp takes a group at a time; lanes add in a fixed order.
template <int warps, int pixels, int groups, int width, int tiles>
__device__ __forceinline__ void group_means(const float2* partials, float2* means)
{
    for (int g = threadIdx.x / 32; g < groups; g += warps) {
        float sum = 0, product = 0;
        for (int i = threadIdx.x % 32; i < tiles * width; i += 32) {
            const float2 part = __ldcg(&partials[i / width * (groups * width) + g * width + i % width]);
            sum += part.x;
            product += part.y;
        }
        sum = warp_sum(sum);
        product = warp_sum(product);
        if (threadIdx.x % 32 == 0)
            means[g] = make_float2(sum / (pixels * width), product / (pixels * width));
    }
}

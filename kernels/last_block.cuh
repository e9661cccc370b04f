// Work that needs what many blocks have written, done by whichever of them comes last, so that it costs no launch of its own.
//
// Each block writes its part, then draws a ticket. The one that draws the last number sees what all others wrote: their fences stand before their draws, its own behind. What it
// computes, and in which order, does not depend on which block it is, so the result has the same bits every time. The ticket wraps around to zero: the next launch finds it as it was.
// Source: the programming guide's threadFenceReduction.
#pragma once
#include "common.cuh"

// Whether this block is the last of `blocks` that draw from the ticket. All threads of the block call it.
__device__ __forceinline__ bool is_last_block(unsigned* ticket, unsigned blocks)
{
    __shared__ unsigned number;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0)
        number = atomicInc(ticket, blocks - 1);
    __syncthreads();
    __threadfence();
    return number == blocks - 1;
}

// What a tensor's producer leaves of an image: partials [tiles][channels], each the mean and the sum of squares about it of a channel over a tile of rows pixels, the last one shorter.
template <int tiles_, int rows_, int channels_>
struct Tiles {
    static constexpr int tiles = tiles_, rows = rows_, channels = channels_;

    // f(pixels, partial) for what this lane takes of count channels from first on.
    template <int pixels, typename F>
    __device__ __forceinline__ static void each(const float2* partials, int first, int count, F f)
    {
        for (int i = threadIdx.x % 32; i < tiles * count; i += 32)
            f((float)min(rows, pixels - i / count * rows), partials + i / count * channels + first + i % count);
    }
};

// Mean and 1 / sqrt(variance + epsilon) of every group of an image from its partials a, or from those of two tensors whose channels stand side by side, a's first: a group may lie in
// both. A warp takes a group at a time; lanes add in a fixed order (Chan, Golub and LeVeque 1979). The partials come from the level of the cache that all blocks share.
template <int warps, int pixels, int groups, typename A, typename B = Tiles<0, 1, 0>>
__device__ __forceinline__ void group_statistics(const float2* a, const float2* b, float epsilon, float2* statistics)
{
    constexpr int width = (A::channels + B::channels) / groups;
    static_assert((A::channels + B::channels) % groups == 0, "groups have the same number of channels");
    for (int g = threadIdx.x / 32; g < groups; g += warps)
    {
        const int first = g * width, in_a = B::channels == 0 ? width : max(0, min(width, A::channels - first)), first_b = max(0, first - A::channels);
        float sum = 0, squares = 0;
        auto add = [&](float rows, const float2* part) { sum = fmaf(rows, __ldcg(&part->x), sum); };
        A::template each<pixels>(a, first, in_a, add);
        if constexpr (B::channels > 0)
            B::template each<pixels>(b, first_b, width - in_a, add);
        const float mean = warp_sum(sum) / (pixels * width);
        auto spread = [&](float rows, const float2* at) {
            const float2 part = __ldcg(at);
            squares += part.y + rows * (part.x - mean) * (part.x - mean);
        };
        A::template each<pixels>(a, first, in_a, spread);
        if constexpr (B::channels > 0)
            B::template each<pixels>(b, first_b, width - in_a, spread);
        const float rstd = 1.0f / sqrtf(warp_sum(squares) / (pixels * width) + epsilon);
        if (threadIdx.x % 32 == 0)
            statistics[g] = make_float2(mean, rstd);
    }
}

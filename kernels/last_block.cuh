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

// Mean and 1 / sqrt(variance + epsilon) of every group of an image from partials [tiles][channels], each the mean and the sum of squares about it of a channel over a tile of
// tile_rows pixels, the last one shorter. A warp takes a group at a time; lanes add in a fixed order (Chan, Golub and LeVeque 1979). The partials come from the level of the cache
// that all blocks share.
template <int warps, int tiles, int tile_rows, int pixels, int channels, int groups>
__device__ __forceinline__ void group_statistics(const float2* partials, float epsilon, float2* statistics)
{
    constexpr int width = channels / groups;
    auto rows = [](int tile) { return (float)min(tile_rows, pixels - tile * tile_rows); };
    for (int g = threadIdx.x / 32; g < groups; g += warps)
    {
        float sum = 0, squares = 0;
        for (int i = threadIdx.x % 32; i < tiles * width; i += 32)
            sum = fmaf(rows(i / width), __ldcg(&partials[i / width * channels + g * width + i % width].x), sum);
        const float mean = warp_sum(sum) / (pixels * width);
        for (int i = threadIdx.x % 32; i < tiles * width; i += 32)
        {
            const float2 part = __ldcg(&partials[i / width * channels + g * width + i % width]);
            squares += part.y + rows(i / width) * (part.x - mean) * (part.x - mean);
        }
        const float rstd = 1.0f / sqrtf(warp_sum(squares) / (pixels * width) + epsilon);
        if (threadIdx.x % 32 == 0)
            statistics[g] = make_float2(mean, rstd);
    }
}

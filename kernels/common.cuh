// What every kernel shares: 16-bit storage types, loads and stores that convert, sums over a warp and a block.
//
// Arithmetic is binary32 whatever the storage. Pointers that the memory planner may let coincide (an output over a dying input) carry no __restrict__: every kernel reads an
// element no later than it writes the one at the same place.
#pragma once

#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fffffff)
#endif

struct __align__(2) half { unsigned short bits; };
struct __align__(2) bfloat16 { unsigned short bits; };

// N elements moved at once; at most 16 bytes are one instruction.
template <typename T, int N>
struct __align__(sizeof(T) * N) Pack { T at[N]; };

__device__ __forceinline__ float to_float(float x) { return x; }

__device__ __forceinline__ float to_float(half x)
{
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}

__device__ __forceinline__ float to_float(bfloat16 x) { return __uint_as_float((unsigned)x.bits << 16); }

template <typename T>
__device__ __forceinline__ T from_float(float x);

template <>
__device__ __forceinline__ float from_float<float>(float x) { return x; }

template <>
__device__ __forceinline__ half from_float<half>(float x)
{
    half y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}

template <>
__device__ __forceinline__ bfloat16 from_float<bfloat16>(float x)
{
    bfloat16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}

// p[0..N) as binary32; p is aligned to N elements.
template <int N, typename T>
__device__ __forceinline__ void load(const T* p, float (&x)[N])
{
    const Pack<T, N> v = *reinterpret_cast<const Pack<T, N>*>(p);
#pragma unroll
    for (int i = 0; i < N; i++)
        x[i] = to_float(v.at[i]);
}

template <int N, typename T>
__device__ __forceinline__ void store(T* p, const float (&x)[N])
{
    Pack<T, N> v;
#pragma unroll
    for (int i = 0; i < N; i++)
        v.at[i] = from_float<T>(x[i]);
    *reinterpret_cast<Pack<T, N>*>(p) = v;
}

// Two values as one register of 16-bit elements, the first in the lower half.
template <typename T>
__device__ __forceinline__ unsigned pair(float lower, float upper);

template <>
__device__ __forceinline__ unsigned pair<half>(float lower, float upper)
{
    unsigned y;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(upper), "f"(lower));
    return y;
}

template <>
__device__ __forceinline__ unsigned pair<bfloat16>(float lower, float upper)
{
    unsigned y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(upper), "f"(lower));
    return y;
}

// As store, to global memory, in as few instructions as there are 16 bytes: where much is unrolled the compiler takes packs apart, and an instruction per element moves a pack's
// sectors once for each of them.
template <int N, typename T>
__device__ __forceinline__ void store_whole(T* p, const float (&x)[N])
{
    constexpr int WORDS = sizeof(T) * N / 4;
    if constexpr (WORDS == 2 || (WORDS > 0 && WORDS % 4 == 0)) {
        unsigned w[WORDS];
#pragma unroll
        for (int i = 0; i < WORDS; i++)
            if constexpr (sizeof(T) == 4)
                w[i] = __float_as_uint(x[i]);
            else
                w[i] = pair<T>(x[2 * i], x[2 * i + 1]);
        unsigned long long address;
        asm("cvta.to.global.u64 %0, %1;" : "=l"(address) : "l"(p));
        if constexpr (WORDS == 2)
            asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(address), "r"(w[0]), "r"(w[1]) : "memory");
        else
#pragma unroll
            for (int i = 0; i < WORDS; i += 4)
                asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address + 4 * i), "r"(w[i]), "r"(w[i + 1]), "r"(w[i + 2]), "r"(w[i + 3]) : "memory");
    } else {
        store(p, x);
    }
}

// 1 / (1 + exp(-x)) for a result that is kept as a T. For 16 bits two approximate instructions do, good to about 20 bits: the exact ones are over twenty, more than memory leaves time for.
template <typename T = float>
__device__ __forceinline__ float sigmoid(float x)
{
    if constexpr (sizeof(T) == 4)
        return 1.0f / (1.0f + expf(-x));
    float e, s;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(-1.44269504f * x));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(s) : "f"(1.0f + e));
    return s;
}

template <typename T = float>
__device__ __forceinline__ float silu(float x) { return x * sigmoid<T>(x); }

// d silu(x) / dx
template <typename T = float>
__device__ __forceinline__ float silu_gradient(float x)
{
    const float s = sigmoid<T>(x);
    return s * (1.0f + x * (1.0f - s));
}

// The sum over a warp, in every lane. Butterflies add the same pairs in every lane, so all lanes hold the same bits.
__device__ __forceinline__ float warp_sum(float x)
{
#pragma unroll
    for (int d = 16; d > 0; d /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, d);
    return x;
}

__device__ __forceinline__ float warp_max(float x)
{
#pragma unroll
    for (int d = 16; d > 0; d /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, d));
    return x;
}

// The sum over a block of WARPS warps, in every thread, in a fixed order. All threads of the block call it; s is theirs until the next barrier after it.
template <int WARPS>
__device__ __forceinline__ float block_sum(float x, float* s)
{
    x = warp_sum(x);
    if (WARPS == 1)
        return x;
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        s[threadIdx.x / 32] = x;
    __syncthreads();
    float sum = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++)
        sum += s[w];
    return sum;
}

// The maximum over a block of WARPS warps, in every thread; as block_sum.
template <int WARPS>
__device__ __forceinline__ float block_max(float x, float* s)
{
    x = warp_max(x);
    if (WARPS == 1)
        return x;
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        s[threadIdx.x / 32] = x;
    __syncthreads();
    float max = s[0];
#pragma unroll
    for (int w = 1; w < WARPS; w++)
        max = fmaxf(max, s[w]);
    return max;
}

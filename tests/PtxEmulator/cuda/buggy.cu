// Each kernel has one planted bug, on the line that ends in BUG, and a twin without it. The tests look for the marker.
typedef unsigned int u32;

extern "C" __global__ void off_by_one(const float* x, float* y, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n)
        y[i] = 2.f; // BUG off_by_one
}
extern "C" __global__ void off_by_one_fixed(const float* x, float* y, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = 2.f;
}

extern "C" __global__ void missing_barrier(const float* x, float* y, int n)
{
    __shared__ float s[128];
    s[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = s[127 - threadIdx.x]; // BUG missing_barrier
}
extern "C" __global__ void missing_barrier_fixed(const float* x, float* y, int n)
{
    __shared__ float s[128];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = s[127 - threadIdx.x];
}

// The barrier after the loop's last use of the tile is missing: a fast warp overwrites what a slow one still reads.
extern "C" __global__ void missing_second_barrier(const float* x, float* y, int n)
{
    __shared__ float s[128];
    float sum = 0.f;
    for (int k = 0; k < 4; k++) {
        s[threadIdx.x] = x[threadIdx.x] + k; // BUG missing_second_barrier
        __syncthreads();
        sum += s[127 - threadIdx.x];
    }
    y[threadIdx.x] = sum;
}
extern "C" __global__ void missing_second_barrier_fixed(const float* x, float* y, int n)
{
    __shared__ float s[128];
    float sum = 0.f;
    for (int k = 0; k < 4; k++) {
        s[threadIdx.x] = x[threadIdx.x] + k;
        __syncthreads();
        sum += s[127 - threadIdx.x];
        __syncthreads();
    }
    y[threadIdx.x] = sum;
}

extern "C" __global__ void uninitialized_shared(const float* x, float* y, int n)
{
    __shared__ float s[128];
    if (threadIdx.x < 100)
        s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x]; // BUG uninitialized_shared
}
extern "C" __global__ void uninitialized_shared_fixed(const float* x, float* y, int n)
{
    __shared__ float s[128];
    s[threadIdx.x] = threadIdx.x < 100 ? x[threadIdx.x] : 0.f;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
}

extern "C" __global__ void uninitialized_global(const float* x, float* y, int n)
{
    y[threadIdx.x] += 1.f; // BUG uninitialized_global
}
extern "C" __global__ void uninitialized_global_fixed(const float* x, float* y, int n)
{
    y[threadIdx.x] = x[threadIdx.x] + 1.f;
}

extern "C" __global__ void divergent_barrier(const float* x, float* y, int n)
{
    __shared__ float s[128];
    s[threadIdx.x] = x[threadIdx.x];
    if (threadIdx.x % 2 == 0) {
        __syncthreads(); // BUG divergent_barrier
        s[threadIdx.x] += 1.f;
    }
    y[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void divergent_barrier_fixed(const float* x, float* y, int n)
{
    __shared__ float s[128];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    if (threadIdx.x % 2 == 0)
        s[threadIdx.x] += 1.f;
    y[threadIdx.x] = s[threadIdx.x];
}

// Half of the warps never reach the barrier.
extern "C" __global__ void barrier_in_some_warps(const float* x, float* y, int n)
{
    if (threadIdx.x < 64)
        asm volatile("bar.sync 1, 128;"); // BUG barrier_in_some_warps
    y[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void barrier_in_some_warps_fixed(const float* x, float* y, int n)
{
    if (threadIdx.x < 64)
        asm volatile("bar.sync 1, 64;");
    y[threadIdx.x] = x[threadIdx.x];
}

extern "C" __global__ void block_race(const float* x, float* y, int n)
{
    y[threadIdx.x] = x[threadIdx.x] + blockIdx.x; // BUG block_race
}
extern "C" __global__ void block_race_fixed(const float* x, float* y, int n)
{
    atomicAdd((u32*)&y[threadIdx.x], 1u);
}

extern "C" __global__ void misaligned(const float* x, float* y, int n)
{
    float4 v = *(const float4*)(x + 1 + 4 * threadIdx.x % 64); // BUG misaligned
    y[threadIdx.x] = v.x + v.w;
}
extern "C" __global__ void misaligned_fixed(const float* x, float* y, int n)
{
    float4 v = *(const float4*)(x + 4 * threadIdx.x % 64);
    y[threadIdx.x] = v.x + v.w;
}

extern "C" __global__ void use_after_free(const float* x, float* y, int n)
{
    y[threadIdx.x] = x[threadIdx.x]; // BUG use_after_free
}
extern "C" __global__ void use_after_free_fixed(const float* x, float* y, int n)
{
    y[threadIdx.x] = x[threadIdx.x];
}

extern "C" __global__ void infinite_loop(const float* x, float* y, int n)
{
    volatile float* p = y;
    p[threadIdx.x] = 1.f;
    while (p[threadIdx.x] != 0.f) // BUG infinite_loop
        n++;
    p[threadIdx.x] = n;
}
extern "C" __global__ void infinite_loop_fixed(const float* x, float* y, int n)
{
    volatile float* p = y;
    p[threadIdx.x] = 5.f;
    while (p[threadIdx.x] != 0.f)
        p[threadIdx.x] = p[threadIdx.x] - 1.f;
}

// Only half of the lanes that the mask names take part.
extern "C" __global__ void partial_shuffle(const float* x, float* y, int n)
{
    float v = x[threadIdx.x];
    if (threadIdx.x % 32 < 16)
        v = __shfl_xor_sync(0xffffffffu, v, 1); // BUG partial_shuffle
    y[threadIdx.x] = v;
}
extern "C" __global__ void partial_shuffle_fixed(const float* x, float* y, int n)
{
    float v = x[threadIdx.x];
    if (threadIdx.x % 32 < 16)
        v = __shfl_xor_sync(0x0000ffffu, v, 1);
    y[threadIdx.x] = v;
}

extern "C" __global__ void shared_out_of_bounds(const float* x, float* y, int n)
{
    extern __shared__ float dynamic[];
    dynamic[threadIdx.x + n] = x[threadIdx.x]; // BUG shared_out_of_bounds
    y[threadIdx.x] = dynamic[threadIdx.x + n];
}
extern "C" __global__ void shared_out_of_bounds_fixed(const float* x, float* y, int n)
{
    extern __shared__ float dynamic[];
    dynamic[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = dynamic[threadIdx.x];
}

// The copy is committed but nobody waits before the tile is read.
extern "C" __global__ void unwaited_copy(const float* x, float* y, int n)
{
    __shared__ float s[128];
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((u32)__cvta_generic_to_shared(&s[threadIdx.x])), "l"(x + threadIdx.x) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
    __syncthreads();
    y[threadIdx.x] = s[127 - threadIdx.x]; // BUG unwaited_copy
}
extern "C" __global__ void unwaited_copy_fixed(const float* x, float* y, int n)
{
    __shared__ float s[128];
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((u32)__cvta_generic_to_shared(&s[threadIdx.x])), "l"(x + threadIdx.x) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    __syncthreads();
    y[threadIdx.x] = s[127 - threadIdx.x];
}

// The sum of the blocks' partial results by whichever block comes last; without the fence the others' writes need not be seen.
__device__ u32 arrived;
template <bool FENCE>
__device__ __forceinline__ void last_block(const float* x, float* y)
{
    __shared__ bool last;
    if (threadIdx.x == 0) {
        y[1 + blockIdx.x] = x[blockIdx.x];
        if (FENCE)
            __threadfence();
        last = atomicAdd(&arrived, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        if (FENCE)
            __threadfence();
        float sum = 0.f;
        for (int i = 0; i < gridDim.x; i++)
            sum += y[1 + i]; // BUG last_block
        y[0] = sum;
        arrived = 0;
    }
}
extern "C" __global__ void last_block_bug(const float* x, float* y, int n) { last_block<false>(x, y); }
extern "C" __global__ void last_block_fixed(const float* x, float* y, int n) { last_block<true>(x, y); }

// What all blocks read may be overwritten by whichever comes last, and by no other.
__device__ u32 turns;
__device__ __forceinline__ u32 take_turn()
{
    __threadfence();
    return atomicInc(&turns, gridDim.x - 1);
}
__device__ __forceinline__ void block_overwrites_at(float* y, u32 turn)
{
    const float value = y[0]; __syncthreads(); if (threadIdx.x == 0 && take_turn() == turn) y[0] = value + 1.f; // BUG block_overwrites
}
extern "C" __global__ void block_overwrites(const float* x, float* y, int n) { block_overwrites_at(y, 0); }
extern "C" __global__ void block_overwrites_fixed(const float* x, float* y, int n) { block_overwrites_at(y, gridDim.x - 1); }

extern "C" __global__ void traps(const float* x, float* y, int n)
{
    if (threadIdx.x == 3)
        __trap(); // BUG traps
    y[threadIdx.x] = 0.f;
}

// Ordinary CUDA C++, written the way people write it, for the emulator to run. No toolkit headers: what is needed is declared here.
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;

// y = a x + y. One thread per element.
extern "C" __global__ void saxpy(float a, const float* x, float* y, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = a * x[i] + y[i];
}

// C[M,N] = A[M,K] B[K,N], tiles of 16 in shared memory, one thread per element of C. M, N, K are multiples of 16.
extern "C" __global__ void gemm_tiled(const float* A, const float* B, float* C, int M, int N, int K)
{
    __shared__ float sA[16][16];
    __shared__ float sB[16][16];
    int tx = threadIdx.x, ty = threadIdx.y;
    int row = blockIdx.y * 16 + ty, column = blockIdx.x * 16 + tx;
    float sum = 0.f;
    for (int k = 0; k < K; k += 16) {
        sA[ty][tx] = A[row * K + k + tx];
        sB[ty][tx] = B[(k + ty) * N + column];
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 16; i++)
            sum = fmaf(sA[ty][i], sB[i][tx], sum);
        __syncthreads();
    }
    C[row * N + column] = sum;
}

// partial[b] = sum of the block's elements: shuffles within a warp, then shared memory between warps. 256 threads.
extern "C" __global__ void block_sum(const float* x, float* partial, int n)
{
    __shared__ float warps[8];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float v = i < n ? x[i] : 0.f;
    for (int offset = 16; offset > 0; offset >>= 1)
        v += __shfl_down_sync(0xffffffffu, v, offset);
    if ((threadIdx.x & 31) == 0)
        warps[threadIdx.x >> 5] = v;
    __syncthreads();
    if (threadIdx.x < 32) {
        v = threadIdx.x < 8 ? warps[threadIdx.x] : 0.f;
        for (int offset = 4; offset > 0; offset >>= 1)
            v += __shfl_down_sync(0xffffffffu, v, offset);
        if (threadIdx.x == 0)
            partial[blockIdx.x] = v;
    }
}

// Inclusive prefix sum of one block (Hillis and Steele), dynamic shared memory of blockDim.x ints, double buffered.
extern "C" __global__ void scan_block(const int* x, int* y)
{
    extern __shared__ int buffer[];
    int n = blockDim.x, t = threadIdx.x;
    int* from = buffer;
    int* to = buffer + n;
    from[t] = x[blockIdx.x * n + t];
    __syncthreads();
    for (int offset = 1; offset < n; offset <<= 1) {
        to[t] = t >= offset ? from[t] + from[t - offset] : from[t];
        __syncthreads();
        int* swap = from;
        from = to;
        to = swap;
    }
    y[blockIdx.x * n + t] = from[t];
}

// bins[x & 63]++ by shared atomics per block, then global ones.
extern "C" __global__ void histogram(const u32* x, u32* bins, int n)
{
    __shared__ u32 local[64];
    if (threadIdx.x < 64)
        local[threadIdx.x] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        atomicAdd(&local[x[i] & 63], 1u);
    __syncthreads();
    if (threadIdx.x < 64)
        atomicAdd(&bins[threadIdx.x], local[threadIdx.x]);
}

// y[j,i] = x[i,j] of an n x n matrix through a 32 x 32 tile, block (32, 8). PAD = 0 has 32-way bank conflicts, PAD = 1 none.
template <int PAD>
__device__ __forceinline__ void transpose(const float* x, float* y, int n)
{
    __shared__ float tile[32][32 + PAD];
    int column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 32 + threadIdx.y;
    for (int i = 0; i < 32; i += 8)
        tile[threadIdx.y + i][threadIdx.x] = x[(row + i) * n + column];
    __syncthreads();
    column = blockIdx.y * 32 + threadIdx.x;
    row = blockIdx.x * 32 + threadIdx.y;
    for (int i = 0; i < 32; i += 8)
        y[(row + i) * n + column] = tile[threadIdx.x][threadIdx.y + i];
}
extern "C" __global__ void transpose_conflicts(const float* x, float* y, int n) { transpose<0>(x, y, n); }
extern "C" __global__ void transpose_padded(const float* x, float* y, int n) { transpose<1>(x, y, n); }

// out[T,64] = softmax(q k^T / 8) v, one thread per query, keys and values in tiles of 32: the running maximum and sum of flash attention.
extern "C" __global__ void flash_attention(const float* q, const float* k, const float* v, float* out, int T)
{
    __shared__ float sK[32][64];
    __shared__ float sV[32][64];
    int row = blockIdx.x * 32 + threadIdx.x;
    float rQ[64], rO[64];
    for (int i = 0; i < 64; i++) {
        rQ[i] = q[row * 64 + i] * 0.125f;
        rO[i] = 0.f;
    }
    float maximum = -__int_as_float(0x7f800000), sum = 0.f;
    for (int tile = 0; tile < T; tile += 32) {
        for (int i = threadIdx.x; i < 32 * 64; i += 32) {
            sK[i / 64][i % 64] = k[tile * 64 + i];
            sV[i / 64][i % 64] = v[tile * 64 + i];
        }
        __syncthreads();
        for (int j = 0; j < 32; j++) {
            float s = 0.f;
            for (int i = 0; i < 64; i++)
                s = fmaf(rQ[i], sK[j][i], s);
            float next = fmaxf(maximum, s);
            float scale = __expf(maximum - next), p = __expf(s - next);
            sum = sum * scale + p;
            for (int i = 0; i < 64; i++)
                rO[i] = fmaf(p, sV[j][i], rO[i] * scale);
            maximum = next;
        }
        __syncthreads();
    }
    for (int i = 0; i < 64; i++)
        out[row * 64 + i] = rO[i] / sum;
}

// y[i] = 2 x[i] through a ring of 4 shared stages filled by cp.async, 128 threads, 4 floats each; n is a multiple of 512 * gridDim.x.
extern "C" __global__ void async_pipeline(const float4* x, float4* y, int tiles)
{
    __shared__ float4 stage[4][128];
    const float4* source = x + (u64)blockIdx.x * tiles * 128;
    float4* target = y + (u64)blockIdx.x * tiles * 128;
    int t = threadIdx.x;
    for (int s = 0; s < 3; s++) {
        if (s < tiles)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((u32)__cvta_generic_to_shared(&stage[s][t])), "l"(source + s * 128 + t) : "memory");
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
    for (int i = 0; i < tiles; i++) {
        asm volatile("cp.async.wait_group 2;" ::: "memory");
        __syncthreads();
        float4 v = stage[i & 3][127 - t];
        target[i * 128 + 127 - t] = make_float4(2 * v.x, 2 * v.y, 2 * v.z, 2 * v.w);
        int next = i + 3;
        if (next < tiles)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((u32)__cvta_generic_to_shared(&stage[next & 3][t])), "l"(source + next * 128 + t) : "memory");
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
}

// Length of the Collatz sequence: a loop whose trip count differs in every lane.
extern "C" __global__ void collatz(u32* steps, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    u64 value = i + 1;
    u32 count = 0;
    while (value != 1) {
        if (value & 1)
            value = 3 * value + 1;
        else
            value >>= 1;
        count++;
    }
    steps[i] = count;
}

__device__ __noinline__ int fibonacci(int n)
{
    if (n < 2)
        return n;
    return fibonacci(n - 1) + fibonacci(n - 2);
}

// Divergent recursion: the depth differs in every lane.
extern "C" __global__ void recursive(int* y)
{
    y[threadIdx.x] = fibonacci(threadIdx.x % 12);
}

__device__ __noinline__ int twice(int x) { return 2 * x; }
__device__ __noinline__ int square(int x) { return x * x; }
__device__ __noinline__ int negate(int x) { return -x; }
__constant__ int offsets[4] = {100, 200, 300, 400};
__device__ int counter = 7;

// Calls through a table of function pointers, constants, a device variable.
extern "C" __global__ void indirect(int* y)
{
    int (*const table[3])(int) = {twice, square, negate};
    int t = threadIdx.x;
    y[t] = table[t % 3](t) + offsets[t & 3] + counter;
}

// Every case of a switch, with fall-through and a break out of a nested loop.
extern "C" __global__ void switches(const int* x, int* y)
{
    int t = threadIdx.x, v = x[t], r = 0;
    switch (v) {
    case 0: r = 10; break;
    case 1: r = 20;
    case 2: r += 5; break;
    case 3: for (int i = 0; i < t; i++) { if (i * i > t) break; r += i; } break;
    case 4: r = -1; break;
    case 5: r = t; break;
    case 6: r = 3 * t; break;
    default: r = v;
    }
    y[t] = r;
}

struct Pair { int a; double b; short c[3]; };
// A struct by value, local arrays indexed at run time, double arithmetic, 64-bit division.
extern "C" __global__ void structs(Pair p, double* y, long long* z)
{
    int t = threadIdx.x;
    double table[8];
    for (int i = 0; i < 8; i++)
        table[i] = p.b * i + p.c[i % 3];
    y[t] = table[(t * 5) & 7] / (p.a + t);
    z[t] = (long long)(1000000007LL * (t + 1)) / (t - 40) + (1000000007LL * t) % (t + 3);
}

// Warp votes, match and reductions.
extern "C" __global__ void votes(const int* x, u32* y)
{
    int t = threadIdx.x, v = x[t];
    u32 r = __ballot_sync(~0u, v > 3);
    r ^= __any_sync(~0u, v == 100) ? 1u << 5 : 0;
    r ^= __all_sync(~0u, v < 100) ? 1u << 9 : 0;
    r += __match_any_sync(~0u, v);
    r += __reduce_add_sync(~0u, v) + __reduce_max_sync(~0u, v) * 3;
    r += __popc(__activemask());
    y[t] = r;
}

// Math functions: fast ones map to single instructions, the others to code.
extern "C" __global__ void functions(const float* x, float* y, int n)
{
    int i = threadIdx.x;
    float v = x[i];
    y[i] = sinf(v) + cosf(v);
    y[n + i] = expf(v) + logf(fabsf(v) + 1.f);
    y[2 * n + i] = sqrtf(fabsf(v)) + rsqrtf(fabsf(v) + 1.f) + 1.f / (v * v + 1.f);
    y[3 * n + i] = __sinf(v) * __cosf(v) + __logf(fabsf(v) + 1.f);
    y[4 * n + i] = tanhf(v) + powf(fabsf(v), 1.3f) + erff(v) + floorf(v) + rintf(v);
}

extern "C" __global__ void prints(int n)
{
    if (threadIdx.x < n)
        printf("thread %d of block %u: %f %s 0x%llx%%\n", threadIdx.x, blockIdx.x, 0.5 * threadIdx.x, "text", 1ULL << 40);
}

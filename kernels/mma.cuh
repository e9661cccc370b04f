// The instructions that matrix products are made of: asynchronous copies into shared memory, fragments out of it, and the tensor cores.
//
// A tile in shared memory is rows of CHUNKS pieces of 16 bytes (8 elements of 16 bits, 4 of 32), the summed index running along a row. Piece j of row r lies at
// swizzle<CHUNKS>(r, j), so that eight threads that read one piece of eight consecutive rows (ldmatrix), and eight that write the pieces of one row, meet no bank twice.
//
//   mma<half>, mma<bfloat16>   d[16,8] += a[16,16] b[16,8]    mma.sync.m16n8k16, two pieces of the summed index
//   mma<float>                 d[16,8] += a[16,8] b[8,8]      mma.sync.m16n8k8 on tf32, two pieces as well: so one addressing serves all types
//
// Registers of a thread, g = lane / 4, t = lane % 4: a = {(g, t), (g + 8, t), (g, t') , (g + 8, t')}, b = {(t, g), (t', g)} with t' in the second piece,
// d = {(g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)}. Source: PTX ISA, "Matrix Fragments for mma.m16n8k16" and "for mma.m16n8k8".
#pragma once
#include "common.cuh"

__device__ __forceinline__ unsigned shared_address(const void* p)
{
    unsigned address;
    asm("{ .reg .u64 a; cvta.to.shared.u64 a, %1; cvt.u32.u64 %0, a; }" : "=r"(address) : "l"(p));
    return address;
}

// The place of piece j of row r, in pieces.
template <int CHUNKS>
__device__ __forceinline__ int swizzle(int r, int j)
{
    static_assert(CHUNKS == 4 || CHUNKS == 8, "a row is 64 or 128 bytes");
    return r * CHUNKS + (CHUNKS == 8 ? j ^ (r & 7) : j ^ (r >> 1 & 3));
}

// 16 bytes from global to shared memory; zeros, and no access to global memory, where not valid. Addresses of shared memory are 32 bits wide, which saves half the arithmetic.
__device__ __forceinline__ void copy_async(unsigned s, const void* g, bool valid)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(s), "l"(g), "r"(valid ? 16 : 0) : "memory");
#else
    const uint4 v = valid ? *reinterpret_cast<const uint4*>(g) : make_uint4(0, 0, 0, 0);
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(s), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
#endif
}

__device__ __forceinline__ void copy_async(void* s, const void* g, bool valid) { copy_async(shared_address(s), g, valid); }

__device__ __forceinline__ void commit_copies()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most PENDING groups of this thread are under way.
template <int PENDING>
__device__ __forceinline__ void wait_copies()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

// Four (two) 8x8 matrices of 16-bit elements, or of pairs that make up 32 bits; thread i names row i % 8 of matrix i / 8.
__device__ __forceinline__ void load_matrices(unsigned (&r)[4], unsigned s)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(s) : "memory");
}

__device__ __forceinline__ void load_matrices(unsigned (&r)[2], unsigned s)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(s) : "memory");
}

template <int COUNT>
__device__ __forceinline__ void load_matrices(unsigned (&r)[COUNT], const void* s)
{
    load_matrices(r, shared_address(s));
}

// As load_matrices, each matrix transposed.
__device__ __forceinline__ void load_matrices_transposed(unsigned (&r)[4], const void* s)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(s))
                 : "memory");
}

// The bits of the nearest tf32, ties away from zero.
__device__ __forceinline__ unsigned to_tf32(unsigned bits)
{
    unsigned rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(bits)));
    return rounded;
}

#define MMA_SYNC(type, instruction)                                                                                                               \
    template <>                                                                                                                                   \
    __device__ __forceinline__ void mma<type>(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2])                                      \
    {                                                                                                                                             \
        asm volatile(instruction " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                               \
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                                             \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                                         \
    }

template <typename T>
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]);

MMA_SYNC(half, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
MMA_SYNC(bfloat16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32")
MMA_SYNC(float, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32")
#undef MMA_SYNC

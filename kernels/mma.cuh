// The tensor cores' instructions by their PTX names: mma.sync, ldmatrix, cp.async. Nothing here but the instructions.
//
// Fragments of mma.m16n8k16 (16-bit) in lane l, with g = l / 4 and t = l % 4; a register holds two elements, the lower half first:
//   A [16][16]   a0 = (g, 2t), (g, 2t+1)     a1 = (g+8, 2t), ..     a2 = (g, 2t+8), ..     a3 = (g+8, 2t+8), ..
//   B [16][8]    b0 = (2t, g), (2t+1, g)     b1 = (2t+8, g), ..
//   C [16][8]    c0 = (g, 2t)     c1 = (g, 2t+1)     c2 = (g+8, 2t)     c3 = (g+8, 2t+1)
// and of mma.m16n8k8 (tf32), one element a register:
//   A [16][8]    a0 = (g, t)      a1 = (g+8, t)      a2 = (g, t+4)      a3 = (g+8, t+4)
//   B [8][8]     b0 = (t, g)      b1 = (t+4, g)      C as above
// Source: PTX ISA, "Matrix fragments for mma.m16n8k16" and "for mma.m16n8k8".
#pragma once
#include "common.cuh"

__device__ __forceinline__ void mma_f16(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma_bf16(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma_tf32(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
{
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Rounded to nearest, ties away: without it the tensor cores would cut the low bits off.
__device__ __forceinline__ unsigned to_tf32(float x)
{
    unsigned y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

// Four 8x8 matrices of 16 bits; lanes 8i .. 8i+7 name the 16-byte rows of matrix i. Lane l receives elements 2(l%4), 2(l%4)+1 of row l/4 of each, or of column l/4 transposed.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void* row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&r)[4], const void* row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

// 16 bytes from global to shared memory, past the registers and the first-level cache; zeros where not valid (the address must be good all the same).
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid = true)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(valid ? 16 : 0) : "memory");
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most N of this thread's groups are under way.
template <int N>
__device__ __forceinline__ void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

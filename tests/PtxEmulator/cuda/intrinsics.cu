// What CUDA C++ offers without a header, all in one kernel each: it must load. What the instructions do is checked form by form.
// __dp4a is left out: NVRTC 11.8 leaves a call to a function that it does not define.

extern "C" __global__ void integers(int* x, unsigned* u, long long* l, unsigned short* h)
{
    int i = threadIdx.x, a = x[i], b = x[i + 32], r = 0;
    unsigned p = u[i], q = u[i + 32];
    r += __byte_perm(a, b, p) + __funnelshift_l(a, b, q) + __funnelshift_rc(a, b, q) + __sad(a, b, p) + __hadd(a, b) + __rhadd(a, b);
    r += __mul24(a, b) + __umul24(p, q) + __mulhi(a, b) + __umulhi(p, q) + __brev(p) + __ffs(a) + __popc(p) + __clz(a);
    r += __clzll(l[i]) + __popcll(l[i]) + __ffsll(l[i]) + (int)__brevll(l[i]);
    l[i] = l[i] / (a | 1) + l[i] % (b | 1) + __mul64hi(l[i], l[i + 32]) + __umul64hi(l[i], 9) + llabs(l[i]) + clock64() + (l[i] >> a) + (unsigned long long)l[i] / 7u;
    h[i] = (unsigned short)(h[i] * h[i + 1] / (h[i + 2] | 1) + (h[i] >> 3));
    signed char c = (signed char)a;
    x[i] = r + c * 3 / (c | 1);
}

extern "C" __global__ void singles(float* f, const int* x, const long long* l)
{
    int i = threadIdx.x, a = x[i];
    float s = f[i], t = f[i + 32], g = 0;
    g += __fdividef(s, t) + __saturatef(s) + __fmaf_rz(s, t, s) + __frcp_rn(s) + __frcp_ru(s) + __fsqrt_rd(s) + __frsqrt_rn(t) + __expf(s) + __exp10f(s) + __logf(s) + __powf(s, t);
    g += powf(s, t) + fmodf(s, t) + erff(s) + lgammaf(s) + cbrtf(s) + tanhf(s) + rintf(s) + roundf(s) + truncf(s) + nearbyintf(s) + fminf(s, t) + fdimf(s, t) + hypotf(s, t);
    g += ldexpf(s, a) + remainderf(s, t) + atan2f(s, t) + asinf(s) + acosf(s) + sinpif(s) + normcdff(s) + j0f(s) + copysignf(s, t) + ilogbf(s) + exp2f(s) + log2f(s) + log1pf(s);
    g += expm1f(s) + rsqrtf(t) + sinf(s) + cosf(s) + tanf(s) + sinhf(s) + isnan(s) + isfinite(t) + signbit(s) + __int_as_float(a) + __ll2float_rz(l[i]) + __uint2float_ru(a);
    f[i] = g;
}

extern "C" __global__ void doubles(double* d, const int* x, long long* l)
{
    int i = threadIdx.x;
    double s = d[i], t = d[i + 32], e = 0;
    e += pow(s, t) + exp(s) + log(s) + sin(s) + tgamma(s) + erf(s) + fmod(s, 3.0) + rint(s) + rsqrt(s) + cbrt(s) + floor(s) + atan(s) + sqrt(s) + round(s);
    e += __dadd_rz(s, 1.0) + __dmul_ru(s, t) + __ddiv_rn(s, 3.0) + __drcp_rd(t) + __fma_rn(s, s, 1.0) + __hiloint2double(x[i], 7) + __double2hiint(s) + __double2ull_rz(s) + __ll2double_rd(l[i]);
    d[i] = e;
    l[i] = llrint(s) + __double2ll_ru(t);
}

extern "C" __global__ void memory(int* x, unsigned* u, long long* l, unsigned short* h, float* f, double* d)
{
    int i = threadIdx.x;
    atomicAdd(&x[0], 1);
    atomicAdd_block(&x[1], 1);
    atomicAdd_system(&x[2], 1);
    atomicSub(&x[5], 2);
    atomicMax(&x[3], i);
    atomicMin(&l[3], (long long)i);
    atomicCAS(&u[3], 1u, 2u);
    atomicCAS(&h[3], (unsigned short)1, (unsigned short)2);
    atomicInc(&u[2], 7);
    atomicDec(&u[4], 7);
    atomicAnd(&u[1], 5u);
    atomicOr(&u[1], 5u);
    atomicXor(&u[1], 5u);
    atomicExch(&f[2], 1.f);
    atomicAdd(&f[3], 1.f);
    atomicAdd(&d[1], 1.0);
    __threadfence_block();
    __threadfence();
    __threadfence_system();
    u[i + 128] = __ldg(u + 64) + __ldcg(u + 65) + __ldcs(u + 66) + __ldlu(u + 67) + __ldcv(u + 68) + __ldca(u + 69);
    __stcg(u + 70, 1u);
    __stwt(u + 71, 2u);
    __stcs(u + 72, 3u);
    __stwb(u + 73, 4u);
}

extern "C" __global__ void threads(int* x, float* f)
{
    int i = threadIdx.x, a = x[i], r = 0;
    __nanosleep(20);
    __prof_trigger(1);
    r += __syncthreads_count(a > 0) + __syncthreads_or(a) + __syncthreads_and(a) + __isShared(x) + __isGlobal(f);
    __syncwarp();
    r += __any_sync(~0u, a) + __all_sync(~0u, a) + (int)__ballot_sync(~0u, a) + (int)__activemask() + __shfl_sync(~0u, a, 3) + __shfl_up_sync(~0u, a, 3) + __shfl_down_sync(~0u, a, 3) + __shfl_xor_sync(~0u, a, 3);
    r += (int)__match_any_sync(~0u, a) + (int)__match_all_sync(~0u, a, &a) + (int)__reduce_min_sync(~0u, a) + (int)__reduce_add_sync(~0u, a) + (int)__reduce_xor_sync(~0u, (unsigned)a);
    x[i] = r;
}

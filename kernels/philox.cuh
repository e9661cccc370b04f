// Standard normal values that are functions of (seed, image, draw, element) alone, with the bits of the host's RandomStreams.
//
// Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011) with key = seed and counter = (element / 4, draw, image low, image high); its words (a, b) and (c, d) become elements 4k, 4k + 1
// and 4k + 2, 4k + 3 by Box and Muller's transform. The transform is a sequence of operations that IEEE 754 defines exactly, so every one is named here: the compiler, left alone, would
// contract products and sums.
#pragma once

struct Words { unsigned at[4]; };
struct Normals { float at[4]; };

__device__ __forceinline__ Words philox(unsigned c0, unsigned c1, unsigned c2, unsigned c3, unsigned k0, unsigned k1)
{
#pragma unroll
    for (int round = 0; round < 10; round++)
    {
        const unsigned high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        const unsigned high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u; // golden ratio
        k1 += 0xBB67AE85u; // square root of 3, less 1
    }
    return {{c0, c1, c2, c3}};
}

// a sets the radius, b the angle.
__device__ __forceinline__ void box_muller(unsigned a, unsigned b, float& first, float& second)
{
    const int sqrt_half = 0x3F3504F3; // bits of sqrt(1/2)
    const float u = __fmaf_rn(__uint2float_rn(a), 0x1p-32f, 0x1p-33f);
    const int i = __float_as_int(u) - sqrt_half;
    const float e = __int2float_rn(i >> 23);
    const float f = __fsub_rn(__int_as_float((i & 0x007FFFFF) + sqrt_half), 1.0f);
    float z = __fmul_rn(f, f);
    float p = __fmaf_rn(-7.63443e-02f, f, 1.276155e-01f);
    p = __fmaf_rn(p, f, -1.3160194e-01f);
    p = __fmaf_rn(p, f, 1.4201762e-01f);
    p = __fmaf_rn(p, f, -1.6623357e-01f);
    p = __fmaf_rn(p, f, 2.0001227e-01f);
    p = __fmaf_rn(p, f, -2.5000823e-01f);
    p = __fmaf_rn(p, f, 3.333333e-01f);
    float y = __fmul_rn(__fmul_rn(f, z), p);
    y = __fadd_rn(f, __fmaf_rn(-0.5f, z, y)); // log(1 + f)
    y = __fmaf_rn(e, 0.6931472f, y);
    const float radius = __fsqrt_rn(__fmul_rn(-2.0f, y));

    const unsigned q = (b + 0x20000000u) >> 30; // quarter turns
    const float v = __fmul_rn(__int2float_rn((int)(b - (q << 30))), 0x1p-30f);
    z = __fmul_rn(v, v);
    float s = __fmaf_rn(-4.601658e-03f, z, 7.968003e-02f);
    s = __fmaf_rn(s, z, -6.459635e-01f);
    s = __fmul_rn(v, __fmaf_rn(s, z, 1.5707964e+00f));
    float c = __fmaf_rn(9.040216e-04f, z, -2.0860288e-02f);
    c = __fmaf_rn(c, z, 2.5366923e-01f);
    c = __fmaf_rn(c, z, -1.2337005e+00f);
    c = __fmaf_rn(c, z, 1.0f);
    const bool odd = q & 1;
    const unsigned cosine = __float_as_uint(odd ? s : c) ^ ((q + 1) & 2) << 30;
    const unsigned sine = __float_as_uint(odd ? c : s) ^ (q & 2) << 30;
    first = __fmul_rn(radius, __uint_as_float(cosine));
    second = __fmul_rn(radius, __uint_as_float(sine));
}

// Elements 4 group to 4 group + 3 of an image.
__device__ __forceinline__ Normals normals(const int* seed, const int* image, unsigned draw, unsigned group)
{
    const Words w = philox(group, draw, (unsigned)image[0], (unsigned)image[1], (unsigned)seed[0], (unsigned)seed[1]);
    Normals z;
    box_muller(w.at[0], w.at[1], z.at[0], z.at[1]);
    box_muller(w.at[2], w.at[3], z.at[2], z.at[3]);
    return z;
}

// z[0..WIDTH): the values of the elements from `element` on, counted over all images of `elements` each. WIDTH is 1, or 4 where an image's elements are a multiple of 4.
template <int WIDTH>
__device__ __forceinline__ void normals_at(const int* seed, const int* image_index, unsigned draw, unsigned element, unsigned elements, float (&z)[WIDTH])
{
    const unsigned image = element / elements, e = element % elements;
    const Normals four = normals(seed, image_index + 2 * image, draw, e / 4);
    if (WIDTH == 4)
    {
#pragma unroll
        for (int k = 0; k < WIDTH; k++)
            z[k] = four.at[k];
    }
    else
    {
        z[0] = e % 4 == 0 ? four.at[0] : e % 4 == 1 ? four.at[1] : e % 4 == 2 ? four.at[2] : four.at[3];
    }
}

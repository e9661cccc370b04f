// Convolution with zero padding, its data gradient, and the linear layer over many rows, as one implicit matrix product.
//
//   y[n,i,j,o] = act(sum over a, b, c of x'[n, i*STRIDE + a - PADDING, j*STRIDE + b - PADDING, c] * w[o,a,b,c]  + bias[o] + residual[n,i,j,o])
//
//   x' is x; with UPSAMPLE x doubled by nearest neighbour; with SPREAD = s > 1 x with s - 1 zeros between its pixels, of which no product is formed: s*s classes of output
//   pixels (blockIdx.z) each have their own few taps. The data gradient of a convolution with stride s and padding p is this with x = dy, the weights turned and transposed,
//   PADDING = K - 1 - p and SPREAD = s. A linear layer has a window of one.
//   With NORM_INPUT x' is what a group-norm of so many groups makes of x (norm_coefficients.cuh), with NORM_SILU and scale and shift where it has them, rounded to P as if it had been
//   stored; zeros are added after it. Its statistics are given, and input_statistics receives them for a gradient to come.
//   With SKIP also + sum over d of s[n,i,j,d] * v[o,d] + skip_bias[o], the 1x1 convolution of a residual block's skip connection, in the same sum.
//   With RESAMPLE residual is doubled by nearest neighbour (1) or averaged over 2x2 (2) on its way.
//   With STATISTICS also partials[n,t,o] = (mean, sum of squares about it) of the stored y over tile t of image n, and, if GROUPS is not 0,
//   from them, by the last block of an image (last_block.cuh), statistics[n,g] = (mean, 1 / sqrt(variance + EPSILON)) of the GROUPS groups of channels that a norm to come wants.
//   Where that norm reads y beside another tensor of OTHER channels, written before, its partials, of OTHER_TILES tiles of OTHER_ROWS pixels, are taken in as well.
//   With NORM_GRADIENT y is dy of a group-norm of GROUPS groups: partials[n,t,o] = (sum of g, sum of g x^) over tile t, and by the last block of an image statistics[n,g] = their
//   means over the groups (convolution_norm.cuh).
//
// Inputs and outputs: x1 [N,H,W,C1] of X and x2 [N,H,W,C2] of X2, the channels of x side by side, likewise s1 [N,OH,OW,D1] of S1 and s2 [N,OH,OW,D2] of S2; w of P, in rows of one o:
//   [KH,KW,CP], then v [DP], the channels padded with zeros to whole pieces of 16 bytes; bias and skip_bias [O] float; residual of R and y of Y [N,OH,OW,O];
//   partials [N,TILES,O], other [N,OTHER_TILES,OTHER] and statistics [N,GROUPS] float2, tickets [N]; what either norm knows: NormInputs; input_statistics [N,NORM_INPUT] float2.
//   No tensor has 2^31 elements or more. P is what is multiplied: float (with TF32 on tensor cores), half, bfloat16.
// Threads: a block makes BM pixels by BN channels, its warps WARPS_M by WARPS_N parts of that. The summed index (tap, channel) goes by in steps of ROW_BYTES, STAGES of them in
//   shared memory: while one is multiplied, the next ones arrive. A tile is a run of pixels, and sums run in the order of taps and channels, whatever the tile, but:
//   where outputs next to each other read the same pixels and tiles divide the image, the tile is a rectangle and the input that all its taps read is brought in once per step's worth
//   of channels (convolution_patch.cuh); sums then run in the order of these channels, taps, and channels within.
// Least bytes: N*H*W*C*sizeof(X) + O*KH*KW*C*sizeof(P) + N*OH*OW*O*sizeof(Y), and the x of a norm. This kernel asks for N*OH*OW*KH*KW*C*sizeof(X) * O/BN of x, or with a patch of
//   (TILE_WIDTH+KW-1)*(TILE_HEIGHT+KH-1) pixels for that in place of KH*KW*BM; and for O*KH*KW*C*sizeof(P) * N*OH*OW/BM of w. Operations: 2*N*OH*OW*O*KH*KW*C.
// Source: torch.nn.functional.conv2d; implicit GEMM as in Chetlur et al. 2014, "cuDNN". No patch matrix is written: its bytes would be nine times those of x. Winograd's
//   transforms save products that tensor cores have to spare, at the price of exactness in 16 bits.
// y may lie over residual, which is read by the thread that writes there: neither carries __restrict__.
#include "mma.cuh"

#ifndef X
#define X float
#endif
#ifndef X2
#define X2 X
#endif
#ifndef S1
#define S1 X
#endif
#ifndef S2
#define S2 X
#endif
#ifndef P
#define P float
#endif
#ifndef Y
#define Y float
#endif
#ifndef R
#define R Y
#endif
#ifndef TF32
#define TF32 0
#endif
#ifndef C1 // by itself: the convolution that the 64x64 UNet has most of
#define C1 192
#define H 64
#define W 64
#define O 192
#define OH 64
#define OW 64
#define KH 3
#define KW 3
#define PADDING_H 1
#define PADDING_W 1
#define BM 64
#define BN 96
#define ROW_BYTES 64
#define STAGES 3
#define WARPS_M 2
#define WARPS_N 2
#endif
#ifndef C2
#define C2 0
#endif
#ifndef TILE_WIDTH // of a tile that is a rectangle, whose input is kept for all taps; 0 where tiles are runs of pixels
#define TILE_WIDTH 0
#endif
#ifndef STRIDE
#define STRIDE 1
#endif
#ifndef SPREAD
#define SPREAD 1
#endif
#ifndef UPSAMPLE
#define UPSAMPLE 0
#endif
#ifndef BIAS
#define BIAS 0
#endif
#ifndef RESIDUAL
#define RESIDUAL 0
#endif
#ifndef SILU
#define SILU 0
#endif
#ifndef RESAMPLE
#define RESAMPLE 0
#endif
#ifndef SCALE_Y // y is multiplied by it
#define SCALE_Y 1.0f
#endif
#ifndef D1
#define D1 0
#endif
#ifndef D2
#define D2 0
#endif
#ifndef STATISTICS
#define STATISTICS 0
#endif
#ifndef GROUPS
#define GROUPS 0
#define EPSILON 0.0f
#endif
#ifndef OTHER
#define OTHER 0
#define OTHER_TILES 0
#define OTHER_ROWS 1
#define OTHER_FIRST 0
#endif
#ifndef NORM_INPUT // groups of the norm that x passes through on its way in
#define NORM_INPUT 0
#endif
#ifndef NORM_GRADIENT
#define NORM_GRADIENT 0
#define NORM_X float
#define NORM_STATISTICS float
#endif
#ifndef NORM_SILU // of either norm
#define NORM_SILU 0
#endif
#ifndef NORM_POOL
#define NORM_POOL 0
#endif
#ifndef NORM_SCALE_SHIFT // the type of scale and shift, if there are any
#define NORM_SCALE_SHIFT void
#endif
#ifndef TENSOR_CORES
#define TENSOR_CORES 0
#endif

// Elements of a piece of 16 bytes, and channels in whole pieces.
constexpr int E = 16 / sizeof(P);
constexpr int C = C1 + C2;
constexpr int CP = (C + E - 1) / E * E;
constexpr int D = D1 + D2;
constexpr int DP = (D + E - 1) / E * E;
constexpr bool SKIP = D > 0;
constexpr int ROW = KH * KW * CP + DP;  // of w
constexpr int SCALE = UPSAMPLE ? 2 : SPREAD;

static_assert(!UPSAMPLE || SPREAD == 1, "an up-sampled input is not spread as well");
static_assert(!SKIP || (STRIDE == 1 && SPREAD == 1 && !UPSAMPLE), "the skip connection keeps the resolution");
static_assert(!NORM_INPUT || (TILE_WIDTH > 0 && !NORM_GRADIENT), "what is normalised on its way in stays for all taps");
static_assert(!(STATISTICS || NORM_GRADIENT) || SPREAD == 1, "tiles of statistics keep to one image");

// Extents of the output pixels of a class, and the first row and column of the window that meets a pixel of x.
struct Class
{
    int row, column, height, width, first_a, first_b;

    __device__ explicit Class(int index)
        : row(index / SPREAD), column(index % SPREAD), height((OH - row + SPREAD - 1) / SPREAD), width((OW - column + SPREAD - 1) / SPREAD),
          first_a(((PADDING_H - row * STRIDE) % SPREAD + SPREAD) % SPREAD), first_b(((PADDING_W - column * STRIDE) % SPREAD + SPREAD) % SPREAD)
    {
    }
};

// Row of [N*H*W] that row v, column u of x' stand for, or -1 in the padding.
__device__ __forceinline__ int input_pixel(int image, int v, int u)
{
    return (unsigned)v < H * SCALE && (unsigned)u < W * SCALE ? (image * H + v / SCALE) * W + u / SCALE : -1;
}

// The residual of V channels from o on of output pixel (n, i, j), at the output's resolution.
template <int V>
__device__ __forceinline__ void load_residual(const R* residual, int n, int i, int j, int o, float (&value)[V])
{
    if (RESAMPLE != 2)
    {
        const unsigned pixel = RESAMPLE == 1 ? (n * (OH / 2) + i / 2) * (OW / 2) + j / 2 : (n * OH + i) * OW + j;
        load(residual + pixel * O + o, value);
        return;
    }
    float sum[V] = {};
#pragma unroll
    for (int q = 0; q < 4; q++)
    {
        load(residual + (unsigned)(((n * (2 * OH) + 2 * i + q / 2) * (2 * OW) + 2 * j + q % 2) * O + o), value);
#pragma unroll
        for (int v = 0; v < V; v++)
            sum[v] += value[v];
    }
#pragma unroll
    for (int v = 0; v < V; v++)
        value[v] = 0.25f * sum[v];
}

// The specification: one thread per element of y.
extern "C" __global__ void convolution_naive(const X* x1, const X2* x2, const S1* s1, const S2* s2, const P* w, const float* bias, const float* skip_bias, const R* residual, Y* y,
                                             int images)
{
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= images * OH * OW * O)
        return;
    const int o = at % O, j = at / O % OW, i = at / O / OW % OH, n = at / O / OW / OH;
    float sum = 0;
    constexpr int SPAN = TILE_WIDTH ? ROW_BYTES / (int)sizeof(P) : CP;
    for (int span = 0; span < CP; span += SPAN)
        for (int a = 0; a < KH; a++)
            for (int b = 0; b < KW; b++)
            {
                const int v = i * STRIDE + a - PADDING_H, u = j * STRIDE + b - PADDING_W;
                const int pixel = v % SPREAD == 0 && u % SPREAD == 0 ? input_pixel(n, v, u) : -1;
                for (int c = span; c < C && c < span + SPAN && pixel >= 0; c++)
                    sum = fmaf(c < C1 ? to_float(x1[pixel * C1 + c]) : to_float(x2[pixel * C2 + c - C1]), to_float(w[o * ROW + (a * KW + b) * CP + c]), sum);
            }
    for (int d = 0; d < D; d++)
        sum = fmaf(d < D1 ? to_float(s1[at / O * D1 + d]) : to_float(s2[at / O * D2 + d - D1]), to_float(w[o * ROW + KH * KW * CP + d]), sum);
    if (BIAS)
        sum += bias[o];
    if (SKIP)
        sum += skip_bias[o];
    if (RESIDUAL)
    {
        float r[1];
        load_residual(residual, n, i, j, o, r);
        sum += r[0];
    }
    y[at] = from_float<Y>(SILU ? silu(sum) : sum);
}

#ifdef BM
#include "convolution_tile.cuh"
#include "convolution_norm.cuh"
#if TILE_WIDTH
#include "convolution_patch.cuh"
#endif
#include "last_block.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 512 / THREADS)
    convolution(const X* x1, const X2* x2, const S1* s1, const S2* s2, const P* w, const float* bias, const float* skip_bias, const R* residual, Y* y, float2* partials,
                const float2* other, float2* statistics, unsigned* tickets, const NORM_X* norm_x, const NORM_STATISTICS* norm_statistics, const float* gamma, const float* beta,
                const NORM_SCALE_SHIFT* scale_shift, float2* input_statistics, int images)
{
    extern __shared__ __align__(128) unsigned char shared[];
    const Class part(blockIdx.z);
    const int first_o = blockIdx.y * BN;
    const NormInputs norm_inputs = {norm_x, norm_statistics, gamma, beta, scale_shift};

    Sums sums;
#if TILE_WIDTH
    multiply_patches(sums, shared, x1, x2, w, first_o, norm_inputs, input_statistics);
#endif
    if (TILE_WIDTH == 0 || SKIP)
        multiply_steps(sums, shared, Loader(x1, x2, s1, s2, w, part, first_o, images), part);

    float* sC = reinterpret_cast<float*>(shared);  // [BM, BN] in rows of ROW_SUMS
    sums.write(sC);
#if NORM_GRADIENT
    __shared__ __align__(16) NormParameters sNorm;
    sNorm.read(norm_inputs, blockIdx.x / TILES, first_o);
#endif
    __syncthreads();
    constexpr int V = O % 4 == 0 ? 4 : 1;
#if NORM_GRADIENT
    // A thread keeps to its channels; the last ones may have no work.
    constexpr int WRITERS = THREADS / (BN / V) * (BN / V);
    NormSums<V> norm(sNorm, threadIdx.x % (BN / V) * V);
#else
    constexpr int WRITERS = THREADS;
#endif
    for (int k = threadIdx.x; k < BM * BN / V && threadIdx.x < WRITERS; k += WRITERS)
    {
        const int row = k / (BN / V), column = k % (BN / V) * V, o = first_o + column;
        const OutputPixel pixel(part, row, images);
        if (!pixel.valid || o >= O)
            continue;
        const unsigned at = pixel.index() * O + o;
        float value[V];
        load(sC + row * ROW_SUMS + column, value);
        float more[V];
        if (BIAS)
        {
            load(bias + o, more);
            add(value, more);
        }
        if (SKIP)
        {
            load(skip_bias + o, more);
            add(value, more);
        }
        if (RESIDUAL)
        {
            load_residual(residual, pixel.n, pixel.i, pixel.j, o, more);
            add(value, more);
        }
        if (SILU)
        {
#pragma unroll
            for (int v = 0; v < V; v++)
                value[v] = silu(value[v]);
        }
        if (SCALE_Y != 1.0f)
        {
#pragma unroll
            for (int v = 0; v < V; v++)
                value[v] *= SCALE_Y;
        }
        store(y + at, value);
        if (STATISTICS)
        {
#pragma unroll
            for (int v = 0; v < V; v++)
                value[v] = to_float(from_float<Y>(value[v]));
            store(sC + row * ROW_SUMS + column, value);
        }
#if NORM_GRADIENT
#pragma unroll
        for (int v = 0; v < V; v++)
            value[v] = to_float(from_float<Y>(value[v]));
        norm.add(norm_x, pixel.n, pixel.i, pixel.j, o, value);
#endif
    }
#if NORM_GRADIENT
    norm.write(sC, first_o, partials);
    const int image = blockIdx.x / TILES;
    if (is_last_block(tickets + image, TILES * gridDim.y))
        group_means<THREADS / 32, PIXELS * (NORM_POOL ? 4 : 1), GROUPS, O / GROUPS, TILES>(partials + image * (TILES * O), statistics + image * GROUPS);
#endif
#if STATISTICS
    write_statistics(sC, first_o, partials);
#if GROUPS
    const int image = blockIdx.x / TILES;
    if (is_last_block(tickets + image, TILES * gridDim.y))
    {
        using Own = Tiles<TILES, BM, O>;
        using Other = Tiles<OTHER_TILES, OTHER_ROWS, OTHER>;
        const float2 *own = partials + image * (TILES * O), *its = other + image * (OTHER_TILES * OTHER);
        if constexpr (OTHER_FIRST)
            group_statistics<THREADS / 32, PIXELS, GROUPS, Other, Own>(its, own, EPSILON, statistics + image * GROUPS);
        else
            group_statistics<THREADS / 32, PIXELS, GROUPS, Own, Other>(own, its, EPSILON, statistics + image * GROUPS);
    }
#endif
#endif
}
#endif

// The parts of convolution.cu's tiled kernel: which pixels a block has, how they come into shared memory, how they are multiplied, and the statistics of what comes out.
// Included by convolution.cu alone, after the shape's constants.
#pragma once

constexpr int CHUNKS = ROW_BYTES / 16;  // pieces of the summed index in a step
constexpr int BK = CHUNKS * E;
constexpr int THREADS = WARPS_M * WARPS_N * 32;
constexpr int STAGE_BYTES = (BM + BN) * ROW_BYTES;
constexpr int WM = BM / WARPS_M, WN = BN / WARPS_N;  // the part of a warp
constexpr int PIXELS = OH * OW;
constexpr int TILES = (PIXELS + BM - 1) / BM;  // of an image, where tiles keep to images
#if TILE_WIDTH
constexpr int TILE_HEIGHT = BM / TILE_WIDTH, TILES_ACROSS = OW / TILE_WIDTH;
#endif

// Rows of the staged sums begin 8 banks apart, so that the fragments of four rows meet no bank twice.
constexpr int ROW_SUMS = BN % 16 == 8 ? BN : BN + 8;

// 16 bytes of x are 16 bytes of shared memory: copied without passing through registers.
template <typename S, typename U>
constexpr bool same = false;
template <typename S>
constexpr bool same<S, S> = true;
constexpr bool ASYNCHRONOUS_X = same<X, P> && C1 % E == 0 && (C2 == 0 || (same<X2, P> && C2 % E == 0));
constexpr bool ASYNCHRONOUS = ASYNCHRONOUS_X && (D1 == 0 || (same<S1, P> && D1 % E == 0)) && (D2 == 0 || (same<S2, P> && D2 % E == 0));

// Steps end where taps end: then no step has pieces beyond the last tap.
constexpr bool WHOLE = CP % BK == 0 && DP % BK == 0;

static_assert(BM % WARPS_M == 0 && BN % WARPS_N == 0 && WM % (TENSOR_CORES ? 16 : 4) == 0 && WN % 8 == 0, "a warp's part is made of fragments");
static_assert(THREADS % (8 * CHUNKS) == 0 && BM % (THREADS / CHUNKS) == 0, "all threads copy the same number of pixels, rows that are swizzled alike");
static_assert(STAGES >= 2, "one stage is multiplied while another is filled");

// The output pixel of a row of the block's tile. A tile with a patch is a rectangle of an image; others are runs of pixels, which without statistics of what comes out go on from image
// to image.
struct OutputPixel
{
    int n, i, j;
    bool valid;

    __device__ OutputPixel(const Class& part, int row, int images)
    {
#if TILE_WIDTH
        const int tile = blockIdx.x % TILES;
        n = blockIdx.x / TILES;
        i = tile / TILES_ACROSS * TILE_HEIGHT + row / TILE_WIDTH;
        j = tile % TILES_ACROSS * TILE_WIDTH + row % TILE_WIDTH;
        valid = true;
#else
        const int pixels = part.height * part.width;
        int m;
        if (STATISTICS || NORM_GRADIENT)
        {
            m = blockIdx.x % TILES * BM + row;
            n = blockIdx.x / TILES;
            valid = m < pixels;
        }
        else
        {
            const int all = blockIdx.x * BM + row;
            valid = all < images * pixels;
            n = pixels > 0 ? all / pixels : 0;
            m = all - n * pixels;
        }
        const int q = part.width > 0 ? m / part.width : 0;
        i = q * SPREAD + part.row;
        j = (m - q * part.width) * SPREAD + part.column;
#endif
    }

    __device__ int index() const { return (n * OH + i) * OW + j; }
};

// Copies the rows of a step's weights. A thread has the same piece of several rows of o, the first of which is row, its weights from and its place in shared memory to.
__device__ __forceinline__ void load_weights(unsigned to, const P* from, int row, int first_o, bool valid)
{
    constexpr int ROWS = THREADS / CHUNKS;
#pragma unroll
    for (int r = 0; r < (BN + ROWS - 1) / ROWS; r++)
    {
        // Where there is none an address that nobody looks at.
        const bool there = valid && (O % BN == 0 || first_o + row + r * ROWS < O);
        if (BN % ROWS == 0 || row + r * ROWS < BN)
            copy_async(to + r * ROWS * ROW_BYTES, from + r * ROWS * ROW, there);
    }
}

// Copies steps of the summed index, in order; behind a patch those of the skip connection alone. A thread has the same piece of several rows.
struct Loader
{
    static constexpr int ROWS = THREADS / CHUNKS;  // rows between those of a thread
    static constexpr int A = BM / ROWS;

    const X* x1;
    const X2* x2;
    const S1* s1;
    const S2* s2;
    const P* w;
    int row, chunk, place, first_o, first_b;
    int image[A], top[A], left[A], pixel[A];
    int a, b, c, k;  // the tap, the channel, and the place of both in a row of w

    __device__ Loader(const X* x1, const X2* x2, const S1* s1, const S2* s2, const P* w, const Class& part, int first_o, int images)
        : x1(x1), x2(x2), s1(s1), s2(s2), w(w), row(threadIdx.x / CHUNKS), chunk(threadIdx.x % CHUNKS), place(swizzle<CHUNKS>(row, chunk)), first_o(first_o), first_b(part.first_b),
          a(TILE_WIDTH ? KH : part.first_a), b(TILE_WIDTH ? 0 : part.first_b), c(chunk * E), k((a * KW + b) * CP + c)
    {
#pragma unroll
        for (int r = 0; r < A; r++)
        {
            const OutputPixel output(part, row + r * ROWS, images);
            image[r] = output.n;
            // Far outside where there is no such pixel: every tap falls into the padding.
            top[r] = output.valid ? output.i * STRIDE - PADDING_H : -(1 << 20);
            left[r] = output.j * STRIDE - PADDING_W;
        }
        settle();
    }

    __device__ void load(unsigned char* stage)
    {
        uint4* sA = reinterpret_cast<uint4*>(stage) + place;
        const unsigned to = shared_address(sA);
#pragma unroll
        for (int r = 0; r < A; r++)
            if (ASYNCHRONOUS)
                copy_async(to + r * ROWS * ROW_BYTES, source(pixel[r]), pixel[r] >= 0);
            else
                sA[r * ROWS * CHUNKS] = convert(pixel[r]);
        load_weights(to + BM * ROW_BYTES, w + (first_o + row) * ROW + k, row, first_o, WHOLE || a < KH || in_skip());
        c += BK;
        k += BK;
        if (c >= (in_skip() ? DP : CP))
            settle();
    }

private:
    __device__ bool in_skip() const { return SKIP && a == KH; }

    // Moves to the tap that the channel has run into, and finds the pixels there.
    __device__ void settle()
    {
        while (a < KH && c >= CP)
        {
            c -= CP;
            b += SPREAD;
            if (b >= KW)
            {
                b = first_b;
                a += SPREAD;
            }
            // At most one tap ends in a step.
            if (CP >= BK)
                break;
        }
        if (in_skip() && c >= DP)
            a++;
        // Taps lie one behind the other, the skip connection's channels behind the last, unless taps are left out.
        if (SPREAD > 1)
            k = (a * KW + b) * CP + c;
#pragma unroll
        for (int r = 0; r < A; r++)
            if (in_skip())
                pixel[r] = top[r] < -PADDING_H ? -1 : (image[r] * OH + top[r] + PADDING_H) * OW + left[r] + PADDING_W;
            else
                pixel[r] = WHOLE || a < KH ? input_pixel(image[r], top[r] + a, left[r] + b) : -1;
    }

    __device__ bool in_second() const { return in_skip() ? D2 > 0 && c >= D1 : C2 > 0 && c >= C1; }

    // In the padding an address that nobody looks at.
    __device__ const void* source(int pixel) const
    {
        if (in_skip())
            return in_second() ? static_cast<const void*>(s2 + pixel * D2 + c - D1) : s1 + pixel * D1 + c;
        return in_second() ? static_cast<const void*>(x2 + pixel * C2 + c - C1) : x1 + pixel * C1 + c;
    }

    // A piece whose channels are of another type, or do not lie in 16 bytes: RGB, odd channels.
    __device__ uint4 convert(int pixel) const
    {
        union { P value[E]; uint4 bits; } piece;
        piece.bits = make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int e = 0; e < E; e++)
        {
            const int at = c + e;
            if (pixel < 0 || at >= (in_skip() ? D : C))
                continue;
            if (in_skip())
                piece.value[e] = from_float<P>(at < D1 ? to_float(s1[pixel * D1 + at]) : to_float(s2[pixel * D2 + at - D1]));
            else
                piece.value[e] = from_float<P>(at < C1 ? to_float(x1[pixel * C1 + at]) : to_float(x2[pixel * C2 + at - C1]));
        }
        return piece.bits;
    }
};

template <int V>
__device__ __forceinline__ void add(float (&value)[V], const float (&more)[V])
{
#pragma unroll
    for (int v = 0; v < V; v++)
        value[v] += more[v];
}

// Where pixels lie in a stage: one behind the other. Rows eight apart are swizzled alike, so one address serves many, plus a constant.
struct TileRows
{
    __device__ __forceinline__ int at(int row, int piece) const { return 16 * swizzle<CHUNKS>(row, piece); }
    __device__ static constexpr int further(int rows) { return rows * ROW_BYTES; }
};

#if TENSOR_CORES

// The sums of a warp, in fragments of 16 pixels by 8 channels.
struct Sums
{
    float rC[WM / 16][WN / 8][4] = {};

    // Takes in a step whose pixels and weights lie so many bytes into shared memory.
    template <typename Rows>
    __device__ __forceinline__ void multiply(const unsigned char* shared, int pixels, const Rows& rows, int weights)
    {
        const int lane = threadIdx.x % 32, first_m = threadIdx.x / 32 / WARPS_N * WM, first_n = threadIdx.x / 32 % WARPS_N * WN;
        const unsigned base = shared_address(shared), firstA = base + pixels + rows.at(first_m + lane % 16, lane / 16);
        const unsigned firstB = base + weights + 16 * swizzle<CHUNKS>(first_n + lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
        for (int k = 0; k < CHUNKS; k += 2)
        {
            // Swizzling is an exclusive or of the piece, and rows begin at multiples of their length.
            const unsigned fA = firstA ^ 16 * k, fB = firstB ^ 16 * k;
            unsigned rA[WM / 16][4], rB[WN / 8][2];
#pragma unroll
            for (int i = 0; i < WM / 16; i++)
            {
                load_matrices(rA[i], fA + Rows::further(i * 16));
#if TF32
#pragma unroll
                for (int v = 0; v < 4; v++)
                    rA[i][v] = to_tf32(rA[i][v]);
#endif
            }
#pragma unroll
            for (int j = 0; j + 1 < WN / 8; j += 2)
            {
                unsigned both[4];
                load_matrices(both, fB + j * 8 * ROW_BYTES);
                rB[j][0] = both[0], rB[j][1] = both[1], rB[j + 1][0] = both[2], rB[j + 1][1] = both[3];
            }
            if (WN / 8 % 2 == 1)
                load_matrices(rB[WN / 8 - 1], fB + (WN / 8 - 1) * 8 * ROW_BYTES);
#pragma unroll
            for (int i = 0; i < WM / 16; i++)
#pragma unroll
                for (int j = 0; j < WN / 8; j++)
                    mma<P>(rC[i][j], rA[i], rB[j]);
        }
    }

    __device__ void write(float* sC) const
    {
        const int lane = threadIdx.x % 32, first_m = threadIdx.x / 32 / WARPS_N * WM, first_n = threadIdx.x / 32 % WARPS_N * WN;
#pragma unroll
        for (int i = 0; i < WM / 16; i++)
#pragma unroll
            for (int j = 0; j < WN / 8; j++)
            {
                float* to = sC + (first_m + i * 16 + lane / 4) * ROW_SUMS + first_n + j * 8 + lane % 4 * 2;
                *reinterpret_cast<float2*>(to) = make_float2(rC[i][j][0], rC[i][j][1]);
                *reinterpret_cast<float2*>(to + 8 * ROW_SUMS) = make_float2(rC[i][j][2], rC[i][j][3]);
            }
    }
};

#else

// The sums of a thread: every fourth pixel and every eighth channel of its warp's part, so that eight neighbours read eight consecutive rows.
struct Sums
{
    static constexpr int TM = WM / 4, TN = WN / 8;
    float rC[TM][TN] = {};

    template <typename Rows>
    __device__ __forceinline__ void multiply(const unsigned char* shared, int pixels, const Rows& rows, int weights)
    {
        const float4* sB = reinterpret_cast<const float4*>(shared + weights);
        const int m = threadIdx.x / 32 / WARPS_N * WM + threadIdx.x % 32 / 8, n = threadIdx.x / 32 % WARPS_N * WN + threadIdx.x % 8;
#pragma unroll 1
        for (int k = 0; k < CHUNKS; k++)
        {
            const float4* fB = sB + swizzle<CHUNKS>(n, k);
            const unsigned char* fA[2] = {shared + pixels + rows.at(m, k), shared + pixels + rows.at(m + 4, k)};
            float4 rB[TN];
#pragma unroll
            for (int j = 0; j < TN; j++)
                rB[j] = fB[j * 8 * CHUNKS];
#pragma unroll
            for (int i = 0; i < TM; i++)
            {
                const float4 rA = *reinterpret_cast<const float4*>(fA[i % 2] + Rows::further(i / 2 * 8));
#pragma unroll
                for (int j = 0; j < TN; j++)
                    rC[i][j] = fmaf(rA.w, rB[j].w, fmaf(rA.z, rB[j].z, fmaf(rA.y, rB[j].y, fmaf(rA.x, rB[j].x, rC[i][j]))));
            }
        }
    }

    __device__ void write(float* sC) const
    {
        const int m = threadIdx.x / 32 / WARPS_N * WM + threadIdx.x % 32 / 8, n = threadIdx.x / 32 % WARPS_N * WN + threadIdx.x % 8;
#pragma unroll
        for (int i = 0; i < TM; i++)
#pragma unroll
            for (int j = 0; j < TN; j++)
                sC[(m + i * 4) * ROW_SUMS + n + j * 8] = rC[i][j];
    }
};

#endif

// The sum over what a loader copies, STAGES steps of it in shared memory at a time. Shared memory is free before and after.
__device__ __forceinline__ void multiply_steps(Sums& sums, unsigned char* shared, Loader loader, const Class& part)
{
    const int taps = TILE_WIDTH ? 0 : ((KH - part.first_a + SPREAD - 1) / SPREAD) * ((KW - part.first_b + SPREAD - 1) / SPREAD);
    const int steps = (taps * (CP / E) + DP / E + CHUNKS - 1) / CHUNKS;
    for (int step = 0; step < STAGES - 1; step++)
    {
        if (step < steps)
            loader.load(shared + step * STAGE_BYTES);
        commit_copies();
    }
    for (int step = 0; step < steps; step++)
    {
        // A step has arrived when all threads have seen theirs, and the stage multiplied last is then free.
        wait_copies<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < steps)
            loader.load(shared + (step + STAGES - 1) % STAGES * STAGE_BYTES);
        commit_copies();
        const int stage = step % STAGES * STAGE_BYTES;
        sums.multiply(shared, stage, TileRows(), stage + BM * ROW_BYTES);
    }
    wait_copies<0>();
    __syncthreads();
}

// Mean and sum of squares about it of every channel of the tile, the mean first. A channel's rows are dealt out to the threads that share it, whose sums are added in their order.
__device__ __forceinline__ void write_statistics(const float* sC, int first_o, float2* partials)
{
    constexpr int SHARES = THREADS >= BN ? THREADS / BN : 1;
    static_assert(THREADS >= BN, "a thread has one channel");
    __shared__ float sums[SHARES][BN];
    const int column = threadIdx.x % BN, share = threadIdx.x / BN;
    const int left = PIXELS - blockIdx.x % TILES * BM, rows = left < BM ? left : BM;
    float mean = 0, squares = 0;
#pragma unroll
    for (int pass = 0; pass < 2; pass++)
    {
        __syncthreads();
        float sum = 0;
        if (share < SHARES && first_o + column < O)
            for (int r = share; r < rows; r += SHARES)
            {
                const float d = sC[r * ROW_SUMS + column] - mean;
                sum += pass == 0 ? d : d * d;
            }
        if (share < SHARES)
            sums[share][column] = sum;
        __syncthreads();
        float total = 0;
#pragma unroll
        for (int s = 0; s < SHARES; s++)
            total += sums[s][column];
        if (pass == 0)
            mean = total / rows;
        else
            squares = total;
    }
    if (share == 0 && first_o + column < O)
        partials[blockIdx.x * O + first_o + column] = make_float2(mean, squares);
}

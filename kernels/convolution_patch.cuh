// The way of convolution.cu where neighbouring outputs share inputs: a block's tile is a rectangle of TILE_HEIGHT by TILE_WIDTH pixels, and the patch of x' that all its taps read is
// brought into shared memory once instead of once per tap. Included by convolution.cu alone.
//
// Sums run over spans of BK channels, in a span over the taps, in a tap over its channels. Two patches are in shared memory, one being multiplied while the next arrives, one piece
// per thread and step; weights go by in steps of a tap, STAGES of them as elsewhere. Moved per block and span: PATCH_WIDTH * PATCH_HEIGHT pixels instead of KH * KW * BM.
// With NORM_INPUT a thread normalises the piece it has copied AHEAD steps later, in place: once per tile of output channels and pixel of the patch, not once per tap.
#pragma once

constexpr int TAPS = KH * KW, SPANS = CP / BK;  // steps of a span, and spans
constexpr int PATCH_WIDTH = TILE_WIDTH + KW - 1, PATCH_HEIGHT = TILE_HEIGHT + KH - 1;
constexpr int PATCH_PIECES = PATCH_WIDTH * PATCH_HEIGHT * CHUNKS, PATCH_BYTES = PATCH_PIECES * 16;
constexpr int ROUNDS = (PATCH_PIECES + THREADS - 1) / THREADS;  // pieces of a thread

static_assert(STRIDE == 1 && SPREAD == 1, "neighbouring outputs read neighbouring pixels");
static_assert(ASYNCHRONOUS_X && C1 % BK == 0 && C2 % BK == 0, "a span is of one tensor and copied as it is");
static_assert(TILE_WIDTH % 8 == 0 && BM % TILE_WIDTH == 0 && OW % TILE_WIDTH == 0 && OH % TILE_HEIGHT == 0, "tiles are whole");
static_assert(TILE_WIDTH % WM == 0 || WM % TILE_WIDTH == 0, "a warp's part begins in the column of its first fragment");
static_assert(PATCH_WIDTH % 2 == 0 || CHUNKS == 8, "pixels of one column lie in the same banks");
static_assert(ROUNDS + STAGES - 1 <= TAPS, "a patch has arrived before the one in front of it is used up");

#if NORM_INPUT
// What the norm in front does to the channels of x; the last of a block's shared memory.
struct NormTable
{
    float mean[C], a[C], b[C];

    // There after the next barrier.
    __device__ __forceinline__ void read(const NormInputs& norm, int n, float2* kept)
    {
        constexpr int WIDTH = C / NORM_INPUT;
        for (int c = threadIdx.x; c < C; c += THREADS)
        {
            float pair[2];
            load(norm.statistics + (n * NORM_INPUT + c / WIDTH) * 2, pair);
            norm_coefficients(norm.gamma, norm.beta, norm.scale_shift, n, C, c, a[c], b[c]);
            mean[c] = pair[0];
            a[c] *= pair[1];

            // One block of an image writes for all.
            if (blockIdx.x % TILES == 0 && blockIdx.y == 0 && c % WIDTH == 0)
                kept[n * NORM_INPUT + c / WIDTH] = make_float2(pair[0], pair[1]);
        }
    }
};
static_assert(C % NORM_INPUT == 0, "groups are of as many channels each");
#endif

// Where the pixels that a tap reads lie in a patch. Swizzled by column, so that a tap moves all pixels of a column alike: eight neighbours meet no bank twice whatever the first is.
struct PatchRows
{
    int a, b;

    __device__ __forceinline__ static int place(int y, int x, int piece) { return 16 * (y * PATCH_WIDTH * CHUNKS + swizzle<CHUNKS>(x, piece)); }
    __device__ __forceinline__ int at(int row, int piece) const { return place(row / TILE_WIDTH + a, row % TILE_WIDTH + b, piece); }
    __device__ static constexpr int further(int rows) { return (rows / TILE_WIDTH * PATCH_WIDTH + rows % TILE_WIDTH) * ROW_BYTES; }
};

// Copies patches, span after span. A thread has the same piece of several pixels.
struct PatchLoader
{
    const X* x1;
    const X2* x2;
    int image, top, left;  // of the patch
    int c;                 // the piece's first channel

    __device__ PatchLoader(const X* x1, const X2* x2)
        : x1(x1), x2(x2), image(blockIdx.x / TILES), top(blockIdx.x % TILES / TILES_ACROSS * TILE_HEIGHT - PADDING_H), left(blockIdx.x % TILES % TILES_ACROSS * TILE_WIDTH - PADDING_W),
          c(threadIdx.x % CHUNKS * E)
    {
    }

    // Copies the piece of a round, of ROUNDS.
    __device__ __forceinline__ void load(unsigned patch, int round) const
    {
        int y, x;
        if (!find(round, y, x))
            return;
        const int pixel = input_pixel(image, top + y, left + x);
        const bool second = C2 > 0 && c >= C1;
        copy_async(patch + PatchRows::place(y, x, threadIdx.x % CHUNKS), second ? static_cast<const void*>(x2 + pixel * C2 + c - C1) : x1 + pixel * C1 + c, pixel >= 0);
    }

#if NORM_INPUT
    // Normalises that piece, which this thread has copied and which has arrived. The padding stays zero.
    __device__ __forceinline__ void normalise(unsigned char* patch, int round, const NormTable& table) const
    {
        int y, x;
        if (!find(round, y, x) || input_pixel(image, top + y, left + x) < 0)
            return;
        X* values = reinterpret_cast<X*>(patch + PatchRows::place(y, x, threadIdx.x % CHUNKS));
        float value[E];
        ::load(values, value);
#pragma unroll
        for (int e = 0; e < E; e += 4)
        {
            float mean[4], a[4], b[4];
            ::load(table.mean + c + e, mean);
            ::load(table.a + c + e, a);
            ::load(table.b + c + e, b);
#pragma unroll
            for (int v = 0; v < 4; v++)
                value[e + v] = norm_forward<NORM_SILU, X>(value[e + v], mean[v], a[v], b[v]);
        }
        store(values, value);
    }
#endif

private:
    // The pixel of a round's piece in the patch, if there is one.
    __device__ __forceinline__ static bool find(int round, int& y, int& x)
    {
        const int at = (round * THREADS + threadIdx.x) / CHUNKS;
        y = at / PATCH_WIDTH;
        x = at % PATCH_WIDTH;
        return PATCH_PIECES % THREADS == 0 || y < PATCH_HEIGHT;
    }
};

// The sum over all taps and channels of x'. Shared memory is free before and after.
__device__ __forceinline__ void multiply_patches(Sums& sums, unsigned char* shared, const X* x1, const X2* x2, const P* w, int first_o, const NormInputs& norm, float2* kept)
{
    // The stages of weights, then two patches. What is copied is named by what is multiplied meanwhile, so that few registers are taken up by it.
    constexpr int WEIGHT_BYTES = BN * ROW_BYTES, AHEAD = STAGES - 1;
    constexpr int PATCHES = STAGES * WEIGHT_BYTES;
    const int row = threadIdx.x / CHUNKS;
    const unsigned weights = shared_address(shared) + 16 * swizzle<CHUNKS>(row, threadIdx.x % CHUNKS), patches = shared_address(shared) + PATCHES;
    const P* rows = w + (first_o + row) * ROW;
    PatchLoader loader(x1, x2);
#if NORM_INPUT
    NormTable& table = *reinterpret_cast<NormTable*>(shared + PATCHES + 2 * PATCH_BYTES);
    table.read(norm, loader.image, kept);
#endif
#pragma unroll
    for (int round = 0; round < ROUNDS; round++)
        loader.load(patches, round);
#pragma unroll
    for (int tap = 0; tap < AHEAD; tap++)
    {
        load_weights(weights + tap * WEIGHT_BYTES, rows + tap * CP + loader.c, row, first_o, true);
        commit_copies();
    }
#if NORM_INPUT
    // The first patch is of the first group.
    wait_copies<STAGES - 2>();
    __syncthreads();
#pragma unroll 1
    for (int round = 0; round < ROUNDS; round++)
        loader.normalise(shared + PATCHES, round, table);
#endif
    int stage = 0;
    for (int span = 0; span < SPANS; span++)
    {
        loader.c += BK;
        const int patch = PATCHES + span % 2 * PATCH_BYTES, following = (span + 1) % 2 * PATCH_BYTES;
        // Unrolled, the largest tile runs out of registers.
#pragma unroll 1
        for (int tap = 0; tap < TAPS; tap++)
        {
            // A step has arrived when all threads have seen theirs; the stage multiplied last is then free, and with a span's first step the patch before.
            wait_copies<STAGES - 2>();
            __syncthreads();
            const bool more = span + 1 < SPANS, wraps = tap + AHEAD >= TAPS;
            if (more || !wraps)
                load_weights(
                    weights + (stage == 0 ? AHEAD : stage - 1) * WEIGHT_BYTES, rows + (tap + AHEAD) * CP + loader.c - (wraps ? TAPS * CP : BK), row, first_o, true);
            if (more && tap < ROUNDS)
                loader.load(patches + following, tap);
            commit_copies();
#if NORM_INPUT
            if (more && tap >= AHEAD && tap < AHEAD + ROUNDS)
                loader.normalise(shared + PATCHES + following, tap - AHEAD, table);
#endif
            sums.multiply(shared, patch, PatchRows{tap / KW, tap % KW}, stage * WEIGHT_BYTES);
            stage = stage == AHEAD ? 0 : stage + 1;
        }
    }
    wait_copies<0>();
    __syncthreads();
}

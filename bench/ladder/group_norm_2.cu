// Rung 2: three launches over whole rows of channels. Tiles of 64 pixels leave each channel's mean and sum of squares about it; a warp per group makes its statistics of them (Chan,
// Golub and LeVeque 1979); y follows. x is read twice, in whole sectors: a third less than on rung 1, and no sector by two blocks.
//
//   y = (x - mean_g) / sqrt(var_g + 1e-5) * gamma_c + beta_c          x, y [PIXELS][C], partials [TILES][C], statistics [GROUPS], gamma, beta [C], float

constexpr int D = C / GROUPS;
constexpr int TILES = PIXELS / 64;
static_assert(PIXELS % 64 == 0, "tiles are whole");

extern "C" __global__ void group_norm_2_partials(const float* x, float2* partials)
{
    const int c = threadIdx.x, first = blockIdx.x * 64;
    float sum = 0, squares = 0;
    for (int p = first; p < first + 64; p++)
        sum += x[p * C + c];
    for (int p = first; p < first + 64; p++)
        squares += (x[p * C + c] - sum / 64) * (x[p * C + c] - sum / 64);
    partials[blockIdx.x * C + c] = make_float2(sum / 64, squares);
}

__device__ float sum_of_warp(float v)
{
    for (int lane = 16; lane > 0; lane /= 2)
        v += __shfl_xor_sync(~0u, v, lane);
    return v;
}

extern "C" __global__ void group_norm_2_statistics(const float2* partials, float2* statistics)
{
    const int g = blockIdx.x;
    float sum = 0, squares = 0;
    for (int i = threadIdx.x; i < TILES * D; i += 32)
        sum += partials[i / D * C + g * D + i % D].x;
    const float mean = sum_of_warp(sum) / (TILES * D);
    for (int i = threadIdx.x; i < TILES * D; i += 32) {
        const float2 part = partials[i / D * C + g * D + i % D];
        squares += part.y + 64 * (part.x - mean) * (part.x - mean);
    }
    squares = sum_of_warp(squares);
    if (threadIdx.x == 0)
        statistics[g] = make_float2(mean, 1.0f / sqrtf(squares / (PIXELS * D) + 1e-5f));
}

extern "C" __global__ void group_norm_2_apply(const float* x, const float2* statistics, const float* gamma, const float* beta, float* y)
{
    const int at = blockIdx.x * blockDim.x + threadIdx.x, c = at % C;
    if (at >= PIXELS * C)
        return;
    const float2 group = statistics[c / D];
    y[at] = (x[at] - group.x) * group.y * gamma[c] + beta[c];
}

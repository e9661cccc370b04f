// Rung 1: three launches with the matrix of scores in memory, which is the definition: TOKENS * TOKENS floats a head are written, read and written, and read again.
//
//   s[t,j] = q_t . k_j / sqrt(HS)      p = softmax of every row of s      out[t] = sum_j p[t,j] v_j          qkv [TOKENS][3][HEADS][HS], s [HEADS][TOKENS][TOKENS], out [TOKENS][HEADS][HS], float

constexpr int ROW = 3 * HEADS * HS;

extern "C" __global__ void attention_1_scores(const float* qkv, float* s)
{
    const int j = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y, h = blockIdx.z;
    if (j >= TOKENS)
        return;
    float sum = 0;
    for (int d = 0; d < HS; d++)
        sum = fmaf(qkv[t * ROW + h * HS + d], qkv[j * ROW + (HEADS + h) * HS + d], sum);
    s[(h * TOKENS + t) * TOKENS + j] = sum * rsqrtf((float)HS);
}

extern "C" __global__ void attention_1_softmax(float* s)
{
    float* row = s + (blockIdx.y * TOKENS + blockIdx.x) * TOKENS;
    float most = row[threadIdx.x], sum = 0;
    for (int j = threadIdx.x; j < TOKENS; j += 32)
        most = fmaxf(most, row[j]);
    for (int lane = 16; lane > 0; lane /= 2)
        most = fmaxf(most, __shfl_xor_sync(~0u, most, lane));
    for (int j = threadIdx.x; j < TOKENS; j += 32)
        sum += row[j] = expf(row[j] - most);
    for (int lane = 16; lane > 0; lane /= 2)
        sum += __shfl_xor_sync(~0u, sum, lane);
    for (int j = threadIdx.x; j < TOKENS; j += 32)
        row[j] /= sum;
}

extern "C" __global__ void attention_1_product(const float* qkv, const float* s, float* out)
{
    const int d = threadIdx.x, t = blockIdx.x, h = blockIdx.y;
    float sum = 0;
    for (int j = 0; j < TOKENS; j++)
        sum = fmaf(s[(h * TOKENS + t) * TOKENS + j], qkv[j * ROW + (2 * HEADS + h) * HS + d], sum);
    out[(t * HEADS + h) * HS + d] = sum;
}

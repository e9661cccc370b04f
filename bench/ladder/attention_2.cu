// Rung 2: one launch and no matrix of scores (Milakov and Gimelshein 2018, online softmax): a thread has a query and its sums, and scales them whenever a larger score comes. 32 keys
// and values at a time go by in shared memory, where all threads read the same element. q and the sums take 2 * HS registers, and every element of k and v is read for one product.
//
//   out[t] = sum_j exp(q_t . k_j / sqrt(HS) - m) v_j / sum_j exp(q_t . k_j / sqrt(HS) - m)          qkv [TOKENS][3][HEADS][HS], out [TOKENS][HEADS][HS], float

constexpr int ROW = 3 * HEADS * HS;
static_assert(TOKENS % 64 == 0, "blocks have 64 queries, tiles 32 keys");

extern "C" __global__ void __launch_bounds__(64) attention_2(const float* qkv, float* out)
{
    __shared__ float sK[32][HS], sV[32][HS];
    const int t = blockIdx.x * 64 + threadIdx.x, h = blockIdx.y;
    float q[HS], o[HS] = {}, m = __int_as_float(0xff800000), l = 0;
#pragma unroll
    for (int d = 0; d < HS; d++)
        q[d] = qkv[t * ROW + h * HS + d] * rsqrtf((float)HS);
    for (int tile = 0; tile < TOKENS; tile += 32) {
        __syncthreads();
        for (int i = threadIdx.x; i < 32 * HS; i += 64) {
            sK[i / HS][i % HS] = qkv[(tile + i / HS) * ROW + (HEADS + h) * HS + i % HS];
            sV[i / HS][i % HS] = qkv[(tile + i / HS) * ROW + (2 * HEADS + h) * HS + i % HS];
        }
        __syncthreads();
        for (int j = 0; j < 32; j++) {
            float s = 0;
#pragma unroll
            for (int d = 0; d < HS; d++)
                s = fmaf(q[d], sK[j][d], s);
            const float most = fmaxf(m, s), before = expf(m - most), p = expf(s - most);
            l = l * before + p;
            m = most;
#pragma unroll
            for (int d = 0; d < HS; d++)
                o[d] = fmaf(p, sV[j][d], o[d] * before);
        }
    }
#pragma unroll
    for (int d = 0; d < HS; d++)
        out[(t * HEADS + h) * HS + d] = o[d] / l;
}

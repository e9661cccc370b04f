// Rung 1: a block per group, which is the definition: x is read for the mean, again for the variance and a third time for y. The D channels of a group are neighbours of other groups'
// channels, so that every sector is read by several blocks.
//
//   y = (x - mean_g) / sqrt(var_g + 1e-5) * gamma_c + beta_c          x, y [PIXELS][C], gamma, beta [C], float; GROUPS groups of D channels

constexpr int D = C / GROUPS;

__device__ float sum_of_block(float v)
{
    __shared__ float s[256];
    __syncthreads();
    s[threadIdx.x] = v;
    for (int half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            s[threadIdx.x] += s[threadIdx.x + half];
    }
    __syncthreads();
    return s[0];
}

extern "C" __global__ void group_norm_1(const float* x, const float* gamma, const float* beta, float* y)
{
    const int g = blockIdx.x;
    float sum = 0, squares = 0;
    for (int i = threadIdx.x; i < PIXELS * D; i += 256)
        sum += x[i / D * C + g * D + i % D];
    const float mean = sum_of_block(sum) / (PIXELS * D);
    for (int i = threadIdx.x; i < PIXELS * D; i += 256) {
        const float d = x[i / D * C + g * D + i % D] - mean;
        squares += d * d;
    }
    const float rstd = 1.0f / sqrtf(sum_of_block(squares) / (PIXELS * D) + 1e-5f);
    for (int i = threadIdx.x; i < PIXELS * D; i += 256) {
        const int c = g * D + i % D, at = i / D * C + c;
        y[at] = (x[at] - mean) * rstd * gamma[c] + beta[c];
    }
}

// What follows the models in a step: the noise, classifier-free guidance, and x_t to x_{t-1}.
//
//   step_noise                z[n,e] = the standard normal value of (seed, image_index[n], step + 1, e) (philox.cuh)
//   classifier_free_guidance  y = (1 + w) * conditional - w * unconditional for predictions, conditional for variances
//   sampler_update            x0 = recip * x - recipm1 * eps, or the model's prediction; clipped to [-1, 1] if CLIP
//     DDPM                    x' = coef1 * x0 + coef2 * x + variance * (scale * gradient) + mask * exp(log_variance / 2) * z
//     DDIM and its inversion  with a gradient first eps = (recip * x - x0) / recipm1 - sqrt(1 - alpha_bar) * (scale * gradient), x0 = recip * x - recipm1 * eps; then
//                             x' = x0 * xstart_coef + eps_coef * (recip * x - x0) / recipm1 + (mask * sigma) * z
//     with DRAWS_NOISE z is drawn here, with CLASSIFIER_FREE the halves of the model output are combined here, with ADVANCES step' = step + 1
//
// Inputs and outputs: x, z, gradient, x', x0 [N, H, W, C]; model output [N, H, W, OUTPUTS * C]: C predictions and, with OUTPUTS 2, C variances per pixel; row: the row of the step table
// [S, 16] that the counter step [1] selects. A counter beyond the table makes NaN and reads nothing. All float, but seed [2], image_index [N, 2] and step, which are int.
// Threads: one per V consecutive elements; V is 1 or, where an image's elements are a multiple of 4, 4: 16-byte accesses, and one Philox counter makes 4 values. V = 1 is the
// specification.
// Least bytes: 4 |x| * (3 + OUTPUTS + NOISE + GUIDED) for the update. Operations: 12 |x|, and 60 |x| for the noise. Memory-bound.
// x' may lie over x: a thread reads its elements before it writes them. step' may lie over step: the last block to finish writes it, when all have read that;
// an integer ticket, 0 before and after, tells which is the last.
// Source: p_sample, ddim_sample, ddim_reverse_sample, condition_mean and condition_score of guided-diffusion's GaussianDiffusion; Ho and Salimans 2022 for classifier-free guidance.
// Sums and products are rounded one by one, in torch's order, so DDIM has the bits of the host's samplers, and only exp may differ.
#include "philox.cuh"
#include "step_table.cuh"

#ifndef V
#define V 1
#endif
#ifndef C
#define C 3
#endif
#ifndef OUTPUTS
#define OUTPUTS 1
#endif
#ifndef ELEMENTS // of an image
#define ELEMENTS 4
#endif
#ifndef DDPM
#define DDPM 1
#endif
#ifndef PREDICT_XSTART
#define PREDICT_XSTART 0
#endif
#ifndef CLIP
#define CLIP 1
#endif
#ifndef NOISE
#define NOISE 1
#endif
#ifndef GUIDED
#define GUIDED 1
#endif
#ifndef DRAWS_NOISE
#define DRAWS_NOISE 0
#endif
#ifndef CLASSIFIER_FREE
#define CLASSIFIER_FREE 0
#endif
#ifndef ADVANCES
#define ADVANCES 0
#endif

static_assert(V == 1 || (V == 4 && ELEMENTS % 4 == 0), "4 elements of a thread belong to one image and one Philox counter");

__device__ __forceinline__ float add(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ float sub(float a, float b) { return __fsub_rn(a, b); }
__device__ __forceinline__ float mul(float a, float b) { return __fmul_rn(a, b); }

#define FIRST_ELEMENT ((blockIdx.x * blockDim.x + threadIdx.x) * V)

// The noise of a step, of the elements from `element` on.
__device__ __forceinline__ void noise_at(const int* seed, const int* image_index, int step, unsigned element, float (&z)[V])
{
    normals_at<V>(seed, image_index, (unsigned)step + 1, element, ELEMENTS, z);
}

extern "C" __global__ void step_noise(const int* seed, const int* image_index, const int* step, float* z, unsigned n)
{
    const unsigned i = FIRST_ELEMENT;
    if (i >= n)
        return;
    float four[V];
    noise_at(seed, image_index, *step, i, four);
    store(z + i, four);
}

__device__ __forceinline__ float combine(float w, float conditional, float unconditional)
{
    return sub(mul(add(1.0f, w), conditional), mul(w, unconditional));
}

extern "C" __global__ void classifier_free_guidance(const float* both, const float* table, const int* step, int steps, float* y, unsigned n)
{
    const unsigned i = FIRST_ELEMENT;
    if (i >= n)
        return;
    const float w = Row{table, *step, steps}[CFG_SCALE];
    float conditional[V], unconditional[V];
    load(both + i, conditional);
    load(both + n + i, unconditional);
#pragma unroll
    for (int k = 0; k < V; k++)
        if (OUTPUTS == 1 || (i + k) % (OUTPUTS * C) < C)
            conditional[k] = combine(w, conditional[k], unconditional[k]);
    store(y + i, conditional);
}

// One element: x_t becomes x_{t-1}; returns x_0. model_variance is the model's, -1 to 1.
__device__ __forceinline__ float update(const Row row, float& x, float prediction, float model_variance, float gradient, float z)
{
    const float recip = row[SQRT_RECIP_ALPHAS_CUMPROD], recipm1 = row[SQRT_RECIPM1_ALPHAS_CUMPROD];
    const float scaled = GUIDED ? mul(gradient, row[CLASSIFIER_SCALE]) : 0.0f;
    float x0 = PREDICT_XSTART ? prediction : sub(mul(recip, x), mul(recipm1, prediction));
    if (CLIP)
    {
        // Comparisons rather than fminf and fmaxf: a NaN stays one and is seen.
        x0 = x0 > 1.0f ? 1.0f : x0;
        x0 = x0 < -1.0f ? -1.0f : x0;
    }

#if DDPM
    const float noise_scale = row[NOISE_MASK];
    float log_variance = row[FIXED_LOG_VARIANCE], variance = row[FIXED_VARIANCE];
    if (OUTPUTS == 2)
    {
        const float fraction = mul(add(model_variance, 1.0f), 0.5f);
        log_variance = add(mul(fraction, row[MAX_LOG_VARIANCE]), mul(sub(1.0f, fraction), row[MIN_LOG_VARIANCE]));
        variance = GUIDED ? expf(log_variance) : 0.0f;
    }

    float next = add(mul(row[POSTERIOR_MEAN_COEF1], x0), mul(row[POSTERIOR_MEAN_COEF2], x));
    if (GUIDED)
        next = add(next, mul(variance, scaled));
    if (NOISE && noise_scale != 0)
        next = add(next, mul(mul(noise_scale, expf(mul(0.5f, log_variance))), z));
#else
    const float noise_scale = mul(row[NOISE_MASK], row[DDIM_SIGMA]);
    if (GUIDED)
    {
        const float eps = sub(__fdiv_rn(sub(mul(recip, x), x0), recipm1), mul(row[SQRT_ONE_MINUS_ALPHAS_CUMPROD], scaled));
        x0 = sub(mul(recip, x), mul(recipm1, eps));
    }

    // Derived again even where the model gave it: clipping moves eps too.
    const float eps = __fdiv_rn(sub(mul(recip, x), x0), recipm1);
    float next = add(mul(x0, row[DDIM_XSTART_COEF]), mul(row[DDIM_EPS_COEF], eps));
    if (NOISE && noise_scale != 0)
        next = add(next, mul(noise_scale, z));
#endif
    x = next;
    return x0;
}

// noise: z, or with DRAWS_NOISE the seed. What a constant switches off is not read.
extern "C" __global__ void sampler_update(
    const float* x,
    const float* output,
    const float* table,
    const int* step,
    int steps,
    const void* noise,
    const int* image_index,
    const float* gradient,
    float* next,
    float* pred_xstart,
    int* next_step,
    unsigned* ticket,
    unsigned n)
{
    const unsigned i = FIRST_ELEMENT;
    if (i < n)
    {
        const Row row = {table, *step, steps};
        float xt[V], x0[V], z[V] = {}, g[V] = {};
        load(x + i, xt);
        if (GUIDED)
            load(gradient + i, g);
        if (DRAWS_NOISE)
            noise_at((const int*)noise, image_index, row.step, i, z);
        else if (NOISE)
            load((const float*)noise + i, z);
#pragma unroll
        for (int k = 0; k < V; k++)
        {
            const unsigned at = OUTPUTS == 1 ? i + k : (i + k) / C * (2 * C) + (i + k) % C;
            const float prediction = CLASSIFIER_FREE ? combine(row[CFG_SCALE], output[at], output[(size_t)n * OUTPUTS + at]) : output[at];
            x0[k] = update(row, xt[k], prediction, DDPM && OUTPUTS == 2 ? output[at + C] : 0.0f, g[k], z[k]);
        }
        store(pred_xstart + i, x0);
        store(next + i, xt);
    }

#if ADVANCES
    __syncthreads();
    if (threadIdx.x == 0)
    {
        __threadfence();
        if (atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1)
            *next_step = *step + 1;
    }
#endif
}

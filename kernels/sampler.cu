// What follows the models in a step: the noise, classifier-free guidance, and x_t to x_{t-1}.
//
//   step_noise                z[n,e] = the standard normal value of (seed, image_index[n], step + 1, e) (philox.cuh)
//   classifier_free_guidance  y = (1 + w) * conditional - w * unconditional for predictions, conditional for variances
//   sampler_update            x0 = recip * x - recipm1 * eps, or the model's prediction; clipped to [-1, 1] if CLIP
//     DDPM                    x' = xstart_coef * x0 + x_coef * x + variance * (scale * gradient) + noise_coef * exp(log_variance / 2) * z
//     any other sampler       with a gradient first eps = (recip * x - x0) / recipm1 - sqrt(1 - alpha_bar) * (scale * gradient), x0 = recip * x - recipm1 * eps; then
//                             eps = (recip * x - x0) / recipm1, x' = x0 * xstart_coef + eps_coef * eps + sum_k history_coef_k * history_k + noise_coef * z;
//                             history_1' = eps if HISTORY_EPS, else x0; history_k' = history_{k-1}. HISTORY 0 is DDIM.
//     with DRAWS_NOISE z is drawn here, with CLASSIFIER_FREE the halves of the model output are combined here, with ADVANCES step' = step + 1
//     a row whose scale is 0 is not guided, one whose w is 0 takes the conditional half as it is: what they leave out has no influence at all
//
// Inputs and outputs: x, z, gradient, x', x0 [N, H, W, C]; history [HISTORY, N, H, W, C], the latest first; model output [N, H, W, OUTPUTS * C]: C predictions and, with OUTPUTS 2, C variances per pixel; row: the row of the step table
// [S, 16] that the counter step [1] selects. A counter beyond the table makes NaN and reads nothing. All float, but seed [2], image_index [N, 2] and step, which are int.
// Threads: one per V consecutive elements; V is 1 or, where an image's elements are a multiple of 4, 4: 16-byte accesses, and one Philox counter makes 4 values. V = 1 is the
// specification.
// Least bytes: 4 |x| * (3 + OUTPUTS + NOISE + GUIDED + 2 HISTORY) for the update. Operations: 12 |x|, and 60 |x| for the noise. Memory-bound.
// x' may lie over x and history' over history: a thread reads its elements before it writes them. step' may lie over step: the last block to finish writes it, when all have read that;
// an integer ticket, 0 before and after, tells which is the last.
// Source: p_sample, ddim_sample, ddim_reverse_sample, condition_mean and condition_score of guided-diffusion's GaussianDiffusion; Ho and Salimans 2022 for classifier-free guidance;
// the samplers' papers stand where the host computes their coefficients (LinearSolvers).
// Sums and products are rounded one by one, in torch's order, so all but DDPM have the bits of the host's samplers: only exp may differ.
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
#ifndef HISTORY // earlier evaluations that are read, 0 to 3
#define HISTORY 0
#endif
#ifndef HISTORY_EPS
#define HISTORY_EPS 0
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

static_assert(HISTORY >= 0 && HISTORY <= 3 && !(DDPM && HISTORY), "a row has three weights for earlier evaluations, and DDPM reads none");
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

__device__ __forceinline__ float combine(float w, float conditional, const float* unconditional)
{
    return w == 0 ? conditional : sub(mul(add(1.0f, w), conditional), mul(w, *unconditional));
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
            conditional[k] = combine(w, conditional[k], unconditional + k);
    store(y + i, conditional);
}

// One element: x_t becomes x_{t-1}, its history moves on; returns x_0. model_variance is the model's, -1 to 1.
__device__ __forceinline__ float update(const Row row, float& x, float (&history)[HISTORY + 1], float prediction, float model_variance, float gradient, float z)
{
    const float recip = row[SQRT_RECIP_ALPHAS_CUMPROD], recipm1 = row[SQRT_RECIPM1_ALPHAS_CUMPROD], noise_coef = row[NOISE_COEF];
    const float scale = GUIDED ? row[CLASSIFIER_SCALE] : 0.0f;
    const bool guided = GUIDED && scale != 0;
    float x0 = PREDICT_XSTART ? prediction : sub(mul(recip, x), mul(recipm1, prediction));
    if (CLIP)
    {
        // Comparisons rather than fminf and fmaxf: a NaN stays one and is seen.
        x0 = x0 > 1.0f ? 1.0f : x0;
        x0 = x0 < -1.0f ? -1.0f : x0;
    }

#if DDPM
    float log_variance = row[MAX_LOG_VARIANCE], variance = row[FIXED_VARIANCE];
    if (OUTPUTS == 2)
    {
        const float fraction = mul(add(model_variance, 1.0f), 0.5f);
        log_variance = add(mul(fraction, log_variance), mul(sub(1.0f, fraction), row[MIN_LOG_VARIANCE]));
        variance = guided ? expf(log_variance) : 0.0f;
    }

    float next = add(mul(row[XSTART_COEF], x0), mul(row[X_COEF], x));
    if (guided)
        next = add(next, mul(variance, mul(gradient, scale)));
    if (NOISE && noise_coef != 0)
        next = add(next, mul(mul(noise_coef, expf(mul(0.5f, log_variance))), z));
#else
    if (guided)
    {
        const float eps = sub(__fdiv_rn(sub(mul(recip, x), x0), recipm1), mul(row[SQRT_ONE_MINUS_ALPHAS_CUMPROD], mul(gradient, scale)));
        x0 = sub(mul(recip, x), mul(recipm1, eps));
    }

    // Derived again even where the model gave it: clipping moves eps too.
    const float eps = __fdiv_rn(sub(mul(recip, x), x0), recipm1);
    float next = add(mul(x0, row[XSTART_COEF]), mul(row[EPS_COEF], eps));
    float latest = HISTORY_EPS ? eps : x0;
#pragma unroll
    for (int k = 0; k < HISTORY; k++)
    {
        const float earlier = history[k];
        next = add(next, mul(row[(Column)(HISTORY1_COEF + k)], earlier));
        history[k] = latest;
        latest = earlier;
    }
    if (NOISE && noise_coef != 0)
        next = add(next, mul(noise_coef, z));
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
    const float* history,
    float* next,
    float* pred_xstart,
    float* next_history,
    int* next_step,
    unsigned* ticket,
    unsigned n)
{
    const unsigned i = FIRST_ELEMENT;
    if (i < n)
    {
        const Row row = {table, *step, steps};
        float xt[V], x0[V], z[V] = {}, g[V] = {}, earlier[HISTORY + 1][V];
        load(x + i, xt);
        if (GUIDED)
            load(gradient + i, g);
        if (DRAWS_NOISE)
            noise_at((const int*)noise, image_index, row.step, i, z);
        else if (NOISE)
            load((const float*)noise + i, z);
#pragma unroll
        for (int h = 0; h < HISTORY; h++)
            load(history + (size_t)h * n + i, earlier[h]);
        const float w = CLASSIFIER_FREE ? row[CFG_SCALE] : 0.0f;
#pragma unroll
        for (int k = 0; k < V; k++)
        {
            const unsigned at = OUTPUTS == 1 ? i + k : (i + k) / C * (2 * C) + (i + k) % C;
            const float prediction = CLASSIFIER_FREE ? combine(w, output[at], output + (size_t)n * OUTPUTS + at) : output[at];
            float mine[HISTORY + 1];
#pragma unroll
            for (int h = 0; h < HISTORY; h++)
                mine[h] = earlier[h][k];
            x0[k] = update(row, xt[k], mine, prediction, DDPM && OUTPUTS == 2 ? output[at + C] : 0.0f, g[k], z[k]);
#pragma unroll
            for (int h = 0; h < HISTORY; h++)
                earlier[h][k] = mine[h];
        }
        store(pred_xstart + i, x0);
        store(next + i, xt);
#pragma unroll
        for (int h = 0; h < HISTORY; h++)
            store(next_history + (size_t)h * n + i, earlier[h]);
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

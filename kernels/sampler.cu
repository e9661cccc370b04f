// What surrounds the models in a step: the timestep, the noise, classifier-free guidance, and x_t to x_{t-1}.
//
//   step_timesteps            t[n] = row.timestep
//   advance_step              step' = step + 1
//   step_noise                z[n,e] = the standard normal value of (seed, image_index[n], step + 1, e) (philox.cuh)
//   classifier_free_guidance  y = (1 + w) * conditional - w * unconditional for predictions, conditional for variances
//   sampler_update            x0 = recip * x - recipm1 * eps, or the model's prediction; clipped to [-1, 1] if CLIP
//     DDPM                    x' = coef1 * x0 + coef2 * x + variance * (scale * gradient) + mask * exp(log_variance / 2) * z
//     DDIM and its inversion  with a gradient first eps = (recip * x - x0) / recipm1 - sqrt(1 - alpha_bar) * (scale * gradient), x0 = recip * x - recipm1 * eps; then
//                             x' = x0 * xstart_coef + eps_coef * (recip * x - x0) / recipm1 + (mask * sigma) * z
//
// Inputs and outputs: x, z, gradient, x', x0 [N, H, W, C]; model output [N, H, W, OUTPUTS * C]: C predictions and, with OUTPUTS 2, C variances per pixel; row: the row of the step table
// [S, 16] that the counter step [1] selects. A counter beyond the table makes NaN and reads nothing. All float, but seed [2], image_index [N, 2] and step, which are int.
// Threads: one per V consecutive elements; V is 1 or, where an image's elements are a multiple of 4, 4: 16-byte accesses, and one Philox counter makes 4 values. V = 1 is the
// specification.
// Least bytes: 4 |x| * (3 + OUTPUTS + NOISE + GUIDED) for the update. Operations: 12 |x|, and 60 |x| for the noise. Memory-bound.
// x' may lie over x: a thread reads its elements before it writes them.
// Source: p_sample, ddim_sample, ddim_reverse_sample, condition_mean and condition_score of guided-diffusion's GaussianDiffusion; Ho and Salimans 2022 for classifier-free guidance.
// Sums and products are rounded one by one, in torch's order, so DDIM has the bits of the host's samplers, and only exp may differ.
#include "common.cuh"
#include "philox.cuh"

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

static_assert(V == 1 || (V == 4 && ELEMENTS % 4 == 0), "4 elements of a thread belong to one image and one Philox counter");

// The columns of a step table, in the host's order (StepColumn).
enum Column
{
    MODEL_TIMESTEP,
    SQRT_RECIP_ALPHAS_CUMPROD,
    SQRT_RECIPM1_ALPHAS_CUMPROD,
    POSTERIOR_MEAN_COEF1,
    POSTERIOR_MEAN_COEF2,
    FIXED_VARIANCE,
    FIXED_LOG_VARIANCE,
    MIN_LOG_VARIANCE,
    MAX_LOG_VARIANCE,
    NOISE_MASK,
    SQRT_ONE_MINUS_ALPHAS_CUMPROD,
    DDIM_XSTART_COEF,
    DDIM_EPS_COEF,
    DDIM_SIGMA,
    CLASSIFIER_SCALE,
    CFG_SCALE,
    COLUMNS
};

struct Row
{
    const float* table;
    int step, steps;

    __device__ __forceinline__ float operator[](Column column) const { return (unsigned)step < (unsigned)steps ? table[step * COLUMNS + column] : NAN; }
};

__device__ __forceinline__ float add(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ float sub(float a, float b) { return __fsub_rn(a, b); }
__device__ __forceinline__ float mul(float a, float b) { return __fmul_rn(a, b); }

#define FIRST_ELEMENT ((blockIdx.x * blockDim.x + threadIdx.x) * V)

extern "C" __global__ void step_timesteps(const float* table, const int* step, int steps, float* t, int images)
{
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n < images)
        t[n] = Row{table, *step, steps}[MODEL_TIMESTEP];
}

extern "C" __global__ void advance_step(const int* step, int* next)
{
    *next = *step + 1;
}

// z[0..V) of the elements from `element` on, counted over all images.
__device__ __forceinline__ void noise_at(const int* seed, const int* image_index, int step, unsigned element, float (&z)[V])
{
    const unsigned image = element / ELEMENTS, e = element % ELEMENTS;
    const Normals four = normals(seed, image_index + 2 * image, (unsigned)step + 1, e / 4);
    if (V == 4)
    {
#pragma unroll
        for (int k = 0; k < V; k++)
            z[k] = four.at[k];
    }
    else
    {
        z[0] = e % 4 == 0 ? four.at[0] : e % 4 == 1 ? four.at[1] : e % 4 == 2 ? four.at[2] : four.at[3];
    }
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

extern "C" __global__ void classifier_free_guidance(const float* both, const float* table, const int* step, int steps, float* y, unsigned n)
{
    const unsigned i = FIRST_ELEMENT;
    if (i >= n)
        return;
    const float w = Row{table, *step, steps}[CFG_SCALE], one_plus_w = add(1.0f, w);
    float conditional[V], unconditional[V];
    load(both + i, conditional);
    load(both + n + i, unconditional);
#pragma unroll
    for (int k = 0; k < V; k++)
        if (OUTPUTS == 1 || (i + k) % (OUTPUTS * C) < C)
            conditional[k] = sub(mul(one_plus_w, conditional[k]), mul(w, unconditional[k]));
    store(y + i, conditional);
}

extern "C" __global__ void sampler_update(
    const float* x, const float* output, const float* table, const int* step, int steps, const float* noise, const float* gradient, float* next, float* pred_xstart, unsigned n)
{
    const unsigned i = FIRST_ELEMENT;
    if (i >= n)
        return;
    const Row row = {table, *step, steps};
    const float recip = row[SQRT_RECIP_ALPHAS_CUMPROD], recipm1 = row[SQRT_RECIPM1_ALPHAS_CUMPROD];
    const float noise_scale = DDPM ? row[NOISE_MASK] : mul(row[NOISE_MASK], row[DDIM_SIGMA]);
    float xt[V], z[V] = {}, g[V] = {}, xs[V];
    load(x + i, xt);
    if (NOISE)
        load(noise + i, z);
    if (GUIDED)
        load(gradient + i, g);
#pragma unroll
    for (int k = 0; k < V; k++)
    {
        const unsigned at = OUTPUTS == 1 ? i + k : (i + k) / C * (2 * C) + (i + k) % C;
        const float prediction = output[at];
        float x0 = PREDICT_XSTART ? prediction : sub(mul(recip, xt[k]), mul(recipm1, prediction));
        if (CLIP)
        {
            // Comparisons rather than fminf and fmaxf: a NaN stays one and is seen.
            x0 = x0 > 1.0f ? 1.0f : x0;
            x0 = x0 < -1.0f ? -1.0f : x0;
        }

        const float scaled = GUIDED ? mul(g[k], row[CLASSIFIER_SCALE]) : 0.0f;
#if DDPM
        float log_variance = row[FIXED_LOG_VARIANCE], variance = row[FIXED_VARIANCE];
        if (OUTPUTS == 2)
        {
            const float fraction = mul(add(output[at + C], 1.0f), 0.5f);
            log_variance = add(mul(fraction, row[MAX_LOG_VARIANCE]), mul(sub(1.0f, fraction), row[MIN_LOG_VARIANCE]));
            variance = GUIDED ? expf(log_variance) : 0.0f;
        }

        float mean = add(mul(row[POSTERIOR_MEAN_COEF1], x0), mul(row[POSTERIOR_MEAN_COEF2], xt[k]));
        if (GUIDED)
            mean = add(mean, mul(variance, scaled));
        if (NOISE && noise_scale != 0)
            mean = add(mean, mul(mul(noise_scale, expf(mul(0.5f, log_variance))), z[k]));
#else
        if (GUIDED)
        {
            const float eps = sub(__fdiv_rn(sub(mul(recip, xt[k]), x0), recipm1), mul(row[SQRT_ONE_MINUS_ALPHAS_CUMPROD], scaled));
            x0 = sub(mul(recip, xt[k]), mul(recipm1, eps));
        }

        // Derived again even where the model gave it: clipping moves eps too.
        const float eps = __fdiv_rn(sub(mul(recip, xt[k]), x0), recipm1);
        float mean = add(mul(x0, row[DDIM_XSTART_COEF]), mul(row[DDIM_EPS_COEF], eps));
        if (NOISE && noise_scale != 0)
            mean = add(mean, mul(noise_scale, z[k]));
#endif
        xs[k] = x0;
        xt[k] = mean;
    }
    store(pred_xstart + i, xs);
    store(next + i, xt);
}

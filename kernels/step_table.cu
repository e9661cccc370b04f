// What a step takes from the tables of its job.
//
//   step_timesteps    t[n] = table[step].timestep
//   chunk_timesteps   t[k,n] = table[min(first + k, S - 1)].timestep
//   select_step       y_b[n,c] = rows_b[step - first, n, c] for many tables b at once; a table of one row per step gives it to every image
//   advance_step      step' = step + 1
//
// Inputs and outputs: table [S, 16] and rows_b [K, R_b, C_b] float; step, first [1] int; t [N] or [K, N], y_b [N, C_b] float. A counter that no row belongs to makes NaN.
// Threads: one per element of t; one per V elements of y_b, blockIdx.y being b; one.
// Least bytes: 4 N, 4 K (N + 1), 8 |y|, 8. No arithmetic. Bound by the launch, which is why one launch serves all tables.
// step' may lie over step.
// Source: the timesteps that p_sample_loop and ddim_sample_loop of guided-diffusion's GaussianDiffusion hand the models.
#include "step_table.cuh"

#ifndef V
#define V 1
#endif

extern "C" __global__ void step_timesteps(const float* table, const int* step, int steps, float* t, int images)
{
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n < images)
        t[n] = Row{table, *step, steps}[MODEL_TIMESTEP];
}

extern "C" __global__ void chunk_timesteps(const float* table, const int* first, int steps, float* t, int images, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const int begin = *first;
    t[i] = Row{table, (unsigned)begin < (unsigned)steps ? min(begin + i / images, steps - 1) : -1, steps}[MODEL_TIMESTEP];
}

// rows of `run` elements, one per step; y of `elements`, a multiple of run.
struct Selection
{
    const float* rows;
    float* y;
    int run, elements;
};

extern "C" __global__ void select_step(const int* step, const int* first, int steps, const Selection* selections)
{
    const Selection selection = selections[blockIdx.y];
    const int i = (blockIdx.x * blockDim.x + threadIdx.x) * V, row = *step - *first;
    if (i >= selection.elements)
        return;
    float value[V];
    if ((unsigned)row < (unsigned)steps)
        load(selection.rows + (size_t)row * selection.run + i % selection.run, value);
    else
#pragma unroll
        for (int k = 0; k < V; k++)
            value[k] = NAN;
    store(selection.y + i, value);
}

extern "C" __global__ void advance_step(const int* step, int* next)
{
    *next = *step + 1;
}

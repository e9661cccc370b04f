// The table of a job's steps, as every kernel of a step reads it.
#pragma once
#include "common.cuh"

// The columns of a step table, in the host's order (StepColumn).
enum Column
{
    MODEL_TIMESTEP,
    SQRT_RECIP_ALPHAS_CUMPROD,
    SQRT_RECIPM1_ALPHAS_CUMPROD,
    SQRT_ONE_MINUS_ALPHAS_CUMPROD,
    XSTART_COEF,
    X_COEF,
    EPS_COEF,
    NOISE_COEF,
    HISTORY1_COEF,
    HISTORY2_COEF,
    HISTORY3_COEF,
    FIXED_VARIANCE,
    MIN_LOG_VARIANCE,
    MAX_LOG_VARIANCE,
    CLASSIFIER_SCALE,
    CFG_SCALE,
    COLUMNS
};

// The row that a counter selects; beyond the table every value is NaN, and nothing is read.
struct Row
{
    const float* table;
    int step, steps;

    __device__ __forceinline__ float operator[](Column column) const { return (unsigned)step < (unsigned)steps ? table[step * COLUMNS + column] : NAN; }
};

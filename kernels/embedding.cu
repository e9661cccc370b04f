// Labels and timesteps into rows of numbers.
//
//   embedding            y[n,d] = table[label[n],d]
//   timestep_embedding   y[n,i] = cos(t[n] * w[i]), y[n,h+i] = sin(t[n] * w[i]), h = D / 2; an odd D ends with a zero
//   timestep_backward    dt[n] = sum over i of w[i] * (cos(t[n] * w[i]) * dy[n,h+i] - sin(t[n] * w[i]) * dy[n,i])
//
// Inputs and outputs: labels [N] int, table [K, D], t [N], frequencies w [h], y and dy [N, D], all float. A label that is not one of K makes its row NaN, and reads nothing.
// Threads: embedding one per V elements; timestep_embedding one per (n, i); timestep_backward one warp per n.
// Least bytes: 2 * 4 N D (embedding), 4 N D (the others). Operations: 3 N D / 2 (an angle, a cosine, a sine), 5 N D / 2.
// Source: label_emb and timestep_embedding of guided-diffusion's nn.py. The angle is the float32 product, as there, and reaches 1000: cosine and sine are the accurate ones, which reduce
// their argument with more digits than a float has. Frequencies come from the host, rounded as on every other backend.
#include "common.cuh"

#ifndef V
#define V 1
#endif
#ifndef D
#define D 2
#endif

extern "C" __global__ void embedding(const int* labels, const float* table, float* y, int classes, unsigned n)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const int label = labels[i / (D / V)];
    float row[V];
    if ((unsigned)label < (unsigned)classes)
        load(table + (size_t)label * D + i % (D / V) * V, row);
    else
#pragma unroll
        for (int k = 0; k < V; k++)
            row[k] = NAN;
    store(y + (size_t)i * V, row);
}

extern "C" __global__ void timestep_embedding(const float* t, const float* w, float* y, unsigned n)
{
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= n)
        return;
    const unsigned i = thread % (D / 2), image = thread / (D / 2);
    float* row = y + (size_t)image * D;
    float sine, cosine;
    sincosf(t[image] * w[i], &sine, &cosine);
    row[i] = cosine;
    row[D / 2 + i] = sine;
    if (D % 2 == 1 && i == 0)
        row[D - 1] = 0;
}

extern "C" __global__ void timestep_backward(const float* dy, const float* t, const float* w, float* dt)
{
    const float* row = dy + (size_t)blockIdx.x * D;
    float sum = 0;
    for (int i = threadIdx.x; i < D / 2; i += 32)
    {
        float sine, cosine;
        sincosf(t[blockIdx.x] * w[i], &sine, &cosine);
        sum += w[i] * (cosine * row[D / 2 + i] - sine * row[i]);
    }
    sum = warp_sum(sum);
    if (threadIdx.x == 0)
        dt[blockIdx.x] = sum;
}

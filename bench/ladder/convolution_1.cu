// Rung 1: a thread per value of y, which is the definition. Nothing is shared: every multiply-add reads both of its operands from global memory, and w in strides.
//
//   y[i,j,o] = sum over a, b, c of x[i + a - 1, j + b - 1, c] * w[o,a,b,c]          x [SIZE][SIZE][C], w [O][3][3][C], y [SIZE][SIZE][O], float

extern "C" __global__ void convolution_1(const float* x, const float* w, float* y)
{
    const int at = blockIdx.x * blockDim.x + threadIdx.x, o = at % O, j = at / O % SIZE, i = at / O / SIZE;
    if (i >= SIZE)
        return;
    float sum = 0;
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++) {
            const int v = i + a - 1, u = j + b - 1;
            if ((unsigned)v < SIZE && (unsigned)u < SIZE)
                for (int c = 0; c < C; c++)
                    sum = fmaf(x[(v * SIZE + u) * C + c], w[((o * 3 + a) * 3 + b) * C + c], sum);
        }
    y[at] = sum;
}

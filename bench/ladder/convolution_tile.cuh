// The kernel of rungs 2 and 3, which differ in ROW, the floats from one row of a tile to the next.
//
//   y[p,o] = sum over k of x'[p,k] * w[o,k], k = (a,b,c): x' is x with zeros around it, seen through the window          x [SIZE][SIZE][C], w [O][3][3][C], y [SIZE][SIZE][O], float

extern "C" __global__ void __launch_bounds__(256) NAME(const float* x, const float* w, float* y)
{
    __shared__ float sX[64 * ROW], sW[64 * ROW];
    const int pixel = blockIdx.x * 64, channel = blockIdx.y * 64, row = threadIdx.x / 16, column = threadIdx.x % 16;
    float sums[4][4] = {};
    for (int tap = 0; tap < 9; tap++)
        for (int c = 0; c < C; c += 16) {
            for (int r = row; r < 64; r += 16) {
                const int p = pixel + r, i = p / SIZE + tap / 3 - 1, j = p % SIZE + tap % 3 - 1;
                const bool inside = (unsigned)i < SIZE && (unsigned)j < SIZE && p < SIZE * SIZE;
                sX[r * ROW + column] = inside ? x[(i * SIZE + j) * C + c + column] : 0.0f;
                sW[r * ROW + column] = w[((channel + r) * 9 + tap) * C + c + column];
            }
            __syncthreads();
            for (int k = 0; k < 16; k++) {
                float a[4], b[4];
                for (int m = 0; m < 4; m++) {
                    a[m] = sX[(row + 16 * m) * ROW + k];
                    b[m] = sW[(column + 16 * m) * ROW + k];
                }
                for (int m = 0; m < 4; m++)
                    for (int n = 0; n < 4; n++)
                        sums[m][n] = fmaf(a[m], b[n], sums[m][n]);
            }
            __syncthreads();
        }
    for (int m = 0; m < 4; m++)
        for (int n = 0; n < 4; n++)
            if (pixel + row + 16 * m < SIZE * SIZE)
                y[(pixel + row + 16 * m) * O + channel + column + 16 * n] = sums[m][n];
}

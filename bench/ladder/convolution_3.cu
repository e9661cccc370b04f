// Rung 3: rung 2 with rows of 17 floats, so that 16 rows lie in 16 banks: no read of shared memory waits for another.
#define ROW 17
#define NAME convolution_3
#include "convolution_tile.cuh"

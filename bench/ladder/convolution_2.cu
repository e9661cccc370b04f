// Rung 2: an implicit matrix product in tiles of 64 pixels by 64 channels. A step of 16 of the summed index is read once into shared memory, in whole sectors, and serves 64 products
// each; a thread keeps 4x4 sums in registers. Rows of 16 floats put every other row into the same banks: half of the reads of shared memory wait for the others.
#define ROW 16
#define NAME convolution_2
#include "convolution_tile.cuh"

namespace Kernels.Backends.Cpu;

/// <summary>How a Winograd convolution is divided: blocks of tiles times groups of panels. It decides the time, never the result.</summary>
/// <param name="BlockTiles">Tiles of a block.</param>
/// <param name="Blocks">Number of blocks.</param>
/// <param name="PanelGroups">Number of groups of panels; each transforms the block's input anew.</param>
internal readonly record struct WinogradPartition(int BlockTiles, int Blocks, int PanelGroups)
{
    // The more tiles share a transformed weight the better, until the sums of a block leave the second-level cache or its input the third.
    private const int MostTiles = 112, MostTileChannels = 64 * 1024, FewestTiles = 16;

    /// <summary>The division whose busiest worker finishes first, by a model of the cycles that each step takes.</summary>
    /// <param name="tiles">Tiles of all images.</param>
    /// <param name="channels">Input channels.</param>
    /// <param name="panels">Panels of output channels.</param>
    /// <param name="workers">Workers that share the parts.</param>
    public static WinogradPartition Choose<T>(int tiles, int channels, int panels, int workers)
        where T : unmanaged, ISimd<T>
    {
        // Cycles per vector of each transform; a panel is two vectors wide.
        const double Input = 150, Weights = 100, Output = 150, Products = 36;
        int most = Math.Clamp(MostTileChannels / channels, FewestTiles, MostTiles);
        WinogradPartition best = default;
        double bestTime = double.MaxValue;
        for (int size = Math.Min(tiles, most); size > 0; size = (size - 1) / 4 * 4)
        {
            int blocks = (tiles + size - 1) / size;
            double inputTime = Input * size * channels / T.Count;
            double panelTime = (channels * ((2 * Weights) + (Products * MicroKernel<T>.Cycles(size)))) + (2 * Output * size);
            for (int groups = 1; groups <= panels; groups++)
            {
                int parts = blocks * groups, rounds = (parts + workers - 1) / workers;

                // The last factor is what a worker that shares its core with another process holds up at the end: many small parts even that out.
                double time = rounds * (inputTime + (panelTime * ((panels + groups - 1) / groups))) * (1 + (0.1 * workers / parts));
                if (time < bestTime)
                {
                    (bestTime, best) = (time, new WinogradPartition(size, blocks, groups));
                }
            }
        }

        return best;
    }
}

namespace Kernels.Backends.Gpu;

/// <summary>
/// How group normalisation is cut into blocks (<c>group_norm.cuh</c>): a function of one image's shape and types alone, so that an image's bits do not depend on the batch.
/// </summary>
/// <param name="Vector">Channels that a thread moves at once.</param>
/// <param name="Columns">Channels of a block.</param>
/// <param name="Rows">Units, pixels or 2x2 blocks of them, that a block takes at once.</param>
/// <param name="Steps">How often it does.</param>
internal sealed record GroupNormTiles(int Vector, int Columns, int Rows, int Steps)
{
    private const int MostThreads = 512, RoomyThreads = 480, MostFusedColumns = 512, SplitThreads = 256, Warp = 32, Sector = 32;

    /// <summary>Units of a block.</summary>
    public int Units => Rows * Steps;

    /// <summary>The constants of a launch.</summary>
    public IEnumerable<(string, object)> Constants => [("V", Vector), ("COLUMNS", Columns), ("ROWS", Rows), ("STEPS", Steps)];

    /// <summary>The cut in which a block holds whole groups of all pixels in registers; null if they do not fit.</summary>
    /// <param name="shape">The image.</param>
    /// <param name="registerBytes">Bytes of a unit's channel that are held, and the most that a thread holds.</param>
    public static GroupNormTiles? Fused(GroupNormShape shape, (int PerChannel, int Most) registerBytes)
    {
        // The most blocks that move next to nothing beside what is wanted; failing that, the fewest bytes. Two launches move half as much again.
        const double Near = 1.1, Far = 1.5;
        (double Traffic, GroupNormTiles? Tiles) best = (Far, null);
        for (int groups = 1; groups <= shape.Groups && groups * shape.GroupChannels <= MostFusedColumns && best.Traffic > Near; groups++)
        {
            int columns = groups * shape.GroupChannels, vector = shape.Vector(columns), packs = columns / vector;
            if (shape.Groups % groups != 0 || packs > MostThreads)
            {
                continue;
            }

            GroupNormTiles tiles = Even(vector, columns, shape.Units, Math.Min(shape.Units, MostThreads / packs));
            int Held() => tiles.Steps * vector * registerBytes.PerChannel;

            // Who holds nearly all that may be held needs a few registers more than so many threads leave.
            if (Held() > registerBytes.Most * 7 / 8 && RoomyThreads >= packs)
            {
                tiles = Even(vector, columns, shape.Units, Math.Min(shape.Units, RoomyThreads / packs));
            }

            double traffic = Traffic(shape, columns);
            if (Held() <= registerBytes.Most && traffic < best.Traffic - 1e-6)
            {
                best = (traffic, tiles);
            }
        }

        return best.Tiles;
    }

    /// <summary>The cut into tiles of units and any channels.</summary>
    /// <param name="shape">The image.</param>
    /// <param name="steps">Units that a thread takes.</param>
    public static GroupNormTiles Split(GroupNormShape shape, int steps)
    {
        // A warp's width of channels in whole sectors, so that a block's parameters serve as many pixels as may be; failing that, the most there are.
        int vector = shape.Vector(shape.Channels), packs = shape.Channels / vector;
        int Widest(int most, int bytes) => Enumerable.Range(1, Math.Min(most, packs)).LastOrDefault(w => packs % w == 0 && w * vector * shape.ElementBytes % bytes == 0);
        int wide = Widest(Warp, Sector) is > 0 and int whole ? whole : Widest(SplitThreads / 2, 1);
        int rows = Math.Min(shape.Units, SplitThreads / wide);
        return Even(vector, wide * vector, Math.Min(shape.Units, rows * steps), rows);
    }

    /// <summary>Grid and block.</summary>
    /// <param name="shape">The image.</param>
    public LaunchGeometry Geometry(GroupNormShape shape) =>
        new(shape.Channels / Columns, (shape.Units + Units - 1) / Units, shape.N, ((Columns / Vector * Rows) + 31) / 32 * 32, 1, 1, 0);

    // The same number of steps in the fewest rows.
    private static GroupNormTiles Even(int vector, int columns, int units, int rows)
    {
        int steps = (units + rows - 1) / rows;
        return new GroupNormTiles(vector, columns, (units + steps - 1) / steps, steps);
    }

    // Bytes of whole sectors over bytes wanted, where a pixel's channels are cut into blocks.
    private static double Traffic(GroupNormShape shape, int columns)
    {
        long sectors = 0;
        int wanted = columns * shape.ElementBytes;
        for (int start = 0; start < shape.Channels * shape.ElementBytes; start += wanted)
        {
            sectors += ((start + wanted - 1) / Sector) - (start / Sector) + 1;
        }

        return (double)sectors * Sector / (shape.Channels * shape.ElementBytes);
    }
}

/// <summary>One image as group normalisation sees it.</summary>
/// <param name="N">Images.</param>
/// <param name="Pixels">Pixels.</param>
/// <param name="Width">Pixels in a row; matters only where 2x2 blocks do.</param>
/// <param name="Channels">Channels.</param>
/// <param name="Split">Those of the first of two tensors; all if there is one.</param>
/// <param name="Groups">Groups.</param>
/// <param name="Quad">Pixels of a unit: 4 where 2x2 blocks are averaged or spread, otherwise 1.</param>
/// <param name="ElementBytes">Size of the widest element type.</param>
internal sealed record GroupNormShape(int N, int Pixels, int Width, int Channels, int Split, int Groups, int Quad, int ElementBytes)
{
    /// <summary>Channels of a group.</summary>
    public int GroupChannels => Channels / Groups;

    /// <summary>Pixels, or 2x2 blocks of them.</summary>
    public int Units => Pixels / Quad;

    /// <summary>The constants of every launch.</summary>
    public IEnumerable<(string, object)> Constants =>
        [("CHANNELS", Channels), ("SPLIT", Split), ("GROUPS", Groups), ("PIXELS", Pixels), ("WIDTH", Width), ("QUAD", Quad)];

    /// <summary>Channels that a thread moves at once: at most 16 bytes, and none of another block or tensor.</summary>
    /// <param name="columns">Channels of a block.</param>
    public int Vector(int columns)
    {
        int vector = 16 / ElementBytes;
        while (columns % vector != 0 || Split % vector != 0 || Channels % vector != 0)
        {
            vector /= 2;
        }

        return vector;
    }
}

using System.Globalization;

namespace Kernels.Imaging;

/// <summary>Pictures of one size that a job starts from: those of a folder, of one PNG, or of an archive as guided-diffusion writes it.</summary>
/// <remarks>Read and checked as a whole before anything is computed. A job of more images begins again with the first.</remarks>
public sealed class ImageSet
{
    /// <summary>The most bytes that are read: a set is kept in memory.</summary>
    public const long MaxBytes = 1L << 31;

    private readonly byte[][] _images;

    private ImageSet(string path, int height, int width, int channels, byte[][] images, IReadOnlyList<string> names, IReadOnlyList<int>? labels)
    {
        (Path, Height, Width, Channels, Names, Labels) = (path, height, width, channels, names, labels);
        _images = images;
    }

    /// <summary>Where they came from.</summary>
    public string Path { get; }

    /// <summary>Number of images.</summary>
    public int Count => _images.Length;

    /// <summary>Rows of one.</summary>
    public int Height { get; }

    /// <summary>Pixels in a row of one.</summary>
    public int Width { get; }

    /// <summary>Channels of one.</summary>
    public int Channels { get; }

    /// <summary>What each is called in messages: its file, or its place in the archive.</summary>
    public IReadOnlyList<string> Names { get; }

    /// <summary>Their labels, <c>arr_1</c> of an archive; null if nothing tells them.</summary>
    public IReadOnlyList<int>? Labels { get; }

    /// <summary>Makes a set of bytes in memory.</summary>
    /// <param name="pixels">The samples <c>[N, H, W, C]</c>.</param>
    /// <param name="height">Height H.</param>
    /// <param name="width">Width W.</param>
    /// <param name="channels">Channels C.</param>
    /// <param name="labels">One label per image; null if they have none.</param>
    /// <exception cref="ArgumentException">The numbers do not fit each other.</exception>
    public static ImageSet FromBytes(ReadOnlySpan<byte> pixels, int height, int width, int channels, IReadOnlyList<int>? labels = null)
    {
        int bytes = checked(height * width * channels);
        if (height <= 0 || width <= 0 || channels <= 0 || pixels.IsEmpty || pixels.Length % bytes != 0)
        {
            throw new ArgumentException($"{pixels.Length} samples are not images [{height}, {width}, {channels}]", nameof(pixels));
        }

        byte[][] images = Split(pixels, bytes);
        if (labels is not null && labels.Count != images.Length)
        {
            throw new ArgumentException($"{labels.Count} labels were given for {images.Length} images", nameof(labels));
        }

        return new ImageSet("images in memory", height, width, channels, images, [.. images.Select((_, i) => string.Create(CultureInfo.InvariantCulture, $"image {i}"))], labels);
    }

    /// <summary>Reads a <c>.npz</c> (<c>arr_0</c> of bytes <c>[N, H, W, C]</c> and, if there, <c>arr_1</c> of labels), a PNG, or all PNGs of a folder in the order of their names.</summary>
    /// <param name="path">The file or folder.</param>
    /// <exception cref="InvalidFileException">It is missing, holds no images, or they differ in size; the message names the file.</exception>
    public static ImageSet Load(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        return System.IO.Path.GetExtension(path).Equals(".npz", StringComparison.OrdinalIgnoreCase) && !Directory.Exists(path) ? FromArchive(path)
            : Directory.Exists(path) ? FromFolder(path)
            : FromFiles(path, [path]);
    }

    /// <summary>Requires a size and a number of channels.</summary>
    /// <param name="height">Height.</param>
    /// <param name="width">Width.</param>
    /// <param name="channels">Channels.</param>
    /// <returns>This set.</returns>
    /// <exception cref="InvalidFileException">The images have another; the message names the file and says what to do.</exception>
    public ImageSet Require(int height, int width, int channels)
    {
        if ((Height, Width) != (height, width))
        {
            throw new InvalidFileException(Names[0], "", string.Create(CultureInfo.InvariantCulture, $"the image has {Height}x{Width} pixels (height x width), {height}x{width} are needed; scale or crop it"));
        }

        return Channels == channels ? this : throw new InvalidFileException(Names[0], "", Remedy(channels));
    }

    /// <summary>The same images in one channel: those whose colours are all greys, and whose opacity, if they have one, is full.</summary>
    /// <exception cref="InvalidFileException">An image has colours or is transparent somewhere; the message names it.</exception>
    public ImageSet ToGrey()
    {
        if (Channels == 1)
        {
            return this;
        }

        byte[][] grey = new byte[Count][];
        for (int i = 0; i < Count; i++)
        {
            grey[i] = new byte[Height * Width];
            for (int p = 0; p < grey[i].Length; p++)
            {
                ReadOnlySpan<byte> pixel = _images[i].AsSpan(p * Channels, Channels);
                if (pixel[1] != pixel[0] || pixel[2] != pixel[0] || (Channels == 4 && pixel[3] != byte.MaxValue))
                {
                    throw new InvalidFileException(Names[i], "", $"pixel ({p % Width}, {p / Width}) of the mask is coloured or transparent; save the mask as grey");
                }

                grey[i][p] = pixel[0];
            }
        }

        return new ImageSet(Path, Height, Width, 1, grey, Names, Labels);
    }

    /// <summary>The samples of an image; those of a set that is used up begin again.</summary>
    /// <param name="index">Which.</param>
    public ReadOnlySpan<byte> this[long index] => _images[(int)(index % _images.Length)];

    /// <summary>Copies an image in the range of the models, [-1, 1].</summary>
    /// <param name="index">Which.</param>
    /// <param name="destination"><c>[H, W, C]</c>.</param>
    public void Read(long index, Span<float> destination) => Images.FromBytes(this[index], destination);

    /// <summary>Consecutive images in the range of the models, [-1, 1].</summary>
    /// <param name="first">The first.</param>
    /// <param name="count">How many.</param>
    /// <returns><c>[count, H, W, C]</c>.</returns>
    public float[] Read(long first, int count)
    {
        int elements = Height * Width * Channels;
        float[] values = new float[count * elements];
        for (int i = 0; i < count; i++)
        {
            Read(first + i, values.AsSpan(i * elements, elements));
        }

        return values;
    }

    private string Remedy(int channels) => (Channels, channels) switch
    {
        (4, 3) => "the image has an opacity channel, the model takes RGB; save it without",
        (1, 3) => "the image is grey, the model takes RGB; save it as RGB",
        _ => $"the image has {Channels} channels, {channels} are needed",
    };

    private static ImageSet FromFolder(string path)
    {
        string[] files;
        try
        {
            files = [.. Directory.EnumerateFiles(path).Where(f => System.IO.Path.GetExtension(f).Equals(".png", StringComparison.OrdinalIgnoreCase)).Order(StringComparer.Ordinal)];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidFileException(path, "", e.Message, e);
        }

        return files.Length > 0 ? FromFiles(path, files) : throw new InvalidFileException(path, "", "the folder holds no .png");
    }

    private static ImageSet FromFiles(string path, string[] files)
    {
        byte[][] images = new byte[files.Length][];
        Image? first = null;
        for (int i = 0; i < files.Length; i++)
        {
            Image image = Png.Load(files[i]);
            first ??= image;
            if ((image.Height, image.Width, image.Channels) != (first.Height, first.Width, first.Channels))
            {
                throw new InvalidFileException(
                    files[i],
                    "",
                    string.Create(
                        CultureInfo.InvariantCulture,
                        $"the image is {image.Height}x{image.Width} with {image.Channels} channels, {files[0]} is {first.Height}x{first.Width} with {first.Channels}; give images of one size"));
            }

            RequireRoom(path, (long)image.Pixels.Length * files.Length);
            images[i] = image.Pixels;
        }

        return new ImageSet(path, first!.Height, first.Width, first.Channels, images, files, null);
    }

    private static ImageSet FromArchive(string path)
    {
        using Npz npz = Npz.Open(path);
        NpyArray array = npz.Read("arr_0");
        if (array.DType != DType.U8 || array.Dims.Count != 4 || array.Dims.Any(d => d is <= 0 or > int.MaxValue))
        {
            throw new InvalidFileException(path, "arr_0", $"images are bytes [N, H, W, C], these are {array.DType} [{string.Join(", ", array.Dims)}]");
        }

        RequireRoom(path, array.Bytes);
        byte[][] images = Split(array.ToBytes(), (int)(array.Bytes / array.Dims[0]));
        int[]? labels = null;
        if (npz.Names.Contains("arr_1"))
        {
            NpyArray given = npz.Read("arr_1");
            long[] values = given.DType is DType.F16 or DType.F32 or DType.F64
                ? throw new InvalidFileException(path, "arr_1", $"labels are integers, these are {given.DType}")
                : given.ToInt64();
            labels = values.Length == images.Length && values.All(v => v is >= 0 and <= int.MaxValue)
                ? Array.ConvertAll(values, v => (int)v)
                : throw new InvalidFileException(path, "arr_1", $"{values.Length} labels do not name a class of each of the {images.Length} images");
        }

        return new ImageSet(
            path,
            (int)array.Dims[1],
            (int)array.Dims[2],
            (int)array.Dims[3],
            images,
            [.. images.Select((_, i) => string.Create(CultureInfo.InvariantCulture, $"{path}: arr_0[{i}]"))],
            labels);
    }

    private static byte[][] Split(ReadOnlySpan<byte> pixels, int bytes)
    {
        byte[][] images = new byte[pixels.Length / bytes][];
        for (int i = 0; i < images.Length; i++)
        {
            images[i] = pixels.Slice(i * bytes, bytes).ToArray();
        }

        return images;
    }

    private static void RequireRoom(string path, long bytes)
    {
        if (bytes > MaxBytes)
        {
            throw new InvalidFileException(path, "", $"{bytes} bytes of images are more than the {MaxBytes} that are kept in memory; give them in parts");
        }
    }
}

using Kernels.Imaging;
using Kernels.Tests.Cli;
using Xunit;

namespace Kernels.Tests.Imaging;

public sealed class ImageSetTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_folder_is_read_in_the_order_of_its_names_and_begins_again()
    {
        Save("b.png", 4, 2, 3, 10);
        Save("a.png", 4, 2, 3, 20);
        File.WriteAllText(_folder["notes.txt"], "no image");
        ImageSet set = ImageSet.Load(_folder.Path);
        Assert.Equal((2, 2, 4, 3), (set.Count, set.Height, set.Width, set.Channels));
        Assert.Equal([20, 10, 20], new long[] { 0, 1, 2 }.Select(i => (int)set[i][5]));
        Assert.Equal((20 / 127.5f) - 1, set.Read(0, 2)[3]);
        Assert.Equal((10 / 127.5f) - 1, set.Read(1, 2)[3]);
    }

    [Fact]
    public void An_archive_has_labels()
    {
        Npz.Write(_folder["a.npz"], [new("arr_0", NpyArray.Of(new byte[2 * 3 * 4 * 3], 2, 3, 4, 3)), new("arr_1", NpyArray.Of([5L, 6], 2))]);
        ImageSet set = ImageSet.Load(_folder["a.npz"]);
        Assert.Equal((2, 3, 4, 3), (set.Count, set.Height, set.Width, set.Channels));
        Assert.Equal([5, 6], set.Labels!);
    }

    [Fact]
    public void Greys_are_found_in_any_number_of_channels()
    {
        byte[] rgba = [7, 7, 7, 255, 9, 9, 9, 255];
        ImageSet grey = ImageSet.FromBytes(rgba, 1, 2, 4).ToGrey();
        Assert.Equal((1, 1, 2), (grey.Channels, grey.Height, grey.Width));
        Assert.Equal([7, 9], grey[0].ToArray());
        Assert.Contains("pixel (1, 0)", Assert.Throws<InvalidFileException>(() => ImageSet.FromBytes([7, 7, 7, 255, 9, 9, 9, 254], 1, 2, 4).ToGrey()).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidFileException>(() => ImageSet.FromBytes([7, 7, 8], 1, 1, 3).ToGrey());
    }

    [Fact]
    public void What_is_no_set_of_images_is_refused_by_name()
    {
        Save("a.png", 4, 2, 3, 10);
        Save("b.png", 4, 3, 3, 10);
        Refused("b.png", "give images of one size", _folder.Path);
        Refused("missing.png", "", _folder["missing.png"]);
        Directory.CreateDirectory(_folder["empty"]);
        Refused("empty", "holds no .png", _folder["empty"]);
        File.WriteAllText(_folder["text.png"], "no image");
        Refused("text.png", "", _folder["text.png"]);
        Npz.Write(_folder["floats.npz"], [new("arr_0", NpyArray.Of(new float[12], 1, 2, 2, 3))]);
        Refused("floats.npz: arr_0", "images are bytes [N, H, W, C]", _folder["floats.npz"]);
        Npz.Write(_folder["flat.npz"], [new("arr_0", NpyArray.Of(new byte[12], 12))]);
        Refused("flat.npz: arr_0", "images are bytes [N, H, W, C]", _folder["flat.npz"]);
        Npz.Write(_folder["labels.npz"], [new("arr_0", NpyArray.Of(new byte[12], 1, 2, 2, 3)), new("arr_1", NpyArray.Of([1L, 2], 2))]);
        Refused("labels.npz: arr_1", "2 labels", _folder["labels.npz"]);
        Npz.Write(_folder["negative.npz"], [new("arr_0", NpyArray.Of(new byte[12], 1, 2, 2, 3)), new("arr_1", NpyArray.Of([-1L], 1))]);
        Refused("negative.npz: arr_1", "name a class", _folder["negative.npz"]);
        Npz.Write(_folder["names.npz"], [new("arr_0", NpyArray.Of(new byte[12], 1, 2, 2, 3)), new("arr_1", NpyArray.Of(new float[1], 1))]);
        Refused("names.npz: arr_1", "labels are integers", _folder["names.npz"]);
        ImageSet rgba = ImageSet.FromBytes(new byte[4], 1, 1, 4);
        Assert.Contains("opacity", Assert.Throws<InvalidFileException>(() => rgba.Require(1, 1, 3)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => ImageSet.FromBytes(new byte[5], 1, 1, 3));
        Assert.Throws<ArgumentException>(() => ImageSet.FromBytes(new byte[6], 1, 1, 3, [1]));

        static void Refused(string place, string reason, string path)
        {
            InvalidFileException e = Assert.Throws<InvalidFileException>(() => ImageSet.Load(path));
            Assert.Contains(place, e.Message, StringComparison.Ordinal);
            Assert.Contains(reason, e.Message, StringComparison.Ordinal);
        }
    }

    private void Save(string name, int width, int height, int channels, byte value) =>
        Png.Save(_folder[name], new Image(width, height, channels, [.. Enumerable.Repeat(value, width * height * channels)]));
}

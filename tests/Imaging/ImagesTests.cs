using Kernels.Imaging;
using Xunit;

namespace Kernels.Tests.Imaging;

public sealed class ImagesTests
{
    [Fact]
    public void BytesAreThoseOfPyTorch()
    {
        using Npz recorded = Npz.Open(Fixture("to-bytes.npz"));
        float[] x = recorded.Read("x").ToFloat32();
        Assert.Equal(recorded.Read("bytes").ToBytes(), Images.ToBytes(x));

        byte[] all = [.. Enumerable.Range(0, 256).Select(i => (byte)i)];
        float[] back = new float[256];
        Images.FromBytes(all, back);
        Assert.Equal(recorded.Read("back").ToFloat32(), back);
    }

    [Fact]
    public void WhatIsNoNumberIsBlack() => Assert.Equal([0, 255, 0], Images.ToBytes([float.NaN, float.PositiveInfinity, float.NegativeInfinity]));

    [Fact]
    public void LengthsMustAgree()
    {
        Assert.Throws<ArgumentException>(() => Images.ToBytes(new float[2], new byte[3]));
        Assert.Throws<ArgumentException>(() => Images.FromBytes(new byte[2], new float[3]));
    }

    [Fact]
    public void APictureHasAsManySamplesAsItSays()
    {
        Assert.Throws<ArgumentException>(() => new Image(2, 2, 3, new byte[11]));
        Assert.Throws<ArgumentException>(() => new Image(2, 2, 2, new byte[8]));
        Assert.Throws<ArgumentOutOfRangeException>(() => new Image(0, 2, 3, []));
        Assert.Throws<ArgumentException>(() => new Image(int.MaxValue, int.MaxValue, 3, []));
    }

    internal static string Fixture(string name) => Path.Combine(AppContext.BaseDirectory, "Imaging", "fixtures", name);
}

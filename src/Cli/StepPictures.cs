using System.Globalization;
using Kernels.Diffusion;
using Kernels.Imaging;
using Kernels.Sampling;

namespace Kernels.Cli;

/// <summary>A picture of the predicted images after every step of every batch.</summary>
internal sealed class StepPictures
{
    private readonly string _folder;
    private readonly SampleFormat _format;
    private float[] _predXstart = [];

    /// <summary>Makes the folder.</summary>
    /// <param name="folder">Where the pictures go.</param>
    /// <param name="format">The images.</param>
    /// <exception cref="ConfigurationException">The folder cannot be made.</exception>
    public StepPictures(string folder, SampleFormat format)
    {
        try
        {
            Directory.CreateDirectory(folder);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"--intermediates {folder}: {e.Message}");
        }

        _folder = folder;
        _format = format;
    }

    /// <summary>Writes the picture of a step.</summary>
    /// <param name="first">Index of the batch's first image.</param>
    /// <param name="count">Images of the batch.</param>
    /// <param name="result">The step.</param>
    public void Save(int first, int count, StepResult result)
    {
        if (_predXstart.Length != count * _format.ImageBytes)
        {
            _predXstart = new float[count * _format.ImageBytes];
        }

        result.ReadPredXstart(_predXstart);
        string name = string.Create(CultureInfo.InvariantCulture, $"{first:D6}-step{result.Step + 1:D4}.png");
        Png.Save(
            Path.Combine(_folder, name),
            ImageGrid.Compose(Images.ToBytes(_predXstart), count, _format.Height, _format.Width, _format.Channels, _format.Columns));
    }
}

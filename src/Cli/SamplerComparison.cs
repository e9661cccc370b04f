using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Kernels.Diffusion;
using Kernels.Imaging;
using Kernels.Sampling;
using Spectre.Console;

namespace Kernels.Cli;

/// <summary>The same images by several samplers: a row of one picture for each, and what they cost.</summary>
internal sealed class SamplerComparison
{
    private const long MaxPictureBytes = 1L << 30;

    private readonly string _path;
    private readonly List<byte> _pixels = [];
    private readonly List<(string Row, Receipt Receipt)> _receipts = [];
    private readonly Table _table = new();
    private SampleFormat? _format;

    /// <summary>Begins a comparison.</summary>
    /// <param name="path">The picture.</param>
    /// <exception cref="ConfigurationException">It is no PNG.</exception>
    public SamplerComparison(string path)
    {
        _path = Path.GetExtension(path).Equals(".png", StringComparison.OrdinalIgnoreCase) ? path
            : throw new ConfigurationException($"--output {path}: a comparison is one picture; give a .png");
        _table.Border(TableBorder.Simple).AddColumns("sampler", "spacing");
        foreach (string column in new[] { "steps", "evaluations", "seconds", "images per second" })
        {
            _table.AddColumn(new TableColumn(column).RightAligned());
        }
    }

    /// <summary>Samples the row of a sampler. Kernels are compiled and weights packed before the clock starts.</summary>
    /// <param name="sampler">The sampler.</param>
    /// <param name="request">The images.</param>
    /// <param name="console">Where progress is shown.</param>
    /// <param name="cancellationToken">Ends the work.</param>
    /// <exception cref="ConfigurationException">Too many images, or not of a picture's channels.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public void Add(Sampler sampler, SampleRequest request, CliConsole console, CancellationToken cancellationToken)
    {
        _format ??= Check(sampler, request);
        sampler.Prepare(request.BatchSize);
        int steps = sampler.StepsOf(request);
        SamplerKind kind = sampler.Table.Sampler;
        int first = _pixels.Count;
        StepHashes hashes = new(request.Count, steps);
        console.Tell($"{SamplerKinds.NameOf(kind)}: {request.Count} images");
        long start = Stopwatch.GetTimestamp();
        SampleProgress.Run(console.Progress, request.Count, steps, progress =>
        {
            for (int at = 0; at < request.Count; at += request.BatchSize)
            {
                int count = Math.Min(request.BatchSize, request.Count - at);
                _pixels.AddRange(Images.ToBytes(sampler.Sample(request, at, count, hashes, at, _ => progress(count), cancellationToken: cancellationToken).Images));
            }
        });
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;

        // The hashes of steps are timed too, in every row alike; they cost less than runs differ among themselves (docs/reliability.md).
        using ReceiptBuilder receipt = new(new ReceiptImages(0, request.Count, sampler.Height, sampler.Width, sampler.Channels), steps);
        receipt.Add(CollectionsMarshal.AsSpan(_pixels)[first..], hashes);
        _receipts.Add((SamplerKinds.NameOf(kind), receipt.Finish(JobIdentity.Of(sampler, request))));
        _table.AddRow(
            SamplerKinds.NameOf(kind),
            NoiseLevels.NameOf(sampler.Options.Settings.Spacing!.Value),
            Number(kind == SamplerKind.Heun ? (steps + 1) / 2 : steps),
            Number(steps),
            seconds.ToString("0.00", CultureInfo.InvariantCulture),
            (request.Count / seconds).ToString("0.00", CultureInfo.InvariantCulture));
    }

    /// <summary>Writes the picture and prints the table.</summary>
    /// <param name="console">Where to print.</param>
    public void Save(CliConsole console)
    {
        SampleFormat format = _format!.Value;
        int images = _pixels.Count / format.ImageBytes;
        Image grid = ImageGrid.Compose([.. _pixels], images, format.Height, format.Width, format.Channels, format.Columns);
        Png.Save(_path, new Image(grid.Width, grid.Height, grid.Channels, grid.Pixels) { Text = ReceiptFile.TextOf(_receipts) });
        console.Tables.Write(_table);
        console.Output.WriteLine(_path);
    }

    private SampleFormat Check(Sampler sampler, SampleRequest request)
    {
        SampleFormat format = new(request.Count, sampler.Height, sampler.Width, sampler.Channels, request.Count);
        OutputFolder.Prepare(_path);
        return sampler.Channels is not (1 or 3 or 4) ? throw new ConfigurationException($"--output {_path}: images of {sampler.Channels} channels do not fit a PNG")
            : (long)request.Count * SamplerKinds.Names.Count * format.ImageBytes > MaxPictureBytes ? throw new ConfigurationException($"{request.Count} images of every sampler are too many for one picture")
            : format;
    }

    private static string Number(int value) => value.ToString(CultureInfo.InvariantCulture);
}

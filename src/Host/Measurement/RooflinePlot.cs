using System.Globalization;
using System.Xml.Linq;

namespace Kernels.Measurement;

/// <summary>The launches of a profile under their roofline (Williams, Waterman and Patterson 2009), as an SVG element: operations per byte to the right, operations per second upwards, both logarithmic.</summary>
internal static class RooflinePlot
{
    private const double Width = 900, Height = 480, Left = 70, Right = 20, Top = 20, Bottom = 50;

    /// <summary>Draws the plot.</summary>
    /// <param name="roofline">The limits.</param>
    /// <param name="ledger">The launches; those that compute nothing are left out.</param>
    public static XElement Draw(Roofline roofline, IReadOnlyList<LedgerLine> ledger)
    {
        (double X, double Y, LedgerLine Line)[] points =
            [.. ledger.Where(l => l.Flops > 0 && l.Bytes > 0 && l.Ms > 0).Select(l => ((double)l.Flops / l.Bytes, l.Flops / l.Ms!.Value / 1e6, l))];
        double peak = roofline.Tflops * 1e3;
        Axis x = Axis.Of(points.Select(p => p.X).Append(roofline.Ridge), Left, Width - Right);
        Axis y = Axis.Of(points.Select(p => p.Y).Append(peak), Height - Bottom, Top);
        XElement svg = new(
            "svg",
            new XAttribute("id", "roofline"),
            new XAttribute("viewBox", $"0 0 {Text(Width)} {Text(Height)}"),
            new XAttribute("role", "img"),
            new XElement("title", "Roofline: GFLOP/s over FLOP per byte"));
        foreach (double tick in x.Ticks)
        {
            svg.Add(Line(x.At(tick), Top, x.At(tick), Height - Bottom, "grid"), Label(x.At(tick), Height - Bottom + 18, "middle", Text(tick)));
        }

        foreach (double tick in y.Ticks)
        {
            svg.Add(Line(Left, y.At(tick), Width - Right, y.At(tick), "grid"), Label(Left - 6, y.At(tick) + 4, "end", Text(tick)));
        }

        svg.Add(
            Label((Left + Width - Right) / 2, Height - 8, "middle", "FLOP per byte"),
            Label(Left, Top - 6, "start", "GFLOP/s"),
            Roof(roofline, x, y, peak));
        foreach ((double px, double py, LedgerLine line) in points)
        {
            svg.Add(new XElement(
                "circle",
                new XAttribute("cx", Text(x.At(px))),
                new XAttribute("cy", Text(y.At(py))),
                new XAttribute("r", "4"),
                new XAttribute("class", $"p{StepParts.All.ToList().IndexOf(line.Part)}"),
                new XAttribute("data-index", line.Index.ToString(CultureInfo.InvariantCulture)),
                new XAttribute("data-intensity", px.ToString("R", CultureInfo.InvariantCulture)),
                new XAttribute("data-gflops", py.ToString("R", CultureInfo.InvariantCulture)),
                new XElement("title", string.Create(CultureInfo.InvariantCulture, $"{line.Name}: {line.Op} {line.Shapes}, {px:0.##} FLOP/B, {py:0.##} GFLOP/s"))));
        }

        return svg;
    }

    private static XElement Roof(Roofline roofline, Axis x, Axis y, double peak)
    {
        // Below the ridge bandwidth limits: GFLOP/s = GB/s times FLOP per byte.
        double left = Math.Max(x.Least, y.Least / roofline.CopyGBPerSecond), ridge = Math.Clamp(roofline.Ridge, x.Least, x.Most);
        string points = string.Join(' ', new[] { (left, roofline.CopyGBPerSecond * left), (ridge, peak), (x.Most, peak) }.Select(p => $"{Text(x.At(p.Item1))},{Text(y.At(p.Item2))}"));
        return new XElement("polyline", new XAttribute("points", points), new XAttribute("class", "roof"));
    }

    private static XElement Line(double x1, double y1, double x2, double y2, string style) => new(
        "line",
        new XAttribute("x1", Text(x1)), new XAttribute("y1", Text(y1)), new XAttribute("x2", Text(x2)), new XAttribute("y2", Text(y2)), new XAttribute("class", style));

    private static XElement Label(double x, double y, string anchor, string text) => new(
        "text", new XAttribute("x", Text(x)), new XAttribute("y", Text(y)), new XAttribute("text-anchor", anchor), text);

    private static string Text(double value) => value.ToString("0.###", CultureInfo.InvariantCulture);

    /// <summary>A logarithmic axis from one power of ten to another.</summary>
    private sealed record Axis(int First, int Last, double From, double To)
    {
        public double Least => Math.Pow(10, First);

        public double Most => Math.Pow(10, Last);

        public IEnumerable<double> Ticks => Enumerable.Range(First, Last - First + 1).Select(e => Math.Pow(10, e));

        public static Axis Of(IEnumerable<double> values, double from, double to)
        {
            double[] all = [.. values];
            int first = (int)Math.Floor(Math.Log10(all.Min())), last = (int)Math.Ceiling(Math.Log10(all.Max()));
            return new Axis(first, Math.Max(last, first + 1), from, to);
        }

        public double At(double value) => From + ((Math.Log10(value) - First) / (Last - First) * (To - From));
    }
}

namespace Kernels.Tests.PtxEmulator;

/// <summary>
/// What a driver holds against a capture, as the documentation of its streams has it: which streams it has drawn in, what nobody has waited for, and what must not be asked meanwhile.
/// Results are the driver's own numbers. Nothing is allocated once a stream and an event are known.
/// </summary>
internal sealed class CaptureRules
{
    /// <summary>CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, _MERGE, _UNMATCHED, _UNJOINED, _ISOLATION and CUDA_ERROR_CAPTURED_EVENT.</summary>
    internal const int Unsupported = 900, Merge = 902, Unmatched = 903, Unjoined = 904, Isolation = 905, CapturedEvent = 907;

    // Work of each stream that captures, and how much of it the first one has waited for.
    private readonly Dictionary<nint, int> _work = [], _joined = [];
    private readonly Dictionary<nint, (nint Stream, int Work)> _events = [];
    private nint _origin;

    /// <summary>Launches, copies and fills captured last.</summary>
    internal int Captured { get; private set; }

    /// <summary>Streams that the last capture drew in beside its first.</summary>
    internal int Forks { get; private set; }

    internal bool IsCapturing(nint stream) => _origin != 0 && _work.ContainsKey(stream);

    internal int Begin(nint stream)
    {
        if (_origin != 0)
            return Merge;
        (_origin, Captured, Forks) = (stream, 0, 0);
        _work[stream] = 0;
        return 0;
    }

    internal int End(nint stream)
    {
        if (stream != _origin)
            return Unmatched;
        var isJoined = _work.Keys.All(s => s == _origin || _joined.GetValueOrDefault(s, -1) == _work[s]);
        (Captured, Forks) = (_work.Values.Sum(), _work.Count - 1);
        _origin = 0;
        _work.Clear();
        _joined.Clear();
        return isJoined ? 0 : Unjoined;
    }

    internal void Work(nint stream)
    {
        if (_origin != 0 && _work.TryGetValue(stream, out var before))
            _work[stream] = before + 1;
    }

    internal void Record(nint driverEvent, nint stream) => _events[driverEvent] = IsCapturing(stream) ? (stream, _work[stream]) : (0, 0);

    internal int Wait(nint stream, nint driverEvent)
    {
        var (source, work) = _events.GetValueOrDefault(driverEvent);
        if (!IsCapturing(source))
            return IsCapturing(stream) ? Isolation : 0;
        _work.TryAdd(stream, 0);
        if (stream == _origin)
            _joined[source] = work;
        return 0;
    }

    /// <summary>The host waits for a stream, or with 0 for all of them.</summary>
    internal int Synchronize(nint stream) => _origin != 0 && (stream == 0 || _work.ContainsKey(stream)) ? Unsupported : 0;

    /// <summary>The host waits for an event, or asks when it was.</summary>
    internal int Ask(nint driverEvent) => _events.GetValueOrDefault(driverEvent).Stream != 0 ? CapturedEvent : 0;
}

using System.Globalization;
using System.Runtime.InteropServices;

namespace Kernels.Backends.Gpu;

/// <summary>Runs a plan kernel by kernel and says what happens (<see cref="GpuOptions.DebugLevel"/>).</summary>
internal sealed class GpuDebugger
{
    private readonly GpuExecutor _executor;
    private readonly Driver _driver;
    private readonly GpuOptions _options;

    public GpuDebugger(GpuExecutor executor, Driver driver, GpuOptions options)
    {
        _executor = executor;
        _driver = driver;
        _options = options;
        options.DebugOutput.WriteLine(executor.Plan.ToText());
        foreach ((int i, KernelCall call) in executor.Calls.Index())
        {
            options.DebugOutput.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{i,4} {call.Kernel}: {call.Geometry}  {call.Node.Name}"));
        }
    }

    public void Run(CancellationToken cancellationToken)
    {
        using DriverEvent start = _driver.CreateEvent(), end = _driver.CreateEvent();
        for (int i = 0; i < _executor.Calls.Count; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            KernelCall call = _executor.Calls[i];
            try
            {
                _driver.Record(start);
                _executor.LaunchCall(i);
                _executor.Synchronize();
                _driver.Record(end);
            }
            catch (KernelsException e)
            {
                throw new DeviceException($"kernel {i}, {call.Kernel} with {call.Geometry}, of {call.Node.Op.Name} '{call.Node.Name}': {e.Message}", e);
            }

            _options.DebugOutput.WriteLine(
                string.Create(CultureInfo.InvariantCulture, $"{i,4} {_driver.ElapsedMilliseconds(start, end),9:0.000} ms  {call.Kernel.Entry}  {call.Node.Name}"));
            if (_options.DebugLevel > 2 && (i + 1 == _executor.Calls.Count || _executor.Calls[i + 1].Node != call.Node))
            {
                foreach (Tensor output in call.Node.Outputs)
                {
                    Scan(output, call);
                }
            }
        }
    }

    private void Scan(Tensor tensor, KernelCall call)
    {
        if (!tensor.DType.IsFloatingPoint())
        {
            return;
        }

        byte[] bytes = new byte[tensor.Bytes];
        _driver.CopyToHost(bytes, _executor.Address(tensor));
        int bad = 0, first = -1;
        for (int i = 0; i < tensor.Shape.Elements; i++)
        {
            bool finite = tensor.DType switch
            {
                DType.F32 => float.IsFinite(MemoryMarshal.Cast<byte, float>(bytes)[i]),
                DType.F16 => Half.IsFinite(MemoryMarshal.Cast<byte, Half>(bytes)[i]),
                _ => (MemoryMarshal.Cast<byte, ushort>(bytes)[i] & 0x7f80) != 0x7f80,
            };
            if (!finite)
            {
                first = bad++ == 0 ? i : first;
            }
        }

        if (bad > 0)
        {
            _options.DebugOutput.WriteLine(
                string.Create(CultureInfo.InvariantCulture, $"     {bad} of {tensor.Shape.Elements} elements of {tensor} are not finite, element {first} first  {call.Kernel.Entry}"));
        }
    }
}

using System.Runtime.InteropServices;
using Kernels.Runtime;

namespace Kernels.Backends.Gpu;

/// <summary>Weights on the device, each in the layouts that kernels want, repacked on the host once for all executors of a backend.</summary>
internal class DeviceWeights(Driver driver) : IDisposable
{
    private readonly Dictionary<(Weights Weights, string Name, string Layout), DeviceBuffer> _buffers = [];
    private readonly HashSet<(Weights Weights, string Name)> _names = [];
    private readonly Dictionary<Weights, int> _users = [];

    /// <summary>Bytes on the device.</summary>
    public long Bytes => _buffers.Values.Sum(b => b.Bytes);

    /// <summary>Announces an executor: weights stay on the device as long as one that uses them lives.</summary>
    /// <param name="weights">What it uses.</param>
    public void Acquire(Weights weights) => _users[weights] = _users.GetValueOrDefault(weights) + 1;

    /// <summary>Takes leave of an executor. With the last one its weights go.</summary>
    /// <param name="weights">What it used.</param>
    public void Release(Weights weights)
    {
        if (--_users[weights] > 0)
        {
            return;
        }

        _users.Remove(weights);
        foreach ((Weights Weights, string Name, string Layout) key in _buffers.Keys.Where(k => k.Weights == weights).ToArray())
        {
            _buffers[key].Dispose();
            _buffers.Remove(key);
        }

        _names.RemoveWhere(n => n.Weights == weights);
    }

    /// <summary>Whether a weight is on the device in some layout.</summary>
    /// <param name="weights">Where it comes from.</param>
    /// <param name="weight">The weight.</param>
    public bool Holds(Weights weights, Tensor weight) => _names.Contains((weights, weight.Name));

    /// <summary>Address of a weight in a layout.</summary>
    /// <param name="weights">Where it comes from.</param>
    /// <param name="weight">The weight.</param>
    /// <param name="layout">A name for the layout, element type included.</param>
    /// <param name="pack">Makes the layout from the dense values of the checkpoint.</param>
    public virtual ulong Get(Weights weights, Tensor weight, string layout, Func<float[], byte[]> pack)
    {
        if (!_buffers.TryGetValue((weights, weight.Name, layout), out DeviceBuffer? buffer))
        {
            float[] dense = new float[weight.Shape.Elements];
            weights.CopyTo(weight.Name, dense);
            byte[] packed = pack(dense);
            buffer = new DeviceBuffer(driver, packed.Length, $"{weight.Name} ({layout})");
            _buffers.Add((weights, weight.Name, layout), buffer);
            _names.Add((weights, weight.Name));
            driver.CopyToDevice(buffer.Address, packed);
            driver.Synchronize();
        }

        return buffer.Address;
    }

    /// <summary>The values as bytes of a storage type, rounded to nearest even.</summary>
    /// <param name="values">The values.</param>
    /// <param name="dtype">The type.</param>
    public static byte[] Convert(ReadOnlySpan<float> values, DType dtype)
    {
        if (dtype == DType.F32)
        {
            return MemoryMarshal.AsBytes(values).ToArray();
        }

        byte[] bytes = new byte[2 * values.Length];
        Span<ushort> halves = MemoryMarshal.Cast<byte, ushort>(bytes.AsSpan());
        for (int i = 0; i < values.Length; i++)
        {
            halves[i] = dtype == DType.F16 ? BitConverter.HalfToUInt16Bits((Half)values[i]) : BFloat16Bits(values[i]);
        }

        return bytes;
    }

    /// <summary>Frees everything.</summary>
    public void Dispose()
    {
        foreach (DeviceBuffer buffer in _buffers.Values)
        {
            buffer.Dispose();
        }

        _buffers.Clear();
    }

    private static ushort BFloat16Bits(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return float.IsNaN(value) ? (ushort)((bits >> 16) | 0x40) : (ushort)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }
}

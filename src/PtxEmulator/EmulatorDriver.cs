using System.Runtime.InteropServices;
using Kernels.Backends.Gpu;
using Kernels.Emulation.Counting;
using Kernels.Emulation.Execution;
using Kernels.Emulation.Memory;

namespace Kernels.Emulation;

/// <summary>
/// A driver without a device: executes the PTX that the CUDA compiler writes on the CPU, looks for faults, and counts. Work runs at once, in the order given, whatever its
/// stream; a launch in which something is found runs to its end where it can and then throws <see cref="KernelCheckException"/>.
/// </summary>
public sealed unsafe partial class EmulatorDriver : Driver
{
    private readonly EmulatorOptions options;
    private readonly DeviceMemory memory;
    private readonly EmulatorStream defaultStream = new();
    private long allocated;

    /// <summary>Creates a driver with memory of its own.</summary>
    /// <param name="options">How to run kernels; everything checked and nothing counted if null.</param>
    public EmulatorDriver(EmulatorOptions? options = null)
    {
        this.options = options ?? new EmulatorOptions();
        memory = new DeviceMemory(this.options.Checks.HasFlag(Checks.Uninitialized), this.options.Checks.HasFlag(Checks.Races));
    }

    /// <summary>Counters of the last launch; null if counting is off or nothing was launched.</summary>
    public LaunchCounters? LastCounters { get; private set; }

    /// <inheritdoc/>
    public override string Name => "PTX emulator";

    /// <inheritdoc/>
    public override string Architecture => options.Architecture;

    /// <inheritdoc/>
    public override bool RunsMachineCode => false;

    /// <inheritdoc/>
    public override long TotalBytes => options.TotalBytes;

    /// <inheritdoc/>
    public override long FreeBytes => options.TotalBytes - allocated;

    /// <inheritdoc/>
    public override int Multiprocessors => options.Workers;

    /// <inheritdoc/>
    public override int MaximumSharedBytes => 227 << 10;

    /// <inheritdoc/>
    public override DriverStream DefaultStream => defaultStream;

    /// <inheritdoc/>
    public override ulong Allocate(long bytes, string label = "")
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(bytes, 1);
        if (allocated + bytes > options.TotalBytes)
            throw new DeviceException($"{Name}: {bytes} bytes for '{label}' do not fit beside the {allocated} of {options.TotalBytes} already allocated") { Fault = DeviceFault.OutOfMemory };
        allocated += bytes;
        return memory.Allocate(bytes, label).Address;
    }

    /// <inheritdoc/>
    public override void Free(ulong address)
    {
        var bytes = memory.Find(address)?.Bytes ?? 0;
        if (!memory.Free(address))
            throw new DeviceException($"{Name}: 0x{address:x} is not the start of an allocation{(memory.FindFreed(address) is null ? "" : "; it was freed before")}");
        allocated -= bytes;
    }

    /// <inheritdoc/>
    public override void CopyToDevice(ulong destination, ReadOnlySpan<byte> source, DriverStream? stream = null)
    {
        Range(destination, source.Length, "copy to the device");
        if (Capturing(stream) is { } captured)
        {
            var kept = source.ToArray();
            captured.Add(() => Write(destination, kept));
            return;
        }
        Write(destination, source);
    }

    /// <inheritdoc/>
    public override void CopyToHost(Span<byte> destination, ulong source, DriverStream? stream = null)
    {
        if (Capturing(stream) is not null)
            throw new DeviceException($"{Name}: a copy to the host cannot be captured");
        Range(source, destination.Length, "copy to the host");
        new ReadOnlySpan<byte>((void*)source, destination.Length).CopyTo(destination);
    }

    /// <inheritdoc/>
    public override nint AllocateHost(long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(bytes, 1);
        return (nint)NativeMemory.Alloc((nuint)bytes);
    }

    /// <inheritdoc/>
    public override void FreeHost(nint address) => NativeMemory.Free((void*)address);

    /// <inheritdoc/>
    public override void CopyToHost(nint destination, ulong source, long bytes, DriverStream stream) =>
        CopyToHost(new Span<byte>((void*)destination, checked((int)bytes)), source, stream);

    /// <inheritdoc/>
    public override void Copy(ulong destination, ulong source, long bytes, DriverStream? stream = null)
    {
        var to = Range(destination, bytes, "copy");
        var from = Range(source, bytes, "copy");
        Do(stream, () =>
        {
            Buffer.MemoryCopy((void*)source, (void*)destination, bytes, bytes);
            if (to.Written != null && from.Written != null)
                Buffer.MemoryCopy(from.Written + (source - from.Address), to.Written + (destination - to.Address), bytes, bytes);
        });
    }

    /// <inheritdoc/>
    public override void Fill(ulong destination, byte value, long bytes, DriverStream? stream = null)
    {
        var to = Range(destination, bytes, "fill");
        Do(stream, () =>
        {
            System.Runtime.InteropServices.NativeMemory.Fill((void*)destination, (nuint)bytes, value);
            if (to.Written != null)
                System.Runtime.InteropServices.NativeMemory.Fill(to.Written + (destination - to.Address), (nuint)bytes, 1);
        });
    }

    /// <inheritdoc/>
    /// <exception cref="PtxException">The PTX is malformed or uses an instruction that the emulator does not execute.</exception>
    public override DriverModule LoadModule(ReadOnlySpan<byte> image, string name)
    {
        if (image.StartsWith("\u007fELF"u8))
            throw new DeviceException($"{Name}: '{name}' is machine code; the emulator runs PTX");
        return new EmulatorModule(this, new LoadedModule(image, name, memory));
    }

    /// <inheritdoc/>
    /// <exception cref="KernelCheckException">Something was found; counters are kept.</exception>
    public override void Launch(DriverFunction function, in LaunchGeometry geometry, ReadOnlySpan<byte> arguments, DriverStream? stream = null)
    {
        ArgumentNullException.ThrowIfNull(function);
        var kernel = (EmulatorFunction)function;
        Validate(kernel, geometry, arguments.Length);
        if (Capturing(stream) is { } captured)
        {
            var (keptGeometry, keptArguments) = (geometry, arguments.ToArray());
            captured.Add(() => Run(kernel, keptGeometry, keptArguments));
            return;
        }
        Run(kernel, geometry, arguments);
    }

    private void Validate(EmulatorFunction kernel, in LaunchGeometry geometry, int argumentBytes)
    {
        var problem = geometry switch
        {
            { GridX: < 1 } or { GridY: < 1 } or { GridZ: < 1 } or { BlockX: < 1 } or { BlockY: < 1 } or { BlockZ: < 1 } => "every extent must be at least 1",
            { GridY: > 65535 } or { GridZ: > 65535 } => "a grid has at most 65535 blocks along y and z",
            { ThreadsPerBlock: > 1024 } or { BlockZ: > 64 } => "a block has at most 1024 threads, and 64 along z",
            { SharedBytes: < 0 } => "shared memory cannot be negative",
            _ when geometry.Blocks > int.MaxValue => "the emulator numbers at most 2147483647 blocks",
            _ when kernel.Program.Entry.SharedBytes + geometry.SharedBytes > MaximumSharedBytes =>
                $"with {kernel.Program.Entry.SharedBytes} bytes of static shared memory that is more than the {MaximumSharedBytes} of a block",
            _ when kernel.Program.Entry.Written.MaximumThreads is > 0 and var most && geometry.ThreadsPerBlock > most => $"the kernel was compiled for at most {most} threads",
            _ when kernel.Program.Entry.Written.RequiredBlock is [var x, var y, var z] && (geometry.BlockX, geometry.BlockY, geometry.BlockZ) != (x, y, z) =>
                $"the kernel was compiled for blocks of ({x},{y},{z}) threads and no others",
            _ when argumentBytes != kernel.ArgumentBytes => $"the kernel takes {kernel.ArgumentBytes} bytes of arguments, not {argumentBytes}",
            _ => "",
        };
        if (problem.Length > 0)
            throw new DeviceException($"launch of '{kernel.Name}' with {geometry}: {problem}");
    }

    private void Run(EmulatorFunction kernel, in LaunchGeometry geometry, ReadOnlySpan<byte> arguments)
    {
        var grid = new Index3(geometry.GridX, geometry.GridY, geometry.GridZ);
        var block = new Index3(geometry.BlockX, geometry.BlockY, geometry.BlockZ);
        using var launch = new Launch(kernel.Program, memory, grid, block, geometry.SharedBytes, arguments)
        {
            Checks = options.Checks,
            Counting = options.Counters,
            Budget = options.InstructionBudget,
            Workers = options.Workers,
            Output = options.Output,
        };
        var counted = launch.Run();
        LastCounters = counted is null ? null : LaunchCounters.From(launch, counted);
        if (launch.Findings.Count > 0)
            throw new KernelCheckException(launch.Findings);
    }

    private void Write(ulong destination, ReadOnlySpan<byte> source)
    {
        var target = memory.Find(destination)!;
        source.CopyTo(new Span<byte>((void*)destination, source.Length));
        if (target.Written != null)
            new Span<byte>(target.Written + (destination - target.Address), source.Length).Fill(1);
    }

    private Allocation Range(ulong address, long bytes, string what)
    {
        if (memory.Find(address) is { } allocation && bytes >= 0 && address + (ulong)bytes <= allocation.End)
            return allocation;
        var freed = memory.FindFreed(address);
        throw new DeviceException(
            $"{Name}: {what} of {bytes} bytes at 0x{address:x} is not within one allocation{(freed is null ? "" : $"; {freed} was freed")}");
    }

    internal void Unload(LoadedModule module)
    {
        foreach (var allocation in module.Allocations)
            memory.Free(allocation.Address);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing) => memory.Dispose();
}

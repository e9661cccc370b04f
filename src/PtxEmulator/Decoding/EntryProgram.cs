using System.Text;
using Kernels.Emulation.Memory;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Execution;

/// <summary>A module in memory: its variables have addresses, its kernels are decoded.</summary>
internal sealed unsafe class LoadedModule
{
    private readonly Dictionary<string, Allocation> variables = [];
    private readonly List<PtxFunction> functions;
    private readonly Dictionary<string, EntryProgram> entries = [];

    internal LoadedModule(ReadOnlySpan<byte> ptx, string name, DeviceMemory memory)
    {
        Name = name;
        Written = PtxParser.Parse(Encoding.UTF8.GetString(ptx), name);
        functions = [.. Written.Functions.Values];
        foreach (var variable in Written.Variables.Values.Where(v => v.Space is StateSpace.Global or StateSpace.Const))
            variables[variable.Name] = memory.Allocate(Math.Max(1, variable.Bytes), variable.Name);
        foreach (var variable in Written.Variables.Values.Where(v => v.Space is StateSpace.Global or StateSpace.Const))
            Initialize(variable);
        foreach (var entry in functions.Where(f => f.IsEntry && f.HasBody))
            entries[entry.Name] = new EntryProgram(this, entry);
    }

    internal string Name { get; }

    internal PtxModule Written { get; }

    internal IReadOnlyDictionary<string, EntryProgram> Entries => entries;

    internal IEnumerable<Allocation> Allocations => variables.Values;

    internal ulong AddressOf(string variable) =>
        variables.TryGetValue(variable, out var allocation) ? allocation.Address : throw new PtxException($"{Name}: '{variable}' is declared but not defined");

    internal (ulong Address, long Bytes)? Variable(string name) =>
        variables.TryGetValue(name, out var allocation) ? (allocation.Address, allocation.Bytes) : null;

    internal int NumberOf(PtxFunction function) => functions.IndexOf(function);

    internal PtxFunction? FunctionAt(int number) => number >= 0 && number < functions.Count ? functions[number] : null;

    /// <summary>Whether some variable holds addresses of functions.</summary>
    internal IEnumerable<PtxFunction> FunctionsInData =>
        Written.Variables.Values.SelectMany(v => v.Relocations).Select(r => Written.Functions.GetValueOrDefault(r.Symbol)).OfType<PtxFunction>().Distinct();

    private void Initialize(PtxVariable variable)
    {
        var allocation = variables[variable.Name];
        var bytes = new Span<byte>((void*)allocation.Address, (int)variable.Bytes);
        // Device variables without a value start as zero.
        bytes.Clear();
        variable.Initial.CopyTo(bytes);
        foreach (var (offset, symbol, addend) in variable.Relocations)
        {
            var address = Written.Functions.TryGetValue(symbol, out var function) ? EntryProgram.Pointer(NumberOf(function)) : AddressOf(symbol);
            *(ulong*)(allocation.Address + (ulong)offset) = address + (ulong)addend;
        }
        if (allocation.Written != null)
            new Span<byte>(allocation.Written, (int)variable.Bytes).Fill(1);
    }
}

/// <summary>
/// A kernel with the device functions it can reach. Each kernel has its own copy of them, because where shared variables lie depends on the kernel.
/// </summary>
internal sealed class EntryProgram
{
    private const ulong FunctionWindow = 5UL << 56;

    private readonly Dictionary<PtxFunction, FunctionCode> functions = [];
    private readonly List<Instruction> instructions = [];
    private readonly Dictionary<PtxVariable, int> shared = [];
    private readonly List<(FunctionCode Function, int Slot, bool Wide, long Offset)> dynamicShared = [];
    private int sharedTop, dynamicAlignment = 16;

    internal EntryProgram(LoadedModule module, PtxFunction entry)
    {
        Module = module;
        // Shared variables of the kernel lie in the order of their declaration, as a compiler that does not reorder would lay them.
        foreach (var variable in entry.Variables.Where(v => v is { Space: StateSpace.Shared, IsOpen: false }))
            Place(variable);
        Entry = Code(entry);
        foreach (var function in module.FunctionsInData)
        {
            if (function.HasBody)
                Code(function);
        }
        var dynamic = (sharedTop + dynamicAlignment - 1) & -dynamicAlignment;
        Entry.SharedBytes = dynamicShared.Count > 0 ? dynamic : sharedTop;
        foreach (var (function, slot, wide, offset) in dynamicShared)
            function.Constants.Add((slot, wide, (ulong)(dynamic + offset)));
    }

    internal LoadedModule Module { get; }

    internal FunctionCode Entry { get; }

    internal int InstructionCount => instructions.Count;

    internal IReadOnlyList<Instruction> Instructions => instructions;

    internal Instruction Instruction(int id) => instructions[id];

    internal void Register(Instruction instruction)
    {
        instruction.Id = instructions.Count;
        instructions.Add(instruction);
    }

    /// <summary>The function's code for this kernel, decoded on first use.</summary>
    internal FunctionCode Code(PtxFunction function)
    {
        if (functions.TryGetValue(function, out var code))
            return code;
        code = new FunctionCode { Name = function.Name, Written = function, Number = Module.NumberOf(function) };
        // Entered before it is decoded, for functions that call themselves.
        functions[function] = code;
        Decoding.Decoder.Decode(this, code);
        return code;
    }

    internal static ulong Pointer(int number) => FunctionWindow + ((ulong)number + 1) * 16;

    internal ulong PointerTo(PtxFunction function)
    {
        if (function.HasBody)
            Code(function);
        return Pointer(Module.NumberOf(function));
    }

    internal FunctionCode? FunctionAt(ulong pointer)
    {
        if ((pointer & FunctionWindow) != FunctionWindow || pointer % 16 != 0)
            return null;
        var function = Module.FunctionAt((int)((pointer - FunctionWindow) / 16) - 1);
        return function is null ? null : functions.GetValueOrDefault(function);
    }

    /// <summary>Makes a slot hold a shared variable's address; dynamic shared memory begins where the static variables end, known when all are.</summary>
    internal int SharedAddress(PtxVariable variable, FunctionCode function, bool wide, long offset, int slot)
    {
        if (variable.IsOpen)
        {
            dynamicAlignment = Math.Max(dynamicAlignment, variable.Alignment);
            dynamicShared.Add((function, slot, wide, offset));
        }
        else
            function.Constants.Add((slot, wide, (ulong)(Place(variable) + offset)));
        return slot;
    }

    private int Place(PtxVariable variable)
    {
        if (!shared.TryGetValue(variable, out var offset))
        {
            offset = (sharedTop + variable.Alignment - 1) & -variable.Alignment;
            shared[variable] = offset;
            sharedTop = offset + (int)variable.Bytes;
        }
        return offset;
    }
}

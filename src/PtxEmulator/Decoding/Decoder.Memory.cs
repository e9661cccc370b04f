using Kernels.Emulation.Execution;
using Kernels.Emulation.Memory;
using Kernels.Emulation.Parsing;

namespace Kernels.Emulation.Decoding;

/// <content>Loads, stores, atomics, addresses.</content>
internal sealed partial class Decoder
{
    private Instruction? DecodeMemory()
    {
        switch (op.Name)
        {
            case "ld" or "ldu":
                return LoadOrStore(store: false);
            case "st":
                return LoadOrStore(store: true);
            case "atom" or "red":
                return AtomicAccess();
            case "cvta":
                return ConvertAddress();
            case "isspacep":
                var window = Space();
                return new IsInSpace(window, PredicateDestination(Operand(0)), S(1, "u64")) { Class = InstructionClass.Predicate };
            case "prefetch" or "prefetchu" or "discard" or "applypriority" or "createpolicy":
                op.IgnoreFamily("");
                return new NoOperation { Class = InstructionClass.OtherMemory };
            case "membar" or "fence":
                var wide = !(op.Has("cta") && op.Name == "membar");
                op.IgnoreFamily("");
                return new Fence(wide) { Class = InstructionClass.Barrier };
            default:
                return null;
        }
    }

    /// <summary>Modifiers that say where data is cached or who sees it first; memory here is one and coherent.</summary>
    private void IgnoreCacheModifiers()
    {
        op.Ignore("weak", "volatile", "relaxed", "mmio", "nc", "ca", "cg", "cs", "cv", "lu", "wb", "wt");
        op.Ignore("cta", "cluster", "gpu", "sys", "L2::cache_hint", "unified");
        op.IgnoreFamily("L1::");
        op.IgnoreFamily("L2::");
    }

    private StateSpace Space()
    {
        var space = op.OneOf("global", "shared", "shared::cta", "shared::cluster", "local", "param", "param::entry", "param::func", "const");
        return space switch
        {
            "global" => StateSpace.Global,
            "shared" or "shared::cta" or "shared::cluster" => StateSpace.Shared,
            "local" => StateSpace.Local,
            "param" or "param::entry" or "param::func" => StateSpace.Param,
            "const" => StateSpace.Const,
            _ => StateSpace.Generic,
        };
    }

    private static InstructionClass ClassOf(StateSpace space) => space switch
    {
        StateSpace.Shared => InstructionClass.SharedMemory,
        StateSpace.Local => InstructionClass.LocalMemory,
        StateSpace.Global or StateSpace.Generic => InstructionClass.GlobalMemory,
        _ => InstructionClass.OtherMemory,
    };

    private AddressSource Address(PtxOperand operand)
    {
        if (operand.Kind != OperandKind.Address)
            throw Unknown("an address in brackets was expected");
        var start = operand.Items[0];
        if (start.Kind == OperandKind.Register)
            return new AddressSource(registerSlots[start.Register!.Index], start.Register.LaneBytes == 8, operand.Offset);
        // The parser adds a symbol's own offset to the address's.
        if (start.Kind == OperandKind.Symbol && start.Variable is { Space: StateSpace.Local } local && localOffsets.TryGetValue(local, out var offset))
            throw Unknown($"local variable '{start.Name}' at {offset} is addressed directly");
        if (start.Kind == OperandKind.Symbol)
            return new AddressSource(SymbolSlot(new PtxOperand { Kind = OperandKind.Symbol, Name = start.Name, Variable = start.Variable }, true), true, operand.Offset);
        return new AddressSource(Constant(true, 0), true, (long)start.Bits + operand.Offset - start.Offset);
    }

    private Instruction LoadOrStore(bool store)
    {
        var acquires = op.Has("acquire");
        var releases = op.Has("release");
        var space = Space();
        IgnoreCacheModifiers();
        var lanes = op.OneOf("v2", "v4", "v8") switch { "v2" => 2, "v4" => 4, "v8" => 8, _ => 1 };
        var type = op.Type;
        var bytes = TokenReader.SizeOf(type);
        var addressOperand = Operand(store ? 0 : 1);
        var elements = Elements(Operand(store ? 1 : 0), type, store);
        if (elements.Length != lanes)
            throw Unknown($"{elements.Length} registers for {lanes} elements");
        var extension = !store && type[0] == 's' ? ExtensionFor(Operand(0), bytes) : Extension.Zero;
        if (space == StateSpace.Param && addressOperand.Items[0] is { Kind: OperandKind.Symbol, Variable: { } parameter })
        {
            if (argumentOffsets.TryGetValue(parameter, out var at))
                return new LoadArgument(at + (int)addressOperand.Offset, bytes, extension, elements) { Class = InstructionClass.OtherMemory };
            return new CallParameter(store, function.ParameterAreas[parameter], (int)parameter.Bytes, (int)addressOperand.Offset, bytes, extension, elements)
            {
                Class = InstructionClass.OtherMemory,
            };
        }
        var address = Address(addressOperand);
        Instruction access = store ? new Store(space, address, bytes, elements) : new Load(space, address, bytes, extension, elements);
        access.Class = ClassOf(space);
        return acquires || releases ? new OrderedAccess(access, acquires, releases) { Class = access.Class } : access;
    }

    private static Extension ExtensionFor(PtxOperand destination, int bytes)
    {
        var first = destination.Kind == OperandKind.Vector ? destination.Items[0] : destination;
        return TokenReader.SizeOf(first.Register?.Type ?? "b32") switch
        {
            2 => bytes < 2 ? Extension.Sign16 : Extension.Zero,
            8 => bytes < 8 ? Extension.Sign64 : Extension.Zero,
            _ => bytes < 4 ? Extension.Sign32 : Extension.Zero,
        };
    }

    private Atomic AtomicAccess()
    {
        var red = op.Name == "red";
        var semantics = op.OneOf("relaxed", "acquire", "release", "acq_rel");
        var space = Space();
        op.Ignore("cta", "cluster", "gpu", "sys", "noftz", "L2::cache_hint");
        var lanes = op.OneOf("v2", "v4", "v8") switch { "v2" => 2, "v4" => 4, "v8" => 8, _ => 1 };
        AtomicKind kind;
        switch (op.OneOf("add", "min", "max", "inc", "dec", "and", "or", "xor", "exch", "cas"))
        {
            case "add": kind = AtomicKind.Add; break;
            case "min": kind = AtomicKind.Min; break;
            case "max": kind = AtomicKind.Max; break;
            case "inc": kind = AtomicKind.Inc; break;
            case "dec": kind = AtomicKind.Dec; break;
            case "and": kind = AtomicKind.And; break;
            case "or": kind = AtomicKind.Or; break;
            case "xor": kind = AtomicKind.Xor; break;
            case "exch": kind = AtomicKind.Exchange; break;
            case "cas": kind = AtomicKind.CompareExchange; break;
            default: throw Unknown("the emulator does not know the operation");
        }
        var type = op.Type switch
        {
            "u32" or "b32" => AtomicType.U32,
            "s32" => AtomicType.S32,
            "u64" or "b64" => AtomicType.U64,
            "s64" => AtomicType.S64,
            "f32" => AtomicType.F32,
            "f64" => AtomicType.F64,
            "f16" => AtomicType.F16,
            "bf16" => AtomicType.BF16,
            "f16x2" => AtomicType.F16x2,
            "bf16x2" => AtomicType.BF16x2,
            "b16" => AtomicType.B16,
            _ => throw Unknown($"the emulator does not know atomics of .{op.Type}"),
        };
        var from = red ? 0 : 1;
        var to = red || Operand(0).Kind == OperandKind.Sink ? new ElementSlot(-1, false) : Element(Operand(0), op.Type, false);
        var third = kind == AtomicKind.CompareExchange ? Element(Operand(from + 2), op.Type, true) : new ElementSlot(-1, false);
        return new Atomic(
            space, Address(Operand(from)), kind, type, to, Elements(Operand(from + 1), op.Type, true), third, lanes,
            semantics is "acquire" or "acq_rel", semantics is "release" or "acq_rel")
        {
            Class = InstructionClass.Atomic,
        };
    }

    /// <summary><c>cvta</c>: between the addresses of a space and generic ones, which differ by the window; global ones are the same.</summary>
    private Instruction ConvertAddress()
    {
        var to = op.Has("to");
        var space = Space();
        ulong window = space switch
        {
            StateSpace.Shared => Access.SharedWindow,
            StateSpace.Local => Access.LocalWindow,
            StateSpace.Param => Access.ParamWindow,
            _ => 0UL,
        };
        if (!IsWide(op.Type))
            throw Unknown("generic addresses are 64 bits wide");
        var operand = Operand(1);
        if (operand.Kind == OperandKind.Symbol && operand.Variable is { Space: StateSpace.Local } local && !to)
            return new LocalAddress(D(), true, localOffsets[local] + operand.Offset, generic: true) { Class = InstructionClass.Integer };
        var source = S(1, "u64");
        if (window == 0)
            return new Unary64<Integers64.Move>(D(), source) { Class = InstructionClass.Integer };
        return new Binary64<Integers64.Add>(D(), source, Constant(true, to ? 0 - window : window)) { Class = InstructionClass.Integer };
    }
}

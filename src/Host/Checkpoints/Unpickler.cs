using Kernels.Files;
using static Kernels.Checkpoints.PickleOpcode;

namespace Kernels.Checkpoints;

/// <summary>
/// An interpreter of the pickle opcodes that tensors need. A pickle is a program for a stack machine that in Python may import and call
/// anything; this one knows the names of <see cref="PickleGlobals"/>, builds plain data (<see cref="PickleValues"/>), and refuses the rest.
/// </summary>
/// <remarks>
/// Opcodes: CPython's Lib/pickletools.py. Nothing recurses, lengths are held against the bytes that are left before anything is
/// allocated, and steps, stack, marks and integers are limited, so a hostile pickle costs no more than a multiple of its own size.
/// </remarks>
internal sealed class Unpickler
{
    /// <summary>How long the pickles of a file may be: a hundred times those of the largest published model.</summary>
    public const int MaxBytes = 64 << 20;

    private const int MaxProtocol = 5;
    private const int MaxSteps = 1 << 22;
    private const int MaxStack = 1 << 20;
    private const int MaxMarks = 512;
    private const int MaxKey = 1024;

    private readonly PickleBytes _bytes;
    private readonly Func<Unpickler, object?, object?> _persistentLoad;
    private readonly List<object?> _stack = [];
    private readonly List<int> _marks = [];
    private readonly Dictionary<uint, object?> _memo = [];
    private int _steps;

    /// <param name="source">Where the bytes come from, for messages.</param>
    /// <param name="bytes">One or more pickles, from the first byte of <paramref name="source"/> on.</param>
    /// <param name="persistentLoad">Gives the storage for a persistent id.</param>
    public Unpickler(ByteSource source, byte[] bytes, Func<Unpickler, object?, object?> persistentLoad)
    {
        _bytes = new PickleBytes(source, bytes);
        _persistentLoad = persistentLoad;
    }

    /// <summary>Past the last byte read.</summary>
    public int Position => _bytes.Position;

    /// <summary>Runs one pickle, up to its STOP.</summary>
    /// <exception cref="InvalidFileException">The pickle is damaged, or asks for what is not allowed.</exception>
    public object? Load()
    {
        _stack.Clear();
        _marks.Clear();
        _memo.Clear();
        _steps = 0;
        while (true)
        {
            Spend(1);
            PickleOpcode opcode = _bytes.Opcode();
            if (opcode == Stop)
            {
                object? result = Pop();
                return _stack.Count == 0 && _marks.Count == 0 ? result : throw Invalid("the pickle stops with values left on its stack");
            }

            Execute(opcode);
        }
    }

    /// <summary>An error at the current opcode.</summary>
    public InvalidFileException Invalid(string reason) => _bytes.Invalid(reason);

    /// <summary>Counts work that one opcode does beyond its own bytes, such as copying a list that the memo already holds.</summary>
    public void Spend(int steps)
    {
        _steps += steps;
        if (_steps > MaxSteps)
        {
            throw Invalid($"the pickle takes more than {MaxSteps} steps, which no checkpoint needs");
        }
    }

    /// <summary>Sets one item of a dict; keys other than strings are dropped.</summary>
    public void Set(PickleDict dict, object? key, object? value)
    {
        if (key is string name)
        {
            if (name.Length > MaxKey)
            {
                throw Invalid($"a dict has a key of {name.Length} characters; at most {MaxKey} are read");
            }

            if (!dict.Items.TryAdd(name, value))
            {
                throw Invalid($"a dict has the key '{name}' twice");
            }
        }
        else if (key is List<object?> or PickleDict)
        {
            throw Invalid($"{PickleValues.Describe(key)} cannot be the key of a dict");
        }
    }

    /// <summary>Sets the items of another dict.</summary>
    public void Update(PickleDict dict, PickleDict other)
    {
        Spend(other.Items.Count);
        foreach ((string key, object? value) in other.Items)
        {
            dict.Items[key] = value;
        }
    }

    private void Execute(PickleOpcode opcode)
    {
        switch (opcode)
        {
            case Proto:
                if (_bytes.U8() is > MaxProtocol and byte protocol)
                {
                    throw Invalid($"the pickle has protocol {protocol}; {MaxProtocol} is the last known");
                }

                break;
            case Frame:
                _bytes.Frame(_bytes.U64());
                break;

            case Mark:
                if (_marks.Count == MaxMarks)
                {
                    throw Invalid($"the pickle nests deeper than {MaxMarks}");
                }

                _marks.Add(_stack.Count);
                break;
            case PickleOpcode.Pop:
                PopOrMark();
                break;
            case PickleOpcode.PopMark:
                PopMark();
                break;
            case Dup:
                Push(Peek());
                break;

            case None:
                Push(null);
                break;
            case NewTrue:
                Push(true);
                break;
            case NewFalse:
                Push(false);
                break;
            case Int:
                Push(_bytes.Line() switch { "00" => false, "01" => true, var digits => _bytes.Integer(digits) });
                break;
            case BinInt:
                Push((long)(int)_bytes.U32());
                break;
            case BinInt1:
                Push((long)_bytes.U8());
                break;
            case BinInt2:
                Push((long)_bytes.U16());
                break;
            case PickleOpcode.Long:
                Push(_bytes.Integer(_bytes.Line().TrimEnd('L')));
                break;
            case Long1:
                Push(_bytes.Integer(_bytes.U8()));
                break;
            case Long4:
                Push(_bytes.Integer(_bytes.U32()));
                break;
            case BinFloat:
                Push(_bytes.Float());
                break;

            case BinString:
                Push(_bytes.Latin1(_bytes.U32()));
                break;
            case ShortBinString:
                Push(_bytes.Latin1(_bytes.U8()));
                break;
            case BinUnicode:
                Push(_bytes.Utf8(_bytes.U32()));
                break;
            case ShortBinUnicode:
                Push(_bytes.Utf8(_bytes.U8()));
                break;
            case BinUnicode8:
                Push(_bytes.Utf8(_bytes.U64()));
                break;
            case BinBytes:
                Push(_bytes.Bytes(_bytes.U32()));
                break;
            case ShortBinBytes:
                Push(_bytes.Bytes(_bytes.U8()));
                break;
            case BinBytes8 or ByteArray8:
                Push(_bytes.Bytes(_bytes.U64()));
                break;

            case EmptyTuple:
                Push(Array.Empty<object?>());
                break;
            case PickleOpcode.Tuple or FrozenSet or PickleOpcode.List:
                object?[] items = PopMark();
                Push(opcode == PickleOpcode.Tuple ? items : new List<object?>(items));
                break;
            case Tuple1 or Tuple2 or Tuple3:
                object?[] tuple = new object?[opcode - Tuple1 + 1];
                for (int i = tuple.Length - 1; i >= 0; i--)
                {
                    tuple[i] = Pop();
                }

                Push(tuple);
                break;
            case EmptyList or EmptySet:
                Push(new List<object?>());
                break;
            case Append:
                object? item = Pop();
                Peek<List<object?>>("a list").Add(item);
                break;
            case Appends or AddItems:
                object?[] added = PopMark();
                Peek<List<object?>>("a list").AddRange(added);
                break;
            case EmptyDict:
                Push(new PickleDict());
                break;
            case PickleOpcode.Dict:
                object?[] pairs = PopMark();
                Push(new PickleDict());
                SetPairs(pairs);
                break;
            case SetItem:
                object? value = Pop();
                SetPairs([Pop(), value]);
                break;
            case SetItems:
                SetPairs(PopMark());
                break;

            case BinPut:
                _memo[_bytes.U8()] = Peek();
                break;
            case LongBinPut:
                _memo[_bytes.U32()] = Peek();
                break;
            case Memoize:
                _memo[(uint)_memo.Count] = Peek();
                break;
            case BinGet:
                Push(Remembered(_bytes.U8()));
                break;
            case LongBinGet:
                Push(Remembered(_bytes.U32()));
                break;

            case Global:
                string module = _bytes.Line();
                Push(Find(module, _bytes.Line()));
                break;
            case StackGlobal:
                string name = Pop<string>("a name");
                Push(Find(Pop<string>("a module"), name));
                break;
            case Reduce or NewObj:
                object?[] args = Pop<object?[]>("the arguments of a call");
                Push(Call(Pop<PickleGlobal>("a name to call"), args));
                break;
            case Build:
                SetState(Pop());
                break;
            case BinPersId:
                Push(_persistentLoad(this, Pop()));
                break;

            default:
                throw Invalid($"opcode 0x{(byte)opcode:x2} is none that torch.save writes");
        }
    }

    private PickleGlobal Find(string module, string name) => PickleGlobals.Find(module, name)
        ?? throw Invalid(
            $"the pickle names '{module}.{name}', which no state dict needs; nothing was run. " +
            "If the file holds a whole model, save its state_dict() instead");

    private object? Call(PickleGlobal callee, object?[] args) => callee.Call is { } call
        ? call(this, args)
        : throw Invalid($"the pickle calls '{callee.Name}', which is not a function");

    // Attributes are dropped: a state dict's '_metadata', the fields of a Namespace. No tensor is found by way of them.
    private void SetState(object? state)
    {
        if (Peek() is not PickleDict || state is not (PickleDict or object?[] or null))
        {
            throw Invalid($"the pickle sets attributes on {PickleValues.Describe(Peek())}");
        }
    }

    private void SetPairs(ReadOnlySpan<object?> pairs)
    {
        PickleDict dict = Peek<PickleDict>("a dict");
        if (pairs.Length % 2 != 0)
        {
            throw Invalid("a dict gets a key without a value");
        }

        for (int i = 0; i < pairs.Length; i += 2)
        {
            Set(dict, pairs[i], pairs[i + 1]);
        }
    }

    private void Push(object? value)
    {
        if (_stack.Count == MaxStack)
        {
            throw Invalid($"the pickle's stack grows beyond {MaxStack} values");
        }

        _stack.Add(value);
    }

    private object? Peek()
    {
        int floor = _marks.Count > 0 ? _marks[^1] : 0;
        return _stack.Count > floor ? _stack[^1] : throw Invalid("the pickle takes more from its stack than it put there");
    }

    private T Peek<T>(string what)
        where T : class => Peek() as T ?? throw Invalid($"the pickle has {PickleValues.Describe(Peek())} where {what} is expected");

    private object? Pop()
    {
        object? value = Peek();
        _stack.RemoveAt(_stack.Count - 1);
        return value;
    }

    private T Pop<T>(string what)
        where T : class
    {
        T value = Peek<T>(what);
        _stack.RemoveAt(_stack.Count - 1);
        return value;
    }

    private void PopOrMark()
    {
        if (_marks.Count > 0 && _marks[^1] == _stack.Count)
        {
            _marks.RemoveAt(_marks.Count - 1);
        }
        else
        {
            Pop();
        }
    }

    private object?[] PopMark()
    {
        if (_marks.Count == 0)
        {
            throw Invalid("the pickle takes a mark that it did not put on its stack");
        }

        int floor = _marks[^1];
        _marks.RemoveAt(_marks.Count - 1);
        object?[] values = [.. _stack[floor..]];
        _stack.RemoveRange(floor, values.Length);
        return values;
    }

    private object? Remembered(uint index) => _memo.TryGetValue(index, out object? value)
        ? value
        : throw Invalid($"the pickle recalls memo {index}, which it did not store");
}

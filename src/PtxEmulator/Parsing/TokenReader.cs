using System.Buffers.Binary;

namespace Kernels.Emulation.Parsing;

/// <summary>A cursor over tokens, with what module level and bodies read alike: variables, initial values, source places.</summary>
internal sealed class TokenReader(List<Token> all, string module)
{
    private int position;

    internal List<Token> All => all;

    internal Dictionary<int, string> Files { get; } = [];

    internal Token Current => all[position];

    internal Token Next => all[Math.Min(position + 1, all.Count - 1)];

    internal Token Take()
    {
        var token = all[position];
        if (token.Kind == TokenKind.End)
            throw Error("the module ends early", token);
        position++;
        return token;
    }

    internal bool TakeIf(char punctuation)
    {
        if (!Current.Is(punctuation))
            return false;
        position++;
        return true;
    }

    internal void Expect(char punctuation)
    {
        if (!TakeIf(punctuation))
            throw Error($"'{punctuation}' was expected, not '{Current.Text}'", Current);
    }

    internal void SkipLine(int line)
    {
        while (Current.Line == line && Current.Kind != TokenKind.End)
            position++;
    }

    internal void SkipPast(char punctuation)
    {
        while (!Take().Is(punctuation))
        {
        }
    }

    internal void SkipBraces() => SkipNested('{', '}');

    internal void SkipParentheses() => SkipNested('(', ')');

    private void SkipNested(char open, char close)
    {
        Expect(open);
        for (var depth = 1; depth > 0;)
        {
            var token = Take();
            depth += token.Is(open) ? 1 : token.Is(close) ? -1 : 0;
        }
    }

    internal PtxException Error(string reason, Token? at = null) => new($"{module}: line {(at ?? Current).Line} of the PTX: {reason}");

    internal PtxException Error(string reason, int line) => new($"{module}: line {line} of the PTX: {reason}");

    internal static StateSpace? SpaceOf(string word) => word switch
    {
        ".global" => StateSpace.Global,
        ".shared" => StateSpace.Shared,
        ".local" => StateSpace.Local,
        ".param" => StateSpace.Param,
        ".const" => StateSpace.Const,
        _ => null,
    };

    internal static int SizeOf(string type) => type switch
    {
        "b8" or "u8" or "s8" or "pred" => 1,
        "b16" or "u16" or "s16" or "f16" or "bf16" => 2,
        "b32" or "u32" or "s32" or "f32" or "f16x2" or "bf16x2" or "tf32" => 4,
        "b64" or "u64" or "s64" or "f64" => 8,
        "b128" => 16,
        _ => 0,
    };

    /// <summary>Variables of one declaration, after its space: <c>.align 4 .b8 a[16] = {…}, b;</c></summary>
    internal List<PtxVariable> ReadVariables(StateSpace space)
    {
        var type = ReadType();
        var variables = new List<PtxVariable>();
        do
            variables.Add(ReadDeclarator(space, type));
        while (TakeIf(','));
        Expect(';');
        return variables;
    }

    internal PtxVariable ReadVariable(StateSpace space) => ReadDeclarator(space, ReadType());

    private (int Align, int Size, int Lanes) ReadType()
    {
        int align = 0, size = 0, lanes = 1;
        while (Current.Kind == TokenKind.Word && Current.Text[0] == '.')
        {
            var word = Take().Text;
            if (word == ".align")
                align = (int)Take().Bits;
            else if (word == ".attribute")
                SkipParentheses();
            else if (word is ".v2" or ".v4" or ".v8")
                lanes = word[2] - '0';
            else if (SizeOf(word[1..]) is > 0 and var bytes)
                size = bytes;
            else if (word is not (".ptr" or ".global" or ".shared" or ".local" or ".const"))
                throw Error($"'{word}' is not a type the emulator knows");
        }
        return (align, size, lanes);
    }

    private PtxVariable ReadDeclarator(StateSpace space, (int Align, int Size, int Lanes) type)
    {
        var (align, size, lanes) = type;
        var name = Take();
        long count = 1;
        var open = false;
        while (TakeIf('['))
        {
            if (TakeIf(']'))
            {
                open = true;
                continue;
            }
            count = checked(count * (long)Take().Bits);
            Expect(']');
        }
        var initial = new List<byte>();
        var relocations = new List<(int, string, long)>();
        if (TakeIf('='))
            ReadInitial(size, initial, relocations);
        var variable = new PtxVariable
        {
            Name = name.Text,
            Space = space,
            Alignment = Math.Max(align, Math.Max(1, size * lanes)),
            Bytes = open && initial.Count == 0 ? 0 : Math.Max(count * size * lanes, initial.Count),
            IsOpen = open && initial.Count == 0,
            Initial = [.. initial],
        };
        variable.Relocations.AddRange(relocations);
        return variable;
    }

    private void ReadInitial(int size, List<byte> bytes, List<(int, string, long)> relocations)
    {
        if (TakeIf('{'))
        {
            while (!TakeIf('}'))
            {
                if (!TakeIf(','))
                    ReadInitial(size, bytes, relocations);
            }
            return;
        }
        var negative = TakeIf('-');
        var token = Take();
        Span<byte> element = stackalloc byte[8];
        element.Clear();
        if (token.Kind == TokenKind.Word)
        {
            var generic = token.Text == "generic";
            if (generic)
            {
                Expect('(');
                token = Take();
                Expect(')');
            }
            long addend = TakeIf('+') ? (long)Take().Bits : 0;
            if (size != 8)
                throw Error($"the address of '{token.Text}' does not fit an element of {size} bytes", token);
            relocations.Add((bytes.Count, token.Text, addend));
        }
        else if (token.Kind == TokenKind.Float && size == 4)
        {
            var real = (float)BitConverter.UInt64BitsToDouble(token.Bits);
            BinaryPrimitives.WriteSingleLittleEndian(element, negative ? -real : real);
        }
        else if (token.Kind == TokenKind.Float)
        {
            var real = BitConverter.UInt64BitsToDouble(token.Bits);
            BinaryPrimitives.WriteDoubleLittleEndian(element, negative ? -real : real);
        }
        else
        {
            BinaryPrimitives.WriteUInt64LittleEndian(element, negative ? 0UL - token.Bits : token.Bits);
        }
        bytes.AddRange(element[..size]);
    }
}

using System.Globalization;

namespace Kernels.Emulation.Parsing;

/// <summary>Parses a function's body: registers and variables in nested scopes, labels, source lines, instructions.</summary>
internal sealed class BodyParser(TokenReader tokens, PtxModule module, PtxFunction function)
{
    private readonly List<Dictionary<string, PtxRegister>> registers = [[]];
    private readonly List<Dictionary<string, PtxVariable>> variables = [[]];
    private SourceLine source;

    internal void Read()
    {
        tokens.Expect('{');
        foreach (var variable in function.Parameters.Concat(function.Returns))
            variables[0][variable.Name] = variable;
        while (registers.Count > 0)
        {
            if (tokens.TakeIf('{'))
            {
                registers.Add([]);
                variables.Add([]);
            }
            else if (tokens.TakeIf('}'))
            {
                registers.RemoveAt(registers.Count - 1);
                variables.RemoveAt(variables.Count - 1);
            }
            else if (!tokens.TakeIf(';'))
            {
                ReadStatement();
            }
        }
    }

    private void ReadStatement()
    {
        var token = tokens.Current;
        if (token.Kind == TokenKind.Word && tokens.Next.Is(':'))
        {
            tokens.Take();
            tokens.Take();
            if (tokens.Current.IsWord(".branchtargets"))
                ReadBranchTargets(token.Text);
            else if (tokens.Current.IsWord(".callprototype") || tokens.Current.IsWord(".calltargets"))
                tokens.SkipPast(';');
            else
                function.Labels[token.Text] = function.Instructions.Count;
        }
        else if (token.Kind == TokenKind.Word && token.Text[0] == '.')
        {
            ReadDirective(tokens.Take());
        }
        else
        {
            ReadInstruction();
        }
    }

    private void ReadBranchTargets(string label)
    {
        tokens.Take();
        var targets = new List<string> { tokens.Take().Text };
        while (tokens.TakeIf(','))
            targets.Add(tokens.Take().Text);
        tokens.Expect(';');
        function.BranchTables[label] = [.. targets];
    }

    private void ReadDirective(Token directive)
    {
        switch (directive.Text)
        {
            case ".reg":
                ReadRegisters();
                break;
            case ".loc":
                ReadPlace(directive);
                break;
            case ".pragma":
                tokens.SkipPast(';');
                break;
            default:
                if (TokenReader.SpaceOf(directive.Text) is not { } space)
                    throw tokens.Error($"'{directive.Text}' is not a directive the emulator knows", directive);
                foreach (var variable in tokens.ReadVariables(space))
                {
                    variables[^1][variable.Name] = variable;
                    function.Variables.Add(variable);
                }
                break;
        }
    }

    private void ReadPlace(Token directive)
    {
        var file = (int)tokens.Take().Bits;
        var line = (int)tokens.Take().Bits;
        // Line 0 marks code with no place of its own; the place before it is the best there is.
        if (line != 0)
            source = new SourceLine(tokens.Files.GetValueOrDefault(file, ""), line);
        tokens.SkipLine(directive.Line);
    }

    private void ReadRegisters()
    {
        var type = tokens.Take().Text[1..];
        if (type is "v2" or "v4")
            throw tokens.Error("vector registers are not supported");
        do
        {
            var name = tokens.Take().Text;
            if (tokens.TakeIf('<'))
            {
                var count = (int)tokens.Take().Bits;
                tokens.Expect('>');
                for (var i = 0; i < count; i++)
                    AddRegister(name + i.ToString(CultureInfo.InvariantCulture), type);
            }
            else
            {
                AddRegister(name, type);
            }
        }
        while (tokens.TakeIf(','));
        tokens.Expect(';');
    }

    private void AddRegister(string name, string type)
    {
        var register = new PtxRegister(name, type, function.Registers.Count);
        function.Registers.Add(register);
        registers[^1][name] = register;
    }

    private void ReadInstruction()
    {
        var line = tokens.Current.Line;
        PtxRegister? guard = null;
        var negated = false;
        if (tokens.TakeIf('@'))
        {
            negated = tokens.TakeIf('!');
            var name = tokens.Take();
            guard = FindRegister(name.Text) ?? throw tokens.Error($"'{name.Text}' is not declared", name);
        }
        var opcode = tokens.Take();
        if (opcode.Kind != TokenKind.Word)
            throw tokens.Error($"an instruction was expected, not '{opcode.Text}'", opcode);
        var operands = new List<PtxOperand>();
        while (!tokens.TakeIf(';'))
        {
            if (!tokens.TakeIf(','))
                operands.Add(ReadOperand());
        }
        function.Instructions.Add(new PtxInstruction
        {
            Opcode = opcode.Text,
            Operands = [.. operands],
            Guard = guard,
            GuardNegated = negated,
            PtxLine = line,
            Source = source,
        });
    }

    private PtxOperand ReadOperand()
    {
        if (tokens.TakeIf('('))
            return new PtxOperand { Kind = OperandKind.List, Items = ReadItems(')') };
        if (tokens.TakeIf('{'))
            return new PtxOperand { Kind = OperandKind.Vector, Items = ReadItems('}') };
        if (tokens.TakeIf('['))
            return ReadAddress();
        var first = ReadAtom();
        if (!tokens.TakeIf('|'))
            return first;
        return new PtxOperand { Kind = OperandKind.Pair, Items = [first, ReadAtom()] };
    }

    private PtxOperand[] ReadItems(char end)
    {
        var items = new List<PtxOperand>();
        while (!tokens.TakeIf(end))
        {
            if (!tokens.TakeIf(','))
                items.Add(ReadOperand());
        }
        return [.. items];
    }

    private PtxOperand ReadAddress()
    {
        var start = ReadAtom();
        var offset = start.Offset;
        while (tokens.Current.Is('+') || tokens.Current.Is('-'))
        {
            var negative = tokens.Take().Is('-');
            negative ^= tokens.TakeIf('-');
            var value = (long)tokens.Take().Bits;
            offset += negative ? -value : value;
        }
        tokens.Expect(']');
        return new PtxOperand { Kind = OperandKind.Address, Items = [start], Offset = offset };
    }

    private PtxOperand ReadAtom()
    {
        var negated = tokens.TakeIf('!');
        var minus = tokens.TakeIf('-');
        var token = tokens.Take();
        if (token.Kind == TokenKind.Integer)
            return new PtxOperand { Kind = OperandKind.Immediate, Bits = minus ? 0UL - token.Bits : token.Bits };
        if (token.Kind == TokenKind.Float)
            return new PtxOperand { Kind = OperandKind.Immediate, Bits = minus ? token.Bits ^ (1UL << 63) : token.Bits, IsFloat = true };
        if (token.Kind != TokenKind.Word)
            throw tokens.Error($"an operand was expected, not '{token.Text}'", token);
        if (token.Text == "_")
            return new PtxOperand { Kind = OperandKind.Sink };
        if (FindRegister(token.Text) is { } register)
            return new PtxOperand { Kind = OperandKind.Register, Register = register, Negated = negated };
        if (token.Text[0] == '%')
            return new PtxOperand { Kind = OperandKind.Special, Name = token.Text };
        long offset = 0;
        if (tokens.Current.Is('+') && tokens.Next.Kind == TokenKind.Integer)
        {
            tokens.Take();
            offset = (long)tokens.Take().Bits;
        }
        return new PtxOperand { Kind = OperandKind.Symbol, Name = token.Text, Offset = offset, Variable = FindVariable(token.Text) };
    }

    private PtxRegister? FindRegister(string name)
    {
        for (var i = registers.Count - 1; i >= 0; i--)
        {
            if (registers[i].TryGetValue(name, out var register))
                return register;
        }
        return null;
    }

    private PtxVariable? FindVariable(string name)
    {
        for (var i = variables.Count - 1; i >= 0; i--)
        {
            if (variables[i].TryGetValue(name, out var variable))
                return variable;
        }
        return module.Variables.GetValueOrDefault(name);
    }
}

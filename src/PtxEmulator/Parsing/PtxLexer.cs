using System.Globalization;

namespace Kernels.Emulation.Parsing;

/// <summary>What a token is.</summary>
internal enum TokenKind
{
    Word,
    Integer,
    Float,
    String,
    Punctuation,
    End,
}

/// <summary>One token and the line it starts on.</summary>
internal readonly record struct Token(TokenKind Kind, string Text, ulong Bits, int Line)
{
    internal bool Is(char punctuation) => Kind == TokenKind.Punctuation && Text[0] == punctuation;

    internal bool IsWord(string text) => Kind == TokenKind.Word && Text == text;
}

/// <summary>Splits PTX into tokens. Opcodes with their modifiers, registers (<c>%tid.x</c>) and directives (<c>.reg</c>) are one word each.</summary>
internal sealed class PtxLexer(string text, string module)
{
    private int position;
    private int line = 1;

    internal List<Token> Tokenize()
    {
        var tokens = new List<Token>(text.Length / 4);
        while (true)
        {
            var token = Next();
            tokens.Add(token);
            if (token.Kind == TokenKind.End)
                return tokens;
        }
    }

    private char Peek(int ahead = 0) => position + ahead < text.Length ? text[position + ahead] : '\0';

    private Token Next()
    {
        SkipBlanks();
        var c = Peek();
        if (position >= text.Length)
            return new Token(TokenKind.End, "", 0, line);
        if (c == '"')
            return QuotedString();
        if (char.IsAsciiDigit(c))
            return Number();
        if (IsWordStart(c))
            return Word();
        position++;
        return new Token(TokenKind.Punctuation, c.ToString(), 0, line);
    }

    private void SkipBlanks()
    {
        while (position < text.Length)
        {
            var c = Peek();
            if (c == '\n')
            {
                line++;
                position++;
            }
            else if (char.IsWhiteSpace(c) || c == '\0')
            {
                position++;
            }
            else if (c == '/' && Peek(1) == '/')
            {
                while (position < text.Length && Peek() != '\n')
                    position++;
            }
            else if (c == '/' && Peek(1) == '*')
            {
                var end = text.IndexOf("*/", position + 2, StringComparison.Ordinal);
                end = end < 0 ? text.Length : end + 2;
                for (; position < end; position++)
                {
                    if (Peek() == '\n')
                        line++;
                }
            }
            else
            {
                return;
            }
        }
    }

    private static bool IsWordStart(char c) => char.IsAsciiLetter(c) || c is '_' or '$' or '%' or '.';

    private Token Word()
    {
        var start = position++;
        while (true)
        {
            var c = Peek();
            if (char.IsAsciiLetterOrDigit(c) || c is '_' or '$' or '.')
                position++;
            else if (c == ':' && Peek(1) == ':')
                position += 2;
            else
                break;
        }
        return new Token(TokenKind.Word, text[start..position], 0, line);
    }

    private Token QuotedString()
    {
        var start = ++position;
        while (position < text.Length && Peek() != '"')
            position++;
        return new Token(TokenKind.String, text[start..Math.Min(position++, text.Length)], 0, line);
    }

    /// <summary>Decimal, <c>0x</c>, octal and binary integers; <c>0f</c> and <c>0d</c> bit patterns; decimal floats.</summary>
    private Token Number()
    {
        var start = position;
        var prefix = char.ToLowerInvariant(Peek(1));
        if (Peek() == '0' && prefix is 'f' or 'd' && char.IsAsciiHexDigit(Peek(2)))
        {
            position += 2;
            var digits = Run(char.IsAsciiHexDigit);
            if (!ulong.TryParse(digits, NumberStyles.HexNumber, CultureInfo.InvariantCulture, out var pattern))
                throw Malformed(start);
            // Floats are carried as binary64; a NaN's payload would not survive, and PTX does not keep it either.
            var bits = prefix == 'd' ? pattern : BitConverter.DoubleToUInt64Bits(BitConverter.UInt32BitsToSingle((uint)pattern));
            return new Token(TokenKind.Float, text[start..position], bits, line);
        }
        ulong value;
        if (Peek() == '0' && prefix == 'x')
        {
            position += 2;
            if (!ulong.TryParse(Run(char.IsAsciiHexDigit), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out value))
                throw Malformed(start);
        }
        else if (Peek() == '0' && prefix == 'b')
        {
            position += 2;
            if (!ulong.TryParse(Run(char.IsAsciiDigit), NumberStyles.BinaryNumber, CultureInfo.InvariantCulture, out value))
                throw Malformed(start);
        }
        else
        {
            var digits = Run(char.IsAsciiDigit);
            if (Peek() == '.' && char.IsAsciiDigit(Peek(1)) || Peek() is 'e' or 'E')
            {
                while (char.IsAsciiDigit(Peek()) || Peek() is '.' or 'e' or 'E' or '+' or '-')
                    position++;
                var real = double.Parse(text.AsSpan(start, position - start), CultureInfo.InvariantCulture);
                return new Token(TokenKind.Float, text[start..position], BitConverter.DoubleToUInt64Bits(real), line);
            }
            if (digits.Length > 1 && digits[0] == '0' && digits.All(d => d < '8'))
                value = digits.Aggregate(0UL, (sum, d) => sum * 8 + (ulong)(d - '0'));
            else if (!ulong.TryParse(digits, CultureInfo.InvariantCulture, out value))
                throw Malformed(start);
        }
        if (Peek() is 'U' or 'u')
            position++;
        return new Token(TokenKind.Integer, text[start..position], value, line);
    }

    private string Run(Func<char, bool> belongs)
    {
        var start = position;
        while (position < text.Length && belongs(Peek()))
            position++;
        return text[start..position];
    }

    private PtxException Malformed(int start) =>
        new($"{module}: line {line} of the PTX: '{text[start..Math.Min(text.Length, start + 20)]}' is not a number");
}

namespace Kernels.Emulation.Parsing;

/// <summary>Parses the modules that NVRTC writes: declarations here, function bodies in <see cref="BodyParser"/>.</summary>
internal sealed class PtxParser
{
    private readonly TokenReader tokens;
    private readonly PtxModule module = new();

    private PtxParser(string text, string name)
    {
        tokens = new TokenReader(new PtxLexer(text, name).Tokenize(), name);
    }

    /// <summary>Parses PTX.</summary>
    /// <param name="text">The module's text.</param>
    /// <param name="name">The name for messages.</param>
    /// <exception cref="PtxException">The text is malformed.</exception>
    internal static PtxModule Parse(string text, string name)
    {
        var parser = new PtxParser(text, name);
        parser.ReadFiles();
        parser.ReadModule();
        return parser.module;
    }

    /// <summary>Files are declared after the functions that refer to them, so they are gathered first.</summary>
    private void ReadFiles()
    {
        for (var i = 0; i + 2 < tokens.All.Count; i++)
        {
            if (tokens.All[i].IsWord(".file") && tokens.All[i + 2].Kind == TokenKind.String)
                tokens.Files[(int)tokens.All[i + 1].Bits] = Path.GetFileName(tokens.All[i + 2].Text);
        }
    }

    private void ReadModule()
    {
        while (tokens.Current.Kind != TokenKind.End)
        {
            var token = tokens.Take();
            switch (token.Text)
            {
                case ".version":
                    module.Version = tokens.Take().Text;
                    break;
                case ".target":
                    module.Target = tokens.Take().Text;
                    while (tokens.TakeIf(','))
                        tokens.Take();
                    break;
                case ".address_size":
                    if (tokens.Take().Bits != 64)
                        throw tokens.Error("only 64-bit addresses are supported");
                    break;
                case ".file":
                    tokens.SkipLine(token.Line);
                    break;
                case ".loc":
                    tokens.SkipLine(token.Line);
                    break;
                case ".section":
                    while (!tokens.Current.Is('{'))
                        tokens.Take();
                    tokens.SkipBraces();
                    break;
                case ".visible" or ".extern" or ".weak" or ".common" or ".const" or ".global" or ".shared" or ".entry" or ".func":
                    ReadDeclaration(token);
                    break;
                case ";":
                    break;
                case ".pragma":
                    tokens.SkipPast(';');
                    break;
                case ".alias":
                    ReadAlias();
                    break;
                default:
                    throw tokens.Error($"'{token.Text}' is not a directive the emulator knows", token);
            }
        }
    }

    private void ReadDeclaration(Token token)
    {
        while (token.Text is ".visible" or ".extern" or ".weak" or ".common")
            token = tokens.Take();
        switch (token.Text)
        {
            case ".entry":
                ReadFunction(isEntry: true);
                break;
            case ".func":
                ReadFunction(isEntry: false);
                break;
            default:
                foreach (var variable in tokens.ReadVariables(TokenReader.SpaceOf(token.Text)!.Value))
                    module.Variables[variable.Name] = variable;
                break;
        }
    }

    private void ReadFunction(bool isEntry)
    {
        while (tokens.Current.IsWord(".noreturn"))
            tokens.Take();
        List<PtxVariable> returns = [];
        if (tokens.Current.Is('('))
            returns = ReadParameters();
        var name = tokens.Take().Text;
        var function = module.Functions.GetValueOrDefault(name) ?? new PtxFunction { Name = name, IsEntry = isEntry };
        module.Functions[name] = function;
        var parameters = tokens.Current.Is('(') ? ReadParameters() : [];
        if (!function.HasBody)
        {
            function.Returns.Clear();
            function.Returns.AddRange(returns);
            function.Parameters.Clear();
            function.Parameters.AddRange(parameters);
        }
        while (!tokens.Current.Is('{') && !tokens.Current.Is(';'))
        {
            var directive = tokens.Take();
            switch (directive.Text)
            {
                case ".maxntid":
                    function.MaximumThreads = ReadExtents().Aggregate(1, (product, extent) => product * extent);
                    break;
                case ".reqntid":
                    function.RequiredBlock = [.. ReadExtents().Concat([1, 1]).Take(3)];
                    break;
                case ".reqnctapercluster":
                    if (ReadExtents().Any(extent => extent != 1))
                        throw tokens.Error($"'{name}' is a kernel for clusters of more than one block, which the emulator does not have", directive);
                    break;
                case ".blocksareclusters":
                    throw tokens.Error($"'{name}' is launched in clusters ('.blocksareclusters'), which the emulator does not have", directive);
                case ".pragma":
                    tokens.SkipPast(';');
                    break;
                case ".minnctapersm" or ".maxnctapersm" or ".maxnreg" or ".maxclusterrank" or ".noreturn" or ".explicitcluster" or ".abi_preserve" or ".abi_preserve_control":
                    ReadExtents();
                    break;
                case ".loc":
                    tokens.SkipLine(directive.Line);
                    break;
                default:
                    throw tokens.Error($"'{directive.Text}' is not a function directive the emulator knows", directive);
            }
        }
        if (tokens.TakeIf(';'))
            return;
        function.HasBody = true;
        new BodyParser(tokens, module, function).Read();
    }

    /// <summary>The numbers after a directive: <c>64, 1, 1</c>.</summary>
    private List<int> ReadExtents()
    {
        var extents = new List<int>();
        while (tokens.Current.Kind == TokenKind.Integer)
        {
            extents.Add((int)tokens.Take().Bits);
            tokens.TakeIf(',');
        }
        return extents;
    }

    /// <summary><c>.alias name, function;</c>: another name for a function defined in the module.</summary>
    private void ReadAlias()
    {
        var name = tokens.Take();
        tokens.Expect(',');
        var target = tokens.Take();
        tokens.Expect(';');
        module.Functions[name.Text] = module.Functions.TryGetValue(target.Text, out var function) && function.HasBody
            ? function
            : throw tokens.Error($"'{name.Text}' is an alias of '{target.Text}', which is not defined before it", target);
    }

    private List<PtxVariable> ReadParameters()
    {
        var parameters = new List<PtxVariable>();
        tokens.Expect('(');
        while (!tokens.TakeIf(')'))
        {
            if (tokens.TakeIf(','))
                continue;
            var space = tokens.Take();
            if (space.Text is not (".param" or ".reg"))
                throw tokens.Error("a parameter was expected", space);
            parameters.Add(tokens.ReadVariable(StateSpace.Param));
        }
        return parameters;
    }
}

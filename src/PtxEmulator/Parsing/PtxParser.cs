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
                case ".maxntid" or ".reqntid":
                    var threads = 1;
                    do
                        threads *= (int)tokens.Take().Bits;
                    while (tokens.TakeIf(','));
                    function.MaximumThreads = threads;
                    break;
                case ".pragma":
                    tokens.SkipPast(';');
                    break;
                case ".minnctapersm" or ".maxnctapersm" or ".maxnreg" or ".maxclusterrank" or ".noreturn" or ".explicitcluster" or ".reqnctapercluster"
                    or ".abi_preserve" or ".abi_preserve_control" or ".blocksareclusters":
                    while (tokens.Current.Kind == TokenKind.Integer || tokens.Current.Is(','))
                        tokens.Take();
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

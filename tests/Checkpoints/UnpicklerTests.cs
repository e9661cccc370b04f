using Kernels.Checkpoints;
using Kernels.Files;
using Xunit;
using static Kernels.Tests.Checkpoints.TorchBuilder;

namespace Kernels.Tests.Checkpoints;

public sealed class UnpicklerTests
{
    [Theory]
    [InlineData("os", "system", "R")]
    [InlineData("posix", "system", "R")]
    [InlineData("builtins", "eval", "R")]
    [InlineData("builtins", "getattr", "R")]
    [InlineData("torch", "load", "R")]
    [InlineData("torch._utils", "_rebuild_qtensor", "R")]
    [InlineData("torch.storage", "_load_from_bytes", "R")]
    [InlineData("torch.nn.modules.conv", "Conv2d", "\u0081")]
    [InlineData("collections", "OrderedDict.fromkeys", "R")]
    [InlineData("collections.abc", "OrderedDict", "R")]
    [InlineData("", "collections.OrderedDict", "R")]
    public void NamesOutsideTheAllowlistAreRefusedWhereTheyStand(string module, string name, string call)
    {
        byte[] pickle = PickleBuilder.New.Raw("}").Text("x").Global(module, name).Text("echo").Raw(0x85).Raw(call).Raw("s").Stop();
        InvalidFileException error = Assert.Throws<InvalidFileException>(() => Load(pickle));
        Assert.Equal("offset 9", error.Place);
        Assert.Contains($"'{module}.{name}'", error.Reason, StringComparison.Ordinal);

        byte[] stack = PickleBuilder.New.Text(module).Text(name).Raw(0x93).Stop();
        error = Assert.Throws<InvalidFileException>(() => Load(stack));
        Assert.Equal($"offset {stack.Length - 2}", error.Place);
        Assert.Contains($"'{module}.{name}'", error.Reason, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("FloatStorage")]
    [InlineData("float32")]
    public void NamesThatAreNoFunctionsAreNotCalled(string name) =>
        Refused(PickleBuilder.New.Global("torch", name).Raw(")R"), $"calls 'torch.{name}', which is not a function");

    [Theory]
    [InlineData("i")]
    [InlineData("o")]
    [InlineData("P")]
    [InlineData("S")]
    [InlineData("V")]
    [InlineData("F")]
    [InlineData("p")]
    [InlineData("g")]
    [InlineData("\u0082")]
    [InlineData("\u0083")]
    [InlineData("\u0084")]
    [InlineData("\u0092")]
    [InlineData("\u0097")]
    [InlineData("\u0098")]
    [InlineData("\u00ff")]
    [InlineData("\0")]
    public void OpcodesThatTorchDoesNotWriteAreRefused(string opcode) =>
        Refused(PickleBuilder.New.Raw("(K\u0001").Raw(opcode).Raw("os\nsystem\n"), $"opcode 0x{(int)opcode[0]:x2} is none that torch.save writes");

    [Theory]
    [InlineData("")]
    [InlineData("0")]
    [InlineData("2")]
    [InlineData("a")]
    [InlineData("]a")]
    [InlineData("s")]
    [InlineData("}K\u0001s")]
    [InlineData("\u0085")]
    [InlineData("K\u0001\u0086")]
    [InlineData("K\u0001K\u0001\u0087")]
    [InlineData("q\u0001")]
    [InlineData("r\u0001\0\0\0")]
    [InlineData("\u0094")]
    [InlineData("R")]
    [InlineData(")R")]
    [InlineData("b")]
    [InlineData("Q")]
    [InlineData("\u0093")]
    [InlineData("\u0081")]
    [InlineData("](a")]
    public void TakingMoreThanTheStackHoldsIsRefused(string opcodes) => Refused(PickleBuilder.New.Raw(opcodes), "");

    [Theory]
    [InlineData("t")]
    [InlineData("l")]
    [InlineData("d")]
    [InlineData("1")]
    [InlineData("]e")]
    [InlineData("}u")]
    [InlineData("\u008f\u0090")]
    [InlineData("\u0091")]
    public void TakingAMarkThatIsNotThereIsRefused(string opcodes) => Refused(PickleBuilder.New.Raw(opcodes), "a mark that it did not put");

    [Theory]
    [InlineData("h\u0001")]
    [InlineData("j\u0001\0\0\0")]
    [InlineData("j\u00ff\u00ff\u00ff\u00ff")]
    [InlineData("Nq\u0002h\u0001")]
    public void RecallingWhatWasNotStoredIsRefused(string opcodes) => Refused(PickleBuilder.New.Raw(opcodes), "which it did not store");

    [Theory]
    [InlineData("NNa", "None where a list is expected")]
    [InlineData("}Na", "a dict of 0 where a list is expected")]
    [InlineData("]NNs", "a list of 0 where a dict is expected")]
    [InlineData("](NNu", "a list of 0 where a dict is expected")]
    [InlineData("}(Nu", "a key without a value")]
    [InlineData("(Nd", "a key without a value")]
    [InlineData("N)R", "None where a name to call is expected")]
    [InlineData("NNR", "None where the arguments of a call is expected")]
    [InlineData("NNb", "sets attributes on None")]
    [InlineData("}K\u0001b", "sets attributes on a dict of 0")]
    [InlineData("}]Ns", "a list of 0 cannot be the key")]
    [InlineData("NQ", "a persistent id is None")]
    [InlineData("NN", "values left on its stack")]
    [InlineData("N(", "takes more from its stack")]
    public void ValuesOfTheWrongKindAreRefused(string opcodes, string reason) => Refused(PickleBuilder.New.Raw(opcodes), reason);

    [Theory]
    [InlineData("X\u00ff\u00ff\u00ff\u007f")]
    [InlineData("X\u00ff\u00ff\u00ff\u00ff")]
    [InlineData("\u008d\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff")]
    [InlineData("\u008d\0\0\0\0\u0001\0\0\0")]
    [InlineData("\u008e\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u007f")]
    [InlineData("\u0096\0\0\0\u0080\0\0\0\0")]
    [InlineData("B\0\0\0\u0080")]
    [InlineData("T\0\0\0\u0080")]
    [InlineData("U\u0009abc")]
    [InlineData("C\u0009abc")]
    [InlineData("\u0095\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff")]
    public void LengthsThatLieAreRefusedBeforeAnythingIsAllocated(string opcodes)
    {
        byte[] pickle = PickleBuilder.New.Raw(opcodes).Stop();
        long before = GC.GetAllocatedBytesForCurrentThread();
        InvalidFileException error = Assert.Throws<InvalidFileException>(() => Load(pickle));
        Assert.Contains("the pickle ends inside this value", error.Message, StringComparison.Ordinal);
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 1 << 17);
    }

    [Theory]
    [InlineData("\u008b\u00ff\u00ff\u00ff\u00ff", "an integer of 4294967295 bytes")]
    [InlineData("\u008b\0\0\u0001\0", "an integer of 65536 bytes")]
    [InlineData("\u008a\u0081", "an integer of 129 bytes")]
    [InlineData("I1.5\n", "an integer that is none")]
    [InlineData("I\n", "an integer that is none")]
    [InlineData("L1 L\n", "an integer that is none")]
    [InlineData("I1", "a line without end")]
    [InlineData("cos", "a line without end")]
    [InlineData("X\u0001\0\0\0\u00ff", "not UTF-8")]
    [InlineData("\u0080\u0006", "protocol 6")]
    public void OperandsThatAreWrongAreRefused(string opcodes, string reason) => Refused(PickleBuilder.New.Raw(opcodes), reason);

    [Fact]
    public void ALongLineIsRefused() => Refused(PickleBuilder.New.Raw("I" + new string('1', 2000) + "\n"), "a line without end");

    [Fact]
    public void ALongIntegerInDigitsIsRefused() => Refused(PickleBuilder.New.Raw("I" + new string('1', 600) + "\n"), "an integer that is none, or too long");

    [Fact]
    public void IntegersOfEveryLengthAreRead()
    {
        object? value = Load(PickleBuilder.New.Raw("(K\u00ffM\u0001\u0002J\u00ff\u00ff\u00ff\u00ff").Int(long.MinValue).Raw("I-12\nI01\nL-5L\n\u008a\0t").Stop());
        Assert.Equal([255L, 513L, -1L, long.MinValue, -12L, true, -5L, 0L], Assert.IsType<object?[]>(value));
    }

    [Fact]
    public void DeepNestingCostsNoStack()
    {
        // Tuples nest without marks; the result is a million levels deep, and nothing walks down.
        object? value = Load(PickleBuilder.New.Raw(")").Raw(new string('\u0085', 1_000_000)).Stop());
        Assert.IsType<object?[]>(value);
        Refused(PickleBuilder.New.Raw(new string('(', 1_000_000)), "nests deeper than 512");
    }

    [Fact]
    public void TheStackIsLimited() => Refused(PickleBuilder.New.Raw(new string('N', (1 << 20) + 1)), "stack grows beyond 1048576");

    [Fact]
    public void TheStepsAreLimited() => Refused(PickleBuilder.New.Raw("N" + string.Concat(Enumerable.Repeat("N0", 1 << 21))), "takes more than 4194304 steps");

    [Fact]
    public void CopyingWhatTheMemoHoldsCountsAsSteps()
    {
        // A list of 65536 items, made a set again and again for six bytes each.
        PickleBuilder pickle = PickleBuilder.New.Raw("](" + new string('N', 1 << 16) + "eq\u0000").Global("builtins", "set").Raw("q\u0001");
        for (int i = 0; i < 100; i++)
        {
            pickle.Raw("h\u0001h\u0000\u0085R");
        }

        Refused(pickle, "takes more than 4194304 steps");
    }

    [Fact]
    public void AKeyThatIsThereTwiceIsRefused() => Refused(PickleBuilder.New.Raw("}").Text("a").Raw("Ns").Text("a").Raw("Ns"), "the key 'a' twice");

    [Fact]
    public void ATruncatedPickleIsRefused()
    {
        byte[] pickle = Dict("x", p => p.Tensor("0", 4));
        TorchBuilder.ReadAll(Zip(pickle, ("0", FourFloats)).Build());
        for (int length = 0; length < pickle.Length; length++)
        {
            TorchBuilder.Refused(Zip(pickle[..length], ("0", FourFloats)), "data.pkl");
        }
    }

    [Theory]
    [InlineData("collections", "OrderedDict", "(K\u0001K\u0002t")]
    [InlineData("collections", "OrderedDict", "](K\u0001e\u0085")]
    [InlineData("builtins", "set", "K\u0001\u0085")]
    [InlineData("_codecs", "encode", ")")]
    [InlineData("torch", "Size", "K\u0001\u0085")]
    [InlineData("torch", "device", "K\u0001\u0085")]
    [InlineData("torch._utils", "_rebuild_tensor_v2", ")")]
    [InlineData("torch._utils", "_rebuild_tensor_v2", "(NK\u0000))t")]
    [InlineData("torch._utils", "_rebuild_tensor", "(NNNNt")]
    [InlineData("torch._utils", "_rebuild_parameter", "(NNNt")]
    public void ArgumentsOfTheWrongKindAreRefused(string module, string name, string args) =>
        Refused(PickleBuilder.New.Global(module, name).Raw(args).Raw("R"), "cannot be made of (");

    [Fact]
    public void Python2DictsAreRead()
    {
        // OrderedDict([['x', tensor]]), with byte strings for text.
        byte[] pickle = PickleBuilder.New.Global("collections", "OrderedDict").Raw("](](U\u0001x").Tensor("0", 4).Raw("ee\u0085R").Stop();
        using Checkpoint checkpoint = Open(Zip(pickle, ("0", FourFloats)));
        Assert.Equal([1, 2, 3, 4], checkpoint.Tensors["x"].ToFloat32());
    }

    private static object? Load(byte[] pickle)
    {
        Unpickler unpickler = new(new MemorySource(Name, pickle), pickle, new TorchStorages().Load);
        object? value = unpickler.Load();
        Assert.Equal(pickle.Length, unpickler.Position);
        return value;
    }

    private static void Refused(PickleBuilder pickle, string reason)
    {
        byte[] bytes = pickle.Stop();
        InvalidFileException error = Assert.Throws<InvalidFileException>(() => Load(bytes));
        Assert.StartsWith("offset ", error.Place, StringComparison.Ordinal);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
    }
}

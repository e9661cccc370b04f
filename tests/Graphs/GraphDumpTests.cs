using System.Text.RegularExpressions;
using Kernels.Models;
using Kernels.Ops;
using Kernels.Passes;
using Kernels.Runtime;
using Kernels.Tests.Support;
using Xunit;

namespace Kernels.Tests.Graphs;

public sealed partial class GraphDumpTests
{
    private static readonly Graph s_graph = ModelGraphs.Classifier(TestModels.Classifier("attention"), 2, 8, 8, scale: 2);

    [Fact]
    public void Text_has_a_line_for_every_input_weight_node_and_output()
    {
        string[] lines = s_graph.ToText().TrimEnd().Split(Environment.NewLine);
        Assert.Equal(s_graph.Inputs.Count + s_graph.Weights.Count + s_graph.Nodes.Count + s_graph.Outputs.Count, lines.Length);
        Assert.Contains("input  x: f32[2, 8, 8, 3]", lines);
        Assert.Contains("input  y: i32[2]", lines);
        Assert.Contains("weight out.2.positional_embedding: f32[64, 17]", lines);
        foreach (Node node in s_graph.Nodes)
        {
            string line = Assert.Single(lines, l => l.StartsWith($"{node.Output} = ", StringComparison.Ordinal) || l.StartsWith($"{node.Output}, ", StringComparison.Ordinal));
            Assert.Contains($"{node.Op}(", line, StringComparison.Ordinal);
            Assert.EndsWith($"// {node.Cost.Bytes} bytes, {node.Cost.Flops} FLOP", line, StringComparison.Ordinal);
            Assert.Equal(line.Count(c => c == '('), line.Count(c => c == ')'));
        }
    }

    [Fact]
    public void An_op_is_printed_with_its_attributes()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [1, 4, 4, 3]);
        builder.Output("y", builder.Add("conv", new Convolution(2, 1), x, builder.Weight("w", [5, 3, 3, 3])), updates: null);
        Assert.Contains(
            "conv: f32[1, 2, 2, 5] = Convolution { Stride = 2, Padding = 1, Bias = False, Residual = False, Upsample = False, ResidualResampling = None, TwoInputs = False }(x, w)  // 812 bytes, 1080 FLOP",
            builder.Build().ToText(),
            StringComparison.Ordinal);
    }

    [Fact]
    public void Updates_are_shown()
    {
        GraphBuilder builder = new();
        Tensor x = builder.Input("x", [2]);
        builder.Output("x_next", builder.Add("sum", new Add(), x, x), updates: x);
        Assert.EndsWith("output x_next = sum -> x", builder.Build().ToText().TrimEnd(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Drawings_have_every_node_once_and_every_arrow(bool mermaid)
    {
        string text = mermaid ? s_graph.ToMermaid() : s_graph.ToDot();
        string[] boxes = [.. (mermaid ? MermaidBox() : DotBox()).Matches(text).Select(m => m.Groups[1].Value)];
        (string From, string To)[] arrows = [.. (mermaid ? MermaidArrow() : DotArrow()).Matches(text).Select(m => (m.Groups[1].Value, m.Groups[2].Value))];
        Assert.Equal(s_graph.Inputs.Count + s_graph.Nodes.Count + s_graph.Outputs.Count, boxes.Length);
        Assert.Equal(boxes.Length, boxes.Distinct().Count());
        Assert.Equal(s_graph.Nodes.Sum(n => n.Inputs.Count(t => t.Kind != TensorKind.Weight)) + s_graph.Outputs.Count, arrows.Length);
        Assert.All(arrows, a => Assert.True(boxes.Contains(a.From) && boxes.Contains(a.To), $"{a} joins boxes that are not drawn"));
        Assert.All(s_graph.Nodes, n => Assert.Contains($"{n.Op.Name}{(mermaid ? "<br/>" : "\\n")}{n.Name}\"", text, StringComparison.Ordinal));

        // Nothing else stands in the text: a header, boxes, arrows, and in DOT the closing brace.
        Assert.Equal(boxes.Length + arrows.Length + (mermaid ? 1 : 3), text.TrimEnd().Split('\n').Length);
        Assert.Equal(text.Count(c => c == '{'), text.Count(c => c == '}'));
        Assert.Equal(text.Count(c => c == '['), text.Count(c => c == ']'));
        Assert.Equal(0, text.Count(c => c == '"') % 2);
    }

    [Fact]
    public void Quotes_in_names_do_not_end_a_label()
    {
        GraphBuilder builder = new();
        builder.Output("a \"quoted\" \\ name", builder.Input("x", [1]));
        Assert.Contains("""[label="output\na \"quoted\" \\ name"];""", builder.Build().ToDot(), StringComparison.Ordinal);
        Assert.Contains("""["output<br/>a #quot;quoted#quot; \ name"]""", builder.Build().ToMermaid(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_plan_lists_its_launches_and_its_memory()
    {
        Plan plan = Plan.Create(Fusion.Apply(s_graph).Graph);
        string[] lines = plan.ToText().TrimEnd().Split(Environment.NewLine);
        Assert.Equal(plan.Launches.Count + 1, lines.Length);
        Assert.Equal(plan.Graph.Launches, plan.Launches.Count);
        Assert.All(plan.Launches, l => Assert.StartsWith($"{l.Index,4} {l.Node.Op}", lines[l.Index], StringComparison.Ordinal));
        Assert.All(plan.Launches, l => Assert.EndsWith($"FLOP  {l.Node.Name}", lines[l.Index], StringComparison.Ordinal));
        Assert.All(plan.Launches, l => Assert.Contains($" @{plan.Memory.Offsets[l.Node.Output]} ", lines[l.Index], StringComparison.Ordinal));
        Assert.StartsWith($"{plan.Launches.Count} launches, {plan.Graph.Cost.Bytes} B, {plan.Graph.Cost.Flops} FLOP, arena {plan.Memory.ArenaBytes} B", lines[^1], StringComparison.Ordinal);
    }

    [GeneratedRegex("""^  (\w+) \[label="[^"]+"\];$""", RegexOptions.Multiline)]
    private static partial Regex DotBox();

    [GeneratedRegex("""^  (\w+) -> (\w+) \[label="\[[0-9, ]*\]"\];$""", RegexOptions.Multiline)]
    private static partial Regex DotArrow();

    [GeneratedRegex("""^  (\w+)\["[^"]+"\]$""", RegexOptions.Multiline)]
    private static partial Regex MermaidBox();

    [GeneratedRegex("""^  (\w+) -->\|"\[[0-9, ]*\]"\| (\w+)$""", RegexOptions.Multiline)]
    private static partial Regex MermaidArrow();
}

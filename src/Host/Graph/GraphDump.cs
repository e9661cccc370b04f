using System.Globalization;
using System.Text;

namespace Kernels;

/// <summary>Prints graphs for people and for graph-drawing tools.</summary>
public static class GraphDump
{
    /// <summary>One line per node: outputs with shapes, op with attributes, inputs, bytes and FLOPs.</summary>
    /// <param name="graph">The graph.</param>
    public static string ToText(this Graph graph)
    {
        ArgumentNullException.ThrowIfNull(graph);
        StringBuilder text = new();
        foreach (Tensor input in graph.Inputs)
        {
            text.Append("input  ").AppendLine(input.ToString());
        }

        foreach (Tensor weight in graph.Weights)
        {
            text.Append("weight ").AppendLine(weight.ToString());
        }

        foreach (Node node in graph.Nodes)
        {
            Cost cost = node.Cost;
            text.Append(node).AppendLine(CultureInfo.InvariantCulture, $"  // {cost.Bytes} bytes, {cost.Flops} FLOP");
        }

        foreach ((string name, Tensor tensor) in graph.Outputs)
        {
            string update = graph.Updates.TryGetValue(tensor, out Tensor? input) ? $" -> {input.Name}" : "";
            text.AppendLine(CultureInfo.InvariantCulture, $"output {name} = {tensor.Name}{update}");
        }

        return text.ToString();
    }

    /// <summary>The graph in Graphviz's DOT language; weights are left out.</summary>
    /// <param name="graph">The graph.</param>
    public static string ToDot(this Graph graph)
    {
        ArgumentNullException.ThrowIfNull(graph);
        StringBuilder text = new("digraph kernels {\n  rankdir=TB; node [shape=box, fontname=\"monospace\"];\n");
        Draw(
            graph,
            (id, label) => text.Append(CultureInfo.InvariantCulture, $"  {id} [label=\"{DotText(label)}\"];\n"),
            (from, to, label) => text.Append(CultureInfo.InvariantCulture, $"  {from} -> {to} [label=\"{label}\"];\n"));
        return text.Append("}\n").ToString();
    }

    /// <summary>The graph as a Mermaid flowchart; weights are left out.</summary>
    /// <param name="graph">The graph.</param>
    public static string ToMermaid(this Graph graph)
    {
        ArgumentNullException.ThrowIfNull(graph);
        StringBuilder text = new("flowchart TB\n");
        Draw(
            graph,
            (id, label) => text.Append(CultureInfo.InvariantCulture, $"  {id}[\"{MermaidText(label)}\"]\n"),
            (from, to, label) => text.Append(CultureInfo.InvariantCulture, $"  {from} -->|\"{label}\"| {to}\n"));
        return text.ToString();
    }

    private static string DotText(string label) =>
        label.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);

    private static string MermaidText(string label) =>
        label.Replace("\"", "#quot;", StringComparison.Ordinal).Replace("\n", "<br/>", StringComparison.Ordinal);

    private static void Draw(Graph graph, Action<string, string> box, Action<string, string, string> arrow)
    {
        Dictionary<Tensor, string> ids = [];
        foreach (Tensor input in graph.Inputs)
        {
            string id = $"i{ids.Count}";
            ids.Add(input, id);
            box(id, $"input\n{input.Name}");
        }

        for (int i = 0; i < graph.Nodes.Count; i++)
        {
            Node node = graph.Nodes[i];
            string id = $"n{i}";
            box(id, $"{node.Op.Name}\n{node.Name}");
            foreach (Tensor input in node.Inputs.Where(t => t.Kind != TensorKind.Weight))
            {
                arrow(ids[input], id, input.Shape.ToString());
            }

            foreach (Tensor output in node.Outputs)
            {
                ids.Add(output, id);
            }
        }

        int outputs = 0;
        foreach ((string name, Tensor tensor) in graph.Outputs)
        {
            string id = $"o{outputs++}";
            box(id, $"output\n{name}");
            arrow(ids[tensor], id, tensor.Shape.ToString());
        }
    }
}

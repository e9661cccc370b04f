using Kernels.Backends.Cpu;
using Kernels.Runtime;

namespace Kernels.Tests.Support;

/// <summary>Runs a graph once and compares.</summary>
internal static class CpuRun
{
    /// <summary>Plans, compiles and runs a graph.</summary>
    /// <param name="backend">Where.</param>
    /// <param name="graph">The graph, as it stands.</param>
    /// <param name="values">Its inputs and weights by name.</param>
    /// <param name="reuseInPlace">Whether ops may write over dying inputs.</param>
    /// <returns>Its float32 outputs by name.</returns>
    public static Dictionary<string, float[]> Run(CpuBackend backend, Graph graph, IReadOnlyDictionary<string, double[]> values, bool reuseInPlace = true)
    {
        using Executor executor = backend.Compile(Plan.Create(graph, reuseInPlace), TestModels.ToWeights(graph, values));
        foreach (Tensor input in graph.Inputs)
        {
            if (input.DType == DType.I32)
            {
                executor.Write(input.Name, Array.ConvertAll(values[input.Name], v => (int)v));
            }
            else
            {
                executor.Write(input.Name, Array.ConvertAll(values[input.Name], v => (float)v));
            }
        }

        executor.Run();
        return graph.Outputs.Where(o => o.Value.DType == DType.F32).ToDictionary(o => o.Key, o => executor.Read(o.Key));
    }

    /// <summary>||actual - expected|| / ||expected||.</summary>
    public static double RelativeError(float[] actual, IReadOnlyList<double> expected)
    {
        double error = 0, norm = 0;
        for (int i = 0; i < actual.Length; i++)
        {
            error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
            norm += expected[i] * expected[i];
        }

        return Math.Sqrt(error) / Math.Max(Math.Sqrt(norm), 1e-30);
    }
}

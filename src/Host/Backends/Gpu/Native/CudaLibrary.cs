using System.Runtime.InteropServices;

namespace Kernels.Backends.Gpu.Native;

/// <summary>A library of a CUDA toolkit, and where it may lie on a machine. Every major version from 11 on has the functions used here.</summary>
/// <param name="Name">What it is called in messages.</param>
/// <param name="Variable">The environment variable that names the library, or the folder that holds it, before any other place.</param>
/// <param name="Export">A function by which it is known.</param>
/// <param name="Pattern">File names of it.</param>
/// <param name="Companions">File names of what it opens by name, without looking beside itself.</param>
/// <param name="LoaderNames">Names under which the loader may find it.</param>
internal sealed record CudaLibrary(string Name, string Variable, string Export, string Pattern, string Companions, params string[] LoaderNames)
{
    /// <summary>The folder that <c>eng/get-nvrtc.sh</c> fills.</summary>
    internal const string PreparedFolder = ".nvrtc";

    /// <summary>The run-time compiler.</summary>
    internal static readonly CudaLibrary Nvrtc = OperatingSystem.IsWindows()
        ? new("NVRTC", "KERNELS_NVRTC", "nvrtcVersion", "nvrtc64_*.dll", "nvrtc-builtins64_*.dll", "nvrtc64_130_0.dll", "nvrtc64_120_0.dll", "nvrtc64_112_0.dll")
        : new("NVRTC", "KERNELS_NVRTC", "nvrtcVersion", "libnvrtc.so*", "libnvrtc-builtins.so*", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so");

    /// <summary>Products of matrices.</summary>
    internal static readonly CudaLibrary Cublas = OperatingSystem.IsWindows()
        ? new("cuBLAS", "KERNELS_CUBLAS", "cublasCreate_v2", "cublas64_*.dll", "cublasLt64_*.dll", "cublas64_13.dll", "cublas64_12.dll", "cublas64_11.dll")
        : new("cuBLAS", "KERNELS_CUBLAS", "cublasCreate_v2", "libcublas.so*", "libcublasLt.so*", "libcublas.so.13", "libcublas.so.12", "libcublas.so.11", "libcublas.so");

    /// <summary>Loads the first library that loads. A variable that is set but does not lead to a library is an error, not a hint.</summary>
    /// <param name="tried">Every place looked at, for the message when there is none.</param>
    /// <returns>The handle and the path; the handle is zero if there is no library.</returns>
    internal (nint Handle, string Path) Load(List<string> tried)
    {
        var named = Environment.GetEnvironmentVariable(Variable);
        if (!string.IsNullOrEmpty(named))
        {
            foreach (var path in File.Exists(named) ? [named] : LibrariesIn(named))
            {
                if (TryLoad(path, tried, out var handle))
                    return (handle, path);
            }
            throw new DeviceException($"{Variable} is set to '{named}', where no loadable {Name} library is. Point it at {Pattern.Replace("*", "", StringComparison.Ordinal)} or at its folder, or unset it.");
        }

        foreach (var path in PreparedLibraries())
        {
            if (TryLoad(path, tried, out var handle))
                return (handle, path);
        }
        foreach (var name in LoaderNames)
        {
            if (TryLoad(name, tried, out var handle))
                return (handle, name);
        }
        foreach (var path in ToolkitLibraries().Concat(PythonLibraries()))
        {
            if (TryLoad(path, tried, out var handle))
                return (handle, path);
        }
        return (0, "");
    }

    /// <summary>The prepared folder beside the program, the working folder, or above either, as in a checkout.</summary>
    private IEnumerable<string> PreparedLibraries()
    {
        foreach (var start in new[] { AppContext.BaseDirectory, Environment.CurrentDirectory })
        {
            for (var folder = new DirectoryInfo(start); folder is not null; folder = folder.Parent)
            {
                var prepared = Path.Combine(folder.FullName, PreparedFolder);
                if (!Directory.Exists(prepared))
                    continue;
                foreach (var path in LibrariesIn(prepared))
                    yield return path;
            }
        }
    }

    private IEnumerable<string> ToolkitLibraries()
    {
        if (!Directory.Exists("/usr/local"))
            yield break;
        foreach (var toolkit in Directory.EnumerateDirectories("/usr/local", "cuda*").OrderDescending(StringComparer.Ordinal))
        {
            foreach (var sub in new[] { "lib64", "targets/x86_64-linux/lib" })
            {
                foreach (var path in LibrariesIn(Path.Combine(toolkit, sub)))
                    yield return path;
            }
        }
    }

    /// <summary>The libraries that PyTorch and its kin install, for the Python that is on the path among others: <c>site-packages/nvidia/cuda_nvrtc/lib</c>, <c>nvidia/cublas/lib</c> and, from CUDA 13, <c>nvidia/cu13/lib</c>.</summary>
    private IEnumerable<string> PythonLibraries()
    {
        var home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        var onPath = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
            .Where(folder => File.Exists(Path.Combine(folder, "python3"))).Select(Path.GetDirectoryName);
        string?[] prefixes =
        [
            Environment.GetEnvironmentVariable("VIRTUAL_ENV"), Environment.GetEnvironmentVariable("CONDA_PREFIX"),
            .. onPath, Path.Combine(home, ".local"), "/usr/local", "/usr", "/opt/conda", "/opt/venv",
        ];
        foreach (var prefix in prefixes.Distinct())
        {
            var lib = prefix is null ? null : Path.Combine(prefix, "lib");
            if (lib is null || !Directory.Exists(lib))
                continue;
            foreach (var python in Directory.EnumerateDirectories(lib, "python3*"))
            {
                foreach (var packages in new[] { "site-packages", "dist-packages" })
                {
                    var nvidia = Path.Combine(python, packages, "nvidia");
                    if (!Directory.Exists(nvidia))
                        continue;
                    foreach (var package in Directory.EnumerateDirectories(nvidia))
                    {
                        foreach (var path in LibrariesIn(Path.Combine(package, "lib")))
                            yield return path;
                    }
                }
            }
        }
    }

    private IEnumerable<string> LibrariesIn(string folder)
    {
        if (!Directory.Exists(folder))
            return [];
        var options = new EnumerationOptions { RecurseSubdirectories = true, IgnoreInaccessible = true, MaxRecursionDepth = 6 };
        return Directory.EnumerateFiles(folder, Pattern, options)
            .Where(path => !path.Contains(".alt.", StringComparison.Ordinal))
            .OrderDescending(StringComparer.Ordinal);
    }

    private bool TryLoad(string path, List<string> tried, out nint handle)
    {
        tried.Add(path);
        if (Path.IsPathRooted(path))
        {
            // A folder that the loader does not search must have them loaded beforehand.
            foreach (var companion in Directory.EnumerateFiles(Path.GetDirectoryName(path)!, Companions))
                NativeLibrary.TryLoad(companion, out _);
        }
        return NativeLibrary.TryLoad(path, out handle) && NativeLibrary.TryGetExport(handle, Export, out _);
    }
}

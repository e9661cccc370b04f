#!/usr/bin/env python3
"""Times one guided step (UNet, classifier, its gradient, DDPM update) in Kernels, in PyTorch and in ONNX Runtime on the CPU, side by side.

They take turns step by step, so that whatever else the machine does hits all; all have the same number of threads, and all must give the same x_{t-1} before
they are timed; an engine that does not, or fails, is a row that says so. Ratios are given of the medians and of the least times: on a machine that others use, the latter say more. Needs PyTorch 1.13 or later, with an
optimised BLAS (Debian: `apt install python3-torch libopenblas0-openmp`; the reference BLAS would slow its attention), and the .NET SDK; for ONNX Runtime, node and
`npm install --prefix bench/peers --no-save --ignore-scripts onnxruntime-node` (the package's script downloads a build for CUDA, which is not needed here and cannot be had everywhere).

    python3 bench/peers/cpu.py                                  the demo pair, batch 16, and the published 64x64 shapes, batch 1
    python3 bench/peers/cpu.py --models shapes32 --batch 1 --output cpu.json
    dotnet run -c Release --project src/Cli -- bench table cpu.json
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

import adm
import onnx_step
import packs
import report
import sampling
import synthetic

ROOT, HERE = report.ROOT, os.path.dirname(os.path.abspath(__file__))
DEMO_WEIGHTS = os.path.join(ROOT, "tests", "packs", "demo-ddpm-guided.safetensors")

# Model, batch, file of weights: the demo pair as it is sampled by default, and the smallest published pair.
CASES = {"shapes32": (16, DEMO_WEIGHTS), "adm64": (1, None)}

# Two float32 implementations of the same formulas; the packs allow a whole trajectory 1e-3.
TOLERANCE = 1e-4

# After a run the threads of both spin for a moment in case more work comes; the other should not be timed against that.
PAUSE_S = 0.03


class Served:
    """Another program that runs steps at our word."""

    def __init__(self, command, **environment):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
        self.description = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with exit status {self.process.wait()}; its messages are above")
        return json.loads(line)

    def ask(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.answer()

    def values(self):
        return torch.from_numpy(np.frombuffer(base64.b64decode(self.ask("verify")["x_next"]), np.float32).copy())

    def run(self):
        return self.ask("run")["ms"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Kernels(Served):
    """The bench program, serving steps."""

    name = "kernels"

    def __init__(self, model, batch, threads, weights):
        command = ["dotnet", "run", "-c", "Release", "--no-build", "--project", os.path.join(ROOT, "bench"), "--", "serve", "--model", model]
        super().__init__(command + ["--batch", str(batch), "--threads", str(threads)] + (["--weights", weights] if weights else []))

    def x_next(self):
        return self.values()


class Models:
    """Both models and the inputs, as PyTorch has them."""

    def __init__(self, description, weights):
        d = self.description = description
        self.unet, self.classifier = adm.build(d["config"]), adm.build(d["classifier_config"], "classifier")
        if weights:
            pack = packs.Pack(weights)
            self.unet.load_state_dict(pack.under("diffusion/"))
            self.classifier.load_state_dict(pack.under("classifier/"))
        else:
            synthetic.load_weights(self.unet)
            synthetic.load_weights(self.classifier)
        self.schedule = sampling.Schedule(d["diffusion"])
        self.scale, self.index = d["classifier_scale"], self.schedule.steps - 1 - d["step"]
        self.y = torch.arange(d["batch"]) % d["classifier_config"]["out_channels"]
        self.x, self.noise = (synthetic.images(name, d["batch"], d["config"]["in_channels"], d["config"]["image_size"]) for name in ("x", "noise"))


class PyTorch:
    """The same step in eager PyTorch, in one memory format."""

    def __init__(self, models, memory_format, name):
        self.name, self.models = name, models
        self.step = sampling.GuidedStep(models.unet, models.schedule, models.classifier, models.scale)
        for model in (models.unet, models.classifier):
            model.to(memory_format=memory_format)
        self.x, self.noise = (t.contiguous(memory_format=memory_format) for t in (models.x, models.noise))

    def x_next(self):
        return self.step(self.x, self.models.index, self.models.y, self.noise)[0].permute(0, 2, 3, 1).flatten()

    def run(self):
        start = time.perf_counter()
        self.step(self.x, self.models.index, self.models.y)
        return 1000 * (time.perf_counter() - start)

    def close(self):
        pass


class OnnxRuntime(Served):
    """The same step in ONNX Runtime; the noise is given to it, which the others draw."""

    name = "onnxruntime"

    def __init__(self, models, threads):
        if not shutil.which("node"):
            raise RuntimeError("there is no node to run ONNX Runtime with")
        modules = os.environ.get("NODE_PATH") or os.path.join(HERE, "node_modules")
        if not os.path.isdir(os.path.join(modules, "onnxruntime-node")):
            raise RuntimeError("onnxruntime-node is missing: npm install --prefix bench/peers --no-save --ignore-scripts onnxruntime-node")
        self.folder = tempfile.TemporaryDirectory()
        path = lambda name: os.path.join(self.folder.name, name)
        step = onnx_step.ExportedStep(models.unet, models.classifier, models.schedule, models.scale, models.index, models.x, models.y)
        onnx_step.export(step, models.x, models.noise, models.y, path("step.onnx"))
        inputs = {}
        for name, tensor in (("x", models.x), ("noise", models.noise), ("y", models.y)):
            tensor.numpy().tofile(path(name))
            inputs[name] = {"type": str(tensor.dtype).replace("torch.", ""), "dims": list(tensor.shape), "file": path(name)}
        with open(path("inputs.json"), "w") as file:
            json.dump(inputs, file)
        self.shape = models.x.shape
        super().__init__(["node", os.path.join(HERE, "onnx_step.js"), path("step.onnx"), str(threads), path("inputs.json")], NODE_PATH=modules)

    def x_next(self):
        return self.values().reshape(self.shape).permute(0, 2, 3, 1).flatten()

    def close(self):
        super().close()
        self.folder.cleanup()


def attempt(rows, base, name, make):
    """An engine, or a row that says why there is none."""
    try:
        return make()
    except Exception as e:
        rows.append(report.row(base, name, "fp32", error=f"{type(e).__name__}: {e}"))
        return None


def measure(model, batch, weights, threads, repeats, warm_ups=3):
    ours, rows = Kernels(model, batch, threads, weights), []
    d = ours.description
    base = {"model": model, "batch": batch, "part": report.STEP, "flops": d["flops"], "bytes": d["bytes"]}
    engines = [ours]
    for memory_format, name in ((torch.contiguous_format, "pytorch channels_first"), (torch.channels_last, "pytorch channels_last")):
        # Each format has weights of its own, so that nothing is laid out anew between turns.
        engines.append(attempt(rows, base, name, lambda: PyTorch(Models(d, weights), memory_format, name)))
    engines.append(attempt(rows, base, OnnxRuntime.name, lambda: OnnxRuntime(Models(d, weights), threads)))
    engines = [engine for engine in engines if engine]
    plain = next(engine for engine in engines if isinstance(engine, PyTorch))
    expected, errors, times = plain.x_next(), {}, {}
    for engine in list(engines):
        error = errors[engine.name] = float((engine.x_next() - expected).norm() / expected.norm())
        if not error <= TOLERANCE:
            rows.append(report.row(base, engine.name, "fp32", relative=error, against=plain.name))
            engines.remove(engine)
    for repeat in range(-warm_ups, repeats):
        for engine in engines:
            time.sleep(PAUSE_S)
            ms = engine.run()
            if repeat >= 0:
                times.setdefault(engine.name, []).append(ms)
    for engine in engines:
        more = {} if engine is not ours else {"launches": d["launches"], "arena_bytes": d["arena_bytes"], "split_ms": ours.ask("split")["split_ms"]}
        rows.append(report.row(base, engine.name, "fp32", times[engine.name], relative=errors[engine.name], against=plain.name, **more))
    versions = [f"ONNX Runtime {e.description['version']}" for e in engines if isinstance(e, OnnxRuntime)]
    for engine in engines:
        engine.close()
    return d, rows, versions


def main():
    parser = argparse.ArgumentParser(description="Times a guided step in Kernels, PyTorch and ONNX Runtime on the CPU.")
    parser.add_argument("--models", nargs="+", choices=sorted(CASES), default=list(CASES))
    parser.add_argument("--batch", type=int, help="number of images (default: 16 for shapes32, 1 for adm64)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", help="write the results here, as kernels bench --json does")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    subprocess.run(["dotnet", "build", "-c", "Release", "-clp:ErrorsOnly", "--nologo", os.path.join(ROOT, "bench")], check=True, stdout=sys.stderr)
    head, rows = None, []
    for model in options.models:
        batch, weights = CASES[model]
        description, measured, versions = measure(model, options.batch or batch, weights, options.threads, options.repeats)
        head = head or report.header("cpu", "python3 bench/peers/cpu.py " + " ".join(sys.argv[1:]), options.threads, more_libraries=[f"Kernels on {description['runtime']}, {description['device']}", *versions])
        rows += measured
        least = {r["engine"]: r["min_ms"] for r in measured if "min_ms" in r}
        for r in measured:
            report.show(r)
        print("           least times, of that of kernels: " + ", ".join(f"{engine} {ms / least['kernels']:.2f}" for engine, ms in least.items() if engine != "kernels" and "kernels" in least))
        if options.output:
            report.save(options.output, head, rows)


if __name__ == "__main__":
    main()

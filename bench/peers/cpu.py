#!/usr/bin/env python3
"""Times one guided step (UNet, classifier, its gradient, DDPM update) in Kernels and in PyTorch on the CPU, side by side.

The two take turns step by step, so that whatever else the machine does hits both; both have the same number of threads, and both must give the same x_{t-1} before
anything is timed. Ratios are given of the medians and of the least times: on a machine that others use, the latter say more. Needs PyTorch 1.13 or later, with an
optimised BLAS (Debian: `apt install python3-torch libopenblas0-openmp`; the reference BLAS would slow its attention), and the .NET SDK.

    python3 bench/peers/cpu.py                                  the demo pair, batch 16, and the published 64x64 shapes, batch 1
    python3 bench/peers/cpu.py --models shapes32 --batch 1 --output bench/results/cpu.json
"""

import argparse
import base64
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time

import numpy as np
import torch

import adm
import packs
import sampling
import synthetic

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEMO_WEIGHTS = os.path.join(ROOT, "tests", "packs", "demo-ddpm-guided.safetensors")

# Model, batch, file of weights: the demo pair as it is sampled by default, and the smallest published pair.
CASES = {"shapes32": (16, DEMO_WEIGHTS), "adm64": (1, None)}

# Two float32 implementations of the same formulas; the packs allow a whole trajectory 1e-3.
TOLERANCE = 1e-4

# After a run the threads of both spin for a moment in case more work comes; the other should not be timed against that.
PAUSE_S = 0.03


class Kernels:
    """The bench program, serving steps."""

    name = "kernels"

    def __init__(self, model, batch, threads, weights):
        command = ["dotnet", "run", "-c", "Release", "--project", os.path.join(ROOT, "bench"), "--", "serve", "--model", model]
        command += ["--batch", str(batch), "--threads", str(threads)] + (["--weights", weights] if weights else [])
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.description = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the bench program ended; its messages are above")
        return json.loads(line)

    def ask(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.answer()

    def x_next(self):
        return torch.from_numpy(np.frombuffer(base64.b64decode(self.ask("verify")["x_next"]), np.float32).copy())

    def run(self):
        return self.ask("run")["ms"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class PyTorch:
    """The same step in eager PyTorch, in one memory format."""

    def __init__(self, description, weights, memory_format, name):
        self.name, self.format = name, memory_format
        d = self.description = description
        unet, classifier = adm.build(d["config"]), adm.build(d["classifier_config"], "classifier")
        if weights:
            pack = packs.Pack(weights)
            unet.load_state_dict(pack.under("diffusion/"))
            classifier.load_state_dict(pack.under("classifier/"))
        else:
            synthetic.load_weights(unet)
            synthetic.load_weights(classifier)
        unet, classifier = (m.to(memory_format=memory_format) for m in (unet, classifier))
        schedule = sampling.Schedule(d["diffusion"])
        self.step = sampling.GuidedStep(unet, schedule, classifier, d["classifier_scale"])
        self.index = schedule.steps - 1 - d["step"]
        self.labels = torch.arange(d["batch"]) % d["classifier_config"]["out_channels"]
        self.x = self.images("x")

    def images(self, name):
        c = self.description["config"]
        return synthetic.images(name, self.description["batch"], c["in_channels"], c["image_size"]).to(memory_format=self.format)

    def x_next(self):
        return self.step(self.x, self.index, self.labels, self.images("noise"))[0].permute(0, 2, 3, 1).flatten()

    def run(self):
        start = time.perf_counter()
        self.step(self.x, self.index, self.labels)
        return 1000 * (time.perf_counter() - start)


def measure(model, batch, weights, threads, repeats, warm_ups=3):
    ours = Kernels(model, batch, threads, weights)
    description = ours.description
    formats = ((torch.contiguous_format, "pytorch channels_first"), (torch.channels_last, "pytorch channels_last"))
    engines = [ours] + [PyTorch(description, weights, f, name) for f, name in formats]
    expected = engines[1].x_next()
    for engine in engines:
        error = float((engine.x_next() - expected).norm() / expected.norm())
        if not error <= TOLERANCE:
            raise SystemExit(f"{model}: x_next of {engine.name} differs from {engines[1].name} by {error:.1e}; timing it would mean nothing")
    times = {engine.name: [] for engine in engines}
    for repeat in range(-warm_ups, repeats):
        for engine in engines:
            time.sleep(PAUSE_S)
            ms = engine.run()
            if repeat >= 0:
                times[engine.name].append(ms)
    split = ours.ask("split")["split_ms"]
    ours.close()
    own, own_least = statistics.median(times[ours.name]), min(times[ours.name])
    rows = []
    for name, ms in times.items():
        median = statistics.median(ms)
        quartiles = statistics.quantiles(ms, n=4) if len(ms) > 1 else [median, median, median]
        rows.append({
            "model": model, "batch": batch, "part": "guided step", "engine": name, "precision": "fp32", "repeats": len(ms),
            "median_ms": median, "min_ms": min(ms), "spread": (quartiles[2] - quartiles[0]) / 2 / median,
            "tflops": description["flops"] / median / 1e9, "ratio_to_kernels": median / own, "ratio_of_least": min(ms) / own_least,
        })
    rows[0].update(launches=description["launches"], arena_bytes=description["arena_bytes"], split_ms=split)
    return description, rows


def header(description, threads):
    """Where and with what the numbers were taken."""
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    with open("/proc/self/maps") as maps:
        libraries = {os.path.basename(line.split()[-1]) for line in maps if ".so" in line}
    return {
        "date": datetime.date.today().isoformat(), "commit": commit, "device": cpu_name(), "threads": threads, "kernels": description["device"],
        "runtime": description["runtime"], "pytorch": torch.__version__, "pytorch_cpu": torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else "",
        "pytorch_libraries": sorted(name for name in libraries if any(key in name for key in ("blas", "mkl", "dnnl", "gomp", "iomp"))),
    }


def cpu_name():
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main():
    parser = argparse.ArgumentParser(description="Times a guided step in Kernels and in PyTorch on the CPU.")
    parser.add_argument("--models", nargs="+", choices=sorted(CASES), default=list(CASES))
    parser.add_argument("--batch", type=int, help="number of images (default: 16 for shapes32, 1 for adm64)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", help="write the results here as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    subprocess.run(["dotnet", "build", "-c", "Release", "-clp:ErrorsOnly", "--nologo", os.path.join(ROOT, "bench")], check=True, stdout=sys.stderr)
    results = {"header": None, "rows": []}
    print(f"{'model':<10} {'batch':>5} {'engine':<24} {'median ms':>10} {'min ms':>9} {'spread':>7} {'TFLOP/s':>8} {'ratio':>6} {'of least':>8}")
    for model in options.models:
        batch, weights = CASES[model]
        description, rows = measure(model, options.batch or batch, weights, options.threads, options.repeats)
        results["header"] = results["header"] or header(description, options.threads)
        results["rows"] += rows
        for r in rows:
            print(f"{r['model']:<10} {r['batch']:>5} {r['engine']:<24} {r['median_ms']:>10.2f} {r['min_ms']:>9.2f} {r['spread']:>7.1%} {r['tflops']:>8.3f} {r['ratio_to_kernels']:>6.2f} {r['ratio_of_least']:>8.2f}")
        print("           parts of kernels: " + ", ".join(f"{part} {ms:.2f} ms" for part, ms in rows[0]["split_ms"].items()))
    if options.output:
        with open(options.output + ".part", "w") as file:
            json.dump(results, file, indent=1)
            file.write("\n")
        os.replace(options.output + ".part", options.output)


if __name__ == "__main__":
    main()

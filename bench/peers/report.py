"""Writes what was measured as `kernels bench --json` does (format kernels-bench-1), so that `kernels bench table` and `kernels bench compare` read it."""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import time

import torch

FORMAT = "kernels-bench-1"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STEP = "guided step"

# What kernels bench allows a whole step (src/Host/Measurement/MeasuredDevice.cs).
TOLERANCES = {"fp32": 1e-4, "tf32": 4 * 2.0 ** -9, "fp16": 4 * 2.0 ** -9, "bf16": 4 * 2.0 ** -6}


def quantile(values, q):
    """As the report's own: linear between neighbours."""
    values = sorted(values)
    at = (len(values) - 1) * q
    low = int(at)
    return values[low] + (at - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def spread(values):
    median = statistics.median(values)
    return (quantile(values, 0.75) - quantile(values, 0.25)) / 2 / median if median else 0.0


def row(base, engine, precision, times=None, error=None, relative=None, against="pytorch eager fp32", **more):
    """A row; `base` is the row of kernels, or the same by hand: model, batch, part, op, shapes, uses, flops, bytes."""
    kept = {key: base[key] for key in ("model", "batch", "part", "op", "shapes", "uses", "flops", "bytes") if base.get(key) is not None}
    result = {"engine": engine, **kept, "precision": precision, **more}
    if relative is not None:
        finite = relative == relative and relative != float("inf")
        result["verified"] = {"against": against, **({"relative_l2": relative} if finite else {}), "tolerance": TOLERANCES[precision]}
    if error is not None:
        result["error"] = str(error)
    if times:
        median = statistics.median(times)
        result.update(
            repeats=len(times), median_ms=median, lower_quartile_ms=quantile(times, 0.25), upper_quartile_ms=quantile(times, 0.75), min_ms=min(times), spread=spread(times))
        if median and "flops" in kept:
            result["tflops"] = kept["flops"] / median / 1e9
        # The bytes of kernels at this precision; another engine may move more.
        if median and "bytes" in kept:
            result["gb_per_second"] = kept["bytes"] / median / 1e6
    return result


def measure(run, time_limit, least=5, most=100, enough=0.01, warm_ups=2):
    """Times in milliseconds until the spread is small or the time is up: the rule of kernels bench. `run` returns the time of one run."""
    start, times = time.perf_counter(), []
    for _ in range(warm_ups):
        run()
    while len(times) < least or (len(times) < most and time.perf_counter() - start < time_limit and spread(times) > enough):
        times.append(run())
    return times


def cpu_name():
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def libraries():
    """PyTorch and what it multiplies with, as far as it is loaded."""
    found = [f"PyTorch {torch.__version__}"]
    try:
        with open("/proc/self/maps") as maps:
            names = {os.path.basename(line.split()[-1]) for line in maps if ".so" in line}
        found += sorted(n for n in names if any(key in n for key in ("blas", "mkl", "dnnl", "gomp", "iomp")))
    except OSError:
        pass
    if torch.cuda.is_available():
        found += [f"CUDA {torch.version.cuda}", f"cuDNN {torch.backends.cudnn.version()}"]
    return found


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def header(kind, command, threads=None, like=None, more_libraries=()):
    """Under what circumstances; `like` is the header of a report of the same machine, for what Python cannot tell."""
    like = like or {}
    fields = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": output_of("git", "-C", ROOT, "rev-parse", "HEAD") or like.get("commit"),
        "version": like.get("version") or "0.1.0",
        "command": command,
        "kind": kind,
        "device": torch.cuda.get_device_name() if kind == "cuda" else cpu_name(),
        "processor": cpu_name(),
        "threads": threads,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "runtime": f"Python {platform.python_version()}",
        "os": like.get("os") or platform.platform(),
        "libraries": ", ".join([*libraries(), *more_libraries]),
    }
    if kind == "cuda":
        fields["architecture"] = "sm_%d%d" % torch.cuda.get_device_capability()
        queried = output_of("nvidia-smi", "--query-gpu=driver_version,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem", "--format=csv,noheader").splitlines()
        if queried:
            driver, sm, sm_max, memory, memory_max = (f.strip() for f in queried[0].split(","))
            fields.update(driver=driver, clocks=f"SM {sm} of {sm_max}, memory {memory} of {memory_max}")
    return {key: value for key, value in fields.items() if value is not None}


def save(path, head, rows):
    """The file is whole at any time."""
    with open(path + ".part", "w") as file:
        json.dump({"format": FORMAT, "header": head, "rows": rows}, file, indent=2)
        file.write("\n")
    os.replace(path + ".part", path)


def load(path):
    with open(path) as file:
        report = json.load(file)
    if report.get("format") != FORMAT:
        raise SystemExit(f"{path} is no report of kernels bench ({FORMAT})")
    return report


def show(r):
    """One line for people."""
    what = r.get("op", "").split(" ")[0] or r["part"]
    times = f"{r['median_ms']:>10.3f} ms, least {r['min_ms']:>9.3f}, spread {r['spread']:>6.1%}" if "median_ms" in r else f"not measured: {r.get('error', '')[:160]}"
    print(f"{r['model']:<10} {r['batch']:>3} {r['precision']:<5} {what:<20} {r['engine']:<28} {times}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Writes several reports of one machine as one.")
    parser.add_argument("output", help="the one report")
    parser.add_argument("reports", nargs="+", help="what kernels bench --json or a rival wrote; the header is that of the first")
    options = parser.parse_args()
    reports = [load(path) for path in options.reports]
    rows = {}
    for r in (r for one in reports for r in one["rows"]):
        # Who was measured again counts as last measured.
        rows[tuple(json.dumps(r.get(key)) for key in ("engine", "model", "batch", "part", "op", "shapes", "precision"))] = r
    save(options.output, reports[0]["header"], list(rows.values()))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Times PyTorch on a GPU on what `kernels bench` measured: the same models, shapes, batches and precisions, in every way of variants.py, and op by op (ops.py).

    kernels bench --device cuda --model adm64 --batch 1,4 --precision fp32,fp16,bf16 --json steps.json
    python3 bench/peers/gpu.py --like steps.json --output rivals.json
    kernels bench table steps.json rivals.json

Times are those of CUDA events, the second-level cache emptied before each repeat, repeats by the rule of kernels bench. Every variant runs in a process of its own, so that one that
fails, or runs out of memory or time, is a row that says why. `--device cpu` runs everything that a CPU can, for trying this out. Written for PyTorch 2; what an older one lacks
fails by itself.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import torch

import ops
import report
import variants

FLUSHED_BYTES = 256 << 20


class Clock:
    """Times one call: by events and with an empty cache on a GPU."""

    def __init__(self, device):
        self.device = device
        if device == "cuda":
            self.begin, self.end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            self.flushed = torch.empty(FLUSHED_BYTES, dtype=torch.int8, device=device)

    def __call__(self, run):
        if self.device != "cuda":
            start = time.perf_counter()
            run()
            return 1000 * (time.perf_counter() - start)
        self.flushed.zero_()
        self.begin.record()
        run()
        self.end.record()
        self.end.synchronize()
        return self.begin.elapsed_time(self.end)


def relative_error(actual, expected):
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def reference(models, device):
    """x_{t-1} by the plain model in binary32: what every variant is held against. Of one image: each is computed by itself."""
    work = variants.Workload(models, 1, device)
    work.convert("fp32")
    return work.result(work.step())


def step_rows(task):
    """The row of one variant."""
    base, models, device = task["base"], task["models"], task["device"]
    name, precision = task["engine"], task["precision"]
    builder = next(builder for n, _, builder in variants.ALL if n == name)
    expected = reference(models, device)
    work = variants.Workload(models, base["batch"], device)
    work.convert(precision)
    run, result = builder(work)
    error = relative_error(result()[:1], expected)
    clock = Clock(device)
    yield report.row(base, name, precision, report.measure(lambda: clock(run), task["time_limit"]), relative=error)


def op_rows(task):
    """The rows of all ops of one model at one precision."""
    clock = Clock(task["device"])
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = task["precision"] == "tf32"
    torch.backends.cudnn.benchmark = True
    for base in task["rows"]:
        try:
            engine, run = ops.build(base["op"], base["shapes"], task["precision"], task["device"])
        except ops.NoRival:
            continue
        except Exception as e:
            yield report.row(base, "pytorch", task["precision"], error=f"{type(e).__name__}: {e}")
            continue
        try:
            yield report.row(base, engine, task["precision"], report.measure(lambda: clock(run), task["time_limit"]))
        except Exception as e:
            yield report.row(base, engine, task["precision"], error=f"{type(e).__name__}: {e}")


def child(path):
    """Works one task off, one line of JSON for every row."""
    with open(path) as file:
        task = json.load(file)
    for row in (op_rows if "rows" in task else step_rows)(task):
        print(json.dumps(row), flush=True)


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "no message"


def run_task(task, limit):
    """The rows of a task and why it ended early, if it did."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(task, file)
    try:
        done = subprocess.run([sys.executable, os.path.abspath(__file__), "--task", file.name], capture_output=True, text=True, timeout=limit)
        out, problem = done.stdout, None if done.returncode == 0 else last_line(done.stderr)
    except subprocess.TimeoutExpired as e:
        out, problem = (e.stdout or b"").decode(), f"not done after {limit:.0f} s"
    finally:
        os.unlink(file.name)
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")], problem


def tasks(like, options):
    """Steps first, the smallest model first, then single ops."""
    steps = [r for r in like["rows"] if r["engine"] == "kernels" and r["part"] == report.STEP]
    for name, precisions, _ in variants.ALL:
        if options.variants and not any(v in name for v in options.variants):
            continue
        for base in steps:
            if base["precision"] in precisions and base["precision"] in options.precision and base["model"] in like.get("models", {}):
                yield {"engine": name, "precision": base["precision"], "base": base, "models": like["models"][base["model"]]}
    single = [r for r in like["rows"] if r["engine"] == "kernels" and r["part"] == "op" and r["precision"] in options.precision]
    for key in dict.fromkeys((r["model"], r["batch"], r["precision"]) for r in single):
        yield {"precision": key[2], "rows": [r for r in single if (r["model"], r["batch"], r["precision"]) == key]}


def main():
    parser = argparse.ArgumentParser(description="Times PyTorch on what kernels bench measured.")
    parser.add_argument("--like", metavar="JSON", nargs="+", help="reports of kernels bench: their rows are what is timed")
    parser.add_argument("--output", metavar="JSON", help="where to write the report; it is whole after every row")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--precision", default="fp32,tf32,fp16,bf16")
    parser.add_argument("--variants", nargs="+", help="only those whose names contain one of these")
    parser.add_argument("--time-limit", type=float, default=5, metavar="SECONDS", help="for one row's repeats")
    parser.add_argument("--task-limit", type=float, default=240, metavar="SECONDS", help="for one variant, models, compilation and all")
    parser.add_argument("--budget", type=float, default=1e9, metavar="SECONDS", help="for everything; what does not fit is named and left out")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        return child(options.task)
    if not options.like or not options.output:
        parser.error("--like and --output are needed")
    if options.device == "cuda" and not torch.cuda.is_available():
        print("PyTorch sees no GPU; --device cpu tries out what a CPU can run", file=sys.stderr)
        return 3
    options.precision = options.precision.split(",")
    likes = [report.load(path) for path in options.like]
    like = {"rows": [r for l in likes for r in l["rows"]], "models": {k: v for l in likes for k, v in l.get("models", {}).items()}}
    head, rows, start, left_out, failed = report.header(options.device, "python3 bench/peers/gpu.py " + " ".join(sys.argv[1:]), like=likes[0]["header"]), [], time.monotonic(), 0, 0
    for task in tasks(like, options):
        left = options.budget - (time.monotonic() - start)
        if left < 10:
            left_out += 1
            continue
        limit = min(options.task_limit, left)
        done, problem = run_task({**task, "device": options.device, "time_limit": options.time_limit}, limit)
        if problem and "base" in task:
            done = [report.row(task["base"], task["engine"], task["precision"], error=problem)]
        elif problem:
            print(f"ops of {task['rows'][0]['model']}, {task['precision']}: {problem}", file=sys.stderr)
        failed += bool(problem)
        rows += done
        for row in done:
            report.show(row)
        report.save(options.output, head, rows)
    report.save(options.output, head, rows)
    print(f"{len(rows)} rows, {failed} tasks failed, {left_out} left out for want of time")
    return 0


if __name__ == "__main__":
    sys.exit(main())

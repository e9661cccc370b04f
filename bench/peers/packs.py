#!/usr/bin/env python3
"""Reads safetensors files and checks the models of adm.py against the reference packs.

    python3 bench/peers/packs.py tests/packs      the reference packs at their own tolerances; exit status 4 if one fails
"""

import argparse
import glob
import json
import os
import struct
import sys

import numpy as np
import torch

import adm
import sampling

DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "U8": np.uint8}

# Relative L2 errors that the packs' format states, for every kind that a model can be checked with.
FORWARD, GRADIENT, TRAJECTORY = 1e-5, 1e-4, 1e-3


class Pack:
    """A safetensors file: its metadata, and its tensors by name."""

    fused_attention = False

    def __init__(self, path):
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
            data = file.read()
        self.metadata = header.pop("__metadata__", {})
        self.tensors = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            array = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
            self.tensors[name] = torch.from_numpy(array.copy())

    def json(self, key):
        return json.loads(self.metadata[key])

    def under(self, prefix):
        return {name[len(prefix):]: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}

    def model(self, config, kind, prefix="weights/"):
        model = adm.build(self.json(config), kind)
        model.load_state_dict(self.under(prefix))
        return model.use_fused_attention() if self.fused_attention else model


def check(path):
    """Rows (output, relative error, tolerance) of one pack; none for a kind that records no model."""
    pack = Pack(path)
    kind, inputs, outputs = pack.metadata["kind"], pack.under("inputs/"), pack.under("outputs/")
    if kind in ("unet", "superres"):
        model = pack.model("config", kind)
        with torch.no_grad():
            return compare({"out": model(inputs.pop("x"), inputs.pop("t"), **inputs)}, outputs, FORWARD)
    if kind == "classifier":
        gradient, logits = sampling.classifier_gradient(pack.model("config", kind), inputs["x"], inputs["t"], inputs["y"])
        actual = {"logits": logits, "log_probs": torch.log_softmax(logits, -1)}
        gradient = {"grad": gradient * float(pack.metadata["classifier_scale"])}
        return compare(actual, outputs, FORWARD) + compare(gradient, outputs, GRADIENT)
    if kind == "sample":
        return compare(sample(pack, inputs), outputs, TRAJECTORY)
    if kind == "encode":
        return compare(encode(pack, inputs), outputs, TRAJECTORY)
    return []


def sample(pack, inputs):
    scale, weight = (float(pack.metadata[key]) for key in ("classifier_scale", "cfg_scale"))
    step = sampling.GuidedStep(
        pack.model("config", "unet", "diffusion/"),
        sampling.Schedule(pack.json("diffusion")),
        pack.model("classifier_config", "classifier", "classifier/") if scale else None,
        scale,
        weight,
        int(float(pack.metadata["null_label"])),
        pack.metadata["sampler"],
        float(pack.metadata["eta"]),
        pack.metadata["clip_denoised"] == "true",
    )
    x, xs, predictions = inputs["noise"], [], []
    for index, noise in zip(reversed(range(step.schedule.steps)), inputs["step_noise"]):
        x, prediction = step(x, index, inputs["y"], noise)
        xs.append(x)
        predictions.append(prediction)
    return {"sample": x, "trajectory": torch.stack(xs), "pred_xstart": torch.stack(predictions)}


def encode(pack, inputs):
    step = sampling.GuidedStep(pack.model("config", "unet", "diffusion/"), sampling.Schedule(pack.json("diffusion")), sampler="ddim-reverse")
    x, xs = inputs["x"], []
    for index in range(step.schedule.steps):
        x, _ = step(x, index, inputs["y"])
        xs.append(x)
    return {"latent": x, "trajectory": torch.stack(xs)}


def compare(actual, expected, tolerance):
    rows = []
    for name, value in actual.items():
        a, b = value.detach().double(), expected[name].double()
        rows.append((name, float((a - b).norm() / b.norm()), tolerance))
    return rows


def main():
    parser = argparse.ArgumentParser(description="Checks the PyTorch models of adm.py against reference packs.")
    parser.add_argument("paths", metavar="PATH", nargs="+", help="packs, or folders of them")
    parser.add_argument("--sdpa", action="store_true", help="with scaled_dot_product_attention")
    options = parser.parse_args()
    Pack.fused_attention = options.sdpa
    paths = [p for path in options.paths for p in (sorted(glob.glob(os.path.join(path, "*.safetensors"))) if os.path.isdir(path) else [path])]
    failed = checked = 0
    print(f"{'pack':<28} {'output':<12} {'relative L2':>11} {'tolerance':>9}")
    for path in paths:
        for output, error, tolerance in check(path):
            passed = error <= tolerance
            checked, failed = checked + 1, failed + (not passed)
            name = os.path.basename(path)[: -len(".safetensors")]
            print(f"{name:<28} {output:<12} {error:>11.2e} {tolerance:>9.0e} {'' if passed else 'FAILED'}")
    print(f"{checked - failed} passed, {failed} failed (PyTorch {torch.__version__})")
    sys.exit(4 if failed or not checked else 0)


if __name__ == "__main__":
    main()

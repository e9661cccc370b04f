#!/usr/bin/env python3
"""How far PyTorch strays at 16 bits: the models of adm.py against the reference packs, half precision where the originals use it (`convert_to_fp16`).

    python3 bench/peers/half.py tests/packs

bf16 runs PyTorch's own CPU kernels. fp16, which those lack, computes every operation in float32 and rounds what it returns, as a GPU's kernels do; the column "bf16 rounded" does the same
at bf16, to show that this errs alike. The limits of tests/Backends/Gpu/ReferencePackTests.cs are twice the first two columns.
"""

import argparse
import glob
import os

import torch
from torch.overrides import TorchFunctionMode

import packs

# What moves or converts values, and computes nothing.
VERBATIM = {"float", "type", "double", "to", "dim", "size", "detach", "requires_grad_", "reshape", "view", "chunk", "split", "flatten", "clone", "copy_", "__getitem__", "__get__", "__set__",
            "is_floating_point", "_has_compatible_shallow_copy_type"}


class Rounded(TorchFunctionMode):
    """Every operation on 16-bit tensors in float32, its results rounded."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(function, "__name__", "") in VERBATIM:
            return function(*args, **kwargs)
        seen = []
        result = function(*self.map(args, self.dtype, torch.float32, seen), **{name: self.map(v, self.dtype, torch.float32, seen) for name, v in kwargs.items()})
        return self.map(result, torch.float32, self.dtype, []) if seen else result

    def map(self, value, source, target, seen):
        if isinstance(value, (list, tuple)):
            return type(value)(self.map(v, source, target, seen) for v in value)
        if isinstance(value, torch.Tensor) and value.dtype == source:
            seen.append(value)
            return value.to(target)
        return value


def errors(path, dtype, rounded):
    """Relative errors of a pack's outputs."""
    exact = packs.Pack.model

    def reduced(self, *args):
        model = exact(self, *args)
        return model.convert_to(dtype)

    packs.Pack.model = reduced
    try:
        if not rounded:
            return {name: error for name, error, _ in packs.check(path)}
        with Rounded(dtype):
            return {name: error for name, error, _ in packs.check(path)}
    finally:
        packs.Pack.model = exact


def main():
    parser = argparse.ArgumentParser(description="How far the PyTorch models of adm.py stray from the reference packs at 16 bits.")
    parser.add_argument("folder", help="the reference packs")
    folder = parser.parse_args().folder
    print(f"{'pack':<28} {'output':<12} {'fp16':>9} {'bf16':>9} {'bf16 rounded':>13}")
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        columns = [errors(path, torch.float16, True), errors(path, torch.bfloat16, False), errors(path, torch.bfloat16, True)]
        for output in columns[0]:
            name = os.path.basename(path)[: -len(".safetensors")]
            print(f"{name:<28} {output:<12} {columns[0][output]:>9.2e} {columns[1][output]:>9.2e} {columns[2][output]:>13.2e}")
    print(f"PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()

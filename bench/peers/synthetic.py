"""Weights and inputs made by a formula: the same values that the bench program makes (src/Host/Models/SyntheticWeights.cs), without a file of gigabytes."""

import math
import zlib

import numpy as np
import torch

UNIT_VARIANCE = math.sqrt(12)


def fill(name, shape, scale, offset=0.0):
    """offset + scale * u with u even over [-1/2, 1/2): a hash of the name and the index of each element."""
    h = np.arange(math.prod(shape), dtype=np.uint32)
    h *= np.uint32(0x9E3779B1)
    h += np.uint32(zlib.crc32(name.encode()))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h ^= h >> np.uint32(shift)
        h *= np.uint32(factor)
    h ^= h >> np.uint32(16)
    u = h.view(np.int32).astype(np.float32) * np.float32(1 / 4294967296)
    return torch.from_numpy((np.float32(offset) + np.float32(scale) * u).reshape(shape))


def load_weights(model):
    """Gives every parameter its values: matrices and filters of variance 1 / fan-in, scales of norms around 1."""
    for name, parameter in model.named_parameters():
        vector = parameter.dim() == 1
        scale = 0.2 if vector else math.sqrt(12 * parameter.shape[0] / parameter.numel())
        parameter.data = fill(name, tuple(parameter.shape), scale, 1.0 if vector and name.endswith(".weight") else 0.0)
    return model


def images(name, batch, channels, size):
    """Images [N, C, H, W] of unit variance; the formula counts their elements channels last."""
    return fill(name, (batch, size, size, channels), UNIT_VARIANCE).permute(0, 3, 1, 2).contiguous()

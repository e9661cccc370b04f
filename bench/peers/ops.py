"""Single ops of kernels, as PyTorch does them: the op and its shapes as `kernels bench --kernels` writes them, to a function that runs the same on made-up operands.

What kernels fuses into one op is several calls here, each of PyTorch's own kernels (cuDNN's convolution, native_group_norm, scaled_dot_product_attention, the backward of log-softmax).
Tensors are channels last. Ops that only move a few bytes have no rival.
"""

import re

import torch
import torch.nn.functional as F

aten = torch.ops.aten
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class NoRival(Exception):
    """PyTorch has nothing that would be the same."""


def parse(op, shapes):
    """Name, attributes, inputs, weights and outputs of a row: `Convolution { Stride = 1, ... }`, `[1,8,8,32] w[64,32,3,3] -> [1,8,8,64]`."""
    attributes = dict(re.findall(r"(\w+) = (\w+(?:E?[-.]\w+)*)", op))
    left, right = shapes.split("->")
    operands = [(bool(w), [int(d) for d in dims.split(",")]) for w, dims in re.findall(r"(w?)\[([\d,]+)\]", left)]
    outputs = [[int(d) for d in dims.split(",")] for dims in re.findall(r"\[([\d,]+)\]", right)]
    return op.split(" ")[0], attributes, [d for w, d in operands if not w], [d for w, d in operands if w], outputs


class Operands:
    """Makes tensors on a device."""

    def __init__(self, precision, device):
        self.dtype, self.device = DTYPES[precision], device

    def make(self, *shape):
        return torch.randn(*shape, device=self.device, dtype=torch.float32).to(self.dtype)

    def image(self, shape):
        """[N, H, W, C] as an image of PyTorch, channels last."""
        return self.make(*shape).permute(0, 3, 1, 2)

    def filter(self, shape):
        w = self.make(*shape)
        return w.contiguous(memory_format=torch.channels_last) if w.dim() == 4 else w


def resampled(x, how):
    return F.interpolate(x, scale_factor=2, mode="nearest") if how == "Up" else F.avg_pool2d(x, 2) if how == "Down" else x


def convolution(a, inputs, weights, outputs, make):
    x, w = make.image(inputs[0]), make.filter(weights[0])
    b = make.make(*weights[1]) if a.get("Bias") == "True" else None
    rest = [make.image(s) for s in inputs[1:]]
    second = rest.pop(0) if a.get("TwoInputs") == "True" else None
    residual = rest.pop(0) if a.get("Residual") == "True" else None
    stride, padding = int(a["Stride"]), int(a["Padding"])

    def run():
        z = x if second is None else torch.cat([x, second], dim=1)
        z = F.interpolate(z, scale_factor=2, mode="nearest") if a.get("Upsample") == "True" else z
        y = F.conv2d(z, w, b, stride, padding)
        return y if residual is None else y + resampled(residual, a.get("ResidualResampling"))
    return run


def convolution_skip(a, inputs, weights, outputs, make):
    x, w, b, w2, b2 = make.image(inputs[0]), make.filter(weights[0]), make.make(*weights[1]), make.filter(weights[2]), make.make(*weights[3])
    w2 = w2.reshape(*w2.shape[:2], 1, 1)
    skips = [make.image(s) for s in inputs[1:]]
    return lambda: F.conv2d(x, w, b, padding=int(a["Padding"])) + F.conv2d(torch.cat(skips, dim=1) if len(skips) > 1 else skips[0], w2, b2)


def convolution_gradient(a, inputs, weights, outputs, make):
    grad, w = make.image(inputs[0]), make.filter(weights[0])
    w = w.reshape(*w.shape, 1, 1) if w.dim() == 2 else w
    residual = make.image(inputs[1]) if a.get("Residual") == "True" else None
    x = make.image(outputs[0])
    stride, padding = [int(a["Stride"])] * 2, [int(a["Padding"])] * 2

    def run():
        dx = aten.convolution_backward(grad, x, w, None, stride, padding, [1, 1], False, [0, 0], 1, [True, False, False])[0]
        return dx if residual is None else dx + residual
    return run


def normalised(a, x, w, b, modulation, second=None, groups=32):
    x = x if second is None else torch.cat([x, second], dim=1)
    y = aten.native_group_norm(x, w, b, x.shape[0], x.shape[1], x.shape[2] * x.shape[3], groups, 1e-5)[0]
    if modulation is not None:
        scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
        y = y * (1 + scale) + shift
    y = F.silu(y) if a.get("SiLU") == "True" else y
    return F.avg_pool2d(y, 2) if a.get("Pool") == "True" else y


def group_norm(a, inputs, weights, outputs, make):
    x, w, b = make.image(inputs[0]), make.make(*weights[0]), make.make(*weights[1])
    rest = list(inputs[1:])
    modulation = make.make(*next(s for s in rest if len(s) == 2)) if a.get("ScaleShift") == "True" else None
    second = make.image(next(s for s in rest if len(s) == 4)) if a.get("TwoInputs") == "True" else None
    return lambda: normalised(a, x, w, b, modulation, second, int(a["Groups"]))


def group_norm_gradient(a, inputs, weights, outputs, make):
    x, w = make.image(inputs[1]).requires_grad_(True), make.make(*weights[0])
    b = make.make(*weights[0])
    modulation = make.make(*next(s for s in inputs[3:] if len(s) == 2)) if a.get("ScaleShift") == "True" else None
    residual = make.image(inputs[-1]) if a.get("Residual") == "True" else None
    y = normalised(a, x, w, b, modulation, groups=int(a["Groups"]))
    grad = make.image(inputs[0])

    def run():
        dx = torch.autograd.grad(y, x, grad, retain_graph=True)[0]
        return dx if residual is None else dx + (F.interpolate(residual, scale_factor=2, mode="nearest") / 4 if a.get("ResidualPool") == "True" else residual)
    return run


def attention_output(a, qkv):
    if not hasattr(F, "scaled_dot_product_attention"):
        raise RuntimeError(f"PyTorch {torch.__version__} has no scaled_dot_product_attention; 2.0 or later is needed")
    n, heads = qkv.shape[0], int(a["Heads"])
    size = qkv.shape[-1] // (3 * heads)
    tokens = qkv.reshape(n, -1, 3 * heads * size)
    if a["Order"] == "New":
        q, k, v = tokens.reshape(n, -1, 3, heads, size).permute(2, 0, 3, 1, 4)
    else:
        q, k, v = tokens.reshape(n, -1, heads, 3, size).permute(3, 0, 2, 1, 4)
    return F.scaled_dot_product_attention(q, k, v)


def attention(a, inputs, weights, outputs, make):
    qkv = make.make(*inputs[0])
    return lambda: attention_output(a, qkv)


def attention_gradient(a, inputs, weights, outputs, make):
    qkv = make.make(*inputs[1]).requires_grad_(True)
    y = attention_output(a, qkv)
    grad = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, qkv, grad, retain_graph=True)[0]


def linear(a, inputs, weights, outputs, make):
    x, w = make.make(*inputs[0]), make.make(*weights[0]).flatten(1)
    b = make.make(*weights[1]) if a.get("Bias") == "True" else None
    residual = make.make(*inputs[1]) if a.get("Residual") == "True" else None
    return lambda: F.linear(x, w, b) if residual is None else F.linear(x, w, b) + residual


def linear_gradient(a, inputs, weights, outputs, make):
    grad, w = make.make(*inputs[0]), make.make(*weights[0]).flatten(1)
    residual = make.make(*inputs[1]) if a.get("Residual") == "True" else None
    return lambda: grad @ w if residual is None else grad @ w + residual


def label_gradient(a, inputs, weights, outputs, make):
    logits = make.make(*inputs[0]).float()
    chosen = F.one_hot(torch.arange(len(logits), device=logits.device) % logits.shape[1], logits.shape[1]).float()

    def run():
        probabilities = torch.log_softmax(logits, dim=-1)
        try:
            return aten._log_softmax_backward_data(chosen, probabilities, -1, torch.float32)
        except TypeError:
            return aten._log_softmax_backward_data(chosen, probabilities, -1, probabilities)
    return run


RIVALS = {
    "Convolution": ("pytorch conv2d", convolution),
    "ConvolutionSkip": ("pytorch conv2d", convolution_skip),
    "ConvolutionGradient": ("pytorch conv2d backward", convolution_gradient),
    "GroupNorm": ("pytorch native_group_norm", group_norm),
    "GroupNormGradient": ("pytorch native_group_norm backward", group_norm_gradient),
    "Attention": ("pytorch sdpa", attention),
    "AttentionGradient": ("pytorch sdpa backward", attention_gradient),
    "Linear": ("pytorch linear", linear),
    "LinearGradient": ("pytorch linear backward", linear_gradient),
    "LabelGradient": ("pytorch log_softmax backward", label_gradient),
}


def build(op, shapes, precision, device):
    """The engine's name, and a function that runs the op."""
    name, attributes, inputs, weights, outputs = parse(op, shapes)
    if name not in RIVALS:
        raise NoRival(name)
    engine, builder = RIVALS[name]
    call = builder(attributes, inputs, weights, outputs, Operands(precision, device))

    def run():
        with torch.enable_grad() if "Gradient" in name else torch.no_grad():
            return call()
    check(name, run(), outputs[0])
    return engine, run


def check(name, result, shape):
    """Whether the result is as large as that of kernels."""
    expected = 1
    for extent in shape:
        expected *= extent
    if result.numel() != expected:
        raise RuntimeError(f"{name} gave {tuple(result.shape)} in place of {shape}")

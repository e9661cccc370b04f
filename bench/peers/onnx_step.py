"""A guided step as an ONNX file, for ONNX Runtime: the UNet as PyTorch exports it, and the classifier's gradient, traced operation by operation, since ONNX knows no gradients."""

import inspect

import torch
import torch.nn.functional as F

import sampling

aten = torch.ops.aten
OPSET = 16


def group_norm(x, weight, bias, n, channels, pixels, groups, epsilon):
    """In operations that ONNX has, with the statistics that the gradient reads."""
    z = x.reshape(n, groups, -1)
    mean = z.mean(-1, keepdim=True)
    centred = z - mean
    rstd = torch.rsqrt((centred * centred).mean(-1, keepdim=True) + epsilon)
    shape = [1, channels] + [1] * (x.dim() - 2)
    return (centred * rstd).reshape(x.shape) * weight.reshape(shape) + bias.reshape(shape), mean[:, :, 0], rstd[:, :, 0]


def convolution_backward(grad, x, w, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, mask):
    """The gradient of the input alone: the transposed convolution."""
    cut = [(x.shape[2 + i] + 2 * padding[i] - dilation[i] * (w.shape[2 + i] - 1) - 1) % stride[i] for i in range(len(stride))]
    return aten.convolution(grad, w, None, stride, padding, dilation, True, cut, groups), None, None


def avg_pool2d_backward(grad, x, kernel, stride, padding, ceil_mode, count_include_pad, divisor):
    n, c, h, w = grad.shape
    k = kernel[0]
    return (grad[:, :, :, None, :, None].expand(n, c, h, k, w, k) / (k * k)).reshape(n, c, h * k, w * k)


def padded(grad, dim, before, after):
    def zeros(extent):
        shape = list(grad.shape)
        shape[dim] = extent
        return grad.new_zeros(shape)
    parts = ([zeros(before)] if before else []) + [grad] + ([zeros(after)] if after else [])
    return torch.cat(parts, dim) if len(parts) > 1 else grad


def slice_backward(grad, sizes, dim, start, end, step):
    return padded(grad, dim, start, sizes[dim] - start - grad.shape[dim])


def select_backward(grad, sizes, dim, index):
    return padded(grad.unsqueeze(dim), dim, index, sizes[dim] - index - 1)


def decompositions():
    from torch._decomp import get_decompositions

    table = get_decompositions([aten.native_group_norm_backward, aten.silu_backward, aten._softmax_backward_data, aten._log_softmax_backward_data])
    table.update({
        aten.native_group_norm.default: group_norm,
        aten.convolution_backward.default: convolution_backward,
        aten.avg_pool2d_backward.default: avg_pool2d_backward,
        aten.slice_backward.default: slice_backward,
        aten.select_backward.default: select_backward,
    })
    return table


def exportable(traced):
    """Replaces what the exporter does not know by what it does."""
    same = {aten.detach.default, aten.lift_fresh_copy.default, aten.clone.default}
    shapes = {aten._reshape_alias.default, aten._unsafe_view.default, aten.view.default}
    functions = {aten._softmax.default: torch.softmax, aten._log_softmax.default: torch.log_softmax}
    for node in list(traced.graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in same:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
        elif node.target in shapes:
            node.target, node.args = aten.reshape.default, node.args[:2]
        elif node.target in functions:
            node.target, node.args = functions[node.target], node.args[:2]
        elif node.target == aten._to_copy.default:
            node.op, node.target, node.args, node.kwargs = "call_method", "to", (node.args[0], node.kwargs["dtype"]), {}
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


def trace_gradient(classifier, x, t, y, classes):
    """The gradient of log p(y | x, t) as a module of (x, t, one-hot y)."""
    from torch.fx.experimental.proxy_tensor import make_fx

    def gradient(x, t, chosen):
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            return torch.autograd.grad((torch.log_softmax(classifier(x, t), dim=-1) * chosen).sum(), x)[0]
    return exportable(make_fx(gradient, decomposition_table=decompositions())(x, t, F.one_hot(y, classes).float()))


class ExportedStep(torch.nn.Module, sampling.GuidedStep):
    """x_t, noise and labels to x_{t-1}, at one timestep."""

    def __init__(self, unet, classifier, schedule, scale, index, x, y):
        torch.nn.Module.__init__(self)
        sampling.GuidedStep.__init__(self, unet, schedule, classifier, scale)
        self.index, self.classes = index, classifier.config["out_channels"]
        t = torch.full((len(x),), int(schedule.timesteps[index]))
        self.traced = trace_gradient(classifier, x, t, y, self.classes)

    def gradient(self, x, t, y):
        return self.traced(x, t, F.one_hot(y, self.classes).float())

    def forward(self, x, noise, y):
        return sampling.GuidedStep.__call__(self, x, self.index, y, noise)[0]

    __call__ = torch.nn.Module.__call__


def export(step, x, noise, y, path):
    """Writes the file, with the exporter that all versions of PyTorch have."""
    more = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(step, (x, noise, y), path, opset_version=OPSET, input_names=["x", "noise", "y"], output_names=["x_next"], **more)

"""The ways in which PyTorch runs a guided step: as guided-diffusion does it, and as fast as PyTorch can be made to."""

import torch

import adm
import sampling
import synthetic

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Step(sampling.GuidedStep):
    """A step whose tables stay on the device, so that it can be captured."""

    tables = None

    def constant(self, table, device):
        if self.tables is None:
            return super().constant(table, device)
        key = (id(table), device)
        if key not in self.tables:
            self.tables[key] = super().constant(table, device)
        return self.tables[key]


class Workload:
    """Models with the weights of the formula, and inputs that kernels bench has too; `models` is an entry of the report's models."""

    def __init__(self, models, batch, device):
        self.device, self.batch, self.scale = device, batch, models["classifier_scale"]
        self.schedule = sampling.Schedule(models["diffusion"])
        self.index = self.schedule.steps - 1 - models["step"]
        self.unet = synthetic.load_weights(adm.build(models["config"])).to(device)
        has_classifier = models.get("classifier_config") is not None
        self.classifier = synthetic.load_weights(adm.build(models["classifier_config"], "classifier")).to(device) if has_classifier else None
        classes = min(models["config"].get("num_classes") or 1 << 30, models["classifier_config"]["out_channels"] if has_classifier else 1 << 30)
        self.y = torch.arange(batch, device=device) % classes
        c = models["config"]
        self.x, self.noise = (synthetic.images(name, batch, c["in_channels"], c["image_size"]).to(device) for name in ("x", "noise"))

    def format(self, memory_format):
        for model in filter(None, (self.unet, self.classifier)):
            model.to(memory_format=memory_format)
        self.x = self.x.contiguous(memory_format=memory_format)

    def convert(self, precision):
        """Sixteen bits in both torsos; tf32 is a switch of PyTorch's."""
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        if precision in DTYPES:
            for model in filter(None, (self.unet, self.classifier)):
                model.convert_to(DTYPES[precision])

    def fuse_attention(self):
        for model in filter(None, (self.unet, self.classifier)):
            model.use_fused_attention()

    def step(self, unet=None, classifier=None):
        compiled = unet is not None
        step = Step(unet if compiled else self.unet, self.schedule, classifier if compiled else self.classifier, self.scale)
        step.conditional = self.unet.config.get("num_classes") is not None
        return step

    def result(self, step):
        """x_{t-1} with known noise."""
        return step(self.x, self.index, self.y, self.noise)[0].float().cpu()

    def run(self, step):
        return step(self.x, self.index, self.y)


def eager(work):
    step = work.step()
    return lambda: work.run(step), lambda: work.result(step)


def sdpa(work):
    work.fuse_attention()
    return eager(work)


def channels_last(work):
    work.format(torch.channels_last)
    return eager(work)


def fast(work):
    """What everything faster starts from: channels last, fused attention."""
    work.format(torch.channels_last)
    work.fuse_attention()


def compiled(mode):
    def variant(work):
        if not hasattr(torch, "compile"):
            raise RuntimeError(f"PyTorch {torch.__version__} has no torch.compile; 2.0 or later is needed")
        fast(work)
        # The gradient is taken outside of what is compiled: torch.compile compiles the classifier's backward pass with its forward pass.
        step = work.step(torch.compile(work.unet, mode=mode), torch.compile(work.classifier, mode=mode) if work.classifier else None)
        begin = getattr(getattr(torch, "compiler", None), "cudagraph_mark_step_begin", lambda: None)

        def run():
            # With CUDA graphs, results live until the next step begins.
            begin()
            return work.run(step)

        def result():
            begin()
            return work.result(step)
        return run, result
    return variant


def cuda_graph(work):
    """The whole step as one CUDA graph."""
    if work.device != "cuda":
        raise RuntimeError("a CUDA graph needs a GPU")
    fast(work)
    step = work.step()
    step.tables = {}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work.run(step)
    torch.cuda.current_stream().wait_stream(side)

    def capture(call):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = call()[0]
        return graph, output
    known, known_output = capture(lambda: step(work.x, work.index, work.y, work.noise))
    drawn, _ = capture(lambda: work.run(step))

    def result():
        known.replay()
        return known_output.float().cpu()
    return drawn.replay, result


# Name, precisions, builder; most telling first. Every builder returns a function that runs a step, and one that gives x_{t-1} with known noise.
ALL = [
    ("pytorch eager", ("fp16", "fp32", "tf32"), eager),
    ("pytorch channels_last", ("bf16", "fp16"), channels_last),
    ("pytorch compile max-autotune", ("fp16", "bf16"), compiled("max-autotune")),
    ("pytorch compile", ("fp16", "bf16"), compiled("default")),
    ("pytorch sdpa", ("fp16", "bf16"), sdpa),
    ("pytorch cuda graph", ("fp16", "bf16"), cuda_graph),
]

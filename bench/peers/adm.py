"""The models of guided-diffusion in plain PyTorch: the rival that Kernels is timed against.

UNetModel, SuperResModel and EncoderUNetModel with the constructor arguments and the state-dict keys of the originals (Dhariwal and Nichol 2021, "Diffusion Models
Beat GANs on Image Synthesis"), written for this project: eager, operation for operation what the originals run. Runs on PyTorch 1.13 and later. packs.py checks them.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

NORM_GROUPS = 32
SPATIAL_WIDTH = 2048


def timestep_embedding(timesteps, dim, max_period=10000):
    """Cosines, then sines, of t at geometrically spaced frequencies: [N] -> [N, dim]."""
    half = dim // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=timesteps.device) * (-math.log(max_period) / half))
    angles = timesteps[:, None].float() * frequencies[None]
    return F.pad(torch.cat([torch.cos(angles), torch.sin(angles)], dim=1), (0, dim % 2))


class Norm(nn.GroupNorm):
    """Group-norm of 32 groups that computes in float32 whatever it is given."""

    def __init__(self, channels):
        super().__init__(NORM_GROUPS, channels)

    def forward(self, x):
        return super().forward(x.float()).type(x.dtype)


class Upsample(nn.Module):
    """Doubling by nearest neighbour, then a convolution where resampling is learned."""

    def __init__(self, channels, learned):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if learned else None

    def forward(self, x):
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return x if self.conv is None else self.conv(x)


class Downsample(nn.Module):
    """Halving by a convolution of stride 2, or by the mean of 2x2 pixels."""

    def __init__(self, channels, learned):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if learned else nn.AvgPool2d(2, 2)

    def forward(self, x):
        return self.op(x)


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice; the embedding modulates the second norm; `resample` changes the size in between."""

    def __init__(self, channels, embedding, out_channels, dropout, scale_shift, resample=None):
        super().__init__()
        self.in_layers = nn.Sequential(Norm(channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1))
        self.h_upd = resample(channels, False) if resample else nn.Identity()
        self.x_upd = resample(channels, False) if resample else nn.Identity()
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, (2 if scale_shift else 1) * out_channels))
        self.out_layers = nn.Sequential(Norm(out_channels), nn.SiLU(), nn.Dropout(dropout), nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)
        self.scale_shift = scale_shift

    def forward(self, x, emb):
        h = self.in_layers[2](self.h_upd(self.in_layers[1](self.in_layers[0](x))))
        x = self.x_upd(x)
        modulation = self.emb_layers(emb).type(h.dtype)[:, :, None, None]
        if self.scale_shift:
            scale, shift = modulation.chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
            h = self.out_layers[1:](h)
        else:
            h = self.out_layers(h + modulation)
        return self.skip_connection(x) + h


def attend(qkv, heads, new_order):
    """Self-attention of [N, 3C, T] -> [N, C, T]; q and k are each scaled by HS^(-1/4)."""
    n, width, tokens = qkv.shape
    size = width // (3 * heads)
    if new_order:
        q, k, v = (part.reshape(n * heads, size, tokens) for part in qkv.chunk(3, dim=1))
    else:
        q, k, v = qkv.reshape(n * heads, 3 * size, tokens).split(size, dim=1)
    scale = 1 / math.sqrt(math.sqrt(size))
    weight = torch.einsum("bct,bcs->bts", q * scale, k * scale)
    weight = torch.softmax(weight.float(), dim=-1).type(weight.dtype)
    return torch.einsum("bts,bcs->bct", weight, v).reshape(n, heads * size, tokens)


def attend_fused(qkv, heads, new_order):
    """The same by PyTorch's own attention kernels (flash, memory-efficient or cuDNN, as it chooses)."""
    n, width, tokens = qkv.shape
    size = width // (3 * heads)
    parts = qkv.reshape(n, 3, heads, size, tokens).unbind(1) if new_order else qkv.reshape(n, heads, 3, size, tokens).unbind(2)
    q, k, v = (part.transpose(-1, -2) for part in parts)
    return F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(n, heads * size, tokens)


class AttentionBlock(nn.Module):
    """Norm, attention between all pixels, residual."""

    def __init__(self, channels, heads, new_order):
        super().__init__()
        self.norm = Norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)
        self.heads, self.new_order, self.attend = heads, new_order, attend

    def forward(self, x):
        tokens = x.reshape(x.shape[0], x.shape[1], -1)
        h = self.attend(self.qkv(self.norm(tokens)), self.heads, self.new_order)
        return (tokens + self.proj_out(h)).reshape(x.shape)


class AttentionPool2d(nn.Module):
    """Attention with the mean as a further token, whose output is what remains (Radford et al. 2021)."""

    def __init__(self, side, channels, heads, out_channels):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(channels, side * side + 1) / channels ** 0.5)
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, out_channels, 1)
        self.heads, self.attend = heads, attend

    def forward(self, x):
        x = x.flatten(2)
        x = torch.cat([x.mean(dim=-1, keepdim=True), x], dim=-1) + self.positional_embedding[None].to(x.dtype)
        return self.c_proj(self.attend(self.qkv_proj(x), self.heads, True))[:, :, 0]


class Stage(nn.Sequential):
    """Layers in a row, of which the residual blocks are handed the embedding."""

    def forward(self, x, emb):
        for layer in self:
            x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
        return x


class Encoder(nn.Module):
    """What UNet and classifier share: the embedding, `input_blocks`, `middle_block`."""

    def __init__(self, config, num_classes=None):
        super().__init__()
        self.config = c = {**DEFAULTS, **config}
        self.width = c["model_channels"]
        self.embedding = 4 * self.width
        self.time_embed = nn.Sequential(nn.Linear(self.width, self.embedding), nn.SiLU(), nn.Linear(self.embedding, self.embedding))
        if num_classes is not None:
            self.label_emb = nn.Embedding(num_classes, self.embedding)
        channels = self.channels(0)
        blocks, self.block_channels, factor = [Stage(nn.Conv2d(c["in_channels"], channels, 3, padding=1))], [channels], 1
        for level in range(len(c["channel_mult"])):
            for _ in range(c["num_res_blocks"]):
                layers = [self.res_block(channels, self.channels(level))]
                channels = self.channels(level)
                if factor in c["attention_resolutions"]:
                    layers.append(self.attention(channels))
                blocks.append(Stage(*layers))
                self.block_channels.append(channels)
            if level < len(c["channel_mult"]) - 1:
                down = self.res_block(channels, channels, Downsample) if c["resblock_updown"] else Downsample(channels, c["conv_resample"])
                blocks.append(Stage(down))
                self.block_channels.append(channels)
                factor *= 2
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = Stage(self.res_block(channels, channels), self.attention(channels), self.res_block(channels, channels))
        self.factor, self.middle_channels = factor, channels

    def channels(self, level):
        return int(self.config["channel_mult"][level] * self.width)

    def res_block(self, channels, out_channels, resample=None):
        return ResBlock(channels, self.embedding, out_channels, self.config["dropout"], self.config["use_scale_shift_norm"], resample)

    def attention(self, channels, upwards=False):
        c = self.config
        heads = c["num_heads_upsample"] if upwards and c["num_heads_upsample"] != -1 else c["num_heads"]
        heads = heads if c["num_head_channels"] == -1 else channels // c["num_head_channels"]
        return AttentionBlock(channels, heads, c["use_new_attention_order"])

    def embed(self, timesteps, y=None):
        emb = self.time_embed(timestep_embedding(timesteps, self.width))
        return emb if y is None else emb + self.label_emb(y)

    def encode(self, x, emb):
        """The outputs of all input blocks, and that of the middle."""
        h, outputs = x.type(self.input_blocks[0][0].weight.dtype), []
        for block in self.input_blocks:
            h = block(h, emb)
            outputs.append(h)
        return outputs, self.middle_block(h, emb)

    def torso(self):
        """The modules that half precision applies to."""
        return [self.input_blocks, self.middle_block]

    def convert_to(self, dtype):
        """Sixteen bits as the originals' `convert_to_fp16` has them: the weights of the torso's convolutions; norms, embeddings and the output stay float32."""
        for module in self.torso():
            for layer in module.modules():
                if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
                    layer.to(dtype)
        return self

    def use_fused_attention(self):
        """`scaled_dot_product_attention` in place of einsum and softmax."""
        if not hasattr(F, "scaled_dot_product_attention"):
            raise RuntimeError(f"PyTorch {torch.__version__} has no scaled_dot_product_attention; 2.0 or later is needed")
        for module in self.modules():
            if isinstance(module, (AttentionBlock, AttentionPool2d)):
                module.attend = attend_fused
        return self


class UNetModel(Encoder):
    """Predicts the noise in x, with learned variance twice as many channels."""

    def __init__(self, config):
        super().__init__(config, config.get("num_classes"))
        c, channels, factor, skips = self.config, self.middle_channels, self.factor, list(self.block_channels)
        blocks = []
        for level in reversed(range(len(c["channel_mult"]))):
            for i in range(c["num_res_blocks"] + 1):
                layers = [self.res_block(channels + skips.pop(), self.channels(level))]
                channels = self.channels(level)
                if factor in c["attention_resolutions"]:
                    layers.append(self.attention(channels, upwards=True))
                if level > 0 and i == c["num_res_blocks"]:
                    layers.append(self.res_block(channels, channels, Upsample) if c["resblock_updown"] else Upsample(channels, c["conv_resample"]))
                    factor //= 2
                blocks.append(Stage(*layers))
        self.output_blocks = nn.ModuleList(blocks)
        self.out = nn.Sequential(Norm(channels), nn.SiLU(), nn.Conv2d(channels, c["out_channels"], 3, padding=1))

    def torso(self):
        return super().torso() + [self.output_blocks]

    def forward(self, x, timesteps, y=None):
        emb = self.embed(timesteps, y)
        skips, h = self.encode(x, emb)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), emb)
        return self.out(h.type(x.dtype))


class SuperResModel(UNetModel):
    """A UNet that also sees the low-resolution image, enlarged; `config` counts the image's own channels."""

    def __init__(self, config):
        super().__init__({**config, "in_channels": 2 * config["in_channels"]})

    def forward(self, x, timesteps, low_res, y=None):
        enlarged = F.interpolate(low_res, x.shape[2:], mode="bilinear", align_corners=False)
        return super().forward(torch.cat([x, enlarged], dim=1), timesteps, y)


class EncoderUNetModel(Encoder):
    """The noisy classifier: the UNet's input half and one of four poolings."""

    def __init__(self, config):
        super().__init__(config)
        c, channels, self.pool = self.config, self.middle_channels, config.get("pool", "adaptive")
        features = sum(self.block_channels) + channels
        if self.pool == "adaptive":
            self.out = nn.Sequential(Norm(channels), nn.SiLU(), nn.AdaptiveAvgPool2d((1, 1)), nn.Conv2d(channels, c["out_channels"], 1), nn.Flatten())
        elif self.pool == "attention":
            pool = AttentionPool2d(c["image_size"] // self.factor, channels, channels // c["num_head_channels"], c["out_channels"])
            self.out = nn.Sequential(Norm(channels), nn.SiLU(), pool)
        elif self.pool == "spatial":
            self.out = nn.Sequential(nn.Linear(features, SPATIAL_WIDTH), nn.ReLU(), nn.Linear(SPATIAL_WIDTH, c["out_channels"]))
        elif self.pool == "spatial_v2":
            self.out = nn.Sequential(nn.Linear(features, SPATIAL_WIDTH), Norm(SPATIAL_WIDTH), nn.SiLU(), nn.Linear(SPATIAL_WIDTH, c["out_channels"]))
        else:
            raise ValueError("unknown pool: " + self.pool)

    def forward(self, x, timesteps):
        outputs, h = self.encode(x, self.embed(timesteps))
        if self.pool.startswith("spatial"):
            h = torch.cat([o.type(x.dtype).mean(dim=(2, 3)) for o in outputs + [h]], dim=1)
        return self.out(h.type(x.dtype))


DEFAULTS = {
    "dropout": 0.0,
    "conv_resample": True,
    "num_heads": 1,
    "num_head_channels": -1,
    "num_heads_upsample": -1,
    "use_scale_shift_norm": False,
    "resblock_updown": False,
    "use_new_attention_order": False,
}


def build(config, kind="unet"):
    """A model in evaluation mode whose parameters take no gradient. `kind` is unet, superres or classifier."""
    model = {"unet": UNetModel, "superres": SuperResModel, "classifier": EncoderUNetModel}[kind](config)
    return model.eval().requires_grad_(False)

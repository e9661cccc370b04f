"""One guided step as guided-diffusion runs it: UNet, classifier and its gradient, update. The formulas are those of its `gaussian_diffusion.py`."""

import math

import numpy as np
import torch


def betas(name, steps):
    """The variances of the forward process."""
    if name == "linear":
        return np.linspace(0.1 / steps, 20 / steps, steps, dtype=np.float64)
    alpha_bar = lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.array([min(1 - alpha_bar((i + 1) / steps) / alpha_bar(i / steps), 0.999) for i in range(steps)])


def respaced(spec, steps):
    """The timesteps that are kept: "ddimN" takes a fixed stride, "a,b,c" so many of each equal part."""
    if not spec:
        return list(range(steps))
    if spec.startswith("ddim"):
        stride = next(s for s in range(1, steps) if len(range(0, steps, s)) == int(spec[4:]))
        return list(range(0, steps, stride))
    counts, kept, start = [int(c) for c in spec.split(",")], [], 0
    for part, count in enumerate(counts):
        size = steps // len(counts) + (part < steps % len(counts))
        stride = (size - 1) / (count - 1) if count > 1 else 1
        kept += [start + round(i * stride) for i in range(count)]
        start += size
    return sorted(set(kept))


class Schedule:
    """Coefficients of every respaced step, float64."""

    def __init__(self, settings):
        total = settings["diffusion_steps"]
        self.timesteps = np.array(respaced(settings["timestep_respacing"], total))
        bar = np.cumprod(1 - betas(settings["noise_schedule"], total))[self.timesteps]
        self.steps = len(bar)
        self.scale = 1000 / total if settings["rescale_timesteps"] else None
        self.learned, self.predict_xstart = settings["learn_sigma"], settings["predict_xstart"]
        previous = np.append(1.0, bar[:-1])
        beta = 1 - bar / previous
        self.bar, self.bar_previous, self.bar_next = bar, previous, np.append(bar[1:], 0.0)
        self.sqrt_recip, self.sqrt_recipm1 = np.sqrt(1 / bar), np.sqrt(1 / bar - 1)
        variance = beta * (1 - previous) / (1 - bar)
        self.log_clipped = np.log(np.append(variance[1], variance[1:]))
        self.log_beta = np.log(beta)
        self.coef1, self.coef2 = beta * np.sqrt(previous) / (1 - bar), (1 - previous) * np.sqrt(1 - beta) / (1 - bar)
        large = np.append(variance[1], beta[1:])
        self.fixed, self.log_fixed = (variance, self.log_clipped) if settings["sigma_small"] else (large, np.log(large))


def classifier_gradient(classifier, x, t, y):
    """The gradient of sum log p(y | x, t) with respect to x, and the logits."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        logits = classifier(x, t)
        selected = torch.log_softmax(logits, dim=-1)[torch.arange(len(y), device=y.device), y.view(-1)]
        return torch.autograd.grad(selected.sum(), x)[0], logits.detach()


class GuidedStep:
    """x_t to x_{t-1} by DDPM (`p_sample`, `condition_mean`) or DDIM (`ddim_sample`, `condition_score`), or to x_{t+1} by DDIM backwards (`ddim_reverse_sample`)."""

    def __init__(self, unet, schedule, classifier=None, classifier_scale=0.0, cfg_scale=0.0, null_label=-1, sampler="ddpm", eta=0.0, clip=True):
        self.unet, self.schedule, self.classifier, self.classifier_scale = unet, schedule, classifier, classifier_scale
        self.cfg_scale, self.null_label, self.sampler, self.eta, self.clip = cfg_scale, null_label, sampler, eta, clip
        self.conditional = unet.config.get("num_classes") is not None

    @torch.no_grad()
    def __call__(self, x, index, y, noise=None):
        """One step; `index` counts the respaced timesteps, 0 being the last to be run, or backwards the first. Returns x_{t-1} and pred_xstart."""
        s, at = self.schedule, lambda table: self.constant(table, x.device)[t_index].float()[:, None, None, None]
        t_index = torch.full((len(x),), index, dtype=torch.long, device=x.device)
        t = self.constant(s.timesteps, x.device)[t_index]
        t = t if s.scale is None else t.float() * s.scale
        output = self.predict(x, t, y)
        prediction, values = output.chunk(2, dim=1) if s.learned else (output, None)
        x_start = prediction if s.predict_xstart else at(s.sqrt_recip) * x - at(s.sqrt_recipm1) * prediction
        x_start = x_start.clamp(-1, 1) if self.clip else x_start
        if self.sampler == "ddim-reverse":
            following = at(s.bar_next)
            return x_start * following.sqrt() + (1 - following).sqrt() * (at(s.sqrt_recip) * x - x_start) / at(s.sqrt_recipm1), x_start
        gradient = self.gradient(x, t, y) * self.classifier_scale if self.classifier else None
        noise = torch.randn_like(x) if noise is None else noise
        nonzero = (t_index != 0).float()[:, None, None, None]
        if self.sampler == "ddim":
            return self.ddim(x, x_start, gradient, noise * nonzero, at)
        if s.learned:
            fraction = (values + 1) / 2
            log_variance = fraction * at(s.log_beta) + (1 - fraction) * at(s.log_clipped)
            variance = torch.exp(log_variance)
        else:
            variance, log_variance = at(s.fixed), at(s.log_fixed)
        mean = at(s.coef1) * x_start + at(s.coef2) * x
        mean = mean if gradient is None else mean + variance * gradient
        return mean + nonzero * torch.exp(0.5 * log_variance) * noise, x_start

    def constant(self, table, device):
        """A table on the device. The original copies it there at every step; what is captured as a CUDA graph must have it there."""
        return torch.as_tensor(table).to(device)

    def gradient(self, x, t, y):
        """The gradient of the classifier's log-probability."""
        return classifier_gradient(self.classifier, x, t, y)[0]

    def predict(self, x, t, y):
        """The UNet's output, with classifier-free guidance from one pass over both halves."""
        if not self.cfg_scale:
            return self.unet(x, t, y) if self.conditional else self.unet(x, t)
        null = torch.full_like(y, self.null_label)
        output, unguided = self.unet(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null])).chunk(2)
        channels = x.shape[1]
        guided = (1 + self.cfg_scale) * output[:, :channels] - self.cfg_scale * unguided[:, :channels]
        return torch.cat([guided, output[:, channels:]], dim=1)

    def ddim(self, x, x_start, gradient, noise, at):
        s = self.schedule
        eps = lambda start: (at(s.sqrt_recip) * x - start) / at(s.sqrt_recipm1)
        bar, previous = at(s.bar), at(s.bar_previous)
        if gradient is not None:
            x_start = at(s.sqrt_recip) * x - at(s.sqrt_recipm1) * (eps(x_start) - (1 - bar).sqrt() * gradient)
        sigma = self.eta * torch.sqrt((1 - previous) / (1 - bar)) * torch.sqrt(1 - bar / previous)
        return x_start * torch.sqrt(previous) + torch.sqrt(1 - previous - sigma ** 2) * eps(x_start) + sigma * noise, x_start

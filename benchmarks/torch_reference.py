"""The same layers as plain PyTorch modules with the released names, for comparison."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ldeq_jax.model.ldeq import IMAGE_DEVIATION, IMAGE_MEAN, ModelConfig


def normalise(image):
    """The model's input (B, 3, H, W) from (B, H, W, 3) uint8 NumPy pictures."""
    mean, deviation = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (IMAGE_MEAN, IMAGE_DEVIATION))
    return (torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255 - mean) / deviation


class Unit(nn.Module):
    """Convolution, LeakyReLU, normalisation."""

    def __init__(self, channels, features, kernel, norm, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(channels, features, kernel, stride, padding=(kernel - 1) // 2)
        self.norm = norm(features)

    def forward(self, x):
        return self.norm(F.leaky_relu(self.conv(x), 0.01))


class Hourglass(nn.Module):
    def __init__(self, config: ModelConfig, norm):
        super().__init__()
        self.depth = config.depth
        width = [config.base_width + level * config.width_increment for level in range(9)]
        for level in range(self.depth):
            self.add(f"same{level + 1}", Unit(width[level], width[level], 3, norm))
            self.add(f"upchan{level + 1}", Unit(width[level], width[level + 1], 3, norm))
        self.bottlneck = Unit(width[self.depth], width[self.depth], 3, norm)
        for step in range(self.depth):
            w = width[self.depth - 1 - step]
            below = width[self.depth - step]
            self.add(f"downchan{2 * step + 1}", Unit(below, w, 3, norm))
            self.add(f"downchan{2 * step + 2}", Unit(2 * w, w, 1, norm))
            residual = Unit(w, w, config.residual_kernel, norm)
            self.add(f"same{self.depth + step + 1}", residual)

    def add(self, name, unit):
        self.add_module(name, unit)

    def forward(self, y):
        skips = []
        for level in range(1, self.depth + 1):
            skips.append(getattr(self, f"same{level}")(y))
            y = getattr(self, f"upchan{level}")(F.avg_pool2d(skips[-1], 2))
        y = self.bottlneck(y)
        for step in range(self.depth):
            y = F.interpolate(getattr(self, f"downchan{2 * step + 1}")(y), scale_factor=2.0)
            y = getattr(self, f"downchan{2 * step + 2}")(torch.cat([skips.pop(), y], dim=1))
            y = y + getattr(self, f"same{self.depth + step + 1}")(y)
        return y


class Head(nn.Module):
    def __init__(self, channels, features):
        super().__init__()
        self.conv = nn.Conv2d(channels, features, 1)

    def forward(self, x):
        return self.conv(x)


class Cell(nn.Module):
    """The map f(z, x)."""

    def __init__(self, config: ModelConfig, norm):
        super().__init__()
        channels = config.num_landmarks + config.injection_width
        self.tail = Unit(channels, config.base_width, 1, norm)
        self.hourglass = Hourglass(config, norm)
        self.head = Head(config.base_width, config.num_landmarks)
        self.beta = config.temperature

    def forward(self, z, x):
        logits = self.head(self.hourglass(self.tail(torch.cat([z, x], dim=1))))
        return torch.exp(self.beta * (logits - logits.amax((2, 3), keepdim=True)))


class DEQLayer(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell


class Landmarks(nn.Module):
    """Stem, plain iterations from zeros or from a state, and landmarks of the heatmaps."""

    def __init__(self, config: ModelConfig):
        super().__init__()

        def group(features):
            return nn.GroupNorm(math.gcd(config.groups, features), features)

        width = config.injection_width
        stem = nn.BatchNorm2d if config.stem_norm == "batch" else group
        self.tail = nn.Sequential(
            Unit(3, width // 4, 7, stem, stride=2),
            Unit(width // 4, width // 2, 3, stem),
            nn.MaxPool2d(2),
            Unit(width // 2, width, 3, stem),
        )
        self.deq_layer = DEQLayer(Cell(config, group))
        self.num_landmarks = config.num_landmarks

    def forward(self, image, evaluations):
        """Landmarks (B, K, 2), normalised, of images (B, 3, H, W) as `normalise` returns them."""
        return self.step(image, None, evaluations)[0]

    def step(self, image, z, evaluations):
        """Landmarks and last state, from a state (B, K, h, w), or from zeros if it is None."""
        x = self.tail(image)
        z = self.zeros(x) if z is None else z
        for _ in range(evaluations):
            z = self.deq_layer.cell(z, x)
        return self.points(z), z

    def fixed_point(self, image, steps, adjoint_steps):
        """Landmarks after `steps` iterations and one more evaluation, for training.

        The gradient is implicit, with `adjoint_steps` iterations of the adjoint equation, or the
        one-step gradient if these are 0.
        """
        x = self.tail(image)
        with torch.no_grad():
            z = self.zeros(x)
            for _ in range(steps):
                z = self.deq_layer.cell(z, x)
        before = z.requires_grad_()
        z = self.deq_layer.cell(before, x)

        def solve(g):
            y = torch.zeros_like(g)
            for _ in range(adjoint_steps):
                y = torch.autograd.grad(z, before, y, retain_graph=True)[0] + g
            return y

        arriving = z.clone()
        if adjoint_steps:
            arriving.register_hook(solve)
        return self.points(arriving)

    def zeros(self, x):
        return x.new_zeros((len(x), self.num_landmarks, *x.shape[2:]))

    def points(self, z):
        """Landmarks (B, K, 2) of heatmaps (B, K, h, w)."""
        size = z.shape[-1]
        weights = z / (1e-4 + z.sum((2, 3), keepdim=True))
        pixels = torch.arange(size, dtype=z.dtype) / size
        return torch.stack([weights.sum(2) @ pixels, weights.sum(3) @ pixels], dim=-1)

"""What is measured: a layer at a shape, with the plain layer and what a user would pick instead.

All contenders of a case draw their weights from the same seed, and a normaliser draws none, so they
hold the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

import truestep
from bench.attention import PlainAttention, SelfAttention

PLAIN = "plain"
Builder = Callable[[], nn.Module]


@dataclass(frozen=True)
class Work:
    """What no implementation can avoid in one forward and backward.

    Args:
        products: Multiplications and additions of the matrix products.
        numbers: How many numbers are read and written: input, parameters and output once each way.
    """

    products: int
    numbers: int


@dataclass(frozen=True)
class Case:
    """A layer at a shape.

    Args:
        name: Layer kind and shape, as ``linear 256x784->512``.
        family: The layer kind alone.
        shape: Shape of the input.
        builders: Contender → its constructor; the plain layer is the limit.
        corrected: Which contenders are corrected layers; the others are the plain one and rivals.
        work: What no implementation can avoid.
    """

    name: str
    family: str
    shape: tuple[int, ...]
    builders: Mapping[str, Builder]
    corrected: tuple[str, ...]
    work: Work

    @property
    def is_image(self) -> bool:
        """Whether the input has the axes that channels_last orders."""
        return len(self.shape) == 4

    @property
    def rivals(self) -> tuple[str, ...]:
        """What a user would pick instead."""
        return tuple(n for n in self.builders if n != PLAIN and n not in self.corrected)


def linear(batch: int, inputs: int, outputs: int) -> Case:
    """A fully connected layer: x (batch, inputs) → (batch, outputs)."""

    def plain() -> nn.Module:
        return nn.Linear(inputs, outputs)

    builders: dict[str, Builder] = {
        PLAIN: plain,
        "AffineLikeLinear": lambda: truestep.AffineLikeLinear(inputs, outputs),
        "NormLikeLinear": lambda: truestep.NormLikeLinear(inputs, outputs),
        "LayerNorm+Linear": lambda: nn.Sequential(nn.LayerNorm(inputs), plain()),
        "RMSNorm+Linear": lambda: nn.Sequential(nn.RMSNorm(inputs), plain()),
        "Linear+BatchNorm1d": lambda: nn.Sequential(plain(), nn.BatchNorm1d(outputs)),
    }
    return Case(
        f"linear {batch}x{inputs}->{outputs}",
        "linear",
        (batch, inputs),
        builders,
        ("AffineLikeLinear", "NormLikeLinear"),
        Work(6 * batch * inputs * outputs, 3 * batch * (inputs + outputs) + 3 * inputs * outputs),
    )


def conv(
    batch: int,
    channels: int,
    pixels: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
) -> Case:
    """A convolution of square images, padded to keep their size at stride 1."""
    padding = kernel // 2

    def plain() -> nn.Module:
        return nn.Conv2d(channels, outputs, kernel, stride, padding, groups=groups)

    def patch_norm() -> nn.Module:
        return truestep.PatchNormConv2d(channels, outputs, kernel, stride, padding, groups=groups)

    builders: dict[str, Builder] = {
        PLAIN: plain,
        "PatchNormConv2d": patch_norm,
        **normalised_convs(plain, channels, outputs),
    }
    options = f" stride {stride}" * (stride > 1) + f" groups {groups}" * (groups > 1)
    return Case(
        f"conv {batch}x{channels}x{pixels}x{pixels}->{outputs} k{kernel}{options}",
        "conv",
        (batch, channels, pixels, pixels),
        builders,
        ("PatchNormConv2d",),
        conv_work(batch, channels, pixels, outputs, kernel, stride, groups),
    )


def depthwise(batch: int, channels: int, pixels: int, kernel: int) -> Case:
    """A convolution with one kernel a channel, padded to keep the size of the images."""
    padding = kernel // 2

    def plain() -> nn.Module:
        return nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels)

    def unit_gauge() -> nn.Module:
        return truestep.UnitGaugeDepthwiseConv2d(channels, kernel, padding=padding)

    builders: dict[str, Builder] = {
        PLAIN: plain,
        "UnitGaugeDepthwiseConv2d": unit_gauge,
        **normalised_convs(plain, channels, channels),
    }
    return Case(
        f"depthwise {batch}x{channels}x{pixels}x{pixels} k{kernel}",
        "depthwise",
        (batch, channels, pixels, pixels),
        builders,
        ("UnitGaugeDepthwiseConv2d",),
        conv_work(batch, channels, pixels, channels, kernel, 1, channels),
    )


def normalised_convs(plain: Builder, channels: int, outputs: int) -> dict[str, Builder]:
    """The usual normalisers around a convolution; groups: up to 32, as the channels divide."""
    groups = math.gcd(32, channels)
    return {
        "Conv+BatchNorm2d": lambda: nn.Sequential(plain(), nn.BatchNorm2d(outputs)),
        "GroupNorm+Conv": lambda: nn.Sequential(nn.GroupNorm(groups, channels), plain()),
    }


def conv_work(
    batch: int, channels: int, pixels: int, outputs: int, kernel: int, stride: int, groups: int
) -> Work:
    """What no convolution can avoid."""
    sites = batch * ((pixels - 1) // stride + 1) ** 2
    weights = outputs * channels // groups * kernel**2
    values = batch * channels * pixels**2 + sites * outputs
    return Work(6 * sites * weights, 3 * values + 3 * weights)


def attention(batch: int, tokens: int, features: int, heads: int) -> Case:
    """Self-attention of x (batch, tokens, features), no weights asked for."""

    def torchs() -> nn.Module:
        return nn.MultiheadAttention(features, heads, batch_first=True)

    def affine_like() -> nn.Module:
        return truestep.AffineLikeMultiheadAttention(features, heads, batch_first=True)

    def plain() -> nn.Module:
        return PlainAttention(features, heads)

    builders: dict[str, Builder] = {
        PLAIN: lambda: SelfAttention(plain()),
        "AffineLikeMultiheadAttention": lambda: SelfAttention(affine_like()),
        "LayerNorm+attention": lambda: SelfAttention(plain(), nn.LayerNorm(features)),
        "nn.MultiheadAttention": lambda: SelfAttention(torchs()),
    }
    products = batch * tokens * features * (4 * features + 2 * tokens)
    return Case(
        f"attention {batch}x{tokens}x{features} h{heads}",
        "attention",
        (batch, tokens, features),
        builders,
        ("AffineLikeMultiheadAttention",),
        Work(6 * products, 15 * batch * tokens * features + 12 * features**2),
    )


CASES: tuple[Case, ...] = (
    linear(256, 784, 512),
    linear(512, 1024, 1024),
    linear(64, 4096, 4096),
    linear(4096, 256, 256),
    linear(32, 128, 128),
    conv(32, 64, 32, 64, 3),
    conv(16, 128, 16, 256, 3, stride=2),
    conv(32, 3, 32, 64, 3),
    conv(32, 64, 32, 64, 1),
    conv(32, 64, 32, 64, 3, groups=4),
    depthwise(32, 64, 32, 3),
    attention(8, 128, 256, 4),
    attention(4, 256, 512, 8),
)
"""The layers and shapes that limits are set for."""

FULL: tuple[Case, ...] = (
    linear(16384, 4096, 4096),
    linear(65536, 1024, 1024),
    conv(256, 256, 56, 256, 3),
    conv(256, 128, 56, 256, 3, stride=2),
    depthwise(256, 256, 56, 3),
    attention(32, 2048, 1024, 16),
)
"""Sizes that fill a GPU."""

"""Hand-written layers in the shape of generated ones: oracles of the verification room."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from derive import LayerSpec, derive_variants

HEADER = """
import torch
from torch import Tensor, nn
from torch.nn import functional as F
"""

LINEAR = """
class AffineLikeLinear(nn.Module):
    def __init__(self, out_features, in_features, bias=True, device=None, dtype=None):
        super().__init__()
        kw = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.zeros(out_features, in_features, **kw))
        self.bias = nn.Parameter(torch.zeros(out_features, **kw)) if bias else None

    def forward(self, x):
        total = x.square().sum(-1, keepdim=True)
        if self.bias is not None:
            factor = torch.rsqrt(1 + total)
        else:
            zero = total == 0
            factor = torch.where(zero, 0.0, torch.rsqrt(torch.where(zero, 1.0, total)))
        return factor * F.linear(x, self.weight, self.bias)


class NormLikeLinear(nn.Module):
    def __init__(self, out_features, in_features, bias=True, *, radius=1.0, device=None,
                 dtype=None):
        super().__init__()
        kw = {"device": device, "dtype": dtype}
        self.radius = radius
        self.weight = nn.Parameter(torch.zeros(out_features, in_features, **kw))
        self.bias = nn.Parameter(torch.zeros(out_features, **kw)) if bias else None

    def forward(self, x):
        total = x.square().sum(-1, keepdim=True)
        zero = total == 0
        factor = torch.where(zero, 0.0, self.radius * torch.rsqrt(torch.where(zero, 1.0, total)))
        return F.linear(factor * x, self.weight, self.bias)
"""

SCALE = """
class UnitGaugeScale(nn.Module):
    def __init__(self, features, bias=True, device=None, dtype=None):
        super().__init__()
        kw = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.ones(features, **kw))
        self.bias = nn.Parameter(torch.zeros(features, **kw)) if bias else None

    def forward(self, x):
        if self.bias is not None:
            return (self.weight * x + self.bias) * torch.rsqrt(1 + x.square())
        zero = x == 0
        return self.weight * x * torch.where(zero, 0.0, 1 / torch.where(zero, 1.0, x).abs())
"""

BILINEAR = """
class AffineLikeBilinear(nn.Module):
    def __init__(self, out_features, in1_features, in2_features, device=None, dtype=None):
        super().__init__()
        kw = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.zeros(out_features, in1_features, in2_features, **kw))
        self.bias = nn.Parameter(torch.zeros(out_features, **kw))

    def forward(self, x, y):
        total = x.square().sum(-1, keepdim=True) * y.square().sum(-1, keepdim=True)
        return torch.rsqrt(1 + total) * F.bilinear(x, y, self.weight, self.bias)
"""

CONV = """
class AffineLikeConv1d(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1,
                 groups=1, device=None, dtype=None):
        super().__init__()
        kw = {"device": device, "dtype": dtype}
        shape = (out_channels, in_channels // groups, kernel_size)
        self.options = (stride, padding, dilation, groups)
        self.weight = nn.Parameter(torch.zeros(*shape, **kw))
        self.bias = nn.Parameter(torch.zeros(out_channels, **kw))

    def forward(self, x):
        stride, padding, dilation, groups = self.options
        z = F.conv1d(x, self.weight, self.bias, stride, padding, dilation, groups)
        ones = torch.ones(groups, x.shape[1] // groups, self.weight.shape[-1], dtype=x.dtype)
        total = F.conv1d(x.square(), ones, None, stride, padding, dilation, groups)
        factor = torch.rsqrt(1 + total)
        return z * factor.repeat_interleave(z.shape[1] // groups, 1)
"""

LOW_RANK = """
class MatrixGaugeLowRank(nn.Module):
    def __init__(self, in_features, out_features, rank, device=None, dtype=None):
        super().__init__()
        kw = {"device": device, "dtype": dtype}
        self.down = nn.Parameter(torch.zeros(rank, in_features, **kw))
        self.up = nn.Parameter(torch.zeros(out_features, rank, **kw))

    def forward(self, x):
        A, B = self.down.detach(), self.up.detach()
        h = x @ A.T
        eye = torch.eye(B.shape[0], dtype=x.dtype)
        K = h.square().sum(-1)[..., None, None] * eye
        K = K + x.square().sum(-1)[..., None, None] * (B @ B.T)
        zero = (K.diagonal(dim1=-2, dim2=-1).sum(-1) == 0)[..., None, None]
        L = torch.linalg.cholesky(torch.where(zero, eye, K)).detach()
        z = (x @ self.down.T) @ self.up.T
        out = torch.linalg.solve_triangular(L, z[..., None], upper=False)[..., 0]
        return torch.where(zero[..., 0], 0.0, out)
"""

GATE = """
class UnitGaugeGate(nn.Module):
    def __init__(self, features, device=None, dtype=None):
        super().__init__()
        kw = {"device": device, "dtype": dtype}
        self.a = nn.Parameter(torch.zeros(features, **kw))
        self.b = nn.Parameter(torch.zeros(features, **kw))

    def forward(self, x):
        a, b = self.a.detach(), self.b.detach()
        t = torch.tanh(a * x)
        kappa = (b * (1 - t * t) * x).square() + t.square()
        zero = kappa == 0
        factor = torch.where(zero, 0.0, torch.rsqrt(torch.where(zero, 1.0, kappa))).detach()
        return factor * self.b * torch.tanh(self.a * x)
"""

BIAS: Mapping[str, Any] = {"torch": "bias", "optional": True}
SPECS = {
    "linear": LayerSpec(
        name="Linear",
        forward="z[n, i] = W[i, j]*x[n, j] + b[i]",
        site="n",
        unit="i",
        parameters={"W": {"torch": "weight"}, "b": BIAS},
        sizes={"i": "out_features", "j": "in_features"},
    ),
    "scale": LayerSpec(
        name="Scale",
        forward="z[n, i] = W[i]*x[n, i] + b[i]",
        site="n",
        unit="i",
        parameters={"W": {"torch": "weight"}, "b": BIAS},
        sizes={"i": "features"},
    ),
    "bilinear": LayerSpec(
        name="Bilinear",
        forward="z[n, i] = W[i, j, k]*x[n, j]*y[n, k] + b[i]",
        site="n",
        unit="i",
        parameters={"W": {"torch": "weight"}, "b": {"torch": "bias"}},
        sizes={"i": "out_features", "j": "in1_features", "k": "in2_features"},
    ),
    "conv": LayerSpec(
        name="Conv1d",
        forward="z[n, (g, o), p] = W[(g, o), c, k]"
        "*x[n, (g, c), stride*p + dilation*k - padding] + b[(g, o)]",
        site="n g p",
        unit="o",
        parameters={"W": {"torch": "weight"}, "b": {"torch": "bias"}},
        sizes={
            "(g, c)": "in_channels",
            "(g, o)": "out_channels",
            "k": "kernel_size",
            "g": "groups",
            "p": "(l + 2*padding - dilation*(k - 1) - 1)//stride + 1",
        },
        hyperparameters={"stride": 1, "padding": 0, "dilation": 1, "groups": 1},
        inputs={"x": "n (g c) l"},
    ),
    "low rank": LayerSpec(
        name="LowRank",
        forward="h[n, r] = A[r, j]*x[n, j]\nz[n, i] = B[i, r]*h[n, r]",
        site="n",
        unit="i",
        parameters={"A": {"torch": "down"}, "B": {"torch": "up"}},
        sizes={"j": "in_features", "i": "out_features", "r": "rank"},
    ),
    "gate": LayerSpec(
        name="Gate",
        forward="z[n, i] = B[i]*tanh(A[i]*x[n, i])",
        site="n",
        unit="i",
        parameters={"A": {"torch": "a"}, "B": {"torch": "b"}},
        sizes={"i": "features"},
    ),
}
TEXTS = {
    "linear": (LINEAR, {"AffineLikeLinear": "output gauge", "NormLikeLinear": "input map"}),
    "scale": (SCALE, {"UnitGaugeScale": "unit gauge"}),
    "bilinear": (BILINEAR, {"AffineLikeBilinear": "output gauge"}),
    "conv": (CONV, {"AffineLikeConv1d": "output gauge"}),
    "low rank": (LOW_RANK, {"MatrixGaugeLowRank": "matrix gauge"}),
    "gate": (GATE, {"UnitGaugeGate": "unit gauge"}),
}


@dataclass(frozen=True)
class Handwritten:
    """What ``codegen.LayerSource`` offers, around a text written by hand."""

    spec: LayerSpec
    module: str
    text: str
    classes: tuple[Any, ...]
    derivations: Mapping[frozenset[str], Any]


@functools.cache
def derivations(name: str) -> Mapping[frozenset[str], Any]:
    return derive_variants(SPECS[name])


def source(name: str, *, old: str = "", new: str = "") -> Handwritten:
    """A layer; ``old`` → ``new`` plants a mistake in its text."""
    text, ansatze = TEXTS[name]
    assert old in text, f"{old!r} is not in the text"
    found = derivations(name)
    classes = tuple(
        SimpleNamespace(
            name=cls,
            ansatz=ansatz,
            corrections={absent: d.correction(ansatz) for absent, d in found.items()},
        )
        for cls, ansatz in ansatze.items()
    )
    text = HEADER + (text.replace(old, new) if old else text)
    return Handwritten(SPECS[name], name.replace(" ", "_"), text, classes, found)

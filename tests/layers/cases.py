"""The generated classes at small sizes, their twins in torch.nn, and gauges by other means."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from verify.contracts.example import Example

CLOSE = 1e-12
"""What float64 by two orders of summation may differ by, for values and sums of order one."""
WHOLE = ("AffineLikeBatchNormLinear", "AffineLikeBatchNormEvalLinear")
"""Statistics over the batch, and inputs that are no sample's own: samples see each other."""


@dataclass(frozen=True)
class Case:
    """A generated class, how to build it, and the shapes that it takes.

    Attributes:
        module: The file's stem.
        name: The class.
        args, kwargs: Constructor arguments.
        shapes: One shape an input, with a leading axis for the sample.
        twin: The class in torch.nn, if there is one.
        positive: The inputs that are positive.
    """

    module: str
    name: str
    args: tuple[Any, ...]
    shapes: tuple[tuple[int, ...], ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    twin: type[nn.Module] | None = None
    positive: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def cls(self) -> type[nn.Module]:
        return getattr(importlib.import_module(f"truestep.layers.{self.module}"), self.name)

    @property
    def has_bias(self) -> bool:
        return getattr(self.build(), "bias", None) is not None

    def build(self, **more: Any) -> nn.Module:
        torch.manual_seed(0)
        return self.cls(*self.args, **{**self.kwargs, **more})

    def build_twin(self, **more: Any) -> nn.Module:
        torch.manual_seed(0)
        assert self.twin is not None
        return self.twin(*self.args, **{**self.kwargs, **more})

    def inputs(self, dtype: torch.dtype = torch.float32, seed: int = 1) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        drawn = [
            torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
            for shape in self.shapes
        ]
        # A variance that is handed in is positive.
        return tuple(x.abs() + 0.5 if k in self.positive else x for k, x in enumerate(drawn))

    def example(self) -> Example:
        """What the contracts of the conformance kit judge."""
        batch = self.shapes[0][0]
        return Example(
            self.cls,
            self.args,
            self.inputs(torch.float64),
            tuple(shape[0] == batch for shape in self.shapes),
            self.name not in WHOLE,
            CLOSE,
            self.kwargs,
            self.twin,
        )

    def with_(self, *args: Any, **kwargs: Any) -> Case:
        """The same class with other arguments."""
        return replace(self, args=args or self.args, kwargs={**self.kwargs, **kwargs})


def both(module: str, names: tuple[str, ...], *rest: Any) -> tuple[Case, ...]:
    """One case a class."""
    return tuple(Case(module, name, *rest) for name in names)


FLOW = {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}
SCATTER = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2, "dilation": 2}
LINEAR = both("linear", ("AffineLikeLinear", "NormLikeLinear"), (5, 4), ((3, 5),), {}, nn.Linear)
BILINEAR = both(
    "bilinear",
    ("AffineLikeBilinear", "NormLikeBilinear"),
    (5, 6, 4),
    ((3, 5), (3, 6)),
    {},
    nn.Bilinear,
)
CONVOLUTIONS = tuple(
    case
    for d, twin in ((1, nn.Conv1d), (2, nn.Conv2d), (3, nn.Conv3d))
    for case in both(
        f"conv{d}d",
        (f"PatchNormConv{d}d", f"NormLikePatchNormConv{d}d"),
        (4, 6, 3),
        ((2, 4, 9, 8, 7)[: d + 2],),
        FLOW,
        twin,
    )
)
TRANSPOSED = tuple(
    case
    for d, twin in ((1, nn.ConvTranspose1d), (2, nn.ConvTranspose2d), (3, nn.ConvTranspose3d))
    for case in both(
        f"conv_transpose{d}d",
        (f"AffineLikeConvTranspose{d}d", f"NormLikeConvTranspose{d}d"),
        (4, 6, 3),
        ((2, 4, 5, 4, 3)[: d + 2],),
        SCATTER,
        twin,
    )
)
TWINS = LINEAR + BILINEAR + CONVOLUTIONS + TRANSPOSED
BEHIND = (
    "BatchNorm",
    "DynamicTanh",
    "L2Norm",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
    "ReweightedLayerNorm",
    "ReweightedLayerNormSigma",
)
FILES = {"RMSNorm": "rms_norm", "L2Norm": "l2_norm"}


def snake(name: str) -> str:
    """``LayerNorm`` → ``layer_norm``."""
    text = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
    return FILES.get(name, text)


OTHERS = (
    *(Case(f"{snake(b)}_linear", f"AffineLike{b}Linear", (5, 4), ((3, 5),)) for b in BEHIND),
    Case(
        "batch_norm_eval_linear",
        "AffineLikeBatchNormEvalLinear",
        (5, 4),
        ((3, 5), (5,), (5,)),
        positive=(2,),
    ),
    Case("group_norm_linear", "AffineLikeGroupNormLinear", (6, 4, 2), ((3, 6),)),
    Case("instance_norm_conv", "AffineLikeInstanceNormConv", (5, 4), ((3, 5, 7),)),
    Case("residual_linear", "AffineLikeResidualLinear", (5,), ((3, 5),)),
    Case("residual_linear", "NormLikeResidualLinear", (5,), ((3, 5),)),
    Case(
        "locally_connected1d",
        "AffineLikeLocallyConnected1d",
        (3, 4, 9, 3),
        ((2, 3, 9),),
        {"stride": 2},
    ),
    Case(
        "locally_connected1d",
        "NormLikeLocallyConnected1d",
        (3, 4, 9, 3),
        ((2, 3, 9),),
        {"stride": 2},
    ),
    Case("depthwise_conv1d", "UnitGaugeDepthwiseConv1d", (4, 3), ((2, 4, 9),), {"padding": 1}),
    Case("depthwise_conv2d", "UnitGaugeDepthwiseConv2d", (4, 3), ((2, 4, 9, 8),), {"padding": 1}),
    Case("gated_linear", "UnitGaugeGatedLinear", (5, 4), ((3, 5),)),
    Case("low_rank", "MatrixGaugeLowRank", (6, 4, 5), ((3, 6),)),
    Case("scale", "UnitGaugeScale", (5,), ((3, 5),)),
)
ALL = TWINS + OTHERS


# ---------------------------------------------------------------------- gauges by other means
def energy(module: nn.Module, twin: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Σ of squares of what each output reads, shaped to multiply the output."""
    if isinstance(twin, nn.Linear | nn.Bilinear):
        total = torch.ones(())
        for x in inputs:
            total = total * (x * x).sum(-1, keepdim=True)
        return total
    (x,) = inputs
    scatter = isinstance(twin, nn.modules.conv._ConvTransposeNd)
    x = spread(twin, x) if scatter else padded(twin, x)
    steps = [1] * len(twin.kernel_size) if scatter else twin.stride
    patches = x
    for axis, (k, s, d) in enumerate(zip(twin.kernel_size, steps, twin.dilation, strict=True)):
        patches = patches.unfold(2 + axis, d * (k - 1) + 1, s)[..., ::d]
    n, c, *rest = patches.shape
    d = len(twin.kernel_size)
    squares = patches.reshape(n, twin.groups, c // twin.groups, *rest).square()
    total = squares.sum((2, *range(-d, 0)))
    return total.repeat_interleave(twin.out_channels // twin.groups, 1)


def padded(twin: nn.Module, x: Tensor) -> Tensor:
    """The input with its borders."""
    mode = "constant" if twin.padding_mode == "zeros" else twin.padding_mode
    if twin.padding == "valid":
        return x
    if twin.padding == "same":
        totals = [d * (k - 1) for k, d in zip(twin.kernel_size, twin.dilation, strict=True)]
        ends = [(t // 2, t - t // 2) for t in totals]
    else:
        ends = [(p, p) for p in twin.padding]
    return F.pad(x, [e for pair in reversed(ends) for e in pair], mode=mode)


def spread(twin: nn.Module, x: Tensor) -> Tensor:
    """The input with zeros between and around: a plain convolution reads it from there."""
    spatial = [(size - 1) * s + 1 for size, s in zip(x.shape[2:], twin.stride, strict=True)]
    wide = x.new_zeros(*x.shape[:2], *spatial)
    wide[(..., *(slice(None, None, s) for s in twin.stride))] = x
    pads: list[int] = []
    numbers = zip(twin.kernel_size, twin.dilation, twin.padding, twin.output_padding, strict=True)
    for k, d, p, extra in reversed(list(numbers)):
        pads += [d * (k - 1) - p, d * (k - 1) - p + extra]
    return F.pad(wide, pads)


def expected(module: nn.Module, twin: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """The twin's output, corrected."""
    total, bias = energy(module, twin, inputs), twin.bias
    if hasattr(module, "radius"):
        twin.bias = None
        mapped = twin(*inputs) * inverse(total) * module.radius
        twin.bias = bias
        if bias is None:
            return mapped
        rows = 1 if isinstance(twin, nn.Linear | nn.Bilinear) else mapped.dim() - 1
        return mapped + bias.reshape(-1, *[1] * (rows - 1))
    z = twin(*inputs)
    return z * (inverse(total) if twin.bias is None else 1 / (1 + total).sqrt())


def inverse(total: Tensor) -> Tensor:
    """One over the root; 0 at 0."""
    return torch.where(total > 0, 1 / total.clamp(min=1e-300).sqrt(), 0.0)

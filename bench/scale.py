"""The cost of a correction against the size of the layer: width, batch, tokens, image.

A layer multiplies inputs by outputs, a correction goes over each of them once: with the width the
ratio to the plain layer must fall towards 1, with the batch to a constant. Where a layer is so
small that calls and not numbers cost, the ratio shows how many calls the correction makes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bench.cases import PLAIN, Case, attention, conv, linear
from bench.measure import Task
from bench.modes import Mode


@dataclass(frozen=True)
class Sweep:
    """Cases that differ in one size.

    Args:
        name: What is varied, and of which layer.
        axis: Name of the size.
        cases: Size → case with the plain layer, one corrected layer and one rival.
    """

    name: str
    axis: str
    cases: dict[int, Case]

    @property
    def contenders(self) -> tuple[str, ...]:
        """Plain layer, corrected layer, rival."""
        return tuple(next(iter(self.cases.values())).builders)


def three(case: Case, rival: str) -> Case:
    """A case without its other contenders."""
    kept = (PLAIN, case.corrected[0], rival)
    builders = {name: case.builders[name] for name in kept}
    return replace(case, builders=builders, corrected=case.corrected[:1])


SWEEPS: tuple[Sweep, ...] = (
    Sweep(
        "width of a linear layer, batch 256",
        "width",
        {w: three(linear(256, w, w), "LayerNorm+Linear") for w in (64, 128, 256, 512, 1024, 2048)},
    ),
    Sweep(
        "batch of a linear layer, width 256",
        "batch",
        {b: three(linear(b, 256, 256), "LayerNorm+Linear") for b in (16, 64, 256, 1024, 4096)},
    ),
    Sweep(
        "tokens of an attention, batch 4, 256 features, 4 heads",
        "tokens",
        {t: three(attention(4, t, 256, 4), "LayerNorm+attention") for t in (32, 64, 128, 256, 512)},
    ),
    Sweep(
        "image of a convolution k3, batch 8, 64 channels",
        "pixels a side",
        {p: three(conv(8, 64, p, 64, 3), "Conv+BatchNorm2d") for p in (8, 16, 32, 64)},
    ),
)


def scale_tasks() -> Iterator[Task]:
    """Every size of every sweep: forward and backward, eager."""
    cases = {case.name: case for sweep in SWEEPS for case in sweep.cases.values()}
    yield from (Task(case, Mode()) for case in cases.values())

"""What a device reaches on its own, as the measure of what layers reach on it.

No layer can be faster than its matrix products at the speed of the best product, or than reading
and writing its numbers at the speed of a copy; which is larger is the layer's floor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.cases import Work
from bench.measure import timer_of
from bench.modes import CUDA, Mode
from bench.results import Chip


@dataclass(frozen=True)
class Sizes:
    """How large the tensors are that a device is measured with."""

    copied: int
    side: int


LARGE = Sizes(copied=2**30, side=8192)
SMALL = Sizes(copied=2**22, side=256)
ROUNDS = 7


def measure_chip(mode: Mode, sizes: Sizes) -> Chip:
    """Speed of a copy and of a square matrix product in a format."""
    source = numbers(mode, sizes.copied // mode.torch_dtype.itemsize)
    target = torch.empty_like(source)
    a, b = (numbers(mode, sizes.side, sizes.side) for _ in range(2))
    return Chip(
        device_name(mode.device),
        mode.dtype,
        copy=2 * sizes.copied / best(mode, lambda: target.copy_(source)),
        product=2 * sizes.side**3 / best(mode, lambda: a @ b),
    )


def numbers(mode: Mode, *shape: int) -> Tensor:
    """Random numbers on a device in a format."""
    return torch.randn(*shape, device=mode.device, dtype=mode.torch_dtype)


def best(mode: Mode, run: Callable[[], object]) -> float:
    """Median seconds of a call."""
    timer = timer_of(mode)
    run()
    return float(np.median([timer(run, 1) for _ in range(ROUNDS)]))


def device_name(device: str) -> str:
    """What a GPU calls itself; the processor is named elsewhere."""
    return torch.cuda.get_device_name() if device == CUDA else device


def floor(work: Work, chip: Chip, bytes_a_number: int) -> float:
    """Seconds below which no implementation of the layer can come."""
    return max(work.products / chip.product, work.numbers * bytes_a_number / chip.copy)

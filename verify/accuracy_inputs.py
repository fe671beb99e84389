"""Inputs that try a layer's range: sizes from the least number to the largest, and odd shapes.

Every pattern is a function of normal numbers and a format. What it gives is rounded to the format
and kept within its finite numbers; it is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]
FORMATS = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
EXPONENTS = (-44, -38, -30, -25, -20, -18, -10, -5, -2, 0, 2, 4, 10, 18, 20, 25, 30, 36, 38)


@dataclass(frozen=True)
class Pattern:
    """A kind of input.

    Attributes:
        name: What it is, for the table.
        exponent: Its size is 10**exponent; ``None`` if it mixes sizes.
        cancel: Whether the bias is set to minus the rest of z at the first site.
    """

    name: str
    exponent: int | None = None
    cancel: bool = False


def patterns(format: str) -> Iterator[Pattern]:
    """The patterns that a format can hold."""
    info = torch.finfo(FORMATS[format])
    for exponent in EXPONENTS:
        if info.smallest_normal * info.eps <= 10.0**exponent <= info.max:
            yield Pattern(f"1e{exponent}", exponent)
    for name in ("zeros", "equal", "one huge", "one tiny"):
        yield Pattern(name)
    yield Pattern("cancelling", cancel=True)


def shaped(pattern: Pattern, normal: Array, format: str) -> Array:
    """An input of a pattern from normal numbers, as float64 that the format holds exactly."""
    values = normal.copy()
    huge = min(float(torch.finfo(FORMATS[format]).max) ** 0.75, 1e30)
    first: tuple[Any, ...] = (slice(None), *[0] * (values.ndim - 1))
    if pattern.exponent is not None:
        values *= 10.0**pattern.exponent
    elif pattern.name == "zeros":
        values[:] = 0.0
    elif pattern.name == "equal":
        values[:] = 0.7
    elif pattern.name == "one huge":
        values[first] = huge
    elif pattern.name == "one tiny":
        values[first] = 1 / huge
    return rounded(values, format)


def rounded(values: Array, format: str) -> Array:
    """The nearest finite numbers of a format, as float64."""
    dtype = FORMATS[format]
    largest = float(torch.finfo(dtype).max)
    tensor = torch.from_numpy(np.clip(values, -largest, largest)).to(dtype)
    return np.asarray(tensor.to(torch.float64).numpy())

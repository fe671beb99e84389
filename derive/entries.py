"""The entries of a spec's tables: parameters, inputs and stages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

Hyperparameter = int | float | bool | tuple[int, ...]
INITS = ("uniform", "zeros", "ones", "normal")


@dataclass(frozen=True)
class Parameter:
    """A learnable tensor of a spec.

    Attributes:
        torch: The attribute's name in the module, which is its key in the state dict.
        optional: Whether the layer exists without it too (``bias=False``).
        init: ``zeros``, ``ones``, ``normal``, or ``uniform`` in ±1/√fan_in as in torch.
        fan_in: Letters whose sizes multiply to the fan-in; empty: the letters contracted with it.
        axes: The letters of its axes, needed only where it is read at index expressions alone.
    """

    torch: str
    optional: bool = False
    init: str = "uniform"
    fan_in: tuple[str, ...] = ()
    axes: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Input:
    """The axes of an input that is read at index expressions.

    Attributes:
        axes: One entry a storage axis; an entry of several letters composes them.
        padded_by: The hyperparameter that says how far reads overrun the ends, if the layer offers
            ``padding_mode`` and ``padding="same"``; every padding mode only changes what is read.
    """

    axes: tuple[tuple[str, ...], ...]
    padded_by: str = ""


@dataclass(frozen=True)
class Stage:
    """Some lines of a spec that form a layer of their own, with its sites and units.

    Attributes:
        lines: The names that the lines define, in the order of ``forward``; the last is the output.
        site, unit: As in :class:`LayerSpec`, for that output.
    """

    lines: tuple[str, ...]
    site: tuple[str, ...]
    unit: tuple[str, ...]


def split_letters(text: Any) -> tuple[str, ...]:
    """``"n p"``, ``"n, p"`` and ``"(g o)"`` → the letters, in order."""
    if isinstance(text, str):
        return tuple(re.findall(r"[^\s,()]+", text))
    return tuple(text)


def split_axes(text: str) -> tuple[tuple[str, ...], ...]:
    """``"n (g c) l"`` → ``(("n",), ("g", "c"), ("l",))``."""
    parts = re.findall(r"\(([^()]*)\)|([^\s,()]+)", text)
    return tuple(split_letters(group) if group else (single,) for group, single in parts)

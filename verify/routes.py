"""The two ways in which a module runs.

Eager code may have a backward pass of its own; transforms of ``torch.func`` get plain operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.func import vmap


def eager(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> Any:
    """What the module gives."""
    return module(*inputs)


def transformed(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> Any:
    """What it gives under a transform of ``torch.func``, over one element that it ignores."""
    return vmap(lambda _: module(*inputs))(torch.zeros(1))[0]


ROUTES = (eager, transformed)

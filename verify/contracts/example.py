"""A class with what it is built with and called with: what the contracts of a module are about."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from verify.results import VerificationError


@dataclass(frozen=True)
class Example:
    """A module class at small sizes.

    Attributes:
        cls: The class.
        arguments, keywords: What it is built with, but for ``device`` and ``dtype``.
        inputs: What a module is called with, in float64; tokens are integers.
        batched: Which inputs have the sample as their first axis; the output then has it too.
        independent: Whether samples do not see each other, so that each may come alone.
        tolerance: How far two ways to compute values of order one may differ in float64.
        twin: The class of torch.nn with the same constructor and state dict, if there is one.
    """

    cls: type[nn.Module]
    arguments: tuple[Any, ...]
    inputs: tuple[Tensor, ...]
    batched: tuple[bool, ...]
    independent: bool
    tolerance: float
    keywords: Mapping[str, Any] = field(default_factory=dict)
    twin: type[nn.Module] | None = None

    def build(self, seed: int = 0, **more: Any) -> nn.Module:
        """A module whose initial values come from a seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.cls(*self.arguments, **{**self.keywords, **more})

    def build_twin(self) -> nn.Module:
        """The layer of torch.nn with the same arguments, but for those that it does not know.

        Raises:
            VerificationError: If there is no twin.
        """
        if self.twin is None:
            raise VerificationError(f"{self.cls.__name__} has no twin in torch.nn")
        known = inspect.signature(self.twin).parameters
        keywords = {k: v for k, v in self.keywords.items() if k in known}
        return self.twin(*self.arguments, **keywords)

    def given(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        """Fresh inputs of a type; tokens stay integers."""
        return tuple(
            x.to(dtype).clone() if x.is_floating_point() else x.clone() for x in self.inputs
        )

    def samples(self, count: int) -> tuple[Tensor, ...]:
        """Float64 inputs with another number of samples: the given ones in turn."""
        return tuple(
            x[torch.arange(count) % x.shape[0]] if batched else x
            for x, batched in zip(self.given(), self.batched, strict=True)
        )


def output(result: Any) -> Tensor:
    """The activation that a module returns, alone or in front of other things."""
    found = result[0] if isinstance(result, tuple) else result
    if not isinstance(found, Tensor):
        raise VerificationError(f"the module returns {type(found).__name__}, not a tensor")
    return found


def call(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """The activation of a module."""
    return output(module(*inputs))


def demand(holds: bool, what: str) -> None:
    """Raise if a contract is broken.

    Raises:
        VerificationError: With what is wrong.
    """
    if not holds:
        raise VerificationError(what)


def same(a: Tensor, b: Tensor, what: str) -> None:
    """Demand the same shape, type and numbers; a NaN equals a NaN."""
    demand(a.shape == b.shape and a.dtype == b.dtype, f"{what}: shape or type differ")
    demand(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)), f"{what}: values differ")


def close(found: Tensor, wanted: Tensor, tolerance: float, what: str) -> None:
    """Demand equal values up to rounding."""
    demand(found.shape == wanted.shape, f"{what}: {tuple(found.shape)}, not {tuple(wanted.shape)}")
    if not wanted.numel():
        return
    bound = tolerance * wanted.numel() * max(1.0, float(wanted.detach().abs().max()))
    error = float((found - wanted).detach().abs().max())
    demand(error <= bound, f"{what}: they differ by {error:.1e}")

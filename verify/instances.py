"""Random instances of a layer: sizes, hyperparameters, inputs and parameters that fit together.

One description, two sources of choice: :func:`sample` draws from a seed (the same instances on
every machine, whatever the clock or the hash seed), :func:`instances` is the Hypothesis strategy
that shrinks. Both go through :func:`draw_instance`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st

from derive.derivation import Derivation
from derive.errors import DerivationError
from derive.nodes import Letter
from derive.points import needs_positive, token_range
from derive.program import Program
from verify.fitting import SizeDraw, Source
from verify.tolerances import volume

Array = np.ndarray[Any, Any]
T = TypeVar("T")

# In the order that a sample goes through them; after the last one, from the front again. The first
# four already hold a singular, a large, a plain and an unusual one.
KINDS = (
    "defaults",
    "zero inputs",
    "large inputs 1e3",
    "varied",
    "many sites",
    "equal sizes",
    "one site",
    "large inputs 1e6",
)
SCALES = {"zero inputs": 0.0, "large inputs 1e3": 1e3, "large inputs 1e6": 1e6}
RADII = (1.0, 0.5, 2.0)


@dataclass(frozen=True)
class Limits:
    """How large an instance may be.

    Attributes:
        kernel: Elements that a brute-force evaluation of K(s,s') may hold at once.
        outputs: Elements of z.
        parameters: Elements of all parameters.
        sites: Sites.
    """

    kernel: int = 300_000
    outputs: int = 60
    parameters: int = 150
    sites: int = 30

    def times(self, factor: int) -> Limits:
        """Limits that many times as wide."""
        return Limits(*(factor * getattr(self, f.name) for f in fields(self)))


WIDER = (1, 3, 9)
NUMERIC = Limits()
EXACT = Limits(kernel=20_000, outputs=8, parameters=32, sites=4)
GRADIENTS = Limits(kernel=40_000, outputs=12, parameters=36, sites=6)


@dataclass(frozen=True)
class Instance:
    """A layer at concrete sizes.

    Attributes:
        kind: One of :data:`KINDS`.
        sizes: Size class → size.
        symbols: Constructor arguments and hyperparameters by name, tuples taken apart.
        tensors: Inputs and parameters over their logical letters; tokens are int64.
        radius: What a norm-like class is built with.
        seed: What the tensors were drawn from.
    """

    kind: str
    sizes: Mapping[str, int]
    symbols: Mapping[str, Any]
    tensors: Mapping[str, Array]
    radius: float
    seed: int

    @property
    def generic(self) -> bool:
        """Whether inputs are of order one, away from singular points and from overflow."""
        return self.kind not in SCALES

    def times(self, factor: float) -> Instance:
        """The same sizes with every real number times a factor."""
        tensors = {k: v if v.dtype.kind == "i" else factor * v for k, v in self.tensors.items()}
        return self if factor == 1 else replace(self, tensors=tensors)

    def __str__(self) -> str:
        numbers = ", ".join(f"{k}={v}" for k, v in self.symbols.items())
        read = ", ".join(f"size({k})={v}" for k, v in self.sizes.items())
        return f"{self.kind} ({numbers}; {read}; seed {self.seed})"


class Seeded:
    """Choices from a seed."""

    def __init__(self, *seed: int) -> None:
        """Any number of non-negative integers."""
        self.rng = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        """An integer in the closed range."""
        return int(self.rng.integers(low, high + 1))

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.integer(0, len(options) - 1)]


class Lowest:
    """The lowest choices: sizes of 1 wherever they fit."""

    def integer(self, low: int, high: int) -> int:
        """The lower end of the range."""
        return low

    def choice(self, options: Sequence[T]) -> T:
        """The first of the options."""
        return options[0]


class Drawn:
    """Choices that Hypothesis makes and shrinks."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        """Keep the draw function of a composite strategy."""
        self.draw = draw

    def integer(self, low: int, high: int) -> int:
        """An integer in the closed range."""
        return int(self.draw(st.integers(low, high)))

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        chosen: T = self.draw(st.sampled_from(options))
        return chosen


def beyond(derivation: Derivation, limits: Limits) -> Callable[[dict[str, int]], float]:
    """How far sizes put an instance of a layer beyond limits, as a sum of logarithms."""
    program, update = derivation.program, derivation.update

    def elements(letters: Sequence[Letter], sizes: Mapping[str, int]) -> int:
        return math.prod(sizes[x.size] for x in letters)

    def excess(sizes: dict[str, int]) -> float:
        letters = program.output.letters
        both = (*letters, *(x.primed for x in letters))
        held = [volume(update.kernel, both, sizes)]
        held += [volume(x.value, x.letters, sizes) for x in program.lines]
        pairs = (
            (elements(letters, sizes), limits.outputs),
            (elements(program.site, sizes), limits.sites),
            (sum(elements(t.letters, sizes) for t in program.parameters), limits.parameters),
            (max(held), limits.kernel),
        )
        return sum(max(0.0, math.log(value / limit)) for value, limit in pairs)

    return excess


# ---------------------------------------------------------------------- tensors and instances
def draw_tensors(
    program: Program, sizes: Mapping[str, int], kind: str, seed: int
) -> dict[str, Array]:
    """Normal tensors from a seed, inputs scaled by the kind; tokens uniform in their range."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, Array] = {}
    for tensor in (*program.inputs, *program.parameters):
        shape = tuple(sizes[x.size] for x in tensor.letters)
        if tensor.kind == "token":
            high = token_range(program, tensor.name, dict(sizes))
            tensors[tensor.name] = rng.integers(0, high, shape)
            continue
        values = rng.standard_normal(shape)
        if tensor.kind == "input":
            values = values * SCALES.get(kind, 1.0)
            if needs_positive(program, tensor.name):
                values = np.abs(values)
        tensors[tensor.name] = np.asarray(values)
    return tensors


def fitting_sizes(
    derivation: Derivation, source: Source, kind: str, limits: Limits
) -> tuple[dict[str, int], dict[str, Any]]:
    """Sizes within limits; within wider ones where the formulas in [sizes] leave none so small.

    Raises:
        DerivationError: If no sizes fit.
    """
    for factor in WIDER[:-1]:
        draw = SizeDraw(derivation.program, source, kind, beyond(derivation, limits.times(factor)))
        try:
            return draw.fitting()
        except DerivationError:
            continue
    widest = beyond(derivation, limits.times(WIDER[-1]))
    return SizeDraw(derivation.program, source, kind, widest).fitting()


def draw_instance(
    derivation: Derivation, source: Source, kind: str, limits: Limits = NUMERIC
) -> Instance:
    """One instance of a kind.

    Raises:
        DerivationError: If no sizes fit.
    """
    program = derivation.program
    sizes, symbols = fitting_sizes(derivation, source, kind, limits)
    seed = source.integer(0, 2**31 - 1)
    tensors = draw_tensors(program, sizes, kind, seed)
    return Instance(kind, sizes, symbols, tensors, source.choice(RADII), seed)


def sample(
    derivation: Derivation,
    count: int,
    seed: int = 0,
    *,
    kinds: Sequence[str] = KINDS,
    limits: Limits = NUMERIC,
) -> list[Instance]:
    """Instances from a seed: the kinds in turn.

    Args:
        derivation: The layer.
        count: How many.
        seed: A non-negative integer.
        kinds: The kinds to go through.
        limits: How large they may be.
    """
    return [
        sample_one(derivation, index, seed, kinds=kinds, limits=limits) for index in range(count)
    ]


def sample_one(
    derivation: Derivation,
    index: int,
    seed: int = 0,
    attempt: int = 0,
    *,
    kinds: Sequence[str] = KINDS,
    limits: Limits = NUMERIC,
) -> Instance:
    """The instance number ``index`` of a sample; another one of its kind for every attempt."""
    layer = zlib.crc32((derivation.spec.digest + "".join(sorted(derivation.absent))).encode())
    source = Seeded(seed, layer, index, attempt)
    return draw_instance(derivation, source, kinds[index % len(kinds)], limits)


@st.composite
def instances(
    draw: st.DrawFn, derivation: Derivation, kinds: Sequence[str] = KINDS, limits: Limits = NUMERIC
) -> Instance:
    """The Hypothesis strategy for instances of a layer; sizes shrink towards 1."""
    return draw_instance(derivation, Drawn(draw), draw(st.sampled_from(kinds)), limits)

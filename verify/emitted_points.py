"""Where an emitted file is judged: random sizes with random numbers, and what is derived there."""

from __future__ import annotations

import functools
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from verify.exact_array import Array, Exact, Whole, constant, objects
from verify.residues import NoRoot, Residues
from verify.results import VerificationError

# Points at which every derived root exists, but perhaps not every one of a given text.
SPARE = 8
# Instances are taken that have no more roots, each of which exists with chance 1/2.
MOST_ROOTS = 5
DRAWS = 60 * 2**MOST_ROOTS
# An extra instance, which tells more, is not worth more draws than these.
EXTRA_DRAWS = 4 * 2**MOST_ROOTS
COUNTS = 2


@dataclass(frozen=True)
class Point:
    """What a class is called with, and what it has to give.

    Attributes:
        ring: The numbers.
        arguments, keywords: Of the constructor.
        parameters: Name of a parameter → its numbers.
        inputs, options: Of ``forward``, by place and by name.
        wanted: What ``forward`` has to give: z̃ in storage layout, and whatever else it returns.
        dtype: The type of inputs and parameters.
        spent: log2 of the number of draws that it takes until every root exists.
    """

    ring: Residues
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    parameters: dict[str, Exact]
    inputs: tuple[Exact | Whole, ...]
    options: dict[str, Any]
    wanted: tuple[Exact | None, ...]
    dtype: str
    spent: float


@dataclass
class Draw:
    """Draws numbers.

    Args:
        ring: The numbers.
        seed: Where they are drawn from.
        dtype: Their type.

    Attributes:
        conditions: How many conditions, each of chance 1/2, what was drawn satisfies.
    """

    ring: Residues
    seed: int
    dtype: str

    def __post_init__(self) -> None:
        """Start the source."""
        self.rng = random.Random(self.seed)
        self.conditions = 0

    def residues(self, count: int) -> list[int]:
        """Numbers that are not 0."""
        return [self.rng.randrange(1, self.ring.modulus) for _ in range(count)]

    def zeros(self, shape: Sequence[int]) -> Exact:
        """0, and nothing that changes."""
        return constant(self.ring, np.zeros(shape, dtype=object), self.dtype)

    def tensor(self, shape: Sequence[int]) -> Exact:
        """Numbers with a derivative."""
        return self.made(objects(self.residues(math.prod(shape))).reshape(shape))

    def made(self, value: Array) -> Exact:
        """Numbers that were drawn, with a derivative."""
        tangent = objects(self.residues(value.size)).reshape(value.shape)
        return Exact(self.ring, value, tangent, None, self.dtype, (1, 0))


class NoPointError(VerificationError):
    """No draw has every root that the derived map takes."""


class Place(ABC):
    """The points of one class with one choice of optional parameters at one instance."""

    # Whether what is drawn is of order one and not 0.
    generic = True
    # Whether it is left out where it takes more roots than can be drawn.
    extra = False

    def __init__(self) -> None:
        """No points yet."""
        self.found: list[Point] = []
        self.attempt = 0

    @abstractmethod
    def point(self, seed: int, counting: bool) -> Point:
        """One draw.

        Raises:
            NoRoot: If a derived root does not exist.
            Singular: If the derived map has no value.
        """

    def next_draw(self, counting: bool = False) -> Point:
        """Another draw."""
        self.attempt += 1
        return self.point(self.attempt, counting)

    def points(self) -> Iterator[Point]:
        """Points at which every derived root exists, drawn when they are first asked for."""
        for k in range(SPARE):
            if k == len(self.found):
                self.found.append(self.next_point())
            yield self.found[k]

    def next_point(self) -> Point:
        """Draw until every derived root exists.

        Raises:
            NoPointError: If none does.
        """
        for draws in range(1, DRAWS + 1):
            try:
                point = self.next_draw()
            except NoRoot:
                continue
            return replace(point, spent=point.spent + math.log2(draws))
        raise NoPointError(f"no point of {DRAWS} has every root: {self}")

    @functools.cached_property
    def conditions(self) -> float:
        """About how many independent conditions the roots of the derived map are."""
        rings = [self.next_draw(counting=True).ring for _ in range(COUNTS)]
        return 2 / COUNTS * sum(len(ring.missing) for ring in rings)

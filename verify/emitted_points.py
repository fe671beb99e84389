"""Where an emitted file is judged: random sizes with random numbers, and z̃ as derived there."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from derive.corrections import RADIUS
from derive.functions import gelu
from derive.nodes import Softmax
from derive.program import Program, Tensor
from verify.emitted_reference import ExactLayer
from verify.emitted_syntax import fraction
from verify.exact_array import Exact, Whole, constant, objects
from verify.instances import Instance, Limits
from verify.layout import output_tensor, to_storage
from verify.residues import NoRoot, Residues, is_positive
from verify.results import VerificationError
from verify.subject import Subject

# The types of inputs and parameters at an instance: code asks for them, though nothing is rounded.
DTYPES = {
    "defaults": "float64",
    "varied": "float64",
    "zero inputs": "float16",
    "equal sizes": "float16",
    "one site": "float32",
}
KINDS = tuple(DTYPES)
LIMITS = Limits(kernel=20_000, outputs=8, parameters=32, sites=3)
# Instances are taken that have no more roots, each of which exists with chance 1/2.
MOST_ROOTS = 6
DRAWS = 40 * 2**MOST_ROOTS
COUNTS = 3
# Points at which every derived root exists, but perhaps not every one of a given text.
SPARE = 8


@dataclass(frozen=True)
class Point:
    """What a class is called with, and what it has to give.

    Attributes:
        ring: The numbers.
        arguments, keywords: Of the constructor.
        parameters: Name of a parameter → its numbers.
        inputs: Of ``forward``.
        wanted: z̃ in storage layout.
        dtype: The type of inputs and parameters.
        spent: log2 of the number of draws that it takes until every root exists.
    """

    ring: Residues
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    parameters: dict[str, Exact]
    inputs: tuple[Exact | Whole, ...]
    wanted: Exact
    dtype: str
    spent: float


def has_exponents(program: Program) -> bool:
    """Whether exp can occur, also in a derivative."""
    functions = (sympy.exp, sympy.erf, sympy.tanh, gelu, Softmax)
    return any(line.value.atoms(*functions) for line in program.lines)


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

    def tensor(self, shape: Sequence[int], fibre: tuple[int, ...] = ()) -> Exact:
        """Numbers with a derivative; the sum of squares over the axes of a fibre is positive.

        Code of some types takes the norm of each fibre, and each has a root with chance 1/2 only.
        """
        rest = [k for k in range(len(shape)) if k not in fibre]
        length = math.prod(shape[k] for k in fibre)
        found = np.empty((math.prod(shape[k] for k in rest), length), dtype=object)
        for row in found:
            row[:] = self.residues(length)
            while fibre and not is_positive(sum(row * row)):
                row[:] = self.residues(length)
            self.conditions += bool(fibre)
        order = [*rest, *fibre]
        value = found.reshape([shape[k] for k in order]).transpose(np.argsort(order))
        tangent = objects(self.residues(found.size)).reshape(shape)
        return Exact(self.ring, objects(value), tangent, None, self.dtype, (1, 0))


def summed_axes(program: Program, tensor: Tensor) -> tuple[int, ...]:
    """The axes of an input that a parameter has and the output has not."""
    weighed = {x for t in program.parameters for x in t.letters} - set(program.output.letters)
    return tuple(k for k, x in enumerate(tensor.letters) if x in weighed)


@dataclass
class Places:
    """The points of one class with one choice of optional parameters at one instance.

    Args:
        subject: The class and its derivation.
        instance: Sizes and hyperparameters.
    """

    subject: Subject
    instance: Instance

    def __post_init__(self) -> None:
        """No points yet."""
        self.found: list[Point] = []
        self.attempt = 0

    def points(self) -> Iterator[Point]:
        """Points at which every derived root exists, drawn when they are first asked for."""
        for k in range(SPARE):
            if k == len(self.found):
                self.found.append(self.next_point())
            yield self.found[k]

    def next_point(self) -> Point:
        """Draw until every derived root exists.

        Raises:
            VerificationError: If none does.
        """
        for draw in range(1, DRAWS + 1):
            try:
                return self.point(draw)
            except NoRoot:
                continue
        raise VerificationError(f"no point of {DRAWS} has every root: {self.instance}")

    def roots(self) -> float:
        """About how many independent conditions the roots of the derived map are."""
        rings = [self.point(1, counting=True).ring for _ in range(COUNTS)]
        return 2 / COUNTS * sum(len(ring.missing) for ring in rings)

    def point(self, draws: int, *, counting: bool = False) -> Point:
        """One draw.

        Raises:
            NoRoot: If a derived root does not exist.
            Singular: If the derived map has no value.
        """
        self.attempt += 1
        seed = self.instance.seed * DRAWS * SPARE + self.attempt
        ring = Residues(seed, exponents=has_exponents(self.program), counting=counting)
        draw = Draw(ring, seed, DTYPES[self.instance.kind])
        tensors = {
            t.name: self.tensor(draw, t) for t in (*self.program.inputs, *self.program.parameters)
        }
        symbols = self.symbols(draw)
        radius = 1 if self.default else pow(draw.residues(1)[0], 2, ring.modulus)
        given = {**symbols, RADIUS: radius}
        correction, sizes = self.subject.correction, self.instance.sizes
        z = ExactLayer(self.program, correction, ring, sizes, given, tensors).corrected()
        names = self.program.spec.parameters
        return Point(
            ring,
            tuple(self.subject.arguments(self.instance)),
            self.keywords(symbols, radius, ring),
            {names[t.name].torch: self.stored(t, tensors) for t in self.program.parameters},
            tuple(self.stored(t, tensors) for t in self.program.inputs),
            z.moved(lambda a: to_storage(a, output_tensor(self.program), sizes)),
            draw.dtype,
            math.log2(draws) + draw.conditions,
        )

    def tensor(self, draw: Draw, tensor: Tensor) -> Any:
        """An input or a parameter over its logical letters."""
        given = self.instance.tensors[tensor.name]
        if tensor.kind == "token":
            return given
        if tensor.kind == "input" and self.instance.kind == "zero inputs":
            return draw.zeros(given.shape)
        fibre = tensor.kind == "input" and draw.dtype == "float32"
        return draw.tensor(given.shape, summed_axes(self.program, tensor) if fibre else ())

    def stored(self, tensor: Tensor, tensors: dict[str, Any]) -> Exact | Whole:
        """A tensor as the module holds it."""
        value, sizes = tensors[tensor.name], self.instance.sizes
        if tensor.kind == "token":
            return Whole(to_storage(value, tensor, sizes))
        return value.moved(lambda a: to_storage(a, tensor, sizes))  # type: ignore[no-any-return]

    @property
    def program(self) -> Program:
        """The layer."""
        return self.subject.program

    @property
    def default(self) -> bool:
        """Whether what has a default is left at it."""
        return self.instance.kind == "defaults"

    def symbols(self, draw: Draw) -> dict[str, Any]:
        """Arguments and hyperparameters; real ones as residues."""
        found = dict(self.instance.symbols)
        for name, value in found.items():
            if isinstance(value, float):
                exactly = draw.ring.number(fraction(value))
                found[name] = exactly if self.default else draw.residues(1)[0]
        return found

    def keywords(self, symbols: dict[str, Any], radius: int, ring: Residues) -> dict[str, Any]:
        """The constructor's keywords; those that have their default are left out."""
        instance, spec = self.instance, self.subject.program.spec
        found = self.subject.keywords(instance)
        del found["dtype"]
        if "radius" in found:
            found["radius"] = constant(ring, radius)
        for name, default in spec.hyperparameters.items():
            if isinstance(default, float):
                found[name] = constant(ring, symbols[name])
        if self.default:
            absent = {spec.parameters[s].torch for s in self.subject.absent}
            found = {k: v for k, v in found.items() if k in absent}
        return found

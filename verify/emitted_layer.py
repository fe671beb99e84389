"""A layer's instances as places where its emitted file is judged."""

from __future__ import annotations

from typing import Any

import sympy

from derive.corrections import RADIUS
from derive.functions import gelu
from derive.nodes import Softmax
from derive.program import Program, Tensor
from verify.emitted_points import Draw, Place, Point
from verify.emitted_reference import ExactLayer
from verify.emitted_syntax import fraction
from verify.exact_array import Exact, Whole, constant
from verify.exact_table import Device, Kind
from verify.fitting import NOTHING_IS_ONE
from verify.instances import Instance, Limits, sample_one
from verify.layout import output_tensor, to_storage
from verify.residues import Residues
from verify.subject import Subject

# The types of inputs and parameters at an instance: code asks for them, though nothing is rounded.
DTYPES = {
    "defaults": "float64",
    "varied": "float64",
    "zero inputs": "float16",
    "equal sizes": "float16",
    "one site": "float32",
    NOTHING_IS_ONE: "float32",
}
KINDS = tuple(DTYPES)
LIMITS = Limits(kernel=20_000, outputs=8, parameters=32, sites=3)
LARGE = Limits(kernel=10**9, outputs=64, parameters=256, sites=16)
"""Where nothing is 1: what only some of several groups, channels or positions show."""


def has_exponents(program: Program) -> bool:
    """Whether exp can occur, also in a derivative."""
    functions = (sympy.exp, sympy.erf, sympy.tanh, gelu, Softmax)
    return any(line.value.atoms(*functions) for line in program.lines)


class LayerPlace(Place):
    """One instance of a layer.

    Args:
        subject: The class and its derivation.
        index: Which of the kinds.
        seed: Where sizes are drawn from.
        attempt: Another instance of the kind for every attempt.
    """

    def __init__(self, subject: Subject, index: int, seed: int, attempt: int) -> None:
        """Draw sizes and hyperparameters."""
        super().__init__()
        self.subject = subject
        self.instance: Instance = sample_one(
            subject.derivation,
            index,
            seed,
            attempt,
            kinds=KINDS,
            limits=LARGE if KINDS[index] == NOTHING_IS_ONE else LIMITS,
        )
        self.generic = self.instance.generic
        self.extra = self.instance.kind == NOTHING_IS_ONE

    def __str__(self) -> str:
        return str(self.instance)

    def point(self, seed: int, counting: bool) -> Point:
        """Residues for everything, and z̃."""
        seed += self.instance.seed * 2**20
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
            self.keywords(symbols, radius, draw),
            {names[t.name].torch: self.stored(t, tensors) for t in self.program.parameters},
            tuple(self.given(t, tensors) for t in self.program.inputs),
            {},
            (z.moved(lambda a: to_storage(a, output_tensor(self.program), sizes)),),
            draw.dtype,
            draw.conditions,
        )

    def tensor(self, draw: Draw, tensor: Tensor) -> Any:
        """An input or a parameter over its logical letters."""
        given = self.instance.tensors[tensor.name]
        if tensor.kind == "token":
            return given
        if tensor.kind == "input" and self.instance.kind == "zero inputs":
            return draw.zeros(given.shape)
        return draw.tensor(given.shape)

    def stored(self, tensor: Tensor, tensors: dict[str, Any]) -> Exact:
        """A tensor as the module holds it."""
        value: Exact = tensors[tensor.name]
        return value.moved(lambda a: to_storage(a, tensor, self.instance.sizes))

    def given(self, tensor: Tensor, tensors: dict[str, Any]) -> Exact | Whole:
        """An input as the module is given it."""
        if tensor.kind == "token":
            return Whole(to_storage(tensors[tensor.name], tensor, self.instance.sizes))
        return self.stored(tensor, tensors)

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

    def keywords(self, symbols: dict[str, Any], radius: int, draw: Draw) -> dict[str, Any]:
        """The constructor's keywords; those that have their default are left out."""
        instance, spec = self.instance, self.subject.program.spec
        found = self.subject.keywords(instance)
        found |= {"dtype": Kind(draw.dtype), "device": Device()}
        if "radius" in found:
            found["radius"] = constant(draw.ring, radius)
        for name, default in spec.hyperparameters.items():
            if isinstance(default, float):
                found[name] = constant(draw.ring, symbols[name])
        if self.default:
            absent = {spec.parameters[s].torch for s in self.subject.absent}
            found = {k: v for k, v in found.items() if k in absent}
        return found

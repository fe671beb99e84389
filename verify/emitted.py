"""The emitted stage: the text of the file itself, in exact arithmetic, equals what was derived.

The file is read from its syntax tree (:mod:`verify.emitted_language`), never executed, with numbers
modulo a prime of 127 bits (:mod:`verify.residues`). At every point, i.e. random sizes and
hyperparameters with random numbers for inputs, parameters and one direction v in both,

- every entry of ``forward`` is z̃ of the derivation (:mod:`verify.emitted_reference`), and
- so is its derivative along v, a frozen gauge held fixed: what is detached is what was derived so.

A wrong file passes a point with chance at most d 2^R D/P: d bounds the degree of both sides, R is
the number of roots met, D the number of draws until every root existed.

What is proved of is the map, in every branch that the points reach; what is rounded is not seen.
"""

from __future__ import annotations

import ast
import functools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import sympy

from codegen import gate
from derive.corrections import RADIUS
from derive.errors import DerivationError
from derive.functions import gelu
from derive.nodes import Softmax
from derive.program import Program
from verify.emitted_language import Machine
from verify.emitted_reference import ExactLayer
from verify.emitted_values import Blank, Instance as Module, Raised
from verify.exact_array import Exact, Refusal, Whole, constant, objects, same
from verify.instances import Instance, Limits, sample_one
from verify.layout import output_tensor, to_storage
from verify.residues import PRIME, NoRoot, Residues, Singular
from verify.results import VerificationError
from verify.stage import Record, Settings
from verify.subject import Subject

KINDS = ("defaults", "varied", "zero inputs", "varied")
LIMITS = Limits(kernel=20_000, outputs=8, parameters=32, sites=3)
DRAWS = 1000
# Points at which every derived root exists, but perhaps not every one of a given text.
SPARE = 8
ATTEMPTS = 20


@dataclass(frozen=True)
class Point:
    """What a class is called with, and what it has to give.

    Attributes:
        ring: The numbers.
        arguments, keywords: Of the constructor.
        parameters: Name of a parameter → its numbers.
        inputs: Of ``forward``.
        wanted: z̃ in storage layout.
        draws: How many draws it took until every root existed.
    """

    ring: Residues
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    parameters: dict[str, Exact]
    inputs: tuple[Exact | Whole, ...]
    wanted: Exact
    draws: int


def has_exponents(program: Program) -> bool:
    """Whether exp can occur, also in a derivative."""
    functions = (sympy.exp, sympy.erf, sympy.tanh, gelu, Softmax)
    return any(line.value.atoms(*functions) for line in program.lines)


def drawn(
    ring: Residues, rng: random.Random, shape: Sequence[int], dtype: str, zero: bool = False
) -> Exact:
    """Random numbers with a random derivative, or 0 with none."""
    if zero:
        return constant(ring, np.zeros(shape, dtype=object), dtype)

    def residues() -> Any:
        found = [rng.randrange(1, ring.modulus) for _ in range(math.prod(shape))]
        return np.array(found, dtype=object).reshape(shape)

    return Exact(ring, residues(), residues(), None, dtype, (1, 0))


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
            self.attempt += 1
            try:
                return self.point(draw)
            except NoRoot:
                continue
        raise VerificationError(f"no point of {DRAWS} has every root: {self.instance}")

    def point(self, draws: int) -> Point:
        """One draw.

        Raises:
            NoRoot: If a derived root does not exist.
            Singular: If the derived map has no value.
        """
        subject, instance = self.subject, self.instance
        program, sizes = subject.program, instance.sizes
        rng = random.Random(instance.seed * DRAWS * SPARE + self.attempt)
        ring = Residues(rng.getrandbits(64), exponents=has_exponents(program))
        tensors: dict[str, Any] = {}
        for tensor in (*program.inputs, *program.parameters):
            given = instance.tensors[tensor.name]
            zero = tensor.kind == "input" and instance.kind == "zero inputs"
            token = tensor.kind == "token"
            tensors[tensor.name] = (
                given if token else drawn(ring, rng, given.shape, "float64", zero)
            )
        symbols = {
            k: rng.randrange(1, ring.modulus) if isinstance(v, float) else v
            for k, v in instance.symbols.items()
        }
        radius = 1 if instance.kind == "defaults" else pow(rng.randrange(1, PRIME), 2, ring.modulus)
        layer = ExactLayer(
            program, subject.correction, ring, sizes, {**symbols, RADIUS: radius}, tensors
        )
        output = output_tensor(program)
        wanted = layer.corrected().moved(lambda a: to_storage(a, output, sizes))
        stored = {
            t.name: Whole(to_storage(tensors[t.name], t, sizes))
            if t.kind == "token"
            else tensors[t.name].moved(lambda a, t=t: to_storage(a, t, sizes))
            for t in (*program.inputs, *program.parameters)
        }
        names = {t.name: program.spec.parameters[t.name].torch for t in program.parameters}
        return Point(
            ring,
            tuple(subject.arguments(instance)),
            self.keywords(symbols, radius, ring),
            {names[t.name]: stored[t.name] for t in program.parameters},
            tuple(stored[t.name] for t in program.inputs),
            wanted,
            draws,
        )

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
        if instance.kind == "defaults":
            absent = {spec.parameters[s].torch for s in self.subject.absent}
            found = {k: v for k, v in found.items() if k in absent}
        return found


def filled(module: Module, point: Point) -> None:
    """Give every parameter of a module its numbers.

    Raises:
        Refusal: If its parameters are not those of the layer, in name or shape.
    """
    held = {name: (owner, key) for name, owner, key in module.parameters()}
    if set(held) != set(point.parameters):
        raise Refusal(f"parameters {sorted(held)}, not {sorted(point.parameters)}")
    for name, value in point.parameters.items():
        owner, key = held[name]
        blank: Blank = owner.held[key]
        if blank.shape != value.shape:
            raise Refusal(f"{name} has shape {blank.shape}, not {value.shape}")
        owner.held[key] = value


def judge_point(machine: Machine, name: str, point: Point) -> str:
    """What is wrong with a class at a point, or ""."""
    machine.ring, machine.steps = point.ring, 0
    module = machine.call(machine.names.get(name), point.arguments, point.keywords)
    if not isinstance(module, Module):
        raise Refusal(f"the text defines no module {name}")
    filled(module, point)
    found = machine.call(module, point.inputs, {})
    if not isinstance(found, Exact):
        raise Refusal("forward returns no tensor of numbers")
    return same(found.finite, point.wanted)


class Prover:
    """Judges texts of one generated file; points and what is derived at them are kept.

    Args:
        source: The generated layer, whose derivations say what a text has to compute.
        instances: Instances a class and choice of optional parameters.
        seed: Where they are drawn from.
    """

    def __init__(self, subjects: Sequence[Subject], instances: int = 4, seed: int = 0) -> None:
        """Nothing is drawn yet."""
        self.subjects = tuple(subjects)
        self.instances = instances
        self.seed = seed
        self.places: dict[tuple[Any, int, int], Places] = {}

    def judge(self, text: str) -> list[Point]:
        """Every class of the file.

        Returns:
            The points at which it was judged.

        Raises:
            VerificationError: If the text is not proved, with the reason.
        """
        machine = read(text)
        return [
            self.judge_place(machine, subject, index)
            for subject in self.subjects
            for index in range(self.instances)
        ]

    def judge_place(self, machine: Machine, subject: Subject, index: int) -> Point:
        """One instance: sizes that the class refuses are drawn again.

        Raises:
            VerificationError: If it is not proved.
        """
        for attempt in range(ATTEMPTS):
            try:
                return self.judge_points(machine, self.place(subject, index, attempt))
            except Raised as error:
                if error.name != "ValueError":
                    raise Refusal(f"{subject.name} raises {error}") from error
        raise VerificationError(f"{subject.name} refuses the arguments of {ATTEMPTS} instances")

    def place(self, subject: Subject, index: int, attempt: int) -> Places:
        """Where a class is judged."""
        key = (subject.key, index, attempt)
        if key not in self.places:
            instance = sample_one(
                subject.derivation, index, self.seed, attempt, kinds=KINDS, limits=LIMITS
            )
            self.places[key] = Places(subject, instance)
        return self.places[key]

    def judge_points(self, machine: Machine, places: Places) -> Point:
        """The first point at which the text's roots exist too.

        Raises:
            VerificationError: If the text's value there is another, or there is no such point.
        """
        subject = places.subject
        where = f"{subject.name} at {places.instance}"
        for point in places.points():
            try:
                wrong = judge_point(machine, subject.name, point)
            except NoRoot:
                continue
            except (Refusal, Singular, DerivationError, RecursionError) as error:
                raise Refusal(f"{error}: {where}") from error
            if wrong:
                raise Refusal(f"another {wrong} than derived: {where}")
            return point
        raise Refusal(f"roots of what is not positive where derived ones are: {where}")


def read(text: str) -> Machine:
    """A file's text, bound but not called.

    Raises:
        VerificationError: If it is no emitted file.
    """
    try:
        gate.check(text)
        machine = Machine(Residues(0, exponents=False))
        machine.load(ast.parse(text))
    except gate.GateError as error:
        raise Refusal(str(error)) from error
    return machine

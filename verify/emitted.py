"""The emitted stage: the text of the file itself, in exact arithmetic, equals what was derived.

The file is read from its syntax tree (:mod:`verify.emitted_language`), never executed, with numbers
modulo a prime of 127 bits (:mod:`verify.residues`). At every point, i.e. random sizes and
hyperparameters with random numbers for inputs, parameters and one direction v in both,

- every entry of ``forward`` is z̃ of the derivation (:mod:`verify.emitted_reference`), and
- so is its derivative along v, a frozen gauge held fixed: what is detached is what was derived so.

A file that has an autograd function is read as it runs under torch's transforms and as it runs
without; the backward pass is then held to the forward pass (:mod:`verify.emitted_autograd`).

A wrong file passes a point with chance at most d 2^R D/P: d bounds the degree of both sides, R is
the number of roots met, D the number of draws until every root existed.

What is proved of is the map, in every branch that the points reach; what is rounded is not seen.
"""

from __future__ import annotations

import ast
import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from codegen import gate
from verify.attention import AttentionSubject
from verify.emitted_attention import AttentionPlace
from verify.emitted_autograd import modes
from verify.emitted_configurations import CONFIGURATIONS
from verify.emitted_language import Machine
from verify.emitted_layer import KINDS, LayerPlace
from verify.emitted_points import EXTRA_DRAWS, MOST_ROOTS, SPARE, NoPointError, Place, Point
from verify.emitted_values import Blank, EmittedClass, Raised
from verify.emitted_values import Instance as Module
from verify.exact_array import Exact, Refusal, TooManyError, same
from verify.residues import PRIME, NoRoot, Residues, Singular
from verify.results import VerificationError
from verify.sources import subjects
from verify.stage import Record, Settings
from verify.subject import Subject
from verify.tolerances import TOLERANCES

ATTEMPTS = 20


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
        if blank.dtype not in ("", value.dtype):
            raise Refusal(f"{name} is of {blank.dtype}, not {value.dtype}")
        if not blank.drawn:
            raise Refusal(f"{name} is given no initial values")
        owner.held[key] = value


def called(machine: Machine, name: str, point: Point) -> tuple[Exact | None, ...]:
    """What a class gives at a point.

    Raises:
        Refusal: If it is no module, or gives anything but tensors of numbers.
    """
    machine.ring, machine.steps = point.ring, 0
    module = machine.call(machine.names.get(name), point.arguments, point.keywords)
    if not isinstance(module, Module):
        raise Refusal(f"the text defines no module {name}")
    filled(module, point)
    result = machine.call(module, point.inputs, point.options)
    found = result if isinstance(result, tuple) else (result,)
    if not all(x is None or isinstance(x, Exact) for x in found):
        raise Refusal("forward returns what is no tensor of numbers")
    return found


@dataclass(frozen=True)
class Proof:
    """What a text was judged by.

    Attributes:
        points: How many points.
        bits: -log2 of a bound of the chance that a wrong text passes, for the class and choice of
            optional parameters where it is largest.
        least: The same for a single point, whose branches no other may reach.
    """

    points: int
    bits: float
    least: float


class Prover:
    """Judges texts of one generated file; points and what is derived at them are kept.

    Args:
        subjects: The classes of the file, with what was derived for them.
        seed: Where they are drawn from.
    """

    def __init__(self, subjects: Sequence[Subject], *, seed: int = 0) -> None:
        """Nothing is drawn yet. The stages of an attention are judged together."""
        self.subjects = tuple(
            s for s in subjects if not isinstance(s, AttentionSubject) or s.part == "score"
        )
        self.seed = seed
        self.places: dict[tuple[Any, int, int], Place] = {}

    @classmethod
    def of(cls, source: Any) -> Prover:
        """For a ``codegen.LayerSource``."""
        return cls(subjects(source))

    def judge(self, text: str) -> Proof:
        """Every class of the file.

        Raises:
            VerificationError: If the text is not proved, with the reason.
        """
        machine = read(text)
        check_exports(machine, [subject.name for subject in self.subjects])
        found = [list(self.judge_places(machine, subject)) for subject in self.subjects]
        counted = [b for row in found for b in row if b is not None]
        sums = [sum(b for b in row if b is not None) for row in found]
        return Proof(sum(map(len, found)), min(sums), min(counted))

    def judge_places(self, machine: Machine, subject: Subject) -> Iterator[float | None]:
        """Every instance of a class; without inputs the layer itself may have no value."""
        for index in range(count_of(subject)):
            with contextlib.suppress(UndefinedError):
                yield self.judge_place(machine, subject, index)

    def judge_place(self, machine: Machine, subject: Subject, index: int) -> float | None:
        """One instance; one that the class refuses, or where its roots lack, is drawn again.

        Returns:
            The bits of its point; ``None`` where it is not random.

        Raises:
            VerificationError: If it is not proved.
            UndefinedError: If the layer has no value without inputs.
        """
        lacking: list[RootlessError] = []
        for place in self.candidates(subject, index):
            try:
                return self.judge_points(machine, subject, place, SPARE * len(lacking))
            except RootlessError as error:
                lacking.append(error)
            except NoPointError as error:
                if not place.generic:
                    raise UndefinedError(str(error)) from error
            except Raised as error:
                if error.name != "ValueError":
                    raise Refusal(f"{subject.name} raises {error}") from error
        if lacking:
            raise lacking[0]
        raise VerificationError(f"{subject.name} has no instance that it takes")

    def candidates(self, subject: Subject, index: int) -> Iterator[Place]:
        """Instances of a kind that have a value, those with few roots first.

        Raises:
            UndefinedError: If one without inputs has none, or all of an extra kind take too many
                roots, as a matrix gauge does at many sites.
        """
        many: list[Place] = []
        for attempt in range(ATTEMPTS):
            place = self.place(subject, index, attempt)
            try:
                few = place.conditions <= MOST_ROOTS
            except Singular as error:
                if not place.generic:
                    raise UndefinedError(f"{error}: {place}") from error
                continue
            if few:
                yield place
            else:
                many.append(place)
        many.sort(key=lambda place: place.conditions)
        if len(many) == ATTEMPTS and many[0].extra and 2 ** many[0].conditions > EXTRA_DRAWS:
            raise UndefinedError(f"too many roots: {many[0]}")
        yield from many

    def place(self, subject: Subject, index: int, attempt: int) -> Place:
        """An instance of a kind, drawn when it is first asked for."""
        key = (subject.key, index, attempt)
        if key not in self.places:
            self.places[key] = place_of(subject, index, self.seed, attempt)
        return self.places[key]

    def judge_points(
        self, machine: Machine, subject: Subject, place: Place, before: int
    ) -> float | None:
        """The first point at which the text's roots exist too, after points elsewhere.

        Raises:
            RootlessError: If there is no such point.
            UndefinedError: If an extra instance is too large.
            VerificationError: If the text's value there is another.
        """
        where = f"{subject.name} at {place}"
        for draws, point in enumerate(place.points(), before + 1):
            try:
                found = self.judged(machine, subject.name, point)
            except NoRoot:
                continue
            except TooManyError as error:
                # An extra instance tells more, and is the largest.
                raise (UndefinedError if place.extra else Refusal)(f"{error}: {where}") from error
            except (Refusal, Singular, RecursionError) as error:
                raise Refusal(f"{error}: {where}") from error
            return bits(found, point, draws) if place.generic else None
        raise RootlessError(f"roots of what is not positive where derived ones are: {where}")

    def judged(self, machine: Machine, name: str, point: Point) -> tuple[Exact | None, ...]:
        """What a class gives at a point, in every mode in which its file may run.

        Raises:
            Refusal: If that is another than derived in one of them.
        """
        found: tuple[Exact | None, ...] = ()
        for mode in modes(machine, point.dtype):
            machine.mode = mode
            found = called(machine, name, point)
            wrong = differences(found, point)
            if wrong:
                raise Refusal(wrong)
        return found


class RootlessError(Refusal):
    """No point of an instance has every root that the text takes, as norms of intermediates."""


class UndefinedError(VerificationError):
    """The layer itself has no value where all of its inputs are 0, or none that can be drawn."""


def differences(found: Sequence[Exact | None], point: Point) -> str:
    """What is another than derived, or ""."""
    if [x is None for x in found] != [x is None for x in point.wanted]:
        return f"forward returns {len(found)} things, not {len(point.wanted)}"
    for x, wanted in zip(found, point.wanted, strict=True):
        if x is None or wanted is None:
            continue
        if x.dtype != point.dtype:
            return f"forward returns {x.dtype} for {point.dtype}"
        wrong = same(x.finite, wanted)
        if wrong:
            return f"another {wrong} than derived"
    return ""


def place_of(subject: Subject, index: int, seed: int, attempt: int) -> Place:
    """Where a class is judged."""
    if isinstance(subject, AttentionSubject):
        return AttentionPlace(subject, CONFIGURATIONS[index], attempt)
    return LayerPlace(subject, index, seed, attempt)


def count_of(subject: Subject) -> int:
    """In how many kinds of places a class is judged."""
    return len(CONFIGURATIONS) if isinstance(subject, AttentionSubject) else len(KINDS)


def bits(found: Sequence[Exact | None], point: Point, draws: int) -> float:
    """-log2 of d 2^R D/P, where the derivative of a quotient has at most twice its degrees."""
    degree = 2 * sum(sum(x.degrees) for x in (*found, *point.wanted) if x is not None)
    spent = math.log2(max(degree, 1)) + point.ring.roots + point.spent + math.log2(draws)
    return max(0.0, math.log2(PRIME) - spent)


def prove(text: str, source: Any) -> Proof:
    """Judge a text by what was derived for a layer; nothing of the text is executed.

    Args:
        text: The text of a module.
        source: The ``codegen.LayerSource`` that says what it has to compute.

    Raises:
        VerificationError: If the text is not proved, with the reason.
    """
    return Prover.of(source).judge(text)


def read(text: str) -> Machine:
    """A file's text, bound but not called.

    Raises:
        VerificationError: If it is no emitted file.
    """
    try:
        gate.check(text)
    except gate.GateError as error:
        raise Refusal(str(error)) from error
    machine = Machine(Residues(0, exponents=False))
    machine.load(ast.parse(text))
    return machine


def check_exports(machine: Machine, names: Sequence[str]) -> None:
    """The module defines classes of these names, and exports classes if it says what.

    Raises:
        Refusal: If it does not.
    """
    exported = machine.names.get("__all__", list(names))
    if not isinstance(exported, list) or not set(names) <= set(exported):
        raise Refusal(f"the text exports {exported}, without {', '.join(sorted(set(names)))}")
    for name in exported:
        if not isinstance(machine.names.get(name), EmittedClass):
            raise Refusal(f"`{name}` is no class of the text")


def emitted_stage(variants: Sequence[Subject], settings: Settings, record: Record) -> None:
    """The class in the text of the file, at random points in exact arithmetic."""
    (text,) = {subject.text for subject in variants}
    proof = Prover(variants, seed=settings.seed).judge(text)
    record.instances += proof.points
    short = max(0.0, TOLERANCES.emitted_bits - proof.bits)
    record.judge(short, 0.0, f"the chance of error is 2^-{proof.bits:.0f} only")
    record.note(
        f"the file itself, read from its syntax tree, gives z̃ and its derivative at "
        f"{proof.points} points modulo a prime of 127 bits; a wrong one passes with chance below "
        f"2^-{proof.bits:.0f}, one of them with chance below 2^-{proof.least:.0f}"
    )

"""A failure made as small as it gets, so that a person can check it by hand.

Smaller means, in this order: sizes towards 1, hyperparameters towards their defaults, the radius 1,
then, where the stage's claim holds at every value, inputs and parameters towards 0, 1 and other
small integers. A candidate is kept where the stage still fails in the same words. The order is
fixed and the number of candidates bounded, so that a failure always shrinks to the same instance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from derive import grammar as g
from derive.derivation import Derivation
from derive.functions import Step, maximum, relu
from derive.nodes import MaxOver
from derive.points import token_range
from verify.fitting import SizeDraw
from verify.instances import Instance
from verify.reference import evaluate_reference
from verify.stage import Judgement, Place, Record, Settings, Stage, recorded
from verify.subject import Subject

Array = np.ndarray[Any, Any]
T = TypeVar("T")
ATTEMPTS = 300
# The stages whose claim holds at every value; the others need numbers in general position.
AT_EVERY_VALUE = ("numeric", "order", "lowering", "controls")
KINKED = (relu, maximum, MaxOver, Step)


@dataclass(frozen=True)
class Failure:
    """Why a stage failed at one instance.

    Attributes:
        what: What is wrong, in words that are the same at every instance.
        reason: Why, in words that may differ, as the message of an exception.
        place: Where.
        judgement: The comparison, if one failed.
        attempts: How many instances were tried to make it smaller.
    """

    what: str
    reason: str
    place: Place
    judgement: Judgement | None = None
    attempts: int = 0


def failure_of(record: Record, what: str | None = None) -> Failure | None:
    """The failure of a stage that has a place, of the given kind if one is given.

    An exception goes before judgements, and of those the worst.
    """
    broken = record.breakdown
    if broken is not None and broken.place is not None and what in (None, broken.what):
        return Failure(broken.what, broken.text, broken.place)
    found = [
        (j.ratio, j, j.place)
        for j in record.failed
        if j.place is not None and what in (None, j.what)
    ]
    if not found:
        return None
    _, worst, place = max(found, key=lambda entry: entry[0])
    return Failure(worst.what, worst.reason, place, worst)


def shrink(
    failure: Failure,
    name: str,
    stage: Stage,
    settings: Settings,
    attempts: int = ATTEMPTS,
) -> Failure:
    """The same failure at the smallest instance that was found.

    Args:
        failure: What was found at a random instance.
        name: The stage's name.
        stage: The stage.
        settings: What the stage was given.
        attempts: Instances to try at most.

    Returns:
        The failure at the smallest instance; itself where none is smaller.
    """
    subject = failure.place.subject
    regular = failure.judgement is not None and is_regular(failure.place)

    def fails(instance: Instance) -> Failure | None:
        here = replace(settings, pinned=instance)
        found = failure_of(recorded(name, stage, [subject], here), failure.what)
        # At a singular point a right layer may fail too.
        return found if found and (not regular or is_regular(found.place)) else None

    search = Search(failure, fails, attempts)
    search.sizes(subject.derivation)
    if name in AT_EVERY_VALUE and holds_at_every_value(subject, name):
        search.values(subject)
    return replace(search.best, attempts=attempts - search.left)


def is_regular(place: Place) -> bool:
    """Whether every site and unit has a gauge."""
    return bool(evaluate_reference(place.subject, place.instance).regular.all())


def holds_at_every_value(subject: Subject, name: str) -> bool:
    """Whether a right layer passes a stage at 0 and at equal numbers too.

    A function with a kink has no derivative there, and the slope of a remainder none where it is 0.
    """
    program, update = subject.program, subject.derivation.update
    kinked = any(line.value.has(*KINKED) for line in program.lines)
    return not kinked and (name != "order" or bool(update.affine))


class Search:
    """A greedy walk through ever smaller instances.

    Attributes:
        best: The failure at the smallest instance so far.
        left: How many instances may still be tried.
    """

    def __init__(
        self, failure: Failure, fails: Callable[[Instance], Failure | None], attempts: int
    ) -> None:
        """Start from a failure."""
        self.best = failure
        self.fails = fails
        self.left = attempts

    @property
    def instance(self) -> Instance:
        """The smallest instance so far."""
        return self.best.place.instance

    def keep(self, candidate: Instance | None) -> bool:
        """Take a smaller instance if it fails too."""
        if candidate is None or self.left == 0:
            return False
        self.left -= 1
        found = self.fails(replace(candidate, kind="shrunk"))
        if found is not None:
            self.best = found
        return found is not None

    # ------------------------------------------------------------------ sizes
    def sizes(self, derivation: Derivation) -> None:
        """Sizes, hyperparameters and radius, again and again until none gets smaller."""
        progress = True
        while progress and self.left:
            progress = False
            for key, value, least in numbers(derivation, self.instance):
                progress |= any(
                    self.keep(resized(derivation, self.instance, {key: smaller}))
                    for smaller in towards(value, least)
                )
        if self.instance.radius != 1.0:
            self.keep(replace(self.instance, radius=1.0))

    # ------------------------------------------------------------------ values
    def values(self, subject: Subject) -> None:
        """Whole tensors first, then entry by entry."""
        names = [t.name for t in (*subject.program.inputs, *subject.program.parameters)]
        for name in names:
            self.first(self.with_tensor(name, value) for value in simple(self.tensor(name)))
        for name in names:
            for place in np.ndindex(self.tensor(name).shape):
                entry = self.tensor(name)[place]
                self.first(self.with_entry(name, place, value) for value in simple(entry))

    def first(self, candidates: Iterator[Instance]) -> None:
        """Take the first, and so simplest, of several instances that fails."""
        any(self.keep(candidate) for candidate in candidates)

    def tensor(self, name: str) -> Array:
        """A tensor of the smallest instance so far."""
        return self.instance.tensors[name]

    def with_tensor(self, name: str, value: Array) -> Instance:
        """The instance with another tensor in place."""
        return replace(self.instance, tensors={**self.instance.tensors, name: value})

    def with_entry(self, name: str, place: tuple[int, ...], value: Array) -> Instance:
        """The instance with another entry in a tensor."""
        changed = self.tensor(name).copy()
        changed[place] = value
        return self.with_tensor(name, changed)


def simple(value: Array) -> list[Array]:
    """Simpler values than the present ones, the simplest first; tokens stay integers."""
    given = np.asarray(value)
    small = [np.full_like(given, number) for number in (0, 1, 2)]
    candidates = [*small, np.rint(given), np.round(given, 1)]
    if given.dtype.kind == "i":
        candidates = candidates[:1]
    return list(before(candidates, given))


def before(candidates: Sequence[Array], given: Array) -> Iterator[Array]:
    """The candidates up to the one that is given already."""
    for candidate in candidates:
        if np.array_equal(candidate, given):
            return
        yield candidate


def towards(value: float, least: float) -> list[float]:
    """Smaller numbers to try, the smallest first."""
    if isinstance(value, float):
        return [least] if value != least else []
    steps = dict.fromkeys((least, (value + least) // 2, value - 1))
    return [x for x in steps if least <= x < value]


# ---------------------------------------------------------------------- other sizes
class Lowest:
    """Choices that are all as low as they go, to be overwritten."""

    def integer(self, low: int, high: int) -> int:
        """The low end."""
        return low

    def choice(self, options: Sequence[T]) -> T:
        """The first option."""
        return options[0]


def choices(derivation: Derivation, instance: Instance) -> SizeDraw:
    """The free sizes and hyperparameters of an instance."""
    draw = SizeDraw(derivation.program, Lowest(), "defaults", lambda sizes: 0.0)
    for key in draw.free:
        value = instance.sizes[key] if key in instance.sizes else instance.symbols[key]
        tree = draw.composed.get(key)
        if isinstance(tree, g.Call):
            value //= draw.divisors(tree.arguments[1], instance.symbols)
        draw.free[key] = value
    draw.hyper = {key: instance.symbols[key] for key in draw.hyper}
    return draw


def numbers(derivation: Derivation, instance: Instance) -> list[tuple[str, float, float]]:
    """Every number that may become smaller: its name, its value, and the least it may be."""
    draw = choices(derivation, instance)
    defaults = SizeDraw(derivation.program, Lowest(), "defaults", lambda sizes: 0.0).hyper
    free = [(key, value, 1) for key, value in draw.free.items()]
    return [*free, *((key, value, defaults[key]) for key, value in draw.hyper.items())]


def resized(
    derivation: Derivation, instance: Instance, changes: Mapping[str, float]
) -> Instance | None:
    """The instance with some sizes changed, or ``None`` if sizes do not fit together then.

    Tensors keep their leading entries; what has to grow with a computed size begins anew.
    """
    draw = choices(derivation, instance)
    for key, value in changes.items():
        if key in draw.free:
            draw.free[key] = int(value)
        else:
            draw.hyper[key] = value
    found = draw.resolve()
    if found is None or any(v < 1 for v in found[0].values()):
        return None
    sizes, symbols = found
    program = derivation.program
    tensors = {}
    for tensor in (*program.inputs, *program.parameters):
        given = instance.tensors[tensor.name]
        shape = [sizes[x.size] for x in tensor.letters]
        kept = given[np.ix_(*(np.arange(n) % m for n, m in zip(shape, given.shape, strict=True)))]
        if tensor.kind == "token":
            kept = kept % token_range(program, tensor.name, dict(sizes))
        tensors[tensor.name] = np.asarray(kept)
    return replace(instance, sizes=sizes, symbols=symbols, tensors=tensors)

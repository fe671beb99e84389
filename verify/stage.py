"""How a stage becomes a :class:`StageResult`: judgements are collected, errors are failures."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from verify.instances import KINDS, NUMERIC, SCALES, Instance, Limits, sample_one
from verify.reference import Reference, evaluate_reference, tolerance
from verify.results import StageResult, VerificationError
from verify.subject import Subject
from verify.tolerances import TOLERANCES

Array = np.ndarray[Any, Any]
# Draws of one instance before a class counts as refusing everything.
ATTEMPTS = 50
# A saturated layer has few well-conditioned instances: so many are drawn for each one wanted, in
# turn with numbers that are so much smaller, where functions do not saturate.
SPARE = 12
SMALLER = (1.0, 0.25, 0.0625)


@dataclass(frozen=True)
class Place:
    """A subject at an instance."""

    subject: Subject
    instance: Instance

    def __str__(self) -> str:
        without = (
            f" without {', '.join(sorted(self.subject.absent))}" if self.subject.absent else ""
        )
        part = f", stage {self.subject.part}," if self.subject.part else ""
        return f"{self.subject.name}{part}{without} at {self.instance}"


@dataclass(frozen=True)
class Entries:
    """Two arrays that should be equal.

    Attributes:
        measured: What the module gave.
        expected: What it should have given.
        axes: What the axes enumerate, as ``("s", "i", "s'", "i'")``; without names, in order.
        site: The one site that they are about, if it is one.
    """

    measured: Array
    expected: Array
    axes: tuple[str, ...] = ()
    site: int | None = None


@dataclass(frozen=True)
class Judgement:
    """One comparison: passes where ``error <= tolerance``; NaN never does.

    Attributes:
        error: The deviation.
        tolerance: How large it may be.
        what: What is wrong if it is larger, in words that are the same at every instance.
        place: Where a failure was found, if at an instance.
        entries: What differed in a failure, if arrays were compared.
        reason: Why it failed, in words that may differ from instance to instance.
    """

    error: float
    tolerance: float
    what: str
    place: Place | None = None
    entries: Entries | None = None
    reason: str = ""

    def __str__(self) -> str:
        parts = (self.what, self.reason, "" if self.place is None else str(self.place))
        return ": ".join(part for part in parts if part)

    @property
    def passed(self) -> bool:
        """Whether the error is within tolerance."""
        return self.error <= self.tolerance

    @property
    def ratio(self) -> float:
        """Error in units of the tolerance."""
        if not self.passed:
            return (
                self.error / self.tolerance if self.error > 0 and self.tolerance else float("inf")
            )
        return self.error / self.tolerance if self.tolerance else 0.0


@dataclass(frozen=True)
class Settings:
    """What a run of the stages is given.

    Attributes:
        instances: Random instances a class and choice of optional parameters.
        seed: Where they are drawn from.
        general: The classes of the general lowering by key, to compare with.
        pinned: The one instance to judge in place of random ones.
        twin: The class of torch.nn whose constructor and state dict the layer shares.
    """

    instances: int = 8
    seed: int = 0
    general: dict[tuple[str, str, frozenset[str]], Subject] = field(default_factory=dict)
    pinned: Instance | None = None
    twin: type[torch.nn.Module] | None = None


@dataclass(frozen=True)
class Breakdown:
    """An exception that ended a stage.

    Attributes:
        what: Its class, and where it was raised.
        text: Its message.
        place: What was being judged, if anything was.
    """

    what: str
    text: str
    place: Place | None

    def __str__(self) -> str:
        kind, _, place = self.what.partition(" ")
        return f"{kind}: {self.text} {place}"


class Record:
    """Collects the judgements of a stage."""

    def __init__(self, stage: str, name: str) -> None:
        """Start empty."""
        self.stage = stage
        self.name = name
        self.judgements: list[Judgement] = []
        self.instances = 0
        self.notes: list[str] = []
        self.place: Place | None = None
        self.breakdown: Breakdown | None = None

    def judge(
        self,
        error: float,
        bound: float,
        what: str,
        place: Place | None = None,
        entries: Entries | None = None,
        reason: str = "",
    ) -> Judgement:
        """Add a comparison; only a failed one keeps where it was made and of what."""
        judgement = Judgement(float(error), float(bound), what, reason=reason)
        if not judgement.passed:
            judgement = replace(judgement, place=place, entries=entries)
        self.judgements.append(judgement)
        return judgement

    @property
    def failed(self) -> list[Judgement]:
        """The comparisons that did not pass."""
        return [j for j in self.judgements if not j.passed]

    def note(self, text: str) -> None:
        """Add to the detail, once."""
        if text not in self.notes:
            self.notes.append(text)

    def result(self) -> StageResult:
        """The stage's result; broken, or without an instance or a judgement, it did not run."""
        if self.breakdown is not None:
            place = self.stage, self.name, False, self.instances
            return StageResult(*place, float("inf"), 0.0, False, str(self.breakdown))
        ran = self.instances > 0 and bool(self.judgements)
        failed = self.failed
        worst = max(
            failed or self.judgements, key=lambda j: j.ratio, default=Judgement(0.0, 0.0, "")
        )
        detail = "; ".join(self.notes)
        if failed:
            detail = f"{len(failed)} of {len(self.judgements)} judgements failed, worst: {worst}"
        elif not ran:
            detail = "nothing could be judged" + (f": {detail}" if detail else "")
        return StageResult(
            self.stage,
            self.name,
            ran,
            self.instances,
            worst.error,
            worst.tolerance,
            ran and not failed,
            detail,
        )


Stage = Callable[[Sequence[Subject], Settings, Record], None]


def run_stage(
    name: str, stage: Stage, variants: Sequence[Subject], settings: Settings
) -> StageResult:
    """Run one stage for all choices of optional parameters of one class."""
    return recorded(name, stage, variants, settings).result()


def recorded(name: str, stage: Stage, variants: Sequence[Subject], settings: Settings) -> Record:
    """What a stage judged; an exception is its failure, with its message, and nothing else is."""
    record = Record(name, variants[0].name)
    try:
        stage(variants, settings, record)
    except Exception as error:  # a stage that breaks is a verdict, not a crash of the whole build
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} ({place.name}, line {place.lineno})"
        record.breakdown = Breakdown(what, str(error), record.place)
    return record


@dataclass(frozen=True)
class Case(Place):
    """A subject at an instance, with its reference and the tolerance for values of order one."""

    reference: Reference
    tolerance: float


def cases(
    subject: Subject,
    settings: Settings,
    record: Record,
    *,
    kinds: Sequence[str] = KINDS,
    limits: Limits = NUMERIC,
    count: int | None = None,
    useless: float = TOLERANCES.useless,
) -> Iterator[Case]:
    """The instances of a subject that judge something.

    An instance at which the layer itself is undefined (a division by 0) or so badly conditioned
    that float64 says nothing is left out; others are drawn until half of what is wanted is judged.

    Raises:
        VerificationError: If even so fewer than half of the wanted instances judge something.
    """
    wanted = settings.instances if count is None else count
    wanted = wanted if settings.pinned is None else 1
    kept = 0
    generic = tuple(kind for kind in kinds if kind not in SCALES) or kinds
    for index in range(wanted if settings.pinned is not None else SPARE * wanted):
        if index >= wanted and 2 * kept >= wanted:
            break
        instance = settings.pinned
        if instance is None:
            able = kinds if index < wanted else generic
            instance = accepted(subject, index, settings.seed, record, able, limits)
            instance = instance.times(SMALLER[index // wanted % len(SMALLER)])
        record.place = Place(subject, instance)
        reference = evaluate_reference(subject, instance)
        if not reference.finite:
            record.note(f"left out, the layer is undefined: {instance.kind}")
            continue
        bound = tolerance(subject, instance, reference)
        if not bound <= useless:
            record.note(f"left out, ill-conditioned: {instance.kind}")
            continue
        kept += 1
        record.instances += 1
        yield Case(subject, instance, reference, bound)
    record.place = None
    if 2 * kept < wanted:
        raise VerificationError(
            f"only {kept} of {wanted} instances of {subject.name} could be judged"
        )


def accepted(
    subject: Subject,
    index: int,
    seed: int,
    record: Record,
    kinds: Sequence[str],
    limits: Limits,
) -> Instance:
    """An instance whose arguments the class takes; one that it refuses is drawn again and noted.

    A class may refuse arguments that the notation allows, with a ``ValueError`` when it is built.

    Raises:
        VerificationError: If it refuses them all.
    """
    for attempt in range(ATTEMPTS):
        instance = sample_one(subject.derivation, index, seed, attempt, kinds=kinds, limits=limits)
        record.place = Place(subject, instance)
        try:
            subject.build(instance)
        except ValueError as error:
            record.note(f"drawn again, the class refuses its arguments: {error}")
            continue
        return instance
    raise VerificationError(f"{subject.name} refuses the arguments of {ATTEMPTS} instances")

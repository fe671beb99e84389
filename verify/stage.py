"""How a stage becomes a :class:`StageResult`: judgements are collected, errors are failures."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from verify.instances import KINDS, NUMERIC, Instance, Limits, sample_one
from verify.reference import Reference, evaluate_reference, tolerance
from verify.results import StageResult, VerificationError
from verify.subject import Subject
from verify.tolerances import TOLERANCES

# Draws of one instance before a class counts as refusing everything.
ATTEMPTS = 50


@dataclass(frozen=True)
class Judgement:
    """One comparison: passes where ``error <= tolerance``; NaN never does."""

    error: float
    tolerance: float
    what: str

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
    """

    instances: int = 8
    seed: int = 0
    general: dict[tuple[str, str, frozenset[str]], Subject] = field(default_factory=dict)


class Record:
    """Collects the judgements of a stage."""

    def __init__(self, stage: str, name: str) -> None:
        """Start empty."""
        self.stage = stage
        self.name = name
        self.judgements: list[Judgement] = []
        self.instances = 0
        self.notes: list[str] = []

    def judge(self, error: float, bound: float, what: str) -> Judgement:
        """Add a comparison."""
        judgement = Judgement(float(error), float(bound), what)
        self.judgements.append(judgement)
        return judgement

    def note(self, text: str) -> None:
        """Add to the detail, once."""
        if text not in self.notes:
            self.notes.append(text)

    def result(self) -> StageResult:
        """The stage's result; without an instance or a judgement it did not run."""
        ran = self.instances > 0 and bool(self.judgements)
        failed = [j for j in self.judgements if not j.passed]
        worst = max(
            failed or self.judgements, key=lambda j: j.ratio, default=Judgement(0.0, 0.0, "")
        )
        detail = "; ".join(self.notes)
        if failed:
            detail = (
                f"{len(failed)} of {len(self.judgements)} judgements failed, worst: {worst.what}"
            )
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
    """Run one stage for all choices of optional parameters of one class.

    An exception is a failure of the stage with its message; nothing is passed over.
    """
    record = Record(name, variants[0].name)
    try:
        stage(variants, settings, record)
    except Exception as error:  # a stage that breaks is a verdict, not a crash of the whole build
        place = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})"
        return StageResult(
            name, record.name, False, record.instances, float("inf"), 0.0, False, detail
        )
    return record.result()


@dataclass(frozen=True)
class Case:
    """A subject at an instance, with its reference and the tolerance for values of order one."""

    subject: Subject
    instance: Instance
    reference: Reference
    tolerance: float

    def __str__(self) -> str:
        without = (
            f" without {', '.join(sorted(self.subject.absent))}" if self.subject.absent else ""
        )
        part = f", stage {self.subject.part}," if self.subject.part else ""
        return f"{self.subject.name}{part}{without} at {self.instance}"


def cases(
    subject: Subject,
    settings: Settings,
    record: Record,
    *,
    kinds: Sequence[str] = KINDS,
    limits: Limits = NUMERIC,
    count: int | None = None,
) -> Iterator[Case]:
    """The instances of a subject that judge something.

    An instance at which the layer itself is undefined (a division by 0) or so badly conditioned
    that float64 says nothing is left out.

    Raises:
        VerificationError: If more than half of the instances had to be left out.
    """
    wanted = settings.instances if count is None else count
    kept = 0
    for index in range(wanted):
        instance = accepted(subject, index, settings.seed, record, kinds, limits)
        reference = evaluate_reference(subject, instance)
        if not reference.finite:
            record.note(f"left out, the layer is undefined: {instance.kind}")
            continue
        bound = tolerance(subject, instance, reference)
        if not bound <= TOLERANCES.useless:
            record.note(f"left out, ill-conditioned: {instance.kind}")
            continue
        kept += 1
        record.instances += 1
        yield Case(subject, instance, reference, bound)
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
        try:
            subject.build(instance)
        except ValueError as error:
            record.note(f"drawn again, the class refuses its arguments: {error}")
            continue
        return instance
    raise VerificationError(f"{subject.name} refuses the arguments of {ATTEMPTS} instances")

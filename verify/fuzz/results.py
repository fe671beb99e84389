"""What fuzzing is asked for, what became of each spec, and the sum of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from verify.fuzz.judge import Finding, Verdict


@dataclass(frozen=True)
class Settings:
    """What to fuzz.

    Attributes:
        specs: How many specs.
        seed: Where they are drawn from.
        start: The number of the first.
        jobs: Processes.
        save: Where failures go, or ``None``.
        limit: Seconds of the processor that one spec may take.
        resume: Where results are kept and taken from, or ``None``.
        rare: Whether each holds something that random formulas do not.
    """

    specs: int
    seed: int = 0
    start: int = 0
    jobs: int = 1
    save: Path | None = None
    limit: float = 30.0
    resume: Path | None = None
    rare: bool = False

    @property
    def numbers(self) -> range:
        """The numbers of the specs."""
        return range(self.start, self.start + self.specs)


@dataclass(frozen=True)
class Failure:
    """A finding with the smallest spec that shows it."""

    number: int
    finding: Finding
    text: str
    tree: str = ""


@dataclass(frozen=True)
class Result:
    """What became of one spec and of its broken twin.

    Attributes:
        number: Which spec.
        verdict: What became of it.
        outcome: What became of its twin.
        failures: What was found of both.
        code: The state of the code that judged.
    """

    number: int
    verdict: Verdict
    outcome: str
    failures: list[Failure]
    code: str


@dataclass
class Tally:
    """What was seen, over many specs; ``fresh`` of them, for ``seconds``, by this run."""

    specs: int = 0
    fresh: int = 0
    thorough: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    offered: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)
    failures: list[Failure] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one spec."""
        verdict = result.verdict
        self.specs += 1
        self.thorough += verdict.thorough
        self.outcomes[result.outcome] += 1
        self.kinds.update(verdict.kinds)
        self.offered.update(verdict.offered)
        self.refused.update(verdict.refused)
        self.phases.update(verdict.seconds)
        self.codes[result.code] += 1
        self.slowest = max(self.slowest, (sum(verdict.seconds.values()), result.number))
        self.failures += result.failures

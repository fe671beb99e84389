"""Many random specs, side by side: which failed and how, and a table of what was seen."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import torch

from verify.fuzz.codec import dumps, loads
from verify.fuzz.grammar import random_layer
from verify.fuzz.illegal import judge_illegal
from verify.fuzz.judge import Finding, Verdict, judge
from verify.fuzz.shrink import shrink
from verify.fuzz.text import toml
from verify.fuzz.tree import (
    Layer,
)

TREE = "# tree: "
BATCH = 10
"""Specs that a job takes at once."""


@dataclass(frozen=True)
class Settings:
    """What to fuzz.

    Attributes:
        specs: How many specs.
        seed: Where they are drawn from.
        start: The number of the first.
        jobs: Processes.
        save: Where failures go, or ``None``.
        limit: Seconds that one spec may take.
    """

    specs: int
    seed: int = 0
    start: int = 0
    jobs: int = 1
    save: Path | None = None
    limit: float = 30.0


@dataclass(frozen=True)
class Failure:
    """A finding with the smallest spec that shows it."""

    number: int
    finding: Finding
    text: str
    tree: str = ""


@dataclass
class Tally:
    """What was seen, over many specs."""

    specs: int = 0
    illegal: int = 0
    thorough: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    offered: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)
    failures: list[Failure] = field(default_factory=list)

    def add(self, number: int, verdict: Verdict, failures: list[Failure]) -> None:
        """Count one spec."""
        self.specs += 1
        self.thorough += verdict.thorough
        self.kinds.update(verdict.kinds)
        self.offered.update(verdict.offered)
        self.refused.update(verdict.refused)
        self.phases.update(verdict.seconds)
        self.slowest = max(self.slowest, (sum(verdict.seconds.values()), number))
        self.failures += failures


@dataclass(frozen=True)
class Result:
    """What became of one spec and of its broken twin."""

    number: int
    verdict: Verdict
    outcome: str
    failures: list[Failure]


def one(number: int, settings: Settings) -> Result:
    """Judge one legal layer and one mutant of its text; shrink what fails."""
    layer = random_layer(settings.seed, number)
    verdict = judge(layer, settings.seed, number, limit=settings.limit)
    failures = []
    for finding in {f.kind: f for f in verdict.findings}.values():
        small = smallest(layer, finding, settings, number)
        failures.append(Failure(number, finding, toml(small), dumps(small)))
    outcome, broken = judge_illegal(toml(layer), settings.seed, number)
    if broken is not None:
        failures.append(Failure(number, broken[0], broken[1]))
    return Result(number, verdict, outcome, failures)


def smallest(layer: Layer, finding: Finding, settings: Settings, number: int) -> Layer:
    """The smallest layer with a finding of the same kind; a slow one stays as it is."""
    if finding.kind.startswith("slow"):
        return layer

    def fails(candidate: Layer) -> bool:
        verdict = judge(candidate, settings.seed, number, limit=settings.limit)
        return any(f.kind == finding.kind for f in verdict.findings)

    return shrink(layer, fails)


def batch(numbers: range, settings: Settings) -> list[Result]:
    """Some specs in one process, on one thread."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [one(number, settings) for number in numbers]


def fuzz(settings: Settings, progress: Callable[[Tally], None] | None = None) -> Tally:
    """Fuzz; the sweep is joblib's, and the result does not depend on the number of jobs.

    Args:
        settings: How many, from where.
        progress: Called after every few specs.
    """
    tally, start = Tally(), time.perf_counter()
    end = settings.start + settings.specs
    pieces = [range(k, min(k + BATCH, end)) for k in range(settings.start, end, BATCH)]
    jobs = joblib.Parallel(n_jobs=settings.jobs, return_as="generator")
    call = joblib.delayed(batch)
    for results in jobs(call(piece, settings) for piece in pieces):
        for result in results:
            tally.add(result.number, result.verdict, result.failures)
            tally.outcomes[result.outcome] += 1
            for failure in result.failures:
                if settings.save is not None:
                    write(failure, settings)
        tally.seconds = time.perf_counter() - start
        if progress is not None:
            progress(tally)
    return tally


# ------------------------------------------------------------------ files
def write(failure: Failure, settings: Settings) -> Path:
    """Save a failing spec with its reason, so that :func:`read` can judge it again."""
    assert settings.save is not None
    settings.save.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "_", failure.finding.kind.lower()).strip("_")
    file = settings.save / f"{slug}_{settings.seed}_{failure.number}.toml"
    lines = " ".join(failure.finding.detail.split())[:300]
    header = f"# {failure.finding.kind}: {lines}\n# seed {settings.seed}, number {failure.number}\n"
    header += f"{TREE}{failure.tree}\n" if failure.tree else ""
    body = header + failure.text if failure.tree else failure.text
    file.write_text(body, encoding="utf-8", errors="surrogateescape")
    return file


def read(file: Path) -> tuple[Layer, int, int]:
    """The tree of a saved spec, and the seed and number whose points showed what was wrong.

    Raises:
        ValueError: If the file holds no tree.
    """
    text = file.read_text(encoding="utf-8")
    place = re.search(r"^# seed (\d+), number (\d+)$", text, re.MULTILINE)
    tree = re.search(f"^{TREE}(.*)$", text, re.MULTILINE)
    if place is None or tree is None:
        raise ValueError(f"{file} holds no tree")
    return loads(tree[1]), int(place[1]), int(place[2])


def saved(folder: Path) -> Iterator[Path]:
    """The saved specs of a folder that hold a tree, in order."""
    for file in sorted(folder.glob("*.toml")):
        if TREE in file.read_text(encoding="utf-8", errors="replace"):
            yield file


def summary(tally: Tally, settings: Settings) -> str:
    """The tables that a reader wants to see."""
    lines = [
        f"{tally.specs} legal specs of seed {settings.seed} from number {settings.start} on, "
        f"{tally.seconds:.0f} s with {settings.jobs} of {os.cpu_count()} processes; "
        f"every stage of verification for {tally.thorough} of them",
        "",
        *section("broken specs", tally.outcomes),
        *section("classes of K(s,s), a choice of optional parameters each", tally.kinds),
        *section("offered", joined(tally.offered)),
        *section("refused", joined(tally.refused)),
        "seconds a spec: "
        + ", ".join(f"{k} {v / max(tally.specs, 1):.3f}" for k, v in tally.phases.items())
        + f"; slowest number {tally.slowest[1]} with {tally.slowest[0]:.1f}",
        "",
        *section("findings", Counter(f.finding.kind for f in tally.failures)),
    ]
    for failure in tally.failures:
        lines += [
            f"--- number {failure.number}: {failure.finding.kind}",
            f"    {failure.finding.detail[:400]}",
            *(f"    | {line}" for line in failure.text.splitlines()[:40]),
        ]
    lines.append("no findings" if not tally.failures else f"{len(tally.failures)} findings")
    return "\n".join(lines)


def joined(counts: Counter[tuple[str, str]]) -> Counter[str]:
    """Pairs as one text each."""
    return Counter({": ".join(x for x in key if x): v for key, v in counts.items()})


def section(title: str, counts: Counter[str]) -> list[str]:
    """A small table, most frequent first."""
    if not counts:
        return []
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [title, *(f"  {count:6d}  {name}" for name, count in rows), ""]

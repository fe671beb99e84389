"""Many random specs, side by side: which failed and how, and a table of what was seen."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import joblib
import torch

from verify.fuzz.codec import dumps, loads
from verify.fuzz.grammar import random_layer
from verify.fuzz.illegal import judge_illegal
from verify.fuzz.journal import keep, known, state_of_code
from verify.fuzz.judge import Finding, judge
from verify.fuzz.rare import rare_layer
from verify.fuzz.results import Failure, Result, Settings, Tally
from verify.fuzz.shrink import shrink
from verify.fuzz.text import toml
from verify.fuzz.tree import (
    Layer,
)

TREE = "# tree: "
BATCH = 10
"""Specs that a job takes at once."""


def one(number: int, settings: Settings) -> Result:
    """Judge one legal layer and one mutant of its text; shrink what fails."""
    layer = (rare_layer if settings.rare else random_layer)(settings.seed, number)
    verdict = judge(layer, settings.seed, number, limit=settings.limit)
    failures = []
    for finding in {f.kind: f for f in verdict.findings}.values():
        small = smallest(layer, finding, settings, number)
        failures.append(Failure(number, finding, toml(small), dumps(small)))
    outcome, broken = judge_illegal(toml(layer), settings.seed, number)
    if broken is not None:
        failures.append(Failure(number, broken[0], broken[1]))
    return Result(number, verdict, outcome, failures, state_of_code())


def smallest(layer: Layer, finding: Finding, settings: Settings, number: int) -> Layer:
    """The smallest layer with a finding of the same kind; a slow one stays as it is."""
    if finding.kind.startswith("slow"):
        return layer

    def fails(candidate: Layer) -> bool:
        verdict = judge(candidate, settings.seed, number, limit=settings.limit)
        return any(f.kind == finding.kind for f in verdict.findings)

    return shrink(layer, fails)


def batch(numbers: Sequence[int], settings: Settings) -> list[Result]:
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
    old = known(settings)
    count(tally, old.values(), settings)
    rest = [k for k in settings.numbers if k not in old]
    pieces = [rest[k : k + BATCH] for k in range(0, len(rest), BATCH)]
    jobs = joblib.Parallel(n_jobs=settings.jobs, return_as="generator")
    for results in jobs(joblib.delayed(batch)(piece, settings) for piece in pieces):
        keep(settings, results)
        count(tally, results, settings)
        tally.fresh += len(results)
        tally.seconds = time.perf_counter() - start
        if progress is not None:
            progress(tally)
    return tally


def count(tally: Tally, results: Iterable[Result], settings: Settings) -> None:
    """Add results to a tally, and save what failed."""
    for result in results:
        tally.add(result)
        for failure in result.failures:
            if settings.save is not None:
                write(failure, settings)


# ------------------------------------------------------------------ files
def write(failure: Failure, settings: Settings) -> Path:
    """Save a failing spec with its reason, so that :func:`read` can judge it again."""
    assert settings.save is not None
    settings.save.mkdir(parents=True, exist_ok=True)
    family = "rare_" if settings.rare else ""
    slug = re.sub(r"[^a-z0-9]+", "_", failure.finding.kind.lower()).strip("_")
    file = settings.save / f"{slug}_{family}{settings.seed}_{failure.number}.toml"
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
        f"{tally.specs} legal{' rare' if settings.rare else ''} specs of seed {settings.seed} "
        f"from number {settings.start} on, "
        f"{tally.fresh} of them in {tally.seconds:.0f} s with {settings.jobs} of "
        f"{os.cpu_count()} processes; every stage of verification for {tally.thorough}",
        "",
        *section("judged by the code with the digest", tally.codes),
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

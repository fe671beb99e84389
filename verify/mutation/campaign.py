"""Judge every mutant of some files, in parallel, with results that survive an interruption.

Generated files carry the same small functions along, word for word. A mutant of such a function is
judged in one file after another until one refuses it or an argument covers it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import joblib

from verify.mutation.equivalents import EQUIVALENTS, Equivalent
from verify.mutation.isolation import judged
from verify.mutation.mutants import Mutant
from verify.mutation.verdict import Verdict

T = TypeVar("T")
CHUNK = 60
"""Mutants that a process judges once everything that each of them needs is at hand."""
TIMEOUT = "timeout"


class Target(Protocol):
    """A file whose mutants can be judged.

    Attributes:
        file: Its name in identities.
        alone: Whether every mutant needs a process of its own.
        seconds: How long judging one mutant may take.
    """

    file: str
    alone: bool
    seconds: float

    @property
    def text(self) -> str:
        """What is mutated."""

    def mutants(self) -> tuple[Mutant, ...]:
        """Every mutant of the file."""

    def within(self, function: Callable[[], T]) -> T:
        """Call a function with all at hand that every mutant needs, before processes are forked."""

    def judge(self, mutant: Mutant) -> tuple[str, str]:
        """Who refuses a mutant, and why; in a forked process."""


@dataclass(frozen=True)
class Plan:
    """What a campaign judges.

    Attributes:
        open: Makes a target of a key; called in the process that judges.
        keys: The targets.
        sample: Every how many-th mutant; 1 is all of them.
        resume: Where verdicts are kept and taken from; ``None``: nowhere.
    """

    open: Callable[[Any], Target]
    keys: tuple[Any, ...]
    sample: int = 1
    resume: Path | None = None


@dataclass(frozen=True)
class Result:
    """The verdicts of a campaign and what they amount to.

    Attributes:
        verdicts: One a mutant.
        argued: Survivor → why it is no wrong file.
        survivors: Those that nothing excuses.
        stale: Arguments that no survivor needs; judged where every mutant was.
    """

    verdicts: tuple[Verdict, ...]
    argued: Mapping[str, Equivalent]
    survivors: tuple[Verdict, ...]
    stale: tuple[Equivalent, ...]

    @property
    def passed(self) -> bool:
        """Whether every mutant was refused or argued, and every argument is needed."""
        return bool(self.verdicts) and not self.survivors and not self.stale


def digest_of(text: str) -> str:
    """A short digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run(
    plan: Plan,
    *,
    n_jobs: int = 1,
    progress: Callable[[Verdict, int, int], None] | None = None,
    equivalents: Sequence[Equivalent] = EQUIVALENTS,
) -> Result:
    """Judge the mutants of a plan; ``joblib.parallel_config`` chooses where.

    Args:
        plan: What to judge.
        n_jobs: Parallel jobs.
        progress: Called with each fresh verdict, its file's number and how many files there are.
        equivalents: The arguments for survivors.
    """
    known = read(plan.resume)
    jobs = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    found: dict[str, Verdict] = {}
    refused: set[str] = set()
    argued: set[str] = set()
    for place, key in enumerate(plan.keys):
        target = plan.open(key)
        digest = digest_of(target.text)
        chosen = target.mutants()[:: plan.sample]
        here = [m.identity for m in chosen if m.shared not in refused | argued]
        old = {i: known[i] for i in here if i in known and known[i].digest == digest}
        rest = [i for i in here if i not in old]
        parts = [tuple(rest[k : k + CHUNK]) for k in range(0, len(rest), CHUNK)]
        for fresh in jobs(joblib.delayed(judge)(plan.open, key, part) for part in parts):
            keep(plan.resume, fresh)
            old |= {v.identity: v for v in fresh}
            if progress is not None:
                for verdict in fresh:
                    progress(verdict, place + 1, len(plan.keys))
        found |= old
        refused |= {v.shared for v in old.values() if v.killer} - {""}
        argued |= {v.shared for v in old.values() if argument(v, equivalents)} - {""}
    whole = plan.sample == 1
    return summed([v for v in found.values() if in_question(v, refused)], equivalents, whole=whole)


def in_question(verdict: Verdict, refused: set[str]) -> bool:
    """Whether a verdict counts: a survivor that another file refuses does not."""
    return not (verdict.survived and verdict.shared in refused)


def argument(verdict: Verdict, equivalents: Sequence[Equivalent]) -> Equivalent | None:
    """The argument for a survivor, if there is one."""
    return next((e for e in equivalents if verdict.survived and e.covers(verdict)), None)


def judge(open_: Callable[[Any], Target], key: Any, identities: Sequence[str]) -> list[Verdict]:
    """The verdicts on some mutants of one file."""
    target = open_(key)
    wanted = frozenset(identities)
    here = [m for m in target.mutants() if m.identity in wanted]
    return target.within(lambda: list(verdicts(target, here)))


def verdicts(target: Target, here: Sequence[Mutant]) -> Iterator[Verdict]:
    """The verdicts on some mutants of a file that is prepared."""
    digest = digest_of(target.text)
    start = time.monotonic()
    answers = judged(target.judge, here, target.seconds, alone=target.alone)
    for mutant, answer in zip(here, answers, strict=True):
        killer, detail = answer or (TIMEOUT, f"no answer within {target.seconds:g} s")
        now = time.monotonic()
        yield Verdict(
            target.file,
            digest,
            mutant.identity,
            mutant.function,
            mutant.before[:200],
            mutant.after[:200],
            killer,
            detail[:300],
            round(now - start, 3),
            mutant.shared,
        )
        start = now


def summed(
    verdicts: Iterable[Verdict], equivalents: Sequence[Equivalent], *, whole: bool
) -> Result:
    """Sort survivors into argued and others.

    Args:
        verdicts: Of every mutant judged.
        equivalents: The arguments.
        whole: Whether every mutant of the files was judged, so that an unneeded argument shows.
    """
    ordered = tuple(sorted(verdicts, key=lambda v: v.identity))
    argued: dict[str, Equivalent] = {}
    for verdict in ordered:
        reason = argument(verdict, equivalents)
        if reason is not None:
            argued[verdict.identity] = reason
    survivors = tuple(v for v in ordered if v.survived and v.identity not in argued)
    places = {f"{v.file} {v.function}" for v in ordered}
    used = {id(e) for e in argued.values()}
    stale = tuple(e for e in equivalents if whole and id(e) not in used and e.concerns(places))
    return Result(ordered, argued, survivors, stale)


# ---------------------------------------------------------------------- what is kept
def read(file: Path | None) -> dict[str, Verdict]:
    """The verdicts of an earlier run by identity; a line that was cut short is forgotten."""
    found: dict[str, Verdict] = {}
    if file is None or not file.exists():
        return found
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.endswith("}"):
            verdict = Verdict(**json.loads(line))
            found[verdict.identity] = verdict
    return found


def keep(file: Path | None, verdicts: Sequence[Verdict]) -> None:
    """Append verdicts to a file."""
    if file is not None:
        with file.open("a", encoding="utf-8") as handle:
            for verdict in verdicts:
                handle.write(json.dumps(asdict(verdict), ensure_ascii=False) + "\n")


def table(result: Result) -> Iterator[tuple[str, dict[str, int]]]:
    """A row a file: mutants, how many each killer refused, argued and unargued survivors."""
    for file in dict.fromkeys(v.file for v in result.verdicts):
        here = [v for v in result.verdicts if v.file == file]
        row = {"mutants": len(here)}
        for verdict in here:
            if verdict.killer:
                row[verdict.killer] = row.get(verdict.killer, 0) + 1
        row["argued"] = sum(v.identity in result.argued for v in here)
        row["survived"] = sum(v in result.survivors for v in here)
        yield file, row

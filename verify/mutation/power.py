"""How often each stage alone is wrong: what it accepts that is wrong, and refuses that is right.

Three sets, always the same:

- **wrong files**: mutants of the ``forward`` of some layers. A mutant counts as wrong where any
  stage refuses it: one that all accept is judged by the campaign (:mod:`verify.mutation.campaign`).
- **wrong claims**: the right file with a claim that is not true of it (:data:`CLAIMS`).
- **right**: every layer with what was derived for it, at instances from many seeds.

A stage has its own task and is not meant to refuse everything: the symbolic stage reads no file,
the lowering stage no claim. What the stages let through together is the last row.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import sympy
import torch

from codegen import generate
from derive.correction import Correction
from derive.errors import TruestepError
from derive.spec import load_spec
from verify import conformance
from verify.mutation.isolation import judged
from verify.mutation.loading import general_of, subjects_of
from verify.mutation.mutants import Mutant, mutants, mutated_tree
from verify.mutation.reading import reaching
from verify.results import STAGES
from verify.stage import Settings, run_stage
from verify.subject import Subject

JUDGES = (*STAGES, "contracts")
TOGETHER = "together"
SECONDS = 120.0
INSTANCES = 4
FILES_OF = ("linear", "bilinear", "conv1d", "gated_linear", "low_rank", "scale")
EVERY = 7
SEEDS = 3


# ---------------------------------------------------------------------- wrong claims
def gauge_of(correction: Correction) -> sympy.Expr:
    """The solved unknown; every generated class has one."""
    assert correction.gauge is not None, "a correction that applies has a gauge"
    return correction.gauge


def shifted(correction: Correction, amount: sympy.Expr) -> Correction | None:
    """The gauge whose κ is off by an amount, where it is a number a site or unit."""
    if correction.ansatz == "matrix gauge":
        return None
    return replace(correction, gauge=1 / sympy.sqrt(gauge_of(correction) ** -2 + amount))


def scaled(correction: Correction, factor: sympy.Expr) -> Correction:
    """The gauge times a number."""
    return replace(correction, gauge=gauge_of(correction) * factor)


def raised(correction: Correction) -> Correction:
    """The rate plus 1."""
    assert correction.rate is not None, "a correction that applies has a rate"
    return replace(correction, rate=correction.rate + 1)


def other_class(correction: Correction) -> Correction:
    """Exact becomes first-order, first-order and frozen exact."""
    other = "first-order" if correction.exactness in ("exact", "constant-rate") else "exact"
    return replace(correction, exactness=other)


Claim = Callable[[Correction], Correction | None]
CLAIMS: Mapping[str, Claim] = {
    "wrong exponent": lambda c: replace(c, gauge=gauge_of(c) ** 2),
    "wrong constant": lambda c: scaled(c, sympy.Rational(1001, 1000)),
    "ε inside the root": lambda c: shifted(c, sympy.Rational(1, 1000)),
    "dropped bias term": lambda c: shifted(c, sympy.Integer(-1)),
    "wrong rate": raised,
    "wrong class": other_class,
    "wrong interference": lambda c: None if c.kernel is None else replace(c, kernel=2 * c.kernel),
    "dropped term": lambda c: replace(c, terms=c.terms[:-1]) if len(c.terms) > 1 else None,
}


def claimed(variants: Sequence[Subject], claim: Claim) -> list[Subject] | None:
    """The variants with a wrong claim where it applies; ``None`` where it applies to none."""
    wrong = [claim(s.correction) for s in variants]
    if not any(wrong):
        return None
    pairs = zip(variants, wrong, strict=True)
    return [s if c is None else replace(s, correction=c) for s, c in pairs]


# ---------------------------------------------------------------------- what is judged
@dataclass(frozen=True)
class Trial:
    """One thing put before every stage.

    Attributes:
        set: ``wrong files``, ``wrong claims`` or ``right``.
        name: What it is.
        accepted: Stage → whether it passes.
    """

    set: str
    name: str
    accepted: Mapping[str, bool]


def accepted(variants: Sequence[Subject], settings: Settings) -> dict[str, bool]:
    """Every stage's verdict on one class."""
    return {s: run_stage(s, conformance.RUN[s], variants, settings).passed for s in JUDGES}


def by_class(found: Sequence[Subject]) -> dict[str, list[Subject]]:
    """Subjects by the name of their class."""
    return {n: [s for s in found if s.name == n] for n in dict.fromkeys(s.name for s in found)}


def wrong_files(source: Any) -> Iterator[Mutant]:
    """Some mutants of every ``forward`` of a layer, with that of a derived pass."""
    every = mutants(source.text, f"layers/{source.module}", tensors=True)
    yield from [m for m in every if m.function.endswith(".forward")][::EVERY]


def judge_file(source: Any, mutant: Mutant, settings: Settings) -> dict[str, bool] | None:
    """The stages' verdicts on a mutant; ``None`` where it cannot be loaded at all."""
    tree = ast.parse(source.text)
    text = ast.unparse(mutated_tree(tree, mutant))
    try:
        found = by_class(subjects_of(replace(source, text=text)))
    except (TruestepError, SyntaxError):
        return None
    # A derived pass is a function of its own, which one class calls.
    names = reaching(tree, mutant.function)
    name = next(n for n in found if n in names)
    return accepted(found[name], settings)


def trials(spec_file: Path) -> list[Trial]:
    """Everything that one layer gives to judge."""
    torch.set_num_threads(1)
    source: Any = generate(load_spec(spec_file))
    general = general_of(source)
    classes = by_class(subjects_of(source))
    settings = Settings(INSTANCES, 0, general)
    calls: list[tuple[str, str, Callable[[], dict[str, bool] | None]]] = []
    for name, variants in classes.items():
        for seed in range(SEEDS):
            here = replace(settings, seed=seed + 1)
            calls.append(("right", f"{name}, seed {seed + 1}", bind(accepted, variants, here)))
    if spec_file.stem in FILES_OF:
        for mutant in wrong_files(source):
            calls.append(("wrong files", str(mutant), bind(judge_file, source, mutant, settings)))
        for name, variants in classes.items():
            for what, claim in CLAIMS.items():
                wrong = claimed(variants, claim)
                if wrong is not None:
                    call = bind(accepted, wrong, settings)
                    calls.append(("wrong claims", f"{name}, {what}", call))
    answers = judged(lambda call: call[2](), calls, SECONDS)
    refused = dict.fromkeys(JUDGES, False)
    found = [
        Trial(set_, name, refused if answer is None else answer)
        for (set_, name, _), answer in zip(calls, answers, strict=True)
    ]
    return [t for t in found if t.set != "wrong files" or not all(t.accepted.values())]


def bind(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """A call to be made later."""
    return lambda: function(*arguments)


# ---------------------------------------------------------------------- the table
@dataclass(frozen=True)
class Rate:
    """How often a stage is wrong.

    Attributes:
        wrong: How many times.
        judged: Out of how many.
    """

    wrong: int
    judged: int

    @property
    def bound(self) -> float:
        """The rate; where none was seen, what it is below with 95 % confidence (3 in n)."""
        if not self.judged:
            return 1.0
        return self.wrong / self.judged if self.wrong else min(1.0, 3 / self.judged)

    def __str__(self) -> str:
        if not self.judged:
            return "none judged"
        sign = "" if self.wrong else "< "
        return f"{self.wrong} of {self.judged} ({sign}{100 * self.bound:.1f} %)"


def rates(found: Sequence[Trial]) -> dict[str, dict[str, Rate]]:
    """Stage, and all of them together → set → how often it is wrong."""
    table: dict[str, dict[str, Rate]] = {}
    for stage in (*JUDGES, TOGETHER):
        row = {}
        for name in ("wrong files", "wrong claims", "right"):
            here = [t for t in found if t.set == name]
            passed = [accepts(t, stage) for t in here]
            wrong = passed.count(name != "right")
            row[name] = Rate(wrong, len(here))
        table[stage] = row
    return table


def accepts(trial: Trial, stage: str) -> bool:
    """Whether a stage passes; together they pass where each does."""
    return all(trial.accepted.values()) if stage == TOGETHER else trial.accepted[stage]


def measured(
    spec_files: Sequence[Path], *, n_jobs: int = 1, resume: Path | None = None
) -> list[Trial]:
    """The trials of many layers; ``joblib.parallel_config`` chooses where.

    Args:
        spec_files: The layers' specs.
        n_jobs: Parallel jobs.
        resume: Where trials are kept, a line a layer, and taken from; ``None``: nowhere.
    """
    known = read(resume)
    rest = [f for f in spec_files if f.stem not in known]
    jobs = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    for file, found in zip(rest, jobs(joblib.delayed(trials)(f) for f in rest), strict=True):
        known[file.stem] = found
        if resume is not None:
            with resume.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps([file.stem, [asdict(t) for t in found]]) + "\n")
    return [t for f in spec_files for t in known[f.stem]]


def read(resume: Path | None) -> dict[str, list[Trial]]:
    """The trials of an earlier run by layer; a line that was cut short is forgotten."""
    if resume is None or not resume.exists():
        return {}
    lines = resume.read_text(encoding="utf-8").splitlines()
    pairs = [json.loads(line) for line in lines if line.endswith("]]")]
    return {stem: [Trial(**t) for t in found] for stem, found in pairs}


def markdown(found: Sequence[Trial]) -> str:
    """The table: a row a stage."""
    lines = [
        "| stage alone | accepts wrong files | accepts wrong claims | refuses right layers |",
        "|---|---:|---:|---:|",
    ]
    for stage, row in rates(found).items():
        cells = [str(row[name]) for name in ("wrong files", "wrong claims", "right")]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    return "\n".join(lines)

"""The report's overview: how much was verified, and one row a generated class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from derive.formula import latex
from derive.steps import EXACTNESS
from verify.report_cells import (
    NONE,
    Text,
    formula_html,
    gauge_html,
    kernel_html,
    stage_cell,
    uncorrected_words,
)
from verify.results import STAGES, Report
from verify.sources import subjects
from verify.subject import Subject


@dataclass(frozen=True)
class Row:
    """What one class, or one stage of it, was derived to do.

    Attributes:
        name: The class and, where it corrects several, the stage of the layer.
        gauge: The solved unknown.
        exactness, rate: Exactness class and c.
        kernel: K̃(s,s'), the interference that stays.
        rest: What else is not corrected.
    """

    name: Text | str
    gauge: Text | str
    exactness: str
    rate: Text | str
    kernel: Text | str
    rest: str


def summary(entries: Sequence[tuple[Any, Report | None]]) -> dict[str, int]:
    """How many layers and classes there are, and how many did not pass."""
    reports = [r for _, r in entries if r is not None]
    names = {(r.layer, s.class_name) for r in reports for s in r.stages}
    failed = {(r.layer, s.class_name) for r in reports for s in r.failures}
    return {
        "layers": len(entries),
        "classes": len(names),
        "failed": len(failed) + sum(not r.passed and not r.failures for r in reports),
        "instances": sum(s.instances for r in reports for s in r.stages),
    }


def exactness_legend() -> list[tuple[str, str]]:
    """The exactness classes and what they mean."""
    return list(EXACTNESS.items())


def derived_rows(source: Any) -> list[Row]:
    """One row a class and stage, all optional parameters present; or one that says why none."""
    if not source.classes:
        return [empty_row(source)]
    return [row(s, source.spec.name) for s in complete(subjects(source))]


def complete(found: Sequence[Subject]) -> list[Subject]:
    """The subjects that leave out the fewest optional parameters, one a class and stage."""
    fewest: dict[tuple[str, str], Subject] = {}
    for subject in found:
        kept = fewest.setdefault((subject.name, subject.part), subject)
        if len(subject.absent) < len(kept.absent):
            fewest[subject.name, subject.part] = subject
    return list(fewest.values())


def title(subject: Subject) -> Text:
    """The class and the stage of the layer."""
    part = Text("<small>{}</small>").format(subject.part) if subject.part else ""
    return Text("<code>{}</code>{}").format(subject.name, part)


def row(subject: Subject, anchor: str) -> Row:
    """One class or stage."""
    derivation, c = subject.derivation, subject.correction
    return Row(
        title(subject),
        gauge_html(derivation, c, anchor),
        c.exactness,
        formula_html(f"c = {latex(c.rate, derivation.program)}"),
        kernel_html(derivation, c, anchor),
        uncorrected_words(derivation, c),
    )


def empty_row(source: Any) -> Row:
    """A layer without classes."""
    derivation = source.derivations[frozenset()]
    if derivation.nothing_to_correct:
        return Row(NONE, "K(s,s) = I", "nothing to correct", "", NONE, NONE)
    words = "; ".join(dict.fromkeys(c.reason for c in derivation.corrections if not c.applies))
    return Row(NONE, NONE, "none", "", NONE, words)


def measured_rows(source: Any, report: Report | None) -> list[dict[str, Any]]:
    """One row a class: the worst error of each stage and the verdict."""
    found = []
    for entry in source.classes:
        cells = [stage_cell(report, entry.name, stage) for stage in STAGES]
        passed = all(c["state"] == "pass" for c in cells)
        found.append({"name": entry.name, "stages": cells, "verdict": "pass" if passed else "fail"})
    return found

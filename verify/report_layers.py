"""A layer's section of the report: derivations, claims, stages, controls and pictures."""

from __future__ import annotations

from typing import Any

from derive.derivation import Derivation
from derive.formula import latex
from derive.show import heading, step_html
from derive.steps import EXACTNESS, steps
from verify.figures import layer_rates
from verify.report_cells import (
    Text,
    formula_html,
    gauge_html,
    kernel_html,
    number,
    uncorrected_words,
)
from verify.report_overview import complete, derived_rows, measured_rows, title
from verify.results import Report
from verify.sources import subjects

STAGE_WORDS = {
    "symbolic": "the corrected map goes back through the derivation; its self-kernel must be c·I",
    "certificate": "every claim as data that a checker of its own differentiates and accepts",
    "emitted": "the file's own text, read in exact arithmetic, against the derivation",
    "declared": "constructor, initial values, shapes and half precision, as the spec declares them",
    "numeric": "float64 module against an independent oracle, K(s,s′) predicted against measured",
    "order": "an actual SGD step at several learning rates",
    "gradients": "first and second derivatives of the module",
    "lowering": "recognised forms against the general lowering",
    "controls": "corrupted and uncorrected layers must be refused",
}


def layer_section(source: Any, report: Report | None, *, pictures: bool) -> dict[str, Any]:
    """Everything that the template shows of one layer."""
    spec = source.spec
    stages = stage_rows(report)
    return {
        "name": spec.name,
        "summary": spec.summary,
        "source": spec.source,
        "forward": "\n".join(line.strip() for line in spec.forward.strip().splitlines()),
        "digest": spec.digest[:16],
        "derived": derived_rows(source),
        "measured": measured_rows(source, report),
        "derivations": [derivation_data(d) for d in derivations(source)],
        "claims": claims(source),
        "stages": stages,
        "controls": [s for s in stages if s["stage"] == "controls"],
        "pictures": layer_pictures(source) if pictures and source.classes else [],
    }


def derivations(source: Any) -> list[Derivation]:
    """Every derivation behind a layer's classes, each once, the complete layer first."""
    found: dict[tuple[str, frozenset[str]], Derivation] = {}
    if source.classes:
        for subject in subjects(source):
            found.setdefault((subject.part, subject.absent), subject.derivation)
    for absent, derivation in source.derivations.items():
        if not any(derivation is known for known in found.values()):
            found.setdefault(("", absent), derivation)
    return [found[key] for key in sorted(found, key=lambda k: (len(k[1]), sorted(k[1])))]


def derivation_data(derivation: Derivation) -> dict[str, Any]:
    """Title and steps of one choice of the optional parameters."""
    return {
        "title": heading(derivation),
        "steps": [Text(step_html(step)) for step in steps(derivation)],
    }


def claims(source: Any) -> list[dict[str, Any]]:
    """What each class claims, for every choice of the optional parameters."""
    found = []
    anchor = source.spec.name
    for subject in subjects(source) if source.classes else ():
        derivation, c = subject.derivation, subject.correction
        without = ", ".join(sorted(subject.absent))
        found.append(
            {
                "name": title(subject),
                "variant": f"without {without}" if without else "",
                "gauge": gauge_html(derivation, c, anchor),
                "rate": formula_html(latex(c.rate, derivation.program)),
                "exactness": c.exactness,
                "meaning": EXACTNESS[c.exactness],
                "kernel": kernel_html(derivation, c, anchor),
                "rest": uncorrected_words(derivation, c),
            }
        )
    return found


def stage_rows(report: Report | None) -> list[dict[str, Any]]:
    """Every stage result as strings."""
    return [
        {
            "name": s.class_name,
            "stage": s.stage,
            "words": STAGE_WORDS.get(s.stage, ""),
            "instances": s.instances,
            "worst": number(s.worst),
            "tolerance": number(s.tolerance),
            "state": "pass" if s.passed else ("fail" if s.ran else "missing"),
            "detail": s.detail,
        }
        for s in (report.stages if report is not None else ())
    ]


def layer_pictures(source: Any) -> list[dict[str, Text | str]]:
    """Effective rates of the classes with all optional parameters, a picture a stage."""
    kinds = {c.name: c.kind for c in source.classes}
    found = complete(subjects(source))
    return [
        {
            "part": part,
            "svg": Text(
                layer_rates(
                    tuple(s for s in found if s.part == part), kinds, f"{source.spec.name}-{part}"
                )
            ),
        }
        for part in dict.fromkeys(s.part for s in found)
    ]

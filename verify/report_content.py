"""What the report says, as finished strings for its template: no layout, no measuring."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from sympy import Expr

from derive.audit import AuditRow
from derive.corrections import Correction
from derive.derivation import Derivation
from derive.formula import grouped, latex
from derive.mathml import mathml
from derive.show import heading, step_html
from derive.steps import EXACTNESS, steps
from verify.figures import layer_rates
from verify.results import STAGES, Report, StageResult
from verify.subject import subjects

Text = Markup
STAGE_WORDS = {
    "symbolic": "the corrected map goes back through the derivation; its self-kernel must be c·I",
    "exact": "the identity at random sizes modulo the prime 2⁶¹ − 1",
    "numeric": "float64 module against an independent oracle, K(s,s′) predicted against measured",
    "order": "an actual SGD step at several learning rates",
    "gradients": "first and second derivatives of the module",
    "lowering": "recognised forms against the general lowering",
    "controls": "corrupted and uncorrected layers must be refused",
}
UNKNOWNS = {
    "output gauge": r"\lambda(s)",
    "input map": r"\mu(s)",
    "unit gauge": r"\lambda_i(s)",
    "matrix gauge": r"\Lambda(s)",
}
LONG = 150  # characters of LaTeX beyond which a formula does not fit a table's cell
NONE = "–"


def formula_html(tex: str) -> Text:
    """A formula as MathML for a cell."""
    return Text(mathml(tex, inline=True))


@dataclasses.dataclass(frozen=True)
class Row:
    """A class in the overview.

    Attributes:
        layer, anchor, name: The layer, its place in the page, the class.
        gauge: The solved unknown.
        exactness, rate: Exactness class and c.
        kernel: K̃(s,s'), the interference that stays.
        rest: What else is not corrected.
        stages: One cell a stage, in the order of :data:`verify.results.STAGES`.
        verdict: ``pass``, ``fail`` or ``none``.
    """

    layer: str
    anchor: str
    name: str
    gauge: Text | str
    exactness: str
    rate: Text | str
    kernel: Text | str
    rest: str
    stages: tuple[dict[str, str], ...]
    verdict: str


# ---------------------------------------------------------------------- overview
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


def rows(source: Any, report: Report | None) -> list[Row]:
    """One row a class, or one that says why there is none."""
    anchor = source.spec.name
    if not source.classes:
        return [empty_row(source, anchor)]
    found = []
    for entry in source.classes:
        present = min(entry.corrections, key=lambda a: (len(a), sorted(a)))
        derivation, correction = source.derivations[present], entry.corrections[present]
        cells = [stage_cell(report, entry.name, stage) for stage in STAGES]
        passed = all(c["state"] == "pass" for c in cells)
        found.append(
            Row(
                source.spec.name,
                anchor,
                entry.name,
                gauge_html(derivation, correction),
                correction.exactness,
                formula_html(f"c = {latex(correction.rate, derivation.program)}"),
                kernel_html(derivation, correction),
                uncorrected_words(derivation, correction),
                tuple(cells),
                "pass" if passed else "fail",
            )
        )
    return found


def empty_row(source: Any, anchor: str) -> Row:
    """A layer without classes."""
    derivation = source.derivations[frozenset()]
    name = source.spec.name
    if derivation.nothing_to_correct:
        return Row(
            name, anchor, NONE, "K(s,s) = I", "nothing to correct", "", NONE, NONE, (), "none"
        )
    words = "; ".join(dict.fromkeys(c.reason for c in derivation.corrections if not c.applies))
    return Row(name, anchor, NONE, NONE, "none", "", NONE, words, (), "none")


def gauge_html(derivation: Derivation, c: Correction) -> Text:
    """``λ(s) = ...`` if it fits, else a reference to the derivation."""
    if c.ansatz == "matrix gauge":
        return formula_html(r"\Lambda(s) = L^{-1}, \; K(s,s) = L L^{\top}")
    tex = latex(c.gauge, derivation.program, norms=True)
    if len(tex) > LONG:
        return Text(mathml(UNKNOWNS[c.ansatz], inline=True)) + reference(derivation)
    return formula_html(f"{UNKNOWNS[c.ansatz]} = {tex}")


def reference(derivation: Derivation) -> Text:
    """A link to where a formula too long for a table stands."""
    name = derivation.spec.name
    return Text('<small><a href="#{0}">see {0}</a></small>').format(name)


def kernel_html(derivation: Derivation, c: Correction) -> Text | str:
    """K̃(s,s') if it fits, else a reference to the derivation."""
    if c.kernel is None:
        return formula_html(r"\Lambda(s) \, K(s,s') \, \Lambda(s')^{\top}")
    tex = latex(grouped(c.kernel), derivation.program)
    return formula_html(tex) if len(tex) <= LONG else reference(derivation)


def uncorrected_words(derivation: Derivation, c: Correction) -> str:
    """What a claim leaves out, beside interference."""
    words = []
    if c.exactness == "frozen":
        words.append("the gauge's drift during a step")
    if c.exactness in ("frozen", "first-order") and not derivation.update.affine:
        words.append("the step's O(η²)")
    if c.side is not None and c.side.freedom_lost:
        words.append(f"{c.side.freedom_lost} degree of freedom of x is lost")
    if c.side is not None and not c.side.smooth_at_zero:
        words.append("singular at x = 0")
    return "; ".join(words) or NONE


def stage_cell(report: Report | None, name: str, stage: str) -> dict[str, str]:
    """Worst error and number of instances of a stage."""
    found = find_stage(report, name, stage)
    if found is None or not found.ran:
        detail = found.detail if found else "missing"
        return {"state": "missing", "worst": "did not run", "instances": "", "detail": detail}
    return {
        "state": "pass" if found.passed else "fail",
        "worst": number(found.worst),
        "instances": f"N = {found.instances}",
        "detail": found.detail,
    }


def find_stage(report: Report | None, name: str, stage: str) -> StageResult | None:
    """A stage's result for a class."""
    results = report.stages if report is not None else ()
    return next((s for s in results if (s.class_name, s.stage) == (name, stage)), None)


def number(value: float) -> str:
    """Two significant digits, ``0`` exactly."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return str(value)
    mantissa, exponent = f"{value:.1e}".split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value:.2g}" if -3 < int(exponent) < 4 else f"{mantissa}·10{power}"


# ---------------------------------------------------------------------- a layer's section
def layer_section(source: Any, report: Report | None, *, pictures: bool) -> dict[str, Any]:
    """Everything that the template shows of one layer."""
    spec = source.spec
    order = sorted(source.derivations, key=lambda a: (len(a), sorted(a)))
    return {
        "name": spec.name,
        "summary": spec.summary,
        "source": spec.source,
        "forward": "\n".join(line.strip() for line in spec.forward.strip().splitlines()),
        "digest": spec.digest[:16],
        "rows": rows(source, report),
        "derivations": [derivation_data(source.derivations[absent]) for absent in order],
        "claims": claims(source),
        "stages": stage_rows(report),
        "controls": [s for s in stage_rows(report) if s["stage"] == "controls"],
        "picture": picture(source) if pictures and source.classes else None,
    }


def derivation_data(derivation: Derivation) -> dict[str, Any]:
    """Title and steps of one choice of the optional parameters."""
    return {
        "title": heading(derivation),
        "steps": [Text(step_html(step)) for step in steps(derivation)],
    }


def claims(source: Any) -> list[dict[str, Any]]:
    """What each class claims, for every choice of the optional parameters."""
    found = []
    for entry in source.classes:
        for absent in sorted(entry.corrections, key=lambda a: (len(a), sorted(a))):
            derivation, correction = source.derivations[absent], entry.corrections[absent]
            found.append(
                {
                    "name": entry.name,
                    "variant": f"without {', '.join(sorted(absent))}" if absent else "complete",
                    "gauge": gauge_html(derivation, correction),
                    "rate": formula_html(latex(correction.rate, derivation.program)),
                    "exactness": correction.exactness,
                    "meaning": EXACTNESS[correction.exactness],
                    "kernel": kernel_html(derivation, correction),
                    "rest": uncorrected_words(derivation, correction),
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


def picture(source: Any) -> Text:
    """Effective rates of the classes, with all optional parameters present."""
    found = tuple(s for s in subjects(source) if not s.absent)
    kinds = {c.name: c.kind for c in source.classes}
    return Text(layer_rates(found, kinds, f"rates-{source.spec.name}"))


# ---------------------------------------------------------------------- audit
AUDIT_HEADS = (
    "Normaliser before an affine layer",
    "κ",
    "κ at ε = 0",
    "Constant at ε = 0",
    "Scale-invariant",
    "Freedom lost",
    "A gain and a shift add to K(s,s′)",
)


def audit_table(audit: Sequence[AuditRow]) -> dict[str, Any] | None:
    """The audit of normalisers as a table, or nothing without rows."""
    if not audit:
        return None
    return {"heads": AUDIT_HEADS, "rows": [audit_cells(row) for row in audit]}


def audit_cells(row: AuditRow) -> list[Text | str]:
    """One normaliser."""

    def write(expression: Expr) -> Text:
        return formula_html(latex(expression, row.program, norms=True))

    title = Text("<b>{}</b><small>{}</small>").format(row.name, row.summary)
    verdict = Text("{}").format(row.constant)
    if row.value is not None:
        over = f" over {', '.join(x.name for x in row.over)}" if row.over else ""
        verdict = Text("{}{}<br>{}").format(row.constant, over, write(row.value))
    gains = Text("").join(
        Text("<div>{} <small>{}{}</small></div>").format(
            write(grouped(term.kernel)),
            term.kind,
            ", depends on the parameters" if term.parameter_dependent else "",
        )
        for term in row.gain
    )
    return [
        title,
        write(row.kappa),
        write(row.kappa_at_zero),
        verdict,
        "yes" if row.scale_invariant else "no",
        write(row.freedom_lost),
        gains,
    ]

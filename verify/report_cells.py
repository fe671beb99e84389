"""The cells of the report's tables: formulas, numbers and short words as finished HTML."""

from __future__ import annotations

import math

from markupsafe import Markup

from derive.corrections import Correction
from derive.derivation import Derivation
from derive.formula import grouped, latex
from derive.mathml import mathml
from verify.results import Report, StageResult

Text = Markup
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


def gauge_html(derivation: Derivation, c: Correction, anchor: str) -> Text:
    """``λ(s) = ...`` if it fits, else a reference to the derivation."""
    if c.ansatz == "matrix gauge":
        return formula_html(r"\Lambda(s) = L^{-1}, \; K(s,s) = L L^{\top}")
    tex = latex(c.gauge, derivation.program, norms=True)
    if len(tex) > LONG:
        return Text(mathml(UNKNOWNS[c.ansatz], inline=True)) + reference(anchor)
    return formula_html(f"{UNKNOWNS[c.ansatz]} = {tex}")


def reference(anchor: str) -> Text:
    """A link to the section where a formula too long for a table stands."""
    return Text('<small><a href="#{0}">see {0}</a></small>').format(anchor)


def kernel_html(derivation: Derivation, c: Correction, anchor: str) -> Text:
    """K̃(s,s') if it fits, else a reference to the derivation."""
    if c.kernel is None:
        return formula_html(r"\Lambda(s) \, K(s,s') \, \Lambda(s')^{\top}")
    tex = latex(grouped(c.kernel), derivation.program)
    return formula_html(tex) if len(tex) <= LONG else reference(anchor)


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

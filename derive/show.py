"""A derivation written out: plain text, LaTeX, JSON-ready data, HTML with MathML.

All four show the same :func:`derive.steps.steps`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from sympy import Expr

from derive.corrections import Correction
from derive.derivation import Derivation
from derive.formula import formula, latex
from derive.mathml import lines, mathml
from derive.steps import Statement, Step, Writer, steps

__all__ = ["formula", "latex", "to_html", "to_json", "to_latex", "to_text"]

WIDTH = 200  # characters of LaTeX from which on a page breaks a formula into lines
LONG = 300  # and beyond which it sets a line smaller
# Words in a title or sentence that LaTeX text mode does not know.
LATEX_WORDS: Mapping[str, str] = {
    "z̃_i": r"$\tilde{z}_i$",
    "z̃": r"$\tilde{z}$",
    "κ̃": r"$\tilde{\kappa}$",
    "K̃": r"$\tilde{K}$",
    "λ_i": r"$\lambda_i$",
    "κ_i": r"$\kappa_i$",
    "Σ_θ": r"$\sum_\theta$",
    "s'": r"$s'$",
    "∂": r"$\partial$",
    "ᵀ": r"$^{\top}$",
    "λ": r"$\lambda$",
    "μ": r"$\mu$",
    "ν": r"$\nu$",
    "κ": r"$\kappa$",
    "η": r"$\eta$",
    "Λ": r"$\Lambda$",
    "θ": r"$\theta$",
    "δ": r"$\delta$",
    "≠": r"$\neq$",
    "→": r"$\to$",
    "·": r"$\cdot$",
    "²": r"$^2$",
    "⁻¹": r"$^{-1}$",
    "_": r"\_",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
}


def heading(d: Derivation) -> str:
    """The layer's name and which optional parameters are left out."""
    absent = ", ".join(sorted(d.absent))
    return f"{d.spec.name} without {absent}" if absent else d.spec.name


def to_text(d: Derivation) -> str:
    """The numbered steps as plain text, formulas indented."""
    found = [heading(d), "=" * len(heading(d))]
    for step in steps(d):
        found += ["", f"{step.number}. {step.title}"]
        for statement in step.statements:
            if statement.words:
                found.append(f"   {statement.words}")
            if statement.text:
                found.append(f"       {statement.text}")
    return "\n".join(found) + "\n"


def to_latex(d: Derivation) -> str:
    """The numbered steps as the body of a LaTeX document (amsmath)."""
    found = [rf"\section*{{{latex_words(heading(d))}}}"]
    for step in steps(d):
        found += ["", rf"\paragraph{{{step.number}. {latex_words(step.title)}}}"]
        for statement in step.statements:
            if statement.words:
                found.append(latex_words(statement.words))
            if statement.latex:
                found += [r"\[", f"  {statement.latex}", r"\]"]
    return "\n".join(found) + "\n"


def latex_words(words: str) -> str:
    """Plain words as LaTeX text, longest signs first."""
    return _latex_words(words, tuple(sorted(LATEX_WORDS, key=lambda k: (-len(k), k))))


def _latex_words(words: str, signs: tuple[str, ...]) -> str:
    for k, sign in enumerate(signs):
        if sign in words:
            rest = signs[k + 1 :]
            return LATEX_WORDS[sign].join(_latex_words(w, rest) for w in words.split(sign))
    return words


def to_json(d: Derivation) -> dict[str, object]:
    """The steps and what they came to, as strings, numbers, lists and dictionaries."""
    write = Writer(d)
    return {
        "layer": d.spec.name,
        "absent": sorted(d.absent),
        "site": [x.name for x in d.program.site],
        "unit": [x.name for x in d.program.unit],
        "affine": d.update.affine,
        "kind": d.structure.kind,
        "kappa": both(write, d.structure.kappa),
        "constant": d.structure.constant,
        "parameter_dependent": d.structure.parameter_dependent,
        "nothing_to_correct": d.nothing_to_correct,
        "corrections": [correction_json(write, c) for c in d.corrections],
        "steps": [step_json(step) for step in steps(d)],
    }


def both(write: Writer, value: Expr | None) -> dict[str, str] | None:
    """A formula as text and LaTeX."""
    if value is None:
        return None
    text, tex = write.plain(value, norms=True)
    return {"text": text, "latex": tex}


def correction_json(write: Writer, c: Correction) -> dict[str, object]:
    """One ansatz."""
    shown = c.gauge is not None and c.ansatz != "matrix gauge"
    side = c.side
    return {
        "ansatz": c.ansatz,
        "applies": c.applies,
        "reason": c.reason,
        "unknown": c.unknown,
        "gauge": both(write, c.gauge) if shown else None,
        "rate": both(write, c.rate),
        "exactness": c.exactness,
        "side_conditions": None
        if side is None
        else {
            "scale_invariant": side.scale_invariant,
            "smooth_at_zero": side.smooth_at_zero,
            "parameter_free": side.parameter_free,
            "freedom_lost": side.freedom_lost,
        },
        "members": {
            name: {symbol: both(write, value) for symbol, value in gauges.items()}
            for name, gauges in c.members.items()
        },
    }


def step_json(step: Step) -> dict[str, object]:
    """One step."""
    return {
        "number": step.number,
        "title": step.title,
        "statements": [
            {"words": s.words, "text": s.text, "latex": s.latex} for s in step.statements
        ],
    }


def to_html(d: Derivation) -> str:
    """The numbered steps as an HTML fragment: an ordered list of titles, words and MathML."""
    items = "\n".join(f"<li>{step_html(step)}</li>" for step in steps(d))
    title = html.escape(heading(d))
    return f'<section class="derivation">\n<h3>{title}</h3>\n<ol>\n{items}\n</ol>\n</section>'


def step_html(step: Step) -> str:
    """The inside of one step's list item."""
    body = "\n".join(statement_html(s) for s in step.statements)
    return f'<span class="title">{words_html(step.title)}</span>\n{body}'


def statement_html(statement: Statement) -> str:
    """Words as a paragraph, the formula below."""
    parts = []
    if statement.words:
        parts.append(f"<p>{words_html(statement.words)}</p>")
    if statement.latex:
        broken = lines(statement.latex, WIDTH)
        width = "formula long" if max(map(len, broken)) > LONG else "formula"
        parts += [f'<div class="{width}">{mathml(line)}</div>' for line in broken]
    return "\n".join(parts)


def words_html(words: str) -> str:
    """Words with subscripts, ``κ_i`` as κ<sub>i</sub>, and typographic primes."""
    text = html.escape(words, quote=False).replace("'", "′")
    return re.sub(r"(?<=[\w\u0303])_(\w′?)", r"<sub>\1</sub>", text)

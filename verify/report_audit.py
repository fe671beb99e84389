"""The audit of normalisers as the report's table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sympy import Expr

from derive.audit import AuditRow
from derive.formula import grouped, latex
from verify.report_cells import Text, formula_html

HEADS = (
    "Layer",
    "κ, and below it κ at ε = 0",
    "Constant at ε = 0",
    "Scale-invariant",
    "Freedom lost",
)


def audit_table(audit: Sequence[AuditRow]) -> dict[str, Any] | None:
    """The audit of normalisers as a table, or nothing without rows."""
    if not audit:
        return None
    rows = [{"cells": audit_cells(row), "gain": gain_words(row)} for row in audit]
    return {"heads": HEADS, "rows": rows}


def write(row: AuditRow, expression: Expr) -> Text:
    """A formula of a row."""
    return formula_html(latex(expression, row.program, norms=True))


def audit_cells(row: AuditRow) -> list[Text | str]:
    """One normaliser, in the order of :data:`HEADS`."""
    verdict = Text("{}").format(row.constant)
    if row.value is not None and row.over:
        over = ", ".join(x.name for x in row.over)
        verdict = Text("{} over {}: {}").format(row.constant, over, write(row, row.value))
    return [
        Text("<b>{}</b><small>{}</small>").format(row.name, row.summary),
        Text('{}<div class="gauge">{}</div>').format(
            write(row, row.kappa), write(row, row.kappa_at_zero)
        ),
        verdict,
        "yes" if row.scale_invariant else "no",
        write(row, row.freedom_lost),
    ]


def gain_words(row: AuditRow) -> Text:
    """What a learnable gain and shift of the normaliser's own add to the kernel."""
    terms = []
    for term in row.gain:
        kind = f"{term.kind}, depends on the parameters" if term.parameter_dependent else term.kind
        shown = write(row, grouped(term.kernel))
        terms.append(Text("a {} adds {} ({})").format(term.symbol, shown, kind))
    return Text("; ").join(terms)

"""The audit of normalisers as the report's table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sympy import Expr

from derive.audit import AuditRow
from derive.formula import grouped, latex
from verify.report_cells import Text, formula_html

HEADS = (
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
    return {"heads": HEADS, "rows": [audit_cells(row) for row in audit]}


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

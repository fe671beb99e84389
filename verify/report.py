"""One HTML page that holds what was derived, what was generated and what was measured.

``write_report(entries, path)`` turns layers and their verdicts into a page that opens from disk:
styles, formulas (MathML) and pictures (SVG) stand in the file, and nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from derive.audit import AuditRow
from derive.derivation import Derivation
from derive.spec import LayerSpec
from verify.figures import AffineLayers, affine_interference, affine_rates, affine_steps
from verify.report_audit import audit_table
from verify.report_cells import Text
from verify.report_layers import layer_section
from verify.report_overview import exactness_legend, summary
from verify.results import Report

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Uncorrected:
    """A layer of which nothing was generated: nothing to correct, or no ansatz applies.

    Attributes:
        spec: The layer.
        derivations: Absent optional parameters → derivation.
        classes: Always empty; it makes the layer look like a ``codegen.LayerSource``.
    """

    spec: LayerSpec
    derivations: Mapping[frozenset[str], Derivation]
    classes: tuple[()] = ()


Entry = tuple[Any, Report | None]


def write_report(
    entries: Sequence[Entry],
    path: str | Path,
    *,
    audit: Sequence[AuditRow] = (),
    pictures: bool = True,
) -> None:
    """Write the report.

    Args:
        entries: Pairs of a layer and its verdict: a ``codegen.LayerSource`` with the
            :class:`~verify.results.Report` of its classes, or an :class:`Uncorrected` with
            ``None``.
        path: The HTML file, in a folder that exists.
        audit: Rows of :func:`derive.audit.audit`, shown as a table.
        pictures: Whether to measure and draw; without, the page takes a fraction of the time.

    Raises:
        ValueError: If a report belongs to another spec than its layer, or a layer with classes has
            no report.
    """
    for source, report in entries:
        check_entry(source, report)
    Path(path).write_text(page(entries, audit=audit, pictures=pictures), encoding="utf-8")


def check_entry(source: Any, report: Report | None) -> None:
    """Refuse verdicts that are not about the layer they are shown with.

    Raises:
        ValueError: If generated classes have no report, or the report is about another spec.
    """
    if report is None and source.classes:
        raise ValueError(f"{source.spec.name} has generated classes but no verification report")
    if report is not None and report.digest != source.spec.digest:
        raise ValueError(f"the report of {report.layer} is not about the spec {source.spec.name}")


def page(entries: Sequence[Entry], *, audit: Sequence[AuditRow], pictures: bool) -> str:
    """The page's text."""
    sections = [layer_section(source, report, pictures=pictures) for source, report in entries]
    data: dict[str, Any] = {
        "summary": summary(entries),
        "legend": exactness_legend(),
        "sections": sections,
        "audit": audit_table(audit),
        "figures": affine_figures(entries) if pictures else [],
        "style": Text(TEMPLATES.joinpath("report.css").read_text(encoding="utf-8")),
    }
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.jinja").render(data)


def affine_figures(entries: Sequence[Entry]) -> list[dict[str, Text | str]]:
    """The three pictures of the affine layer, if it is among the entries."""
    found = next((source for source, _ in entries if is_affine_layer(source)), None)
    if found is None:
        return []
    layers = AffineLayers(found)
    return [
        {
            "svg": Text(affine_steps(layers)),
            "caption": "One SGD step on each of 160 samples, measured on the modules: the change "
            "of z against the ideal change. In the plain layer a sample with large ‖x‖ (orange) "
            "moves up to a hundred times as far as its gradient asks.",
        },
        {
            "svg": Text(affine_rates(layers)),
            "caption": "The learning rate that z sees, in units of η. Points are measured steps, "
            "lines are κ and c as derived.",
        },
        {
            "svg": Text(affine_interference(layers)),
            "caption": "Not corrected by any of these layers: how far the gradients of the other "
            "samples in a batch move a sample's z, relative to its own gradient. Inputs have 32 "
            "features and varying norms; gradients are independent and normal; LayerNorm and "
            "BatchNorm stand before a plain layer.",
        },
    ]


def is_affine_layer(source: Any) -> bool:
    """Whether an entry is the shipped affine layer with both of its corrections."""
    kinds = {c.kind for c in source.classes}
    return source.spec.name == "Linear" and {"affine-like", "norm-like"} <= kinds

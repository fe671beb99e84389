"""Tables of the measurements, as Markdown that is aligned and so reads well in a terminal too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.cases import PLAIN
from bench.limits import Verdict, judge
from bench.results import Results, Timing
from bench.timing import Spread


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An aligned Markdown table."""
    cells = [tuple(columns), *(tuple(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    return "\n".join([padded[0], "|" + "".join(f" {'-' * w} |" for w in widths), *padded[1:]])


def spread(value: Spread) -> str:
    """A ratio with its quartiles."""
    return f"{value.median:.3f} ({value.low:.3f}–{value.high:.3f})"


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def timings(rows: Iterable[Timing]) -> str:
    """One row a contender and mode: time, and ratio to the plain contender with its quartiles."""
    columns = ("case", "mode", "contender", "time", f"ratio to {PLAIN} (quartiles)", "rounds")
    shown = (
        (
            row.case,
            str(row.mode),
            row.contender,
            duration(row.seconds),
            spread(row.ratio),
            str(row.ratio.rounds),
        )
        for row in rows
        if row.reference == PLAIN
    )
    return markdown(columns, shown)


def kept(results: Results) -> str:
    """What is kept for backward."""
    columns = ("case", "execution", "contender", "bytes kept", "of the output")
    rows = (
        (row.case, row.execution, row.contender, str(row.kept), f"{row.ratio:.4f}")
        for row in results.kept.values()
    )
    return markdown(columns, rows)


def verdicts(found: Iterable[Verdict]) -> str:
    """One row a limit."""
    columns = ("case", "layer", "execution", "quantity", "limit", "measured", "verdict")
    rows = (
        (
            v.case,
            v.contender,
            v.execution,
            v.quantity,
            f"{v.limit:g}",
            "" if v.value is None else f"{v.value:.3f}",
            v.words,
        )
        for v in found
    )
    return markdown(columns, rows)


def limits(results: Results, *, measured_only: bool = False) -> str:
    """The table of limits, whole or without what was not measured."""
    return verdicts(v for v in judge(results) if not measured_only or v.value is not None)

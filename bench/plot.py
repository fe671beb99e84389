"""Pictures of the measurements: cost of every layer, and cost against size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from bench.cases import CASES, PLAIN, Case
from bench.limits import TABLE
from bench.modes import BOTH, COMPILED, EAGER, Mode
from bench.results import LAYERS, SCALE, Results, Timing
from bench.scale import SWEEPS, Sweep
from verify.drawing import COLORS, GREY, panels, styled, svg

RIVAL, LIMIT = COLORS["LayerNorm"], COLORS["plain"]
FORMS = (COLORS["affine-like"], COLORS["norm-like"])
WORST = 2.6
"""Where the axis of ratios ends; what is beyond it stands at its end as an arrow."""


def write(text: str, path: Path) -> None:
    """An SVG as a file of lines."""
    path.write_text("\n".join(x.rstrip() for x in text.splitlines()) + "\n", encoding="utf-8")


def layers(results: Results, path: Path) -> None:
    """Time over the plain layer's: corrected layers, and rivals, each with its quartiles."""
    with styled("layers"):
        figure, axes = panels(2, width=4.6, height=0.42 * len(CASES))
        for ax, execution in zip(axes, (EAGER, COMPILED), strict=True):
            draw_layers(ax, results, Mode(BOTH, execution))
        axes[1].tick_params(labelleft=False)
        axes[1].legend(loc="upper right")
        write(svg(figure, "layers", "Time of each layer over the plain layer", inline=False), path)


def draw_layers(ax: Axes, results: Results, mode: Mode) -> None:
    """One row a case."""
    for place, case in enumerate(CASES):
        found = [results.timing(case.name, mode, n, PLAIN, LAYERS) for n in case.builders]
        for row in found:
            if row is not None and row.contender != PLAIN:
                draw_ratio(ax, place, row, case)
    draw_limits(ax, mode.execution)
    for color, name in zip((*FORMS, RIVAL), ("corrected", "norm-like", "rivals"), strict=True):
        ax.plot([], [], "o", color=color, label=name)
    ax.axvline(1, color=GREY, linewidth=1)
    ax.set(
        title=f"{mode.execution}, {mode.direction}",
        xlabel="time / plain layer",
        xlim=(0.85, WORST),
        ylim=(len(CASES) - 0.5, -0.5),
        yticks=range(len(CASES)),
        yticklabels=[case.name for case in CASES],
    )


def draw_limits(ax: Axes, execution: str) -> None:
    """What the corrected layers may cost, as a mark across their row."""
    places = {case.name: place for place, case in enumerate(CASES)}
    marks = [
        (limits[execution, PLAIN], places[name] - 0.15)
        for names, _, limits in TABLE
        for name in names
        if (execution, PLAIN) in limits
    ]
    x, y = zip(*marks, strict=True)
    ax.plot(x, y, "|", color=LIMIT, markersize=9, markeredgewidth=1.5, label="limit")


def draw_ratio(ax: Axes, place: int, row: Timing, case: Case) -> None:
    """A median and its quartiles; rivals a little below."""
    is_ours = row.contender in case.corrected
    color = FORMS[case.corrected.index(row.contender)] if is_ours else RIVAL
    height = place - 0.15 if is_ours else place + 0.15
    ax.plot([row.ratio.low, row.ratio.high], [height, height], color=color, linewidth=1)
    beyond = row.ratio.median > WORST
    x = WORST - 0.03 if beyond else row.ratio.median
    ax.plot([x], [height], ">" if beyond else "o", color=color, markersize=4 if is_ours else 3)


def scale(results: Results, path: Path) -> None:
    """Time over the plain layer's, against the size of the layer."""
    with styled("scale"):
        figure, axes = panels(len(SWEEPS), width=2.9)
        for ax, sweep in zip(axes, SWEEPS, strict=True):
            draw_sweep(ax, results, sweep)
        axes[0].set_ylabel("time / plain layer")
        write(svg(figure, "scale", "Cost of a correction against size", inline=False), path)


def draw_sweep(ax: Axes, results: Results, sweep: Sweep) -> None:
    """One line a contender."""
    for name, color in zip(sweep.contenders[1:], (FORMS[0], RIVAL), strict=True):
        found = [
            (size, row.ratio)
            for size, case in sweep.cases.items()
            if (row := results.timing(case.name, Mode(), name, PLAIN, SCALE)) is not None
        ]
        sizes = [size for size, _ in found]
        ax.plot(sizes, [r.median for _, r in found], "o-", color=color, label=name)
        low, high = [r.low for _, r in found], [r.high for _, r in found]
        ax.fill_between(sizes, low, high, color=color, alpha=0.2, linewidth=0)
    finish_sweep(ax, sweep)


def finish_sweep(ax: Axes, sweep: Sweep) -> None:
    """Axes and words."""
    ax.axhline(1, color=GREY, linewidth=1)
    sizes: Sequence[int] = list(sweep.cases)
    ax.set(title=sweep.name.replace(", ", "\n", 1), xlabel=sweep.axis, xscale="log")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.legend()

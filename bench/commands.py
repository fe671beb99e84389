"""What the commands do: run units, print what came out, keep it, compare it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import page, plot, report
from bench.compare import compared, regressions
from bench.environment import ROOT, machine
from bench.results import SCALE, STORED, STORED_GPU, Results, ResultsError, load, save
from bench.timing import QUICK, THOROUGH
from bench.units import SECTIONS, Unit, chosen


@dataclass(frozen=True)
class Wanted:
    """What is asked of a measuring command.

    Args:
        sections: Which kinds of measurements.
        pattern: Regular expression that a label must match.
        quick: Few rounds, for a look and not for a record.
        resume: Keep what the JSON file holds, and measure what it lacks.
        json: Where measurements are kept.
        plot: Where a picture is drawn.
        baseline: What the result is compared with.
    """

    sections: Sequence[str]
    pattern: str = ""
    quick: bool = False
    resume: bool = False
    json: Path | None = None
    plot: Path | None = None
    baseline: Path | None = None


def measure(wanted: Wanted) -> int:
    """Measure, print, keep and compare.

    Returns:
        1 if something has become worse than in the baseline, else 0.

    Raises:
        ResultsError: If no measurement matches, or a file is none of measurements.
    """
    torch.set_num_threads(1)
    before = None if wanted.baseline is None else load(wanted.baseline)
    results = opened(wanted.json)
    fresh = run_units(units(wanted), wanted, results)
    print(report.everything(fresh, wanted.sections))
    if wanted.plot is not None:
        picture = plot.scale if tuple(wanted.sections) == (SCALE,) else plot.layers
        picture(results, wanted.plot)
    return 0 if before is None else compare(before, fresh)


def opened(path: Path | None) -> Results:
    """What a file holds already; nothing if there is none.

    Raises:
        ResultsError: If it was measured elsewhere, for ratios of two machines make no table.
    """
    here = machine()
    if path is None or not path.exists():
        return Results(here)
    results = load(path)
    if results.machine != here:
        differ = [k for k in here if results.machine.get(k) != here[k]]
        raise ResultsError(f"{path} differs in {', '.join(differ)}: measure into another file")
    return results


def units(wanted: Wanted) -> list[Unit]:
    """What is to be measured; nothing where there is no device for it.

    Raises:
        ResultsError: If the pattern finds nothing of what could be measured.
    """
    found = [unit for section in wanted.sections for unit in chosen(section, wanted.pattern)]
    known = sum(len(chosen(section, "")) for section in wanted.sections)
    if not found and known:
        raise ResultsError(f"none of {known} measurements matches {wanted.pattern!r}")
    return found


def run_units(found: Sequence[Unit], wanted: Wanted, results: Results) -> Results:
    """Run units; what each gives is written before the next one runs.

    Returns:
        What was measured now, or held already if the run goes on with a former one.
    """
    fresh = Results(results.machine)
    for number, unit in enumerate(found, 1):
        print(f"{number}/{len(found)} {unit.label}", file=sys.stderr)
        if wanted.resume and unit.held(results):
            continue
        rows = list(unit.measure(QUICK if wanted.quick else THOROUGH))
        results.add(rows)
        fresh.add(rows)
        if wanted.json is not None:
            save(results, wanted.json)
    return results if wanted.resume else fresh


def compare(before: Results, after: Results) -> int:
    """Name what has become worse; 1 if anything has."""
    found = regressions(before, after)
    for regression in sorted(found, key=str):
        print(f"worse: {regression}")
    print(f"{len(found)} of {len(compared(before, after))} costs have become worse")
    return 1 if found else 0


def compare_files(baseline: Path, new: Path) -> int:
    """Compare two files of measurements."""
    return compare(load(baseline), load(new))


def write_page(folder: Path = ROOT / "docs") -> int:
    """Write docs/performance.md and its pictures from the stored measurements."""
    results = load(STORED)
    text = page.text(results, load(STORED_GPU))
    (folder / "performance.md").write_text(text, encoding="utf-8")
    plot.layers(results, folder / "performance_layers.svg")
    plot.scale(results, folder / "performance_scale.svg")
    return 0


def everything() -> tuple[str, ...]:
    """The sections that ``all`` runs, in order."""
    return tuple(SECTIONS)

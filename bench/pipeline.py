"""What ``truestep build`` itself costs against the number of specs, cold and with nothing changed.

Copies of a small spec under names of their own are built into a folder that is thrown away, with a
cache of its own, in one process. Time is that of the processor, of all that the command starts.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.results import Build

COUNTS = (1, 2, 4, 8, 16, 32)
REPEATS = 5
SPEC = """\
name    = "Copy{number}"
summary = "A linear layer."
forward = "z[n, i] = W[i, j]*x[n, j] + b[i]"
site    = "n"
unit    = "i"

[parameters]
W = {{ torch = "weight" }}
b = {{ torch = "bias" }}

[sizes]
j = "in_features"
i = "out_features"
"""


def measure_build(specs: int) -> list[Build]:
    """Build so many specs twice: with an empty cache, and again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [write_spec(folder, number) for number in range(specs)]
        cold = build_seconds(folder, files)
        again = [build_seconds(folder, files) for _ in range(REPEATS)]
    return [Build(specs, round(cold, 3), round(float(np.median(again)), 3))]


def write_spec(folder: Path, number: int) -> Path:
    """One copy."""
    path = folder / f"copy{number}.toml"
    path.write_text(SPEC.format(number=number), encoding="utf-8")
    return path


def build_seconds(folder: Path, files: Sequence[Path]) -> float:
    """Processor time of one build.

    Raises:
        RuntimeError: If the build fails, with what it said.
    """
    command = [sys.executable, "-m", "truestep", "build", *map(str, files)]
    command += ["--out", str(folder / "out"), "--jobs", "1"]
    environment = {**os.environ, "TRUESTEP_CACHE": str(folder / "cache")}
    before = children_seconds()
    done = subprocess.run(
        command, env=environment, check=False, capture_output=True, encoding="utf-8"
    )
    if done.returncode != 0:
        raise RuntimeError(f"truestep build failed:\n{done.stdout}{done.stderr}")
    return children_seconds() - before


def children_seconds() -> float:
    """Processor time of all finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@dataclass(frozen=True)
class Line:
    """Seconds = start + slope · specs, by least squares.

    Args:
        start: Seconds of a build of nothing.
        slope: Seconds a spec.
        deviation: Largest distance of a measurement from the line, over the measurement.
    """

    start: float
    slope: float
    deviation: float


def line(specs: Sequence[int], seconds: Sequence[float]) -> Line:
    """The line through measurements.

    Raises:
        ValueError: If there are fewer than three, through which any line fits.
    """
    if len(specs) < 3:
        raise ValueError("a line needs three measurements")
    x, y = np.asarray(specs, float), np.asarray(seconds, float)
    slope, start = (float(c) for c in np.polyfit(x, y, 1))
    deviation = float(np.max(np.abs(start + slope * x - y) / y))
    return Line(start, slope, deviation)

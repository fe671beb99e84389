"""What the tests of the command line share."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import truestep

ROOT = Path(truestep.__file__).parent.parent
SPEC = """\
name    = "TwoInputs"
summary = "Linear layer of two inputs."
forward = "z[n, i] = W[i, j]*x[n, j] + V[i, k]*y[n, k] + 3*b[i]"
site    = "n"
unit    = "i"

[parameters]
W = { torch = "weight" }
V = { torch = "weight2" }
b = { torch = "bias", optional = true }

[sizes]
j = "in1_features"
k = "in2_features"
i = "out_features"
"""
EMBEDDING = (ROOT / "truestep" / "specs" / "embedding.toml").read_text(encoding="utf-8")


def files(folder):
    """The names of all files under a folder."""
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


def python(*arguments, **environment):
    """Run Python in a fresh process."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def load(file):
    """Import a generated file."""
    found = importlib.util.spec_from_file_location("generated", file)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module

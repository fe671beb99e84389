"""Generated code in the style of the project, by the pinned ruff."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from codegen.header import sealed
from derive.errors import DerivationError


def ruff() -> str:
    """The ruff program of this environment.

    Raises:
        DerivationError: If ruff is not installed.
    """
    beside = Path(sys.executable).with_name("ruff")
    found = str(beside) if beside.exists() else shutil.which("ruff")
    if found is None:
        raise DerivationError(
            "ruff is not installed; generated code cannot be formatted: pip install ruff"
        )
    return found


def formatted(text: str) -> str:
    """Format Python source; the same bytes on every machine.

    Raises:
        DerivationError: If the text is not valid Python.
    """
    command = [
        ruff(),
        "format",
        "--isolated",
        "--line-length",
        "100",
        "--target-version",
        "py311",
        "-",
    ]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DerivationError(f"the generated code is not valid Python: {done.stderr.strip()}")
    return sealed(done.stdout)

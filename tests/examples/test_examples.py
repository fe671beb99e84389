"""The examples run from start to finish, in the short form that they offer for this."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SUITE = ROOT / "examples" / "test_own_layer.py"


def run(name: str, *arguments: str | Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_digits(tmp_path: Path) -> None:
    first = run("digits.py", "--quick", "--picture", tmp_path / "a.svg")
    again = run("digits.py", "--quick", "--jobs", "2", "--picture", tmp_path / "b.svg")
    assert first.replace("a.svg", "b.svg") == again
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert ET.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    for name in ("plain", "LayerNorm", "affine-like", "norm-like"):
        assert name in first


def test_convolutional_digits(tmp_path: Path) -> None:
    text = run("digits.py", "--quick", "--conv", "--picture", tmp_path / "curves.png")
    assert "PatchNorm − plain" in text
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_test_suite_of_an_own_layer() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", SUITE],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert not any(word in done.stdout for word in ("skipped", "xfailed", "deselected"))


def test_own_layer(tmp_path: Path) -> None:
    text = run("own_layer.py", "--quick", "--out", tmp_path / "layers")
    assert "κ(s) = 9 + ‖x[n]‖² + ‖y[n]‖²" in text
    source = (tmp_path / "layers" / "fusion.py").read_text(encoding="utf-8")
    assert "class AffineLikeFusion(nn.Module)" in source
    right = [float(line.split()[1]) for line in text.splitlines()[-2:]]
    assert min(right) > 30  # guessing reads a tenth of the digits right

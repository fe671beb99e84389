"""The surroundings are fixed before anything is measured, and leave no trace of the machine."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

from bench.environment import FIXED, ROOT, layers_digest, machine, wanted


def test_the_environment_to_measure_in_is_stable() -> None:
    once = wanted({"PYTHONPATH": "", "OMP_NUM_THREADS": "8", "HOME": "here"})
    assert wanted(once) == once
    assert once["HOME"] == "here"
    assert FIXED.items() <= once.items()
    assert once["PYTHONPATH"] == str(ROOT)


def test_layers_named_by_pythonpath_come_first() -> None:
    path = wanted({"PYTHONPATH": os.pathsep.join(["a", "b"])})["PYTHONPATH"]
    assert path.split(os.pathsep) == ["a", "b", str(ROOT)]


def test_the_command_starts_itself_anew(tmp_path) -> None:
    """Layers come from PYTHONPATH, and the allocator is as the measurement wants it."""
    layers = tmp_path / "truestep" / "layers"
    layers.mkdir(parents=True)
    (tmp_path / "truestep" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "sitecustomize.py").write_text(SHOW, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    started = done.stderr.splitlines()
    assert len(started) == 2
    assert started[1] == f"{FIXED['MALLOC_MMAP_THRESHOLD_']} {tmp_path / 'truestep'}"
    assert "python -m bench layers" in done.stdout


SHOW = """\
import importlib.util, os, sys
found = importlib.util.find_spec("truestep").submodule_search_locations[0]
print(os.environ.get("MALLOC_MMAP_THRESHOLD_"), found, file=sys.stderr)
"""


def test_the_machine_names_no_host_and_no_path() -> None:
    words = " ".join(machine().values())
    assert os.uname().nodename not in words.split()
    assert str(ROOT) not in words


def test_the_digest_tells_layers_apart(monkeypatch, tmp_path) -> None:
    spec = importlib.util.find_spec("truestep")
    (tmp_path / "layers").mkdir()
    monkeypatch.setattr(spec, "submodule_search_locations", [str(tmp_path)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    digests = set()
    for text in ("a", "b", "a"):
        (tmp_path / "layers" / "linear.py").write_text(text, encoding="utf-8")
        digests.add(layers_digest())
    assert len(digests) == 2
    assert all(re.fullmatch(r"[0-9a-f]{8}", digest) for digest in digests)

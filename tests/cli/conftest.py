"""A working directory, a spec, and shipped layers of its own for each test."""

import json
import os
from dataclasses import replace

import pytest

from tests.cli.helpers import SPEC
from truestep import building, commands_build, shipped


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test in its own working directory with its own cache."""
    monkeypatch.setenv("TRUESTEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # the default of --jobs: no processes
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def spec(folder):
    """A spec file of two inputs."""
    (folder / "two.toml").write_text(SPEC)
    return "two.toml"


@pytest.fixture
def quick(monkeypatch):
    """Verification that passes without looking, for tests of what comes after it."""

    def passed(source, settings):
        outcome, layer = building.generated(source)
        report = json.dumps({"passed": True})
        return outcome if layer is None else replace(outcome, report=report)

    monkeypatch.setattr(building, "produce", passed)


@pytest.fixture
def layers(tmp_path, monkeypatch):
    """Three shipped specs, generated into a directory that stands for truestep/layers."""
    chosen = [s for s in shipped.shipped() if s.name in ("linear", "scale", "embedding")]
    monkeypatch.setattr(commands_build, "shipped", lambda: tuple(chosen))
    out = tmp_path / "layers"
    monkeypatch.setattr(commands_build, "LAYERS", out)
    return out

"""The wheel holds all that the commands need: built, installed and used outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from ruff import find_ruff_bin

ROOT = Path(__file__).parent.parent
PACKAGES = ("truestep", "derive", "codegen", "verify")
DATA = (".toml", ".jinja", ".css", ".typed")


def run(command: list[str | Path], cwd: Path) -> str:
    """Run outside the checkout, without its path and without the user's site."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_", "VIRTUAL"))}
    environment = {**kept, "PYTHONNOUSERSITE": "1", "PYTHONSAFEPATH": "1", "PYTHONUTF8": "1"}
    environment["XDG_CACHE_HOME"] = str(cwd / "cache")
    done = subprocess.run(
        command, cwd=cwd, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    # Without isolation setuptools is the installed one, and nothing is downloaded.
    options = ["--no-deps", "--no-build-isolation", "--no-cache-dir", "--wheel-dir", folder]
    run([*pip, "wheel", "-q", *options, source], folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the wheel installed and everything else that this one has."""
    folder = tmp_path_factory.mktemp("installed")
    run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], folder)
    interpreter = folder / "venv" / "bin" / "python"
    site = Path(
        run(
            [interpreter, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            folder,
        ).strip()
    )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", interpreter]
    run([*pip, "install", "-q", "--no-deps", "--no-index", wheel], folder)
    # A line of a .pth file adds its folder but not that folder's own .pth files, so a checkout that
    # is installed as editable stays out of reach.
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("\n".join(sorted(dependencies)) + "\n")
    # The formatter is a program beside the interpreter, which a .pth file does not bring along.
    interpreter.with_name("ruff").symlink_to(find_ruff_bin())
    return interpreter


def test_data_travels(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.suffix in (".py", *DATA)
    }
    assert any(path.endswith(".jinja") for path in wanted)
    assert any(path.endswith("py.typed") for path in wanted)
    assert sorted(wanted - held) == []


def test_nothing_else_travels(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_it_is_the_wheel_that_runs(python: Path, tmp_path: Path) -> None:
    lines = [f"import {name}; print({name}.__file__)" for name in PACKAGES]
    for place in run([python, "-I", "-c", "\n".join(lines)], tmp_path).split():
        assert python.parent.parent in Path(place).parents
        assert ROOT not in Path(place).parents


def test_commands(python: Path, tmp_path: Path) -> None:
    truestep = python.with_name("truestep")
    assert "layer_norm_linear" in run([truestep, "list"], tmp_path)
    assert "κ(s) = 1 + ‖x[n]‖²" in run([truestep, "derive", "Linear"], tmp_path)


def test_shipped_layers(python: Path, tmp_path: Path) -> None:
    code = "from truestep import AffineLikeLinear; print(AffineLikeLinear(2, 3))"
    expected = "AffineLikeLinear(in_features=2, out_features=3, bias=True)"
    assert run([python, "-I", "-c", code], tmp_path).strip() == expected


def test_layer_of_ones_own(python: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "own_layer.toml", tmp_path)
    out = tmp_path / "layers"
    run([python.with_name("truestep"), "build", "own_layer.toml", "--out", out], tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(out)!r})\n"
        "import torch\n"
        "from fusion import AffineLikeFusion\n"
        "print(tuple(AffineLikeFusion(2, 3, 4)(torch.ones(5, 2), torch.ones(5, 3)).shape))\n"
        "print({'derive', 'codegen', 'verify', 'truestep'} & set(sys.modules))"
    )
    shape, ours = run([python, "-I", "-c", code], tmp_path).splitlines()
    assert shape == "(5, 4)"
    assert ours == "set()"  # a generated file needs torch and nothing of ours

"""The repository's own tests, run on modules that are not the committed ones."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("truestep", "truestep.layers")
FILES = ("test_twins", "test_numerics", "test_transforms")
ROOM_TESTS = {
    "derive": (
        "derive/test_corrections.py",
        "derive/test_known_answers.py",
        "derive/test_powers.py",
        "derive/test_stages.py",
    ),
    "codegen": ("codegen/test_layer.py", "codegen/test_lowering.py"),
}
QUICK_TESTS = {"derive": ("derive/test_sums.py",), "codegen": ("codegen/test_write.py",)}
"""Tests of single functions, which take no time."""
# Compilers and exporters take seconds and see the same operations.
SLOW = ("compile", "compiled", "exports", "onnxruntime")


def has_tests() -> bool:
    """Whether this is a checkout and not an installation."""
    return (ROOT / "tests" / "layers").is_dir()


def run_tests(stem: str, module: str, names: Sequence[str]) -> str:
    """The first test that fails with another module in a generated one's place.

    Args:
        stem: The generated file's stem.
        module: The other module's name in ``sys.modules``.
        names: The classes whose tests are run.

    Returns:
        The test and its error, or nothing where all pass or there are no tests here.
    """
    if not has_tests():
        return ""
    install(stem, sys.modules[module], names)
    if "attention" in stem:
        return failing(["layers/test_multihead_attention.py"], "")
    words = " or ".join(dict.fromkeys(names))
    chosen = f"({words}) and not ({' or '.join(SLOW)})"
    return failing([f"layers/{name}.py" for name in FILES], chosen)


def run_room_tests(file: str, *, quick: bool) -> str:
    """The first test of a room that fails with one of its modules changed in place.

    Args:
        file: The changed file, as ``derive/update``.
        quick: Whether only the tests of single functions are run.

    Returns:
        As :func:`run_tests`.
    """
    if not has_tests():
        return ""
    room = file.split("/", maxsplit=1)[0]
    return failing(QUICK_TESTS[room] + (() if quick else ROOM_TESTS[room]), "")


def failing(files: Sequence[str], chosen: str) -> str:
    """The first test of some files that fails, and its error."""
    import pytest  # noqa: PLC0415 - a test dependency

    seen = FirstFailure()
    arguments = [
        *(str(ROOT / "tests" / name) for name in files),
        *("-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "--rootdir", str(ROOT)),
        *("-k", chosen),
    ]
    code = pytest.main(arguments, plugins=[seen])
    return seen.text or ("" if code == 0 else f"pytest ended with {code}")


def install(stem: str, module: Any, names: Sequence[str]) -> None:
    """Put a module where the committed one is imported from."""
    face, layers = (importlib.import_module(name) for name in PACKAGES)
    sys.modules[f"truestep.layers.{stem}"] = module
    setattr(layers, stem, module)
    for name in names:
        for package in (face, layers):
            setattr(package, name, getattr(module, name))


class FirstFailure:
    """A pytest plugin that keeps the first failure."""

    def __init__(self) -> None:
        """Nothing failed yet."""
        self.text = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep a failed test's name and the last line of its error."""
        if report.failed and not self.text:
            message = getattr(report.longrepr, "reprcrash", None)
            self.text = f"{report.nodeid}: {getattr(message, 'message', report.longrepr)}"[:300]

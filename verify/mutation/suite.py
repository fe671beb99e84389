"""The repository's own tests, run on modules that are not the committed ones."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("truestep", "truestep.layers")
FILES = (
    "test_helpers",
    "test_twins",
    "test_numerics",
    "test_transforms",
    "test_derived",
    "test_derived_windows",
)
ROOM_TESTS = {
    "derive": (
        "test_certificate",
        "test_certify_parts",
        "test_corrections",
        "test_corrections_parts",
        "test_kernels",
        "test_known_answers",
        "test_powers",
        "test_roots_parts",
        "test_stages",
        "test_sums",
        "test_update_parts",
    ),
    "codegen": ("test_attention", "test_coefficients", "test_layer", "test_lowering", "test_write"),
}
"""Those of what is derived and how it is lowered; the others are about words and other modules."""
OPTIONS = ("-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "--rootdir", str(ROOT))
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
    files = [f"layers/{name}.py" for name in FILES]
    if "attention" in stem:
        files = [files[0], "layers/test_multihead_attention.py"]
        names = [*names, "test_multihead_attention"]
    words = " or ".join([f"[{stem}]", f"-{stem}]", *dict.fromkeys(names)])
    return failing(files, f"({words}) and not ({' or '.join(SLOW)})")


def room_tests(rooms: Sequence[str]) -> list[str]:
    """The files of the tests of rooms; there are none outside a checkout."""
    found = [f"{room}/{name}.py" for room in rooms for name in ROOM_TESTS[room]]
    return found if has_tests() else []


def failing(names: Sequence[str], chosen: str = "", *plugins: Any) -> str:
    """The first of some tests that fails, and its error.

    Args:
        names: Files, or nodes of pytest, below the folder of the tests.
        chosen: An expression that chooses among them.
        plugins: More plugins.
    """
    import pytest  # noqa: PLC0415 - a test dependency

    seen = FirstFailure()
    paths = [str(ROOT / "tests" / name) for name in names]
    code = pytest.main([*paths, *OPTIONS, "-k", chosen], plugins=[seen, *plugins])
    passed = code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    return seen.text or ("" if passed else f"pytest ended with {code}")


def install(stem: str, module: Any, names: Sequence[str]) -> None:
    """Put a module where the committed one is imported from, by tests that are imported anew."""
    for held in [name for name in sys.modules if name.startswith("tests.layers")]:
        del sys.modules[held]
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

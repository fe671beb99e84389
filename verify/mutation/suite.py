"""The repository's own tests, run on modules that are not the committed ones."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, TypeVar

from verify.mutation.isolation import IsolationError

T = TypeVar("T")
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
        "test_gradients_parts",
        "test_kernels",
        "test_known_answers",
        "test_normal_parts",
        "test_powers",
        "test_roots_parts",
        "test_stages",
        "test_structure_parts",
        "test_sums",
        "test_update_parts",
    ),
    "codegen": (
        "test_attention",
        "test_backward_parts",
        "test_backward_windows_parts",
        "test_calls_parts",
        "test_coefficients",
        "test_elementwise_parts",
        "test_forms_parts",
        "test_forward_parts",
        "test_layer",
        "test_lower_parts",
        "test_lowering",
        "test_transposed_parts",
        "test_windows_parts",
        "test_write",
    ),
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


def with_tests(rooms: Sequence[str], function: Callable[[Mapping[str, Any]], T]) -> T:
    """What a function makes of the tests of rooms by their nodes, collected and not run.

    It is called within pytest's session, so that a process that it forks can run some at once.

    Raises:
        IsolationError: If the tests cannot be collected.
    """
    files = room_tests(rooms)
    if not files:
        return function({})
    collected = Collected(function)
    failed = failing(files, "", collected)
    if failed:
        raise IsolationError(f"the tests of the rooms: {failed}")
    return collected.done.result(0)


def first_failing(items: Iterable[Any]) -> str:
    """The first of some collected tests that fails, and its error."""
    from _pytest.runner import runtestprotocol  # noqa: PLC0415 - a test dependency

    for item in items:
        for report in runtestprotocol(item, log=False):
            if report.failed:
                return message_of(report)
    return ""


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


def message_of(report: Any) -> str:
    """A failed test's name and the last line of its error."""
    message = getattr(report.longrepr, "reprcrash", None)
    return f"{report.nodeid}: {getattr(message, 'message', report.longrepr)}"[:300]


class FirstFailure:
    """A pytest plugin that keeps the first failure."""

    def __init__(self) -> None:
        """Nothing failed yet."""
        self.text = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep it."""
        if report.failed and not self.text:
            self.text = message_of(report)


class Collected(Generic[T]):
    """A pytest plugin that hands the tests to a function and runs none.

    Args:
        function: What is called with them.
    """

    def __init__(self, function: Callable[[Mapping[str, Any]], T]) -> None:
        """Nothing is collected yet."""
        self.function = function
        self.done: Future[T] = Future()

    def pytest_runtestloop(self, session: Any) -> bool:
        """Call it, and keep what it returns or raises from pytest."""
        items = {item.nodeid.removeprefix("tests/"): item for item in session.items}
        try:
            self.done.set_result(self.function(items))
        except BaseException as error:
            self.done.set_exception(error)
        return True

"""What the unbroken solver and generator make of every spec, and which of their lines it takes.

A mutant of a line that a spec or a test does not take cannot change what comes of it. So the
baseline tells what to try, cheapest first, and what each spec has to give. It is computed once for
the present sources and kept in the user's cache.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs

import codegen.attention_stages
import codegen.attention_writer
import codegen.layer
import derive.derivation
from codegen import generate
from codegen.formatting import formatted
from codegen.layer import LayerSource
from derive.certificate import certificates
from derive.derivation import Derivation, derive_variants
from derive.errors import TruestepError
from derive.spec import LayerSpec, load_spec
from derive.stages import stage_spec
from verify.mutation.isolation import IsolationError, judged
from verify.mutation.suite import ROOM_TESTS, failing, room_tests
from verify.mutation.taken import Taken

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("derive", "codegen")
SHIPPED = ROOT / "truestep" / "specs"
TESTED = ROOT / "tests" / "codegen" / "specs.py"
LONGEST = 5.0
"""Seconds that a spec may take; layers over volumes take longer and no line of their own."""
LONGEST_TEST = 2.0
"""The same for a test."""
LONG = "not ConvTranspose3d and not conv_transpose3d"
"""Tests that take many seconds are not even tried."""
HOURS = 3600.0
"""Seconds that all of it may take."""


@dataclass(frozen=True)
class Golden:
    """What comes of one spec.

    Attributes:
        name: The spec's name.
        kind: ``derivation``, ``text`` (the file's) or ``general`` (that of the general lowering).
        shipped: Whether the spec's file is committed, so that any other text fails the drift check.
        outcome: See :func:`outcome`.
        seconds: How long it takes.
        lines: File of a room → its lines that are taken.
    """

    name: str
    kind: str
    shipped: bool
    outcome: str
    seconds: float
    lines: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Tested:
    """A test of a room.

    Attributes:
        name: Its node in pytest.
        seconds, lines: As for :class:`Golden`.
    """

    name: str
    seconds: float
    lines: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Baseline:
    """What a mutant is compared with, and asked by.

    Attributes:
        goldens: What comes of the specs, cheapest first.
        tests: The tests of both rooms, cheapest first.
    """

    goldens: tuple[Golden, ...]
    tests: tuple[Tested, ...]


def specs() -> dict[str, tuple[LayerSpec, bool]]:
    """Every spec by name, and whether it is shipped; the tests' own where they are there."""
    found = [(load_spec(p), True) for p in sorted(SHIPPED.glob("*.toml"))]
    if TESTED.exists():
        where = importlib.util.spec_from_file_location("truestep_tested_specs", TESTED)
        assert where is not None, "the file exists"
        assert where.loader is not None, "a Python file has a loader"
        module = importlib.util.module_from_spec(where)
        where.loader.exec_module(module)
        found += [(s, False) for s in module.SPECS]
    return {spec.name: (spec, shipped) for spec, shipped in found}


class Shortened:
    """The solver as it is while specs are asked: it derives a layer once.

    Generated text is left in the layout of the template: formatting changes no code.

    Attributes:
        known: What was derived.
    """

    def __init__(self) -> None:
        """Nothing is derived yet."""
        self.known: dict[tuple[str, frozenset[str]], Derivation] = {}
        self.derive: Callable[..., Derivation] = derive.derivation.derive

    def once(self, spec: LayerSpec, absent: frozenset[str] = frozenset()) -> Derivation:
        """The derivation of a layer."""
        key = (repr(spec), absent)
        if key not in self.known:
            self.known[key] = self.derive(spec, absent)
        return self.known[key]

    def begin(self) -> None:
        """Take the short way."""
        self.put(str, self.once)

    def end(self) -> None:
        """Leave everything as the repository's tests know it."""
        self.put(formatted, self.derive)

    def put(self, layout: Callable[[str], str], solver: Callable[..., Derivation]) -> None:
        """What lays out text, and what derives."""
        for module in (codegen.layer, codegen.attention_writer):
            vars(module)["formatted"] = layout
        for module in (derive.derivation, codegen.attention_stages):
            vars(module)["derive"] = solver


SHORTENED = Shortened()


def produced(spec: LayerSpec, *, general: bool = False) -> tuple[str, LayerSource | None]:
    """The text of a spec or the reason that there is none, and the layer."""
    try:
        source = generate(spec, general=general)
    except TruestepError as error:
        return f"{type(error).__name__}: {error}", None
    return source.text, source


def shown(spec: LayerSpec) -> tuple[str, tuple[Derivation, ...]]:
    """All that ``derive`` says of a spec or the reason that it does not, and the derivations.

    A layer that is derived in stages is shown by its stages.
    """
    found: list[Derivation] = []
    try:
        for part in [stage_spec(spec, name) for name in spec.stages] or [spec]:
            found += derive_variants(part).values()
        texts = [json.dumps(d.to_json(), ensure_ascii=False, sort_keys=True) for d in found]
        texts += [c.to_json() for d in found for c in certificates(d)]
    except TruestepError as error:
        return f"{type(error).__name__}: {error}", ()
    return hashlib.sha256("\n".join(texts).encode()).hexdigest(), tuple(found)


OUTCOMES: Mapping[str, Callable[[LayerSpec], str]] = {
    "derivation": lambda spec: shown(spec)[0],
    "text": lambda spec: produced(spec)[0],
    "general": lambda spec: produced(spec, general=True)[0],
}
"""What comes of a spec: its derivation, the file's text, and that of the general lowering."""


# ---------------------------------------------------------------------- the baseline
def measured() -> Baseline:
    """The baseline of the present sources."""
    SHORTENED.end()
    lines = Taken(texts())
    tests = tuple(tested(lines))
    SHORTENED.begin()
    goldens = [g for name, (s, shipped) in specs().items() for g in golden(name, s, shipped, lines)]
    SHORTENED.end()
    return Baseline(
        tuple(sorted(goldens, key=lambda g: g.seconds)),
        tuple(sorted(tests, key=lambda t: t.seconds)),
    )


def golden(name: str, spec: LayerSpec, shipped: bool, lines: Taken) -> list[Golden]:
    """What comes of a spec; nothing where it takes too long."""
    forget()
    found: list[Golden] = []
    for kind, outcome in OUTCOMES.items():
        start = time.process_time()
        text = lines.during(lambda: outcome(spec))  # noqa: B023 - called at once
        seconds = round(time.process_time() - start, 3)
        # What an outcome rests on was derived with the first of them.
        below = found[0].lines if found else {}
        found.append(Golden(name, kind, shipped, text, seconds, lines.named(below)))
    return found if found[0].seconds < LONGEST else []


class Recorder:
    """A pytest plugin that records each test, run with nothing known before.

    Args:
        lines: What keeps lines.
    """

    def __init__(self, lines: Taken) -> None:
        """No test was run."""
        self.lines = lines
        self.found: list[Tested] = []

    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> bool:
        """Run a test."""
        from _pytest.runner import runtestprotocol  # noqa: PLC0415 - a test dependency

        forget()
        start = time.process_time()
        self.lines.during(lambda: runtestprotocol(item, nextitem=nextitem))
        seconds = round(time.process_time() - start, 3)
        if seconds < LONGEST_TEST:
            name = item.nodeid.removeprefix("tests/")
            self.found.append(Tested(name, seconds, self.lines.named({})))
        return True


def tested(lines: Taken) -> list[Tested]:
    """The tests of both rooms.

    Raises:
        IsolationError: If one fails.
    """
    recorder = Recorder(lines)
    files = room_tests(ROOMS)
    failed = failing(files, LONG, recorder) if files else ""
    if failed:
        raise IsolationError(f"a test fails without a mutant: {failed}")
    return recorder.found


def forget() -> None:
    """Empty the caches of the rooms and of their tests, so that a mutant is asked, and not them."""
    SHORTENED.known.clear()
    for name, module in list(sys.modules.items()):
        if name.split(".", maxsplit=1)[0] in (*ROOMS, "tests"):
            for held in list(vars(module).values()):
                if hasattr(held, "cache_clear"):
                    held.cache_clear()


def digest() -> str:
    """A digest of everything that the baseline depends on."""
    files = [p for room in ROOMS for p in sorted((ROOT / room).rglob("*.*")) if p.suffix != ".pyc"]
    files += sorted(SHIPPED.glob("*.toml"))
    files += [p for room in ROOMS for p in sorted((ROOT / "tests" / room).rglob("*.py"))]
    files += [Path(__file__).with_name(f"{name}.py") for name in ("baseline", "taken")]
    parts = [*(p.read_bytes() for p in files), repr(ROOM_TESTS).encode()]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def texts() -> dict[str, str]:
    """The files of the rooms by name, as ``derive/update``."""
    files = [(f"{room}/{p.stem}", p) for room in ROOMS for p in sorted((ROOT / room).glob("*.py"))]
    return {name: p.read_text(encoding="utf-8") for name, p in files}


@functools.cache
def baseline() -> Baseline:
    """The baseline of the present sources, from the cache where it is there.

    Raises:
        IsolationError: If a test fails.
    """
    cache = os.environ.get("TRUESTEP_CACHE") or platformdirs.user_cache_dir("truestep")
    file = Path(cache) / "mutation" / f"{digest()}.json"
    if not file.exists():
        (found,) = judged(lambda _: asdict(measured()), [0], HOURS)
        if found is None:
            raise IsolationError("the unbroken solver did not come to an end")
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(found), encoding="utf-8")
        part.replace(file)
    kept = json.loads(file.read_text(encoding="utf-8"))
    goldens, tests = (tuple(cls(**e) for e in kept[k]) for k, cls in ENTRIES.items())
    return Baseline(goldens, tests)


ENTRIES: Mapping[str, Callable[..., Any]] = {"goldens": Golden, "tests": Tested}

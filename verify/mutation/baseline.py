"""What the unbroken solver and generator make of every spec, and which of their lines it takes.

A mutant of a line that a spec does not take cannot change what comes of the spec. So the baseline
tells which specs to try, cheapest first, and what each has to give. It is computed once for the
present sources and kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import platformdirs

import codegen.attention_writer
import codegen.layer
from codegen import generate
from codegen.formatting import formatted
from codegen.layer import LayerSource
from derive.certificate import certificates
from derive.derivation import Derivation, derive_variants
from derive.errors import TruestepError
from derive.spec import LayerSpec, load_spec
from derive.stages import stage_spec

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("derive", "codegen")
SHIPPED = ROOT / "truestep" / "specs"
TESTED = ROOT / "tests" / "codegen" / "specs.py"
LONGEST = 5.0
"""Seconds a spec may take; layers over volumes take longer and no line of their own."""


@dataclass(frozen=True)
class Golden:
    """What comes of one spec.

    Attributes:
        name: The spec's name.
        shipped: Whether its file is committed, so that any other text fails the drift check.
        outcome: See :func:`outcome`.
        seconds: How long it takes.
        lines: File of a room → its lines that are taken.
    """

    name: str
    shipped: bool
    outcome: Mapping[str, str]
    seconds: float
    lines: Mapping[str, tuple[int, ...]]


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


def unformatted() -> None:
    """Leave the layout of generated text as the template makes it: formatting changes no code."""
    for module in (codegen.layer, codegen.attention_writer):
        vars(module)["formatted"] = str


def formatted_again() -> None:
    """Lay generated text out as it is committed, which the repository's tests compare."""
    for module in (codegen.layer, codegen.attention_writer):
        vars(module)["formatted"] = formatted


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


def outcome(spec: LayerSpec) -> Iterator[tuple[str, str]]:
    """What comes of a spec: its derivation, the file's text, then that of the general lowering."""
    yield "derivation", shown(spec)[0]
    yield "text", produced(spec)[0]
    yield "general", produced(spec, general=True)[0]


# ---------------------------------------------------------------------- lines taken
class Lines:
    """A trace function that keeps the lines taken within the rooms."""

    def __init__(self) -> None:
        """Start empty."""
        self.found: dict[str, set[int]] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Called for every function; follows those of the rooms."""
        lines = self.found.get(frame.f_code.co_filename)
        if lines is None:
            return None
        lines.add(frame.f_lineno)

        def follow(frame: FrameType, event: str, argument: Any) -> Any:
            lines.add(frame.f_lineno)
            return follow

        return follow

    def of(self, spec: LayerSpec) -> dict[str, str]:
        """Trace a spec; returns its outcome."""
        files = [p for room in ROOMS for p in (ROOT / room).glob("*.py")]
        self.found = {str(p): set() for p in files}
        sys.settrace(self)
        try:
            return dict(outcome(spec))
        finally:
            sys.settrace(None)

    def named(self) -> dict[str, tuple[int, ...]]:
        """Lines by ``room/stem``."""
        return {
            f"{Path(p).parent.name}/{Path(p).stem}": tuple(sorted(lines))
            for p, lines in self.found.items()
            if lines
        }


# ---------------------------------------------------------------------- the baseline
def measured() -> tuple[Golden, ...]:
    """The baseline of the present sources."""
    unformatted()
    found, lines = [], Lines()
    for name, (spec, shipped) in specs().items():
        start = time.perf_counter()
        first = dict(outcome(spec))
        seconds = time.perf_counter() - start
        if seconds <= LONGEST:
            again = lines.of(spec)
            assert first == again, f"{name} does not come out the same twice"
            found.append(Golden(name, shipped, first, round(seconds, 2), lines.named()))
    return tuple(sorted(found, key=lambda g: (g.seconds > 1, not g.shipped, g.seconds)))


def digest() -> str:
    """A digest of everything that the baseline depends on."""
    files = [p for room in ROOMS for p in sorted((ROOT / room).rglob("*.*")) if p.suffix != ".pyc"]
    files += [*sorted(SHIPPED.glob("*.toml")), *([TESTED] if TESTED.exists() else [])]
    return hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()[:16]


def baseline() -> tuple[Golden, ...]:
    """The baseline of the present sources, from the cache where it is there."""
    cache = os.environ.get("TRUESTEP_CACHE") or platformdirs.user_cache_dir("truestep")
    file = Path(cache) / "mutation" / f"{digest()}.json"
    if file.exists():
        entries = json.loads(file.read_text(encoding="utf-8"))
        return tuple(Golden(**entry) for entry in entries)
    found = measured()
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps([asdict(g) for g in found]), encoding="utf-8")
    part.replace(file)
    return found

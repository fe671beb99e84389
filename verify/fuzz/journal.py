"""Results that survive an interruption: one line of JSON a spec.

A spec that passed counts whatever code judged it, and the summary says which code that was. One
that failed is judged again when the code has changed.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from verify.fuzz.judge import Finding, Verdict
from verify.fuzz.results import Failure, Result, Settings

ROOMS = ("derive", "codegen", "verify")
SOURCES = (".py", ".jinja")


@functools.cache
def state_of_code() -> str:
    """A short digest of everything that judges and is judged."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for file in sorted(f for room in ROOMS for f in (root / room).rglob("*")):
        if file.suffix in SOURCES:
            digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def known(settings: Settings) -> dict[int, Result]:
    """Number → what an earlier run kept of it and need not be judged again."""
    found: dict[int, Result] = {}
    file = settings.resume
    if file is None or not file.exists():
        return found
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.endswith("}"):
            continue  # cut short
        entry = json.loads(line)
        kind = (entry.pop("seed"), entry.pop("rare", False))
        if kind == (settings.seed, settings.rare) and entry["number"] in settings.numbers:
            found[entry["number"]] = result_of(entry)
    return {k: r for k, r in found.items() if not r.failures or r.code == state_of_code()}


def keep(settings: Settings, results: Iterable[Result]) -> None:
    """Append results to the file."""
    if settings.resume is not None:
        with settings.resume.open("a", encoding="utf-8") as handle:
            for result in results:
                kind = {"seed": settings.seed, "rare": settings.rare}
                handle.write(json.dumps({**kind, **asdict(result)}) + "\n")


def result_of(entry: dict[str, Any]) -> Result:
    """A result of its JSON."""
    verdict = entry["verdict"]
    verdict["findings"] = [Finding(**f) for f in verdict["findings"]]
    for pairs in ("offered", "refused"):
        verdict[pairs] = [(a, b) for a, b in verdict[pairs]]
    failures = [Failure(**{**f, "finding": Finding(**f["finding"])}) for f in entry["failures"]]
    return Result(**{**entry, "verdict": Verdict(**verdict), "failures": failures})

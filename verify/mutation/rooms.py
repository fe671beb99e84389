"""Mutants of the solver and the lowering, and what refuses them.

    raises        a spec that has a layer no longer has one, or the other way round
    verification  the file of a spec changes, and the stages of verification refuse it
    drift         they accept it, but a shipped file is not what is committed
    lowering      the general lowering, which is no committed file, changes and is refused
    tests         where no spec takes the line: the repository's tests of the room

Verification is asked about the first spec whose file changes, so that what it refuses is a lower
bound.
"""

from __future__ import annotations

import ast
import functools
import importlib

import torch

from codegen.layer import LayerSource
from derive.spec import LayerSpec
from verify import conformance
from verify.mutation.baseline import (
    ROOMS,
    ROOT,
    Golden,
    baseline,
    produced,
    specs,
    unformatted,
)
from verify.mutation.loading import general_of, subjects_of
from verify.mutation.mutants import Mutant, mutants, mutated_tree
from verify.mutation.suite import run_room_tests
from verify.mutation.swap import swap
from verify.results import STAGES
from verify.stage import Settings

SECONDS = 90.0
INSTANCES = 2
TRIED = 1.5
"""Seconds of specs, without a change, that are tried on one mutant, cheapest first."""
DERIVE = """
    update squares structure corrections correction roots extended certify input_map fractions
    normal
    """
CODEGEN = "lower reading elementwise axes windows transposed forms forward signs calls sizes"
FILES = {"derive": DERIVE.split(), "codegen": CODEGEN.split()}


class RoomTarget:
    """A module of a room.

    Args:
        name: As ``derive/update``.
    """

    alone = True
    seconds = SECONDS

    def __init__(self, name: str) -> None:
        """Read the file; import what its mutants are judged with."""
        torch.set_num_threads(1)
        unformatted()
        self.file = name
        self.text = (ROOT / f"{name}.py").read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)
        self.module = importlib.import_module(name.replace("/", "."))
        self.specs = specs()
        self.goldens = baseline()

    def mutants(self) -> tuple[Mutant, ...]:
        """Every mutant of the file."""
        return mutants(self.text, self.file)

    def judge(self, mutant: Mutant) -> tuple[str, str]:
        """Who refuses a mutant, and why; changes the imported modules."""
        try:
            swap(self.module, mutated_tree(self.tree, mutant), mutant.function)
        except Exception as error:
            return "raises", f"on import: {error!r}"
        accepted = ""
        for golden in self.taking(mutant):
            killer, detail = compare(golden, self.specs[golden.name][0])
            if killer in ("raises", "verification", "lowering", "drift"):
                return killer, detail
            accepted = accepted or detail
        failed = "" if self.taking(mutant) else run_room_tests(self.file)
        return ("tests", failed) if failed else ("", accepted)

    def taking(self, mutant: Mutant) -> list[Golden]:
        """Cheap specs that take the line of a mutant; any, for what is no function's."""
        lines = set(range(mutant.line, mutant.last + 1))
        found: list[Golden] = []
        seconds = 0.0
        for golden in self.goldens:
            taken = not mutant.function or lines & set(golden.lines.get(self.file, ()))
            if taken and (not found or seconds + golden.seconds <= TRIED):
                found.append(golden)
                seconds += golden.seconds
        return found


def compare(golden: Golden, spec: LayerSpec) -> tuple[str, str]:
    """Whether what comes of a spec is what came of it before, and if not, who says so."""
    for kind, wanted in golden.outcome.items():
        try:
            found, source = produced(spec, general=kind == "general")
        except Exception as error:
            return "raises", f"{golden.name}: {error!r}"
        if found == wanted:
            continue
        if source is None:
            return "raises", f"{golden.name}: {found}"
        refusal = refused(source)
        if refusal:
            return "verification" if kind == "text" else "lowering", f"{golden.name}: {refusal}"
        if kind == "text" and golden.shipped:
            return "drift", f"{golden.name}: another text, which verification accepts"
        return "accepted", f"{golden.name}: another {kind}, which verification accepts"
    return "", ""


def refused(source: LayerSource) -> str:
    """The first stage of verification that refuses a layer, and why."""
    try:
        settings = Settings(INSTANCES, 0, general_of(source))
        for case in conformance.grouped(subjects_of(source), settings, STAGES, ""):
            result = case.run()
            if not result.passed:
                return f"{result.stage}: {result.detail}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


@functools.lru_cache(maxsize=1)
def open_room(name: str) -> RoomTarget:
    """The target of a file of a room."""
    return RoomTarget(name)


def room_files(names: tuple[str, ...]) -> tuple[str, ...]:
    """Files by room, or by name as ``derive/update``; all of them where no names are given.

    Raises:
        KeyError: If there is no such room or file.
    """
    known = {room: tuple(f"{room}/{f}" for f in FILES[room]) for room in ROOMS}
    single = {f for files in known.values() for f in files}
    found: list[str] = []
    for name in names or ROOMS:
        if name not in known and name not in single:
            raise KeyError(
                f"no room or file `{name}`; known: {', '.join((*known, *sorted(single)))}"
            )
        found += known.get(name, (name,))
    return tuple(dict.fromkeys(found))

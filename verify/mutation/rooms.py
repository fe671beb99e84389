"""Mutants of the solver and the lowering, and what refuses them.

    raises        a spec that has a layer no longer has one, or the other way round
    certificate   the derivation of a spec changes, and the checker refuses a certificate of it
    verification  the file of a spec changes, and the stages of verification refuse it
    lowering      the general lowering, which is no committed file, changes and is refused
    drift         they accept it, but a shipped file is not what is committed
    shown         only what ``derive`` says of a spec is not what the unbroken solver says of it
    tests         the repository's tests of single functions; where no spec takes the line, all
                  those of the room

A spec after another is asked until one gives the mutant away. Verification is asked about the
first whose file changes, so that what it refuses is a lower bound.
"""

from __future__ import annotations

import ast
import functools
import importlib
import json
import sys

import torch

from codegen.layer import LayerSource
from derive.certificate import certificates
from derive.spec import LayerSpec
from verify import conformance
from verify.checker import check
from verify.mutation.baseline import (
    ROOMS,
    ROOT,
    Golden,
    baseline,
    formatted_again,
    produced,
    shown,
    specs,
    unformatted,
)
from verify.mutation.isolation import IsolationError, judged
from verify.mutation.loading import general_of, subjects_of
from verify.mutation.mutants import Mutant, mutants, mutated_tree
from verify.mutation.suite import run_room_tests
from verify.mutation.swap import swap
from verify.results import STAGES
from verify.stage import Settings

SECONDS = 40.0
INSTANCES = 2
TRIED = 4.0
"""Seconds of specs, without a change, that are tried on one mutant, cheapest first."""
WEAK = ("", "accepted", "shown")
"""What does not end the judgement of a mutant, the weakest first."""
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
        judge_tests(name)

    def mutants(self) -> tuple[Mutant, ...]:
        """Every mutant of the file."""
        return mutants(self.text, self.file)

    def judge(self, mutant: Mutant) -> tuple[str, str]:
        """Who refuses a mutant, and why; changes the imported modules."""
        forget()
        try:
            swap(self.module, mutated_tree(self.tree, mutant), mutant.function)
        except Exception as error:
            return "raises", f"on import: {error!r}"
        weak: tuple[str, str] = ("", "")
        for golden in self.taking(mutant):
            killer, detail = self.compare(golden)
            if killer not in ("", "shown", "accepted"):
                return killer, detail
            weak = max(weak, (killer, detail), key=lambda found: WEAK.index(found[0]))
        if weak[0] == "shown":
            return weak
        formatted_again()
        failed = run_room_tests(self.file, quick=bool(self.taking(mutant)))
        return ("tests", failed) if failed else ("", weak[1])

    def compare(self, golden: Golden) -> tuple[str, str]:
        """Whether what comes of a spec is what came of it before, and if not, who says so."""
        spec = self.specs[golden.name][0]
        killer, detail = "", ""
        if self.file.startswith("derive/"):
            killer, detail = compare_shown(golden, spec)
        if killer in ("raises", "certificate"):
            return killer, detail
        other = compare_texts(golden, spec)
        return (killer, detail) if other[0] in ("", "accepted") and killer else other

    def taking(self, mutant: Mutant) -> list[Golden]:
        """Cheap specs that take the line of a mutant; for what is no function's, any.

        Those that name what changes, as a function in a table, come first.
        """
        lines = set(range(mutant.line, mutant.last + 1))
        found: list[Golden] = []
        seconds = 0.0
        word = mutant.before.strip("'\"")
        for golden in sorted(self.goldens, key=lambda g: word not in self.specs[g.name][0].forward):
            taken = not mutant.function or lines & set(golden.lines.get(self.file, ()))
            if taken and (not found or seconds + golden.seconds <= TRIED):
                found.append(golden)
                seconds += golden.seconds
        return found


@functools.cache
def judge_tests(file: str) -> None:
    """The tests accept what is not broken; what they refuse would mean nothing otherwise.

    Raises:
        IsolationError: If one fails.
    """

    def failed(quick: bool) -> str:
        formatted_again()
        return run_room_tests(file, quick=quick)

    for answer in judged(failed, [True], SECONDS):
        if answer != "":
            raise IsolationError(f"a test fails without a mutant: {answer or 'no answer'}")


def forget() -> None:
    """Empty the caches of the rooms, so that the mutant is asked and not what was known before."""
    for name, module in list(sys.modules.items()):
        if name.split(".", maxsplit=1)[0] in ROOMS:
            for held in list(vars(module).values()):
                if hasattr(held, "cache_clear"):
                    held.cache_clear()


def compare_shown(golden: Golden, spec: LayerSpec) -> tuple[str, str]:
    """Whether a derivation is what it was before, and if not, whether the checker refuses it."""
    try:
        found, derivations = shown(spec)
        if found == golden.outcome["derivation"]:
            return "", ""
        if not derivations:
            return "raises", f"{golden.name}: {found}"
        for entry in dict.fromkeys(c.to_json() for d in derivations for c in certificates(d)):
            verdict = check(json.loads(entry))
            if not verdict.accepted:
                return "certificate", f"{golden.name}: {verdict.text}"
    except Exception as error:
        return "raises", f"{golden.name}: {error!r}"
    return "shown", f"{golden.name}: another derivation, whose certificates are accepted"


def compare_texts(golden: Golden, spec: LayerSpec) -> tuple[str, str]:
    """Whether both texts of a spec are what they were before, and if not, who refuses them."""
    for kind in ("text", "general"):
        try:
            found, source = produced(spec, general=kind == "general")
        except Exception as error:
            return "raises", f"{golden.name}: {error!r}"
        if found == golden.outcome[kind]:
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

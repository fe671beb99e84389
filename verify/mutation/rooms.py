"""Mutants of the solver and the lowering, and what refuses them.

    raises        a spec that has a layer no longer has one, or the other way round
    certificate   the derivation of a spec changes, and the checker refuses a certificate of it
    emitted       the file of a spec changes, and the exact reading refuses it
    lowering      the general lowering, which is no committed file, changes and is refused likewise
    drift         the reading accepts it, but a shipped file is not what is committed
    tests         the repository's tests of the rooms, of those that take the line
    verification  the other stages, asked where what comes of a spec changes and these accept it

Only specs and tests that take what a mutant changes are asked, cheapest first, one after another
until one gives it away: a second of quick tests, then specs, then the other tests. A mutant that
none takes survives at once. What only the comparison with
the unbroken solver gives away is not refused.
"""

from __future__ import annotations

import ast
import functools
import importlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch

from codegen import generate
from codegen.layer import LayerSource
from derive.certificate import certificates
from derive.spec import LayerSpec
from verify import conformance
from verify.checker import check
from verify.emitted import Prover
from verify.mutation.baseline import (
    OUTCOMES,
    ROOMS,
    SHORTENED,
    Golden,
    Tested,
    baseline,
    forget,
    produced,
    shown,
    specs,
    texts,
)
from verify.mutation.isolation import IsolationError, judged
from verify.mutation.loading import general_of, subjects_of
from verify.mutation.mutants import Mutant, mutants, mutated_tree
from verify.mutation.places import Places, places
from verify.mutation.suite import first_failing, with_tests
from verify.mutation.swap import swap
from verify.results import STAGES
from verify.stage import Settings

SECONDS = 60.0
TRIED = 3.0
"""Seconds of specs, without a change, that are tried on one mutant, cheapest first."""
TRIED_TESTS = 12.0
"""The same for tests, which are asked until one fails: of what survives, all of them."""
QUICK = 1.0
"""Seconds of tests that are asked before the specs."""
CHECKED = 0.2
"""Seconds of tests that are run without a mutant first."""
ENOUGH = 2
"""Of how many specs another outcome is accepted before none is asked any more, but the stages."""
INSTANCES = 2
DERIVE = """
    update squares structure corrections correction roots extended certify input_map fractions
    normal gradients
    """
CODEGEN = """
    lower reading elementwise axes windows transposed forms forward signs calls sizes boxes
    backward backward_forms backward_windows
    """
FILES = {"derive": DERIVE.split(), "codegen": CODEGEN.split()}
T = TypeVar("T")
Taking = TypeVar("Taking", Golden, Tested)


class RoomTarget:
    """A module of a room.

    Args:
        name: As ``derive/update``.
    """

    alone = True
    seconds = SECONDS

    def __init__(self, name: str) -> None:
        """Read the file."""
        torch.set_num_threads(1)
        self.file = name
        self.text = texts()[name]

    def within(self, function: Callable[[], T]) -> T:
        """Call a function where mutants can be judged."""
        self.prepare()

        def collected(items: Mapping[str, Any]) -> T:
            self.items = items
            self.check()
            return function()

        return with_tests(ROOMS, collected)

    def prepare(self) -> None:
        """Import and derive what mutants are judged with."""
        self.module = importlib.import_module(self.file.replace("/", "."))
        self.specs = specs()
        self.tests = baseline().tests
        SHORTENED.begin()
        if self.file.startswith("derive/"):
            forget()
            self.goldens = of_derivations()
        else:
            derive_all()
            self.goldens = tuple(g for g in baseline().goldens if g.kind != "derivation")

    def check(self) -> None:
        """Show that a forked process runs tests, and that the quickest do not fail by themselves.

        Raises:
            IsolationError: If one does.
        """
        seconds = itertools.accumulate(test.seconds for test in self.tests)
        quick = [t for t, so_far in zip(self.tests, seconds, strict=True) if so_far < CHECKED]
        (failed,) = judged(lambda _: self.failing(quick), [0], SECONDS)
        if failed != "":
            raise IsolationError(f"a test fails without a mutant: {failed}")

    def mutants(self) -> tuple[Mutant, ...]:
        """Every mutant of the file."""
        return mutants(self.text, self.file)

    def judge(self, mutant: Mutant) -> tuple[str, str]:
        """Who refuses a mutant, and why; changes the imported modules."""
        trees = parsed()
        where = places(self.file, trees, mutant)
        asked = taking(self.goldens, where, TRIED)
        tests = taking(self.tests, where, TRIED_TESTS)
        if not asked and not tests:
            return "", "no spec and no test takes it"
        try:
            swap(self.module, mutated_tree(trees[self.file], mutant), mutant.function)
        except Exception as error:
            return "raises", f"on import: {error!r}"
        quick = taking(tests, where, QUICK)
        failed = self.failing(quick)
        if failed:
            return "tests", failed
        changed: dict[str, str] = {}
        SHORTENED.begin()
        for golden in asked:
            killer, said = compared(golden, self.specs[golden.name][0])
            if killer:
                return killer, said
            if said:
                changed.setdefault(golden.name, said)
            if len(changed) == ENOUGH:
                break
        failed = self.failing(tests[len(quick) :])
        if failed:
            return "tests", failed
        for name in changed:
            refusal = verified(self.specs[name][0])
            if refusal:
                return "verification", f"{name}: {refusal}"
        return "", next(iter(changed.values()), "")

    def failing(self, tests: Sequence[Tested]) -> str:
        """The first of some tests that fails, asked of the solver as it is."""
        SHORTENED.end()
        return first_failing(self.items[test.name] for test in tests)


def taking(every: Sequence[Taking], where: Places, seconds: float) -> list[Taking]:
    """Those that take one of some lines, within some seconds, but for the first."""
    found: list[Taking] = []
    for each in every:
        if any(not lines.isdisjoint(each.lines.get(file, ())) for file, lines in where.items()):
            seconds -= each.seconds
            if found and seconds < 0:
                break
            found.append(each)
    return found


@functools.cache
def of_derivations() -> tuple[Golden, ...]:
    """What a mutant of the solver may change: derivations, and texts by what only they take."""
    found = {g.name: g for g in baseline().goldens if g.kind == "derivation"}
    texts = [
        replace(
            text,
            seconds=text.seconds + found[text.name].seconds,
            lines={
                file: tuple({*lines} - {*found[text.name].lines.get(file, ())})
                for file, lines in text.lines.items()
            },
        )
        for text in baseline().goldens
        if text.kind == "text"
    ]
    return tuple(sorted([*found.values(), *texts], key=lambda g: g.seconds))


@functools.cache
def parsed() -> dict[str, ast.Module]:
    """The files of the rooms."""
    return {name: ast.parse(text) for name, text in texts().items()}


@functools.cache
def derive_all() -> None:
    """Derive every spec once, as a mutant of the lowering changes no derivation."""
    forget()
    names = {g.name for g in baseline().goldens}
    for name, (spec, _) in specs().items():
        if name in names:
            produced(spec)


def compared(golden: Golden, spec: LayerSpec) -> tuple[str, str]:
    """Whether what comes of a spec is what came of it before, and if not, who refuses it.

    Returns:
        Who, and what that said; nobody, and what is another but accepted, if it is.
    """
    try:
        found = OUTCOMES[golden.kind](spec)
        if found == golden.outcome:
            return "", ""
        if golden.kind != "derivation":
            return judge_text(golden, spec)
        return judge_derivation(golden, spec, found)
    except Exception as error:
        return "raises", f"{golden.name}: {error!r}"


def judge_derivation(golden: Golden, spec: LayerSpec, said: str) -> tuple[str, str]:
    """Who refuses another derivation, or the file that comes of it."""
    _, derivations = shown(spec)
    if not derivations:
        return "raises", f"{golden.name}: {said}"
    for entry in dict.fromkeys(c.to_json() for d in derivations for c in certificates(d)):
        verdict = check(json.loads(entry))
        if not verdict.accepted:
            return "certificate", f"{golden.name}: {verdict.text}"
    texts = [g for g in baseline().goldens if g.name == golden.name and g.kind == "text"]
    changed = [g for g in texts if OUTCOMES[g.kind](spec) != g.outcome]
    if changed:
        return judge_text(changed[0], spec)
    return "", f"{golden.name}: another derivation, whose certificates are accepted"


def judge_text(golden: Golden, spec: LayerSpec) -> tuple[str, str]:
    """Who refuses another text."""
    found, source = produced(spec, general=golden.kind == "general")
    if source is None:
        return "raises", f"{golden.name}: {found}"
    refusal = refused(source)
    if refusal:
        return "emitted" if golden.kind == "text" else "lowering", f"{golden.name}: {refusal}"
    if golden.kind == "text" and golden.shipped:
        return "drift", f"{golden.name}: another text, which the exact reading accepts"
    return "", f"{golden.name}: another {golden.kind}, which the exact reading accepts"


def refused(source: LayerSource) -> str:
    """Why a layer's text does not load or the exact reading refuses it; empty: it does not."""
    try:
        Prover(subjects_of(source)).judge(source.text)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def verified(spec: LayerSpec) -> str:
    """The first stage of verification that refuses a spec, and why; empty: none does."""
    try:
        source = generate(spec)
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

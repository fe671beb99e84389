"""Who takes what a mutant of the solver or the lowering changes, and who refuses it."""

import ast
import importlib
from dataclasses import replace

import pytest
from sympy import Symbol

from derive.spec import load_spec
from tests.support import SPEC_FILES
from verify.mutation import baseline, rooms
from verify.mutation.baseline import OUTCOMES, SHORTENED, Baseline, Golden, texts
from verify.mutation.isolation import IsolationError, judged
from verify.mutation.mutants import mutants
from verify.mutation.places import places
from verify.mutation.suite import with_tests
from verify.mutation.taken import Taken

TEXT = """
LIMIT = 2 * 3
TWICE = LIMIT + LIMIT


def f(x, most=4 - 1):
    '''Words.'''
    if x > most and (
        x < 10
    ):
        return x + TWICE
    return [
        y
        for y in range(x)
        if y > 1
    ]
"""
PLACES = {
    "2 * 3": {11},
    "4 - 1": {6, 7, 8},
    "x < 10": {8, 9, 10},
    "x + TWICE": {11},
    "y > 1": {12, 13, 14, 15, 16},
}


@pytest.mark.parametrize("before", PLACES)
def test_a_mutant_is_seen_where_its_statement_or_its_constant_is_taken(before):
    found = {m.before: m for m in mutants(TEXT, "derive/f")}
    where = places("derive/f", {"derive/f": ast.parse(TEXT)}, found[before])
    assert where == {"derive/f": PLACES[before]}


def test_statements_say_that_they_are_taken():
    text = texts()["codegen/signs"]
    one, other, _ = [n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)]

    def asked(_):
        taken = Taken({"codegen/signs": text})
        positive = importlib.import_module("codegen.signs").positive
        value = taken.during(lambda: positive(1 + Symbol("x", real=True) ** 2))
        return value, taken.named({"a/b": [2, 1]}), taken.during(lambda: taken.named({}))

    ((value, lines, none),) = judged(asked, [0], 20.0)
    assert value is True
    assert lines["a/b"] == [1, 2]
    assert set(lines["codegen/signs"]) >= {n.lineno for n in one.body[1:]}
    assert not set(lines["codegen/signs"]) & {n.lineno for n in other.body}
    assert none == {}


@pytest.fixture
def target(monkeypatch):
    """The lowering with one spec to ask, which takes all of it."""
    spec = load_spec(SPEC_FILES["scale"])
    lines = {"codegen/lower": tuple(range(1000))}
    SHORTENED.begin()
    goldens = [
        Golden("Scale", kind, True, OUTCOMES[kind](spec), 0.1, lines)
        for kind in ("text", "general")
    ]
    monkeypatch.setattr(rooms, "baseline", lambda: Baseline(tuple(goldens), ()))
    rooms.derive_all.cache_clear()
    found = rooms.RoomTarget("codegen/lower")
    found.prepare()
    yield found
    SHORTENED.end()
    rooms.derive_all.cache_clear()


def negated(target):
    (found,) = [m for m in target.mutants() if m.after == "e not in self.cache"]
    return found


def test_a_spec_gives_a_broken_lowering_away_and_not_the_unbroken_one(target):
    for golden in target.goldens:
        assert rooms.compared(golden, target.specs["Scale"][0]) == ("", "")
    ((killer, _),) = judged(target.judge, [negated(target)], 30.0)
    assert killer == "raises"


def test_another_text_is_drift_where_it_is_right(target):
    golden = target.goldens[0]
    other = replace(golden, outcome=golden.outcome + "\n")
    spec = target.specs["Scale"][0]
    assert rooms.compared(other, spec)[0] == "drift"
    assert rooms.compared(replace(other, shipped=False), spec)[0] == ""


def test_what_nothing_takes_survives_without_being_run(target):
    target.goldens = ()
    assert target.judge(negated(target)) == ("", "no spec and no test takes it")


def test_a_test_gives_a_broken_lowering_away_before_a_spec_is_asked(target):
    def asked(items):
        target.items = items
        name = next(n for n in items if n.startswith("codegen/test_coefficients.py"))
        target.tests = [baseline.Tested(name, 0.1, {"codegen/lower": tuple(range(1000))})]
        target.check()
        ((killer, said),) = judged(target.judge, [negated(target)], 30.0)
        return killer, said.startswith(f"tests/{name}: ")

    assert with_tests(("codegen",), asked) == ("tests", True)


def test_a_test_that_fails_by_itself_refuses_nothing(target):
    target.failing = lambda tests: "test_a: AssertionError"
    with pytest.raises(IsolationError, match="without a mutant: test_a"):
        with_tests(("codegen",), lambda _: target.check())


def test_the_solver_is_asked_by_texts_of_what_only_they_take(monkeypatch):
    """Derivations first where both take a line; a text costs its derivation too."""
    kinds = {
        "derivation": (3.0, {"derive/a": (1, 2)}),
        "text": (0.5, {"derive/a": (1, 2, 3), "codegen/b": (7,)}),
        "general": (0.1, {"derive/a": (9,)}),
    }
    goldens = tuple(Golden("S", k, True, "", s, lines) for k, (s, lines) in kinds.items())
    monkeypatch.setattr(rooms, "baseline", lambda: Baseline(goldens, ()))
    found = rooms.of_derivations.__wrapped__()
    assert [(g.kind, g.seconds) for g in found] == [("derivation", 3.0), ("text", 3.5)]
    assert found[1].lines == {"derive/a": (3,), "codegen/b": (7,)}

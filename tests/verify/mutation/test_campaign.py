"""A campaign fails on a survivor and on a needless argument, and goes on where it was."""

from dataclasses import replace

import pytest

from verify.mutation.campaign import Plan, read, run, summed
from verify.mutation.equivalents import Equivalent
from verify.mutation.mutants import mutants
from verify.mutation.report import arguments, markdown

TEXT = "def f(x):\n    return x + 1\n"


class Blind:
    """A target whose check sees only what its text says that it sees."""

    alone = False
    seconds = 10.0

    def __init__(self, key):
        self.file = key
        self.text = TEXT

    def within(self, function):
        self.sees = self.file == "seeing"
        return function()

    def mutants(self):
        return mutants(self.text, self.file)

    def judge(self, mutant):
        namespace = {}
        from verify.mutation.mutants import mutated

        exec(mutated(TEXT, mutant), namespace)
        wrong = namespace["f"](1) != 2
        return ("check", "another value") if self.sees and wrong else ("", "")


def plan(key, **more):
    return Plan(Blind, (key,), **more)


def test_a_check_that_sees_refuses_every_mutant():
    result = run(plan("seeing"), equivalents=())
    assert result.passed
    assert {v.killer for v in result.verdicts} == {"check"}
    assert "| seeing | 5 | 5 | 0 | 0 |" in markdown(result)


def test_a_blind_check_leaves_survivors_and_fails():
    result = run(plan("blind"), equivalents=())
    assert not result.passed
    assert len(result.survivors) == len(result.verdicts) == 5


def test_nothing_judged_is_no_pass():
    assert not summed((), (), whole=True).passed


def test_an_argument_excuses_what_it_matches_and_nothing_else():
    entry = Equivalent("blind f", "1 to [02]", "1", "a constant of the tests")
    result = run(plan("blind"), equivalents=[entry])
    assert set(result.argued.values()) == {entry}
    assert len(result.argued) == 2
    assert len(result.survivors) == 3
    assert "a constant of the tests" in arguments(result)


def test_an_argument_that_nothing_needs_is_stale():
    entry = Equivalent("seeing f", "1 to 0", ".*", "no survivor is like this")
    result = run(plan("seeing"), equivalents=[entry])
    assert result.stale == (entry,)
    assert not result.passed
    # A sample cannot tell, and neither can a campaign over other files.
    assert run(plan("seeing", sample=2), equivalents=[entry]).passed
    assert run(plan("seeing"), equivalents=[replace(entry, where="other")]).passed


def test_a_campaign_goes_on_from_its_file(tmp_path):
    file = tmp_path / "verdicts.jsonl"
    first = run(plan("seeing", sample=2, resume=file), equivalents=())
    kept = read(file)
    assert {v.identity for v in first.verdicts} == set(kept)
    file.write_text(file.read_text() + '{"file": "cut sh')
    fresh = []
    whole = run(
        plan("seeing", resume=file),
        progress=lambda verdict, *_: fresh.append(verdict.identity),
        equivalents=(),
    )
    assert len(whole.verdicts) == 5
    assert not set(fresh) & set(kept)


def test_verdicts_on_another_text_are_not_taken(tmp_path):
    file = tmp_path / "verdicts.jsonl"
    run(plan("seeing", resume=file), equivalents=())
    lines = [line.replace('"digest": "', '"digest": "x') for line in file.read_text().splitlines()]
    file.write_text("\n".join(lines) + "\n")
    fresh = []
    run(plan("seeing", resume=file), progress=lambda v, *_: fresh.append(v), equivalents=())
    assert len(fresh) == 5


@pytest.mark.parametrize("bad", [["nosuch"], ["derive/nosuch"]])
def test_unknown_names_are_refused(bad):
    from verify.mutation.targets import target_keys

    with pytest.raises(KeyError, match="nosuch"):
        target_keys(bad, None)
    with pytest.raises(KeyError, match="nosuch"):
        target_keys(None, bad)


def test_a_shared_function_is_judged_until_a_file_refuses_it():
    result = run(Plan(Blind, ("blind", "seeing")), equivalents=())
    assert result.passed
    assert {v.file for v in result.verdicts} == {"seeing"}
    result = run(Plan(Blind, ("seeing", "blind")), equivalents=())
    assert {v.file for v in result.verdicts} == {"seeing"}


def test_an_argument_settles_a_shared_function():
    entry = Equivalent("blind f", ".*", ".*", "all of it is right")
    result = run(Plan(Blind, ("blind", "seeing")), equivalents=[entry])
    assert {v.file for v in result.verdicts} == {"blind"}
    assert len(result.argued) == 5

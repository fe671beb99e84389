"""A few random specs pass; defects put into the product are found, and shrink to small specs."""

import pathlib
import time
from dataclasses import replace

import pytest

from codegen import backward
from derive import derivation as derivations
from derive import gradients
from derive.budget import check_time
from derive.corrections import Solver
from derive.errors import DerivationError, SpecError
from derive.parser import Parser
from tests.verify.fuzz.layers import LINEAR, MIXED, SQUARED, WAVE, B, W, X, affine
from verify.fuzz import illegal
from verify.fuzz import judge as judging
from verify.fuzz.grammar import random_layer
from verify.fuzz.illegal import KINDS, judge_illegal
from verify.fuzz.judge import TOO_LONG, judge
from verify.fuzz.results import Settings
from verify.fuzz.run import fuzz, read, saved, summary
from verify.fuzz.shrink import shrink
from verify.fuzz.text import toml
from verify.fuzz.tree import Mul, Reduce, Sum

FOUND = pathlib.Path(__file__).parent / "found"


def kinds(layer):
    return {f.kind for f in judge(layer, 0, 1).findings}


def test_random_specs():
    tally = fuzz(Settings(12, seed=11))
    assert not tally.failures, summary(tally, Settings(12, seed=11))
    assert tally.specs == 12
    assert sum(tally.outcomes.values()) == 12
    assert len(tally.kinds) >= 2


def test_rare_specs():
    settings = Settings(6, seed=11, rare=True)
    tally = fuzz(settings)
    assert not tally.failures, summary(tally, settings)
    assert "6 legal rare specs of seed 11" in summary(tally, settings)


@pytest.mark.parametrize("file", list(saved(FOUND)), ids=lambda file: file.stem)
def test_what_was_found_once(file):
    assert not judge(*read(file)).findings


@pytest.mark.parametrize("layer", [LINEAR, SQUARED, WAVE])
def test_small_layers(layer):
    assert not kinds(layer)


# ------------------------------------------------------------------ defects
def test_wrong_factor_in_the_kernel(monkeypatch):
    right = derivations.derive_update

    def wrong(program):
        update = right(program)
        return replace(update, kernel=2 * update.kernel)

    monkeypatch.setattr(derivations, "derive_update", wrong)
    assert "kernel" in kinds(LINEAR)
    small = shrink(WAVE, lambda layer: "kernel" in kinds(layer), seconds=20)
    assert len(toml(small)) < len(toml(WAVE))
    assert "tanh" not in toml(small)


def test_wrong_power_of_the_gauge(monkeypatch):
    right = Solver.scalar_gauge

    def wrong(self, *arguments):
        found = right(self, *arguments)
        return replace(found, gauge=found.gauge**2)

    monkeypatch.setattr(Solver, "scalar_gauge", wrong)
    assert {"module: output", "module: self-kernel"} <= kinds(LINEAR)


def test_wrong_backward_pass(monkeypatch):
    right = gradients.derive_gradients

    def wrong(program, correction):
        found = right(program, correction)
        of = {k: replace(v, value=2 * v.value) if k == "x" else v for k, v in found.of.items()}
        return replace(found, of=of)

    monkeypatch.setattr(backward, "derive_gradients", wrong)
    assert kinds(LINEAR) == {"module: input gradient"}


def test_wrong_class(monkeypatch):
    right = derivations.classify
    monkeypatch.setattr(
        derivations, "classify", lambda update: replace(right(update), kind="diagonal")
    )
    assert "class" in kinds(LINEAR)


def test_correction_withheld(monkeypatch):
    reason = "κ is constant: no factor on the input changes it"
    monkeypatch.setattr(Solver, "input_map", lambda self: self.refuse("input map", reason))
    assert "withheld: input map" in kinds(LINEAR)


def test_correction_offered_wrongly(monkeypatch):
    right = Solver.unit_gauge

    def wrong(self):
        found = self.output_gauge()
        return replace(found, ansatz="unit gauge") if found.applies else right(self)

    monkeypatch.setattr(Solver, "unit_gauge", wrong)
    assert "offered wrongly: unit gauge" in kinds(LINEAR)


def test_wrong_exactness(monkeypatch):
    monkeypatch.setattr(Solver, "exactness", lambda self, gauge, rate: "exact")
    assert "exactness: unit gauge" in kinds(SQUARED)


def test_unknown_reason(monkeypatch):
    monkeypatch.setattr(Solver, "matrix_gauge", lambda self: self.refuse("matrix gauge", "tired"))
    assert "refusal: matrix gauge" in kinds(LINEAR)


def test_a_limit_counts_where_the_tree_bears_it_out(monkeypatch):
    largest = affine(Sum((Reduce("max", ("j",), Mul((W, X))), B)))
    verdict = judge(largest, 0, 1)
    assert not verdict.findings
    (_, said), *_ = verdict.refused
    assert said.startswith("max[...] over something that depends on a parameter")

    def refuse(program):
        raise DerivationError(said)

    assert not kinds(affine(Sum((MIXED, Reduce("max", ("j",), X), B))))
    monkeypatch.setattr(derivations, "derive_update", refuse)
    assert [kind.partition(" over")[0] for kind in kinds(LINEAR)] == ["derive: max[...]"]


def test_error_of_the_parser(monkeypatch):
    def wrong(self, node):
        raise KeyError(node)

    monkeypatch.setattr(Parser, "walk_call", wrong)
    assert any(kind.startswith("error: KeyError") for kind in kinds(WAVE))
    assert not kinds(LINEAR)


def test_legal_spec_refused(monkeypatch):
    def wrong(self, node):
        raise SpecError("no functions", "tanh")

    monkeypatch.setattr(Parser, "walk_call", wrong)
    assert kinds(WAVE) == {"refused: no functions"}


def test_slow(monkeypatch):
    def endless(update):
        while True:
            pass

    monkeypatch.setattr(derivations, "classify", endless)
    found = judge(LINEAR, 0, 1, limit=0.5).findings
    assert [f.kind for f in found] == ["slow: derive, generate"]


def test_a_derivation_that_ends_in_time(monkeypatch):
    def patient(update):
        while True:
            check_time()

    monkeypatch.setattr(derivations, "classify", patient)
    verdict = judge(LINEAR, 0, 1, limit=1.0)
    assert not verdict.findings
    assert verdict.refused == [("the layer", TOO_LONG)]


def test_a_busy_machine_is_no_limit(monkeypatch):
    right = derivations.classify

    def late(update):
        time.sleep(1.6)
        check_time()
        return right(update)

    monkeypatch.setattr(judging, "SHARE", 0.05)
    monkeypatch.setattr(derivations, "classify", late)
    verdict = judge(LINEAR, 0, 1, limit=30.0)
    assert not verdict.findings
    assert not any(reason == TOO_LONG for _, reason in verdict.refused)


# ------------------------------------------------------------------ broken specs
def test_every_break():
    text = toml(random_layer(0, 0))
    for number in range(2 * len(KINDS)):
        outcome, finding = judge_illegal(text, 0, number)
        assert finding is None, (outcome, finding)


def test_accepted_break(monkeypatch):
    monkeypatch.setattr(illegal, "read_spec", lambda text, file: None)
    monkeypatch.setattr(illegal, "derive", lambda spec: None)
    certain = [number for number, kind in enumerate(KINDS) if kind.certain]
    for number in certain:
        assert judge_illegal(toml(LINEAR), 0, number)[1] is not None


def test_crash(monkeypatch):
    def crash(text, file):
        raise KeyError(text)

    monkeypatch.setattr(illegal, "read_spec", crash)
    _, (finding, _) = judge_illegal(toml(LINEAR), 0, 0)
    assert finding.kind == "illegal: KeyError"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SpecError("wrong", "x", "", "other.toml"), "illegal: no file"),
        (SpecError("wrong", "", "", "fuzzed.toml"), "illegal: no symbol"),
    ],
)
def test_poor_error(monkeypatch, error, kind):
    def refuse(text, file):
        raise error

    monkeypatch.setattr(illegal, "read_spec", refuse)
    assert judge_illegal(toml(LINEAR), 0, 0)[1][0].kind == kind


# ------------------------------------------------------------------ saving
def test_failures_are_saved_and_judged_again(monkeypatch, tmp_path):
    right = derivations.classify
    monkeypatch.setattr(
        derivations, "classify", lambda update: replace(right(update), constant=True)
    )
    tally = fuzz(Settings(1, seed=11, save=tmp_path))
    assert "constant" in {f.finding.kind for f in tally.failures}
    files = list(saved(tmp_path))
    assert files
    assert any("constant" in {f.kind for f in judge(*read(file)).findings} for file in files)
    monkeypatch.undo()
    assert not any(judge(*read(file)).findings for file in files)

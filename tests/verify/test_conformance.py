"""The public kit: one call, one decorator, a user's own module; it fails closed and explains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from codegen import generate
from derive import LayerSpec
from tests.verify.handwritten import SPECS, TEXTS, source
from tests.verify.test_handwritten import MISTAKES
from verify import conformance
from verify.load import load_module
from verify.results import STAGES, VerificationError
from verify.stage import Record

SHIPPED = Path(__file__).parents[2] / "truestep" / "specs"


def test_check_runs_every_stage_and_the_contracts() -> None:
    report = conformance.check(SHIPPED / "linear.toml", instances=2, twin=nn.Linear)
    assert report.passed
    assert {s.stage for s in report.stages} == set(conformance.KIT)
    contracts = [s for s in report.stages if s.stage == "contracts"]
    assert all("twin" in s.detail and "does not apply" not in s.detail for s in contracts)


def judged(stage: str) -> conformance.StageResult:
    """One stage of the scale."""
    (case,) = conformance.cases_of(generate(SPECS["scale"]), instances=2, stages=(stage,))
    return case.check()


def test_compilers_are_judged_on_demand() -> None:
    found = judged("compilers")
    assert found.instances == 2
    assert "compile, export" in found.detail


def test_a_contract_that_does_not_apply_is_named() -> None:
    assert "`twin` does not apply: no twin in torch.nn was named" in judged("contracts").detail


def test_a_wrong_twin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "KIT", ("contracts",))
    with pytest.raises(VerificationError, match="contract `twin` is broken"):
        conformance.check(SHIPPED / "linear.toml", instances=2, twin=nn.Bilinear)


def test_every_stage_has_a_function() -> None:
    assert set(STAGES) <= set(conformance.RUN)
    assert set(conformance.kit(True)) <= set(conformance.RUN)
    assert set(conformance.kit(True)) - set(conformance.kit(False)) == {"compilers"}


def agrees(variants: Any, settings: Any, record: Record) -> None:
    """A stage that is content with everything."""
    record.instances = 1
    record.judge(0.0, 0.0, "")


def judges_nothing(variants: Any, settings: Any, record: Record) -> None:
    """A stage that is silent."""


@pytest.mark.parametrize("stage", conformance.KIT)
def test_a_stage_that_judges_nothing_fails_the_check(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformance, "RUN", dict.fromkeys(conformance.RUN, agrees))
    assert conformance.check(SPECS["scale"]).passed
    monkeypatch.setitem(conformance.RUN, stage, judges_nothing)
    with pytest.raises(VerificationError, match=f"UnitGaugeScale, {stage}: nothing could be"):
        conformance.check(SPECS["scale"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_judges_nothing_fails_the_build(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from truestep import building, shipped

    source, settings = shipped.find("scale"), building.Settings(instances=1, seed=0, jobs=1)
    monkeypatch.setattr(conformance, "RUN", dict.fromkeys(conformance.RUN, agrees))
    assert building.verified(source, settings).status == "layer"
    monkeypatch.setitem(conformance.RUN, stage, judges_nothing)
    outcome = building.verified(source, settings)
    assert outcome.status == "failed"
    assert f"UnitGaugeScale, {stage}: nothing could be judged" in outcome.message


def test_a_stage_that_is_missing_is_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(conformance.RUN, "order")
    with pytest.raises(KeyError):
        conformance.check(SPECS["scale"], instances=2)


def fake(name: str, **mistake: str) -> Any:
    """A generator that makes a mistake."""

    def generated(spec: LayerSpec, *, general: bool = False) -> Any:
        return source(name) if general else source(name, **mistake)

    return generated


def test_check_explains_the_first_failed_stage_of_each_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = {"old": "torch.rsqrt(1 + x.square())", "new": "torch.rsqrt(2 + x.square())"}
    monkeypatch.setattr(conformance, "generate", fake("scale", **wrong))
    monkeypatch.setattr(conformance, "KIT", ("symbolic", "numeric", "order", "lowering"))
    with pytest.raises(VerificationError) as caught:
        conformance.check(SPECS["scale"], instances=4, seed=3)
    *lines, wrong, attempts, again, others = str(caught.value).splitlines()
    assert lines == [
        "UnitGaugeScale, numeric: K̃(s,s) is not c·I",
        "  at        features = 1, size(n) = 1",
        "            x = [[0.]]",
        "            W = [0.]",
        "            b = [0.]",
        "  measured  0.5",
        "  expected  1",
        "  where     s = (n 0), i = (i 0), i' = (i 0)",
        "            differs most, by 0.5",
    ]
    assert wrong.startswith("  wrong     1 of 1 entries, by more than ")
    assert "no smaller instance of" in attempts
    assert again == "  again     conformance.check(Scale, instances=4, seed=3)"
    assert others == "2 more stages of these classes fail"


@conformance.parametrize(SPECS["scale"], SHIPPED / "linear.toml", instances=2)
def test_parametrize_runs_every_stage(case: conformance.ConformanceCase) -> None:
    assert case.check().passed


def test_parametrize_makes_a_test_for_each_class_and_stage() -> None:
    mark = conformance.parametrize(SHIPPED / "linear.toml", compilers=True).mark
    names = ("AffineLikeLinear", "NormLikeLinear")
    assert mark.kwargs["ids"] == [f"{n}-{s}" for n in names for s in conformance.kit(True)]


def test_a_case_is_run_again_by_a_call() -> None:
    mark = conformance.parametrize("truestep/specs/linear.toml", seed=7, twin=nn.Linear).mark
    wanted = "conformance.check('truestep/specs/linear.toml', instances=8, seed=7, twin=Linear)"
    assert {case.again for case in mark.args[1]} == {wanted}


# ---------------------------------------------------------------------- modules written by hand
def written(name: str, cls: str, **mistake: str) -> type[nn.Module]:
    layer = source(name, **mistake)
    found: type[nn.Module] = getattr(load_module(layer.text, layer.module), cls)
    return found


@pytest.mark.parametrize(
    ("name", "cls", "ansatz"),
    [(name, cls, ansatz) for name, (_, found) in TEXTS.items() for cls, ansatz in found.items()],
)
def test_a_right_module_passes(name: str, cls: str, ansatz: str) -> None:
    results = conformance.check_module(written(name, cls), SPECS[name], ansatz=ansatz, instances=2)
    assert [r.stage for r in results] == list(conformance.BY_HAND)
    assert all(r.passed and r.class_name == cls for r in results)


def test_a_wrong_module_is_refused_with_its_smallest_failure() -> None:
    name, old, new = MISTAKES["groups mixed up"]
    module = written(name, "AffineLikeConv1d", old=old, new=new)
    with pytest.raises(VerificationError) as caught:
        conformance.check_module(module, SPECS[name], instances=4)
    text = str(caught.value)
    assert "AffineLikeConv1d, numeric: K̃(s,s) is not c·I" in text
    assert "again     conformance.check_module(AffineLikeConv1d, Conv1d, " in text


def test_another_correction_is_not_the_one_claimed() -> None:
    with pytest.raises(VerificationError, match="AffineLikeLinear, numeric"):
        conformance.check_module(
            written("linear", "AffineLikeLinear"), SPECS["linear"], ansatz="input map", instances=2
        )


def test_the_plain_layer_is_not_corrected() -> None:
    class Plain(nn.Linear):
        def __init__(self, out_features: int, in_features: int, **rest: Any) -> None:
            super().__init__(in_features, out_features, **rest)

    with pytest.raises(VerificationError, match="Plain without b, numeric"):
        conformance.check_module(Plain, SPECS["linear"], instances=2)


def test_a_correction_that_the_spec_lacks_is_named() -> None:
    with pytest.raises(VerificationError, match="no correction `matrix gauge`; it has: output"):
        conformance.check_module(torch.nn.Linear, SPECS["linear"], ansatz="matrix gauge")

"""Results, loading and stages fail closed."""

from __future__ import annotations

import inspect
import linecache
from types import SimpleNamespace
from typing import Any

import pytest

from derive.errors import TruestepError
from tests.verify.handwritten import SPECS, source
from verify import verify_layer, verify_layers
from verify.load import load_module
from verify.results import STAGES, Claim, Report, StageResult, VerificationError
from verify.sources import subjects
from verify.stage import Judgement, Record, Settings, run_stage


def result(**changes: Any) -> StageResult:
    values = {
        "stage": "numeric", "class_name": "A", "ran": True, "instances": 1, "worst": 0.0,
        "tolerance": 1.0, "passed": True, "detail": "", **changes,
    }  # fmt: skip
    return StageResult(**values)


CLAIM = Claim("A", (), "output gauge", "exact", "1", "1", "0")


def test_a_pass_needs_a_run_within_tolerance() -> None:
    with pytest.raises(ValueError, match="without having run"):
        result(ran=False)
    with pytest.raises(ValueError, match="without having run"):
        result(instances=0)
    with pytest.raises(ValueError, match="beyond its tolerance"):
        result(worst=2.0)
    with pytest.raises(ValueError, match="beyond its tolerance"):
        result(worst=float("nan"))


def test_a_report_needs_every_stage() -> None:
    whole = tuple(result(stage=s) for s in STAGES)
    assert Report.of("L", "d", whole, (CLAIM,)).passed
    assert not Report.of("L", "d", whole[1:], (CLAIM,)).passed
    assert not Report.of("L", "d", (), ()).passed
    bad = (*whole[1:], result(stage=STAGES[0], passed=False))
    assert not Report.of("L", "d", bad, (CLAIM,)).passed
    with pytest.raises(ValueError, match="its stages do not"):
        Report("L", "d", bad, True, (CLAIM,))
    with pytest.raises(VerificationError, match="A, symbolic"):
        Report.of("L", "d", bad, (CLAIM,)).require()


def test_json_round_trip() -> None:
    stages = tuple(result(stage=s) for s in STAGES[1:])
    broken = result(stage=STAGES[0], ran=False, passed=False, worst=float("inf"), tolerance=0.0)
    report = Report.of("L", "d", (*stages, broken), (CLAIM,))
    assert Report.from_json(report.to_json()) == report
    with pytest.raises(VerificationError, match="not a report"):
        Report.from_json("{}")


def test_nan_never_passes() -> None:
    assert not Judgement(float("nan"), 1.0, "").passed
    assert Judgement(0.0, 0.0, "").passed


def test_an_error_in_a_stage_is_a_failure_with_its_message() -> None:
    def breaks(variants: Any, settings: Settings, record: Record) -> None:
        record.instances += 1
        record.judge(0.0, 1.0, "")
        raise RuntimeError("no such luck")

    found = run_stage("numeric", breaks, subjects(source("scale")), Settings())
    assert not found.ran
    assert not found.passed
    assert "no such luck" in found.detail


def test_a_stage_that_judges_nothing_did_not_run() -> None:
    found = run_stage("numeric", lambda *_: None, subjects(source("scale")), Settings())
    assert not found.ran
    assert not found.passed


def test_a_module_is_loaded_once_and_found_by_inspect() -> None:
    layer = source("scale")
    module = load_module(layer.text, layer.module)
    assert load_module(layer.text, layer.module) is module
    assert "torch.rsqrt" in inspect.getsource(module.UnitGaugeScale)
    assert module.__file__ in linecache.cache


def test_the_gate_judges_before_anything_runs() -> None:
    with pytest.raises(TruestepError):
        load_module("import os\nos.environ['TRUESTEP_RAN'] = '1'\n", "evil")


def test_a_missing_class_is_an_error() -> None:
    layer = source("scale")
    entry = SimpleNamespace(**{**vars(layer.classes[0]), "name": "Missing"})
    broken = SimpleNamespace(**{**vars(layer), "classes": (entry,)})
    with pytest.raises(VerificationError, match="Missing"):
        verify_layer(broken, general=layer)


def test_sweep_reports_in_order() -> None:
    seen: list[str] = []
    layers = [generated("Linear"), generated("Scale")]
    reports = verify_layers(layers, instances=2, progress=lambda r: seen.append(r.layer))
    assert seen == [r.layer for r in reports] == ["Linear", "Scale"]
    assert all(r.passed for r in reports), [r.summary() for r in reports]


def generated(name: str) -> Any:
    from codegen import generate

    return generate(SPECS[name.lower()])

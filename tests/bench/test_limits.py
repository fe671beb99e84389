"""The table of limits and what is said of measurements."""

from __future__ import annotations

from bench.cases import CASES, PLAIN
from bench.limits import KEPT, MODEL_TABLE, TABLE, Verdict, judge
from bench.models import ALL
from bench.modes import COMPILED, EAGER, STEP, Mode
from bench.results import MODELS
from tests.bench.fakes import CASE, LAYER, kept, results, timing


def found(*rows) -> dict[tuple[str, str, str, str], Verdict]:
    verdicts = judge(results(*rows))
    return {(v.case, v.contender, v.execution, v.quantity): v for v in verdicts}


def test_every_limit_is_about_something_that_is_measured() -> None:
    cases = {case.name: case for case in CASES}
    for names, contenders, limits in TABLE:
        for name in names:
            assert set(contenders) <= set(cases[name].corrected)
            assert {reference for _, reference in limits} <= {PLAIN, *cases[name].rivals}
    models = {model.name: model for model in ALL}
    assert all(reference in models[name].builders for name, reference in MODEL_TABLE)
    assert set(models) == {name for name, _ in MODEL_TABLE}


def test_every_case_has_limits() -> None:
    assert {case.name for case in CASES} == {name for names, _, _ in TABLE for name in names}


def test_met_missed_and_not_measured() -> None:
    place = (CASE, LAYER, EAGER, "time / plain")
    assert found(timing(1.04))[place].words == "met"
    assert found(timing(1.05))[place].words == "missed by 0.010"
    assert found()[place].words == "not measured"
    assert not found()[place].met


def test_the_rival_and_the_mode_count() -> None:
    rows = [timing(0.99, reference="LayerNorm+Linear"), timing(1.03, mode=Mode("forward"))]
    verdicts = found(*rows)
    assert verdicts[CASE, LAYER, EAGER, "time / LayerNorm+Linear"].met
    assert verdicts[CASE, LAYER, EAGER, "time / plain"].value is None


def test_bytes_kept_beyond_the_plain_attention() -> None:
    case, name = "attention 8x128x256 h4", "AffineLikeMultiheadAttention"
    place = (case, name, EAGER, KEPT)
    plain = kept(400, case=case, contender=PLAIN)
    same, more = (kept(size, case=case, contender=name) for size in (400, 450))
    assert found(plain, same)[place].met
    assert found(plain, more)[place].words == "missed by 0.490"
    assert found(same)[place].value is None


def test_models() -> None:
    row = timing(
        1.2,
        case="MLP",
        mode=Mode(STEP, COMPILED),
        contender="corrected",
        reference="LayerNorm",
        section=MODELS,
    )
    place = ("MLP", "corrected", COMPILED, "time / LayerNorm")
    assert found(row)[place].words == "missed by 0.200"

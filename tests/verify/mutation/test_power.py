"""Wrong claims and wrong files are refused by the stages together, right layers by none."""

import pytest

from codegen import generate
from derive.spec import load_spec
from tests.support import SPEC_FILES
from verify import conformance
from verify.mutation import power
from verify.mutation.loading import general_of, subjects_of
from verify.stage import Settings, run_stage

CLASSES = ("AffineLikeLinear", "NormLikeLinear")
# Those that look at what is claimed, and not at the file alone.
OF_CLAIMS = ("symbolic", "certificate", "emitted", "numeric")


@pytest.fixture(scope="module")
def linear():
    source = generate(load_spec(SPEC_FILES["linear"]))
    return source, power.by_class(subjects_of(source)), Settings(2, 0, general_of(source))


def refusing(variants, settings, stages=OF_CLAIMS):
    return {s for s in stages if not run_stage(s, conformance.RUN[s], variants, settings).passed}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("claim", power.CLAIMS)
def test_a_wrong_claim_is_refused(linear, name, claim):
    _, classes, settings = linear
    wrong = power.claimed(classes[name], power.CLAIMS[claim])
    if wrong is None:
        assert claim == "dropped term"  # of an output that is one term
        assert len(classes[name][0].correction.terms) == 1
    else:
        assert refusing(wrong, settings)


@pytest.mark.parametrize("name", CLASSES)
def test_the_right_claim_is_not_refused(linear, name):
    _, classes, settings = linear
    assert refusing(classes[name], settings, power.JUDGES) == set()


def test_the_published_interference_is_judged_by_the_numeric_stage(linear):
    _, classes, settings = linear
    wrong = power.claimed(classes["AffineLikeLinear"], power.CLAIMS["wrong interference"])
    result = run_stage("numeric", conformance.RUN["numeric"], wrong, settings)
    assert "not the published one" in result.detail


def trial(set_, **passes):
    return power.Trial(set_, "", {s: passes.get(s, False) for s in power.JUDGES})


def test_rates_count_what_is_wrong():
    found = [trial("wrong claims", numeric=True), trial("wrong claims"), trial("right")]
    row = power.rates(found)
    assert row["numeric"]["wrong claims"] == power.Rate(1, 2)
    assert row["symbolic"]["wrong claims"] == power.Rate(0, 2)
    assert row["symbolic"]["right"] == power.Rate(1, 1)
    assert row[power.TOGETHER]["wrong claims"] == power.Rate(0, 2)


def test_nothing_seen_is_no_zero():
    assert str(power.Rate(0, 300)) == "0 of 300 (< 1.0 %)"
    assert str(power.Rate(3, 300)) == "3 of 300 (1.0 %)"
    assert str(power.Rate(0, 0)) == "none judged"


def test_a_mutant_of_a_derived_pass_is_put_before_the_stages_of_its_class():
    source = generate(load_spec(SPEC_FILES["linear"]))
    inside = [m for m in power.wrong_files(source) if m.function.startswith("_NormLikeLinear")]
    assert inside
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(power, "accepted", lambda variants, _: {s.name: True for s in variants})
        found = [power.judge_file(source, m, Settings(1, 0, {})) for m in inside]
    assert {"NormLikeLinear": True} in found
    assert all(f in ({"NormLikeLinear": True}, None) for f in found)

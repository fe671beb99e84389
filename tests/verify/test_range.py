"""A gauge that is singular by range or cancellation alone says nothing about a layer."""

import pytest

from codegen import generate
from derive.spec import load_spec
from tests.support import SPEC_FILES
from verify import conformance
from verify.instances import sample_one
from verify.mutation.loading import subjects_of
from verify.reference import evaluate_reference
from verify.stage import Settings, run_stage

GATED = subjects_of(generate(load_spec(SPEC_FILES["gated_linear"])))
# Seeds at which a gate of e^-400 or so becomes 0 in the reference, and not in the module.
SEEDS = (1, 2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stage", ["numeric", "declared"])
def test_a_right_layer_is_not_refused(stage, seed):
    result = run_stage(stage, conformance.RUN[stage], list(GATED), Settings(4, seed))
    assert result.passed, result.detail


def test_a_layer_at_zero_is_still_judged():
    (subject,) = [s for s in GATED if not s.absent][:1]
    found = evaluate_reference(subject, sample_one(subject.derivation, 1))
    assert not found.lost

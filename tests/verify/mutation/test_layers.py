"""Some mutants of two generated files, the same each time: all are refused."""

import pytest

from tests.support import SPEC_FILES
from verify.mutation import layers
from verify.mutation.campaign import Plan, run
from verify.mutation.isolation import IsolationError
from verify.mutation.layers import LayerTarget


class Forward(LayerTarget):
    """The mutants of what the classes compute, judged without the tests of the layers."""

    def __init__(self, key):
        super().__init__(SPEC_FILES[key])

    def mutants(self):
        return tuple(m for m in super().mutants() if m.function.endswith(".forward"))


@pytest.mark.parametrize(("key", "every"), [("linear", 9), ("scale", 7)])
def test_a_sample_of_mutants_is_refused(key, every):
    result = run(Plan(Forward, (key,), every), equivalents=())
    assert len(result.verdicts) >= 4
    assert [str(v) for v in result.survivors] == []


def test_the_text_itself_is_accepted_and_a_broken_one_is_not(monkeypatch):
    monkeypatch.setattr(layers, "KILLERS", layers.KILLERS[:2])
    target = Forward("scale")
    assert target.judge_text(target.text).killer == ""
    assert target.judge_text("import os\n" + target.text).killer == "gate"
    assert target.judge_text(target.text.replace("torch.rsqrt", "torch.sqrt")).killer == "emitted"


def test_what_the_unbroken_layer_is_wrong_for_refuses_no_mutant(monkeypatch):
    """A window's squares overflow in float32, as documented; that is no verdict on a mutant."""
    monkeypatch.setattr(layers, "KILLERS", (layers.accuracy,))
    monkeypatch.setattr(layers, "WORST", ("bfloat16",))
    target = Forward("depthwise_conv1d")
    assert all(target.wrong.values())
    assert target.unbroken == ""
    monkeypatch.setattr(target, "wrong", {key: set() for key in target.wrong})
    assert target.judge_text(target.text).killer == "accuracy"


def test_a_class_that_shares_a_stage_with_another_is_wrong_where_it_is(monkeypatch):
    """A mutant of one class alone is compared with that class, which may not be the judged one."""
    monkeypatch.setattr(layers, "KILLERS", (layers.accuracy,))
    monkeypatch.setattr(layers, "WORST", ("bfloat16",))
    target = Forward("depthwise_conv1d")
    measured = dict(target.wrong)
    del target.wrong[next(iter(measured))]
    assert target.judge_text(target.text).killer == ""
    assert target.wrong == measured


def test_a_campaign_fails_where_the_unbroken_file_is_refused(monkeypatch):
    monkeypatch.setattr(layers, "KILLERS", (lambda *_: layers.Found("tests", "as always"),))
    with pytest.raises(IsolationError, match="scale is refused without a mutant: tests as always"):
        Forward("scale").within(lambda: None)

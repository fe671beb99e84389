"""Models, sweeps, builds and chips: that they are what they say, never how long they take."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bench import models, pipeline
from bench.cases import CASES, FULL, Work
from bench.chip import SMALL, floor, measure_chip
from bench.modes import BFLOAT16, CPU, CUDA, FORWARD, Mode, modes
from bench.results import Chip
from bench.scale import SWEEPS, scale_tasks
from truestep import AffineLikeLinear, PatchNormConv2d

NORMALISERS = (nn.LayerNorm, nn.BatchNorm2d)
PLAIN_LAYERS = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)


@pytest.mark.parametrize("model", models.ALL, ids=lambda model: model.name)
def test_models_differ_in_what_they_claim_to(model: models.Model) -> None:
    plain, usual, corrected = (list(build().modules()) for build in model.builders.values())
    assert not any(isinstance(m, NORMALISERS) for m in [*plain, *corrected])
    assert any(isinstance(m, NORMALISERS) for m in usual)
    assert not any(isinstance(m, PLAIN_LAYERS) for m in corrected)
    assert any(isinstance(m, AffineLikeLinear | PatchNormConv2d) for m in corrected)


@pytest.mark.parametrize("model", models.ALL, ids=lambda model: model.name)
def test_models_hold_the_same_weights(model: models.Model) -> None:
    def weights(name: str) -> list[np.ndarray]:
        torch.manual_seed(0)
        return [p.detach().numpy() for p in model.builders[name]().parameters() if p.dim() > 1]

    first, *others = map(weights, model.builders)
    for other in others:
        assert len(first) == len(other)
        assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_step_trains() -> None:
    model = models.ALL[0]
    made: list[nn.Module] = []

    def build() -> nn.Module:
        made.append(model.builders["corrected"]())
        return made[0]

    run = models.step_of(
        models.Model("MLP", {"corrected": build}, model.batch), Mode(), "corrected"
    )
    before = [p.clone() for p in made[0].parameters()]
    run()
    assert not any(torch.equal(a, b) for a, b in zip(before, made[0].parameters(), strict=True))


def test_sweeps_vary_one_size_and_are_measured_once() -> None:
    for sweep in SWEEPS:
        changing = [
            len(set(sizes)) for sizes in zip(*(c.shape for c in sweep.cases.values()), strict=True)
        ]
        assert max(changing) == len(sweep.cases)
        assert len(sweep.contenders) == 3
    names = [task.case.name for task in scale_tasks()]
    assert len(names) == len(set(names))


def test_copies_of_a_spec_are_specs_of_different_layers(tmp_path) -> None:
    from derive import load_spec

    names = {load_spec(pipeline.write_spec(tmp_path, number)).name for number in range(3)}
    assert names == {"Copy0", "Copy1", "Copy2"}


def test_a_build_that_fails_is_no_measurement(tmp_path) -> None:
    with pytest.raises(RuntimeError, match=r"truestep build failed[^~]*none\.toml"):
        pipeline.build_seconds(tmp_path, [tmp_path / "none.toml"])


def test_the_line_through_measurements() -> None:
    found = pipeline.line([1, 2, 4, 8], [5.0, 7.0, 11.0, 19.0])
    assert (found.start, found.slope) == pytest.approx((3, 2))
    assert found.deviation == pytest.approx(0, abs=1e-9)
    bent = pipeline.line([1, 2, 4, 8], [1.0, 4.0, 16.0, 64.0])
    assert bent.deviation > 1
    with pytest.raises(ValueError, match="three"):
        pipeline.line([1, 2], [1.0, 2.0])


def test_the_floor_is_the_larger_of_both() -> None:
    chip = Chip("chip", BFLOAT16, copy=100.0, product=10.0)
    assert floor(Work(products=50, numbers=10), chip, 2) == 5.0
    assert floor(Work(products=50, numbers=1000), chip, 2) == 20.0


def test_a_chip_is_measured() -> None:
    chip = measure_chip(Mode(), SMALL)
    assert chip.device == CPU
    assert min(chip.copy, chip.product) > 0


@pytest.mark.parametrize("case", [*CASES, *FULL], ids=lambda case: case.name)
def test_the_work_of_a_case(case) -> None:
    """Forward and backward are three times the products of forward, which torch counts itself."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        x = torch.empty(case.shape)
        case.builders["plain"]()(x)
    assert 3 * counter.get_total_flops() == case.work.products


def test_modes() -> None:
    image, vector = list(modes(True)), list(modes(False))
    assert set(vector) < set(image)
    assert len(image) == len(set(image)) == 8
    gpu = list(modes(True, CUDA))
    assert {mode.execution for mode in gpu} == {"compiled"}
    assert FORWARD not in {mode.direction for mode in gpu}

"""The meter of what is kept for backward, on functions whose graphs are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.cases import CASES, PLAIN, linear
from bench.memory import kept_bytes, measure_kept
from bench.modes import COMPILED, EAGER

N, J, I_ = 6, 5, 7
NUMBER = 4


def tensors() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(N, J, requires_grad=True)
    return x, nn.Parameter(torch.randn(I_, J)), nn.Parameter(torch.randn(I_))


def test_a_linear_map_keeps_nothing() -> None:
    x, W, b = tensors()
    assert kept_bytes(lambda x: F.linear(x, W, b), x, [W, b]) == 0


def test_a_product_keeps_both_factors() -> None:
    """z·s keeps z and s, however the graph of s looks: here it is known and keeps nothing."""
    x, W, b = tensors()
    s = torch.rand(N, 1, requires_grad=True)
    kept = kept_bytes(lambda x: F.linear(x, W, b) * s, x, [W, b, s])
    assert kept == N * I_ * NUMBER


def test_views_and_repeats_of_one_storage_count_once() -> None:
    x, _, _ = tensors()

    def call(x: Tensor) -> Tensor:
        y = x.exp()  # kept by exp, by the product and by the sine of its transpose
        return (y * y).sum() + y.mT.sin().sum()

    assert kept_bytes(call, x, []) == N * J * NUMBER


def test_a_view_keeps_its_whole_storage() -> None:
    x, _, _ = tensors()
    assert kept_bytes(lambda x: (x + 1)[:1].sin(), x, []) == N * J * NUMBER


def test_one_that_keeps_more_is_seen() -> None:
    x, W, b = tensors()

    def once(x: Tensor) -> Tensor:
        return F.linear(x, W, b).tanh()

    def twice(x: Tensor) -> Tensor:
        return F.linear(x, W, b).sin().tanh()

    less, more = (kept_bytes(call, x, [W, b]) for call in (once, twice))
    assert more == 2 * less == 2 * N * I_ * NUMBER


class Hidden(torch.autograd.Function):
    """exp that keeps its output where no hook sees it."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.hidden = x.exp()
        return ctx.hidden.clone()

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        return g * ctx.hidden


def test_what_is_hidden_from_autograd_is_seen() -> None:
    x, _, _ = tensors()
    assert kept_bytes(Hidden.apply, x, [], is_eager=False) == 0  # by the hooks alone
    assert kept_bytes(Hidden.apply, x, []) == N * J * NUMBER


@pytest.mark.parametrize("is_eager", [True, False])
def test_both_ways_agree_where_nothing_is_hidden(is_eager: bool) -> None:
    x, W, b = tensors()
    s = torch.rand(N, 1, requires_grad=True)

    def call(x: Tensor) -> Tensor:
        return F.linear(x, W, b).sin() * s

    assert kept_bytes(call, x, [W, b, s], is_eager=is_eager) == 2 * N * I_ * NUMBER


def test_what_nobody_names_counts() -> None:
    x, W, b = tensors()
    assert kept_bytes(lambda x: F.linear(x, W, b), x, [b]) == W.numel() * NUMBER


@pytest.mark.parametrize("execution", [EAGER, COMPILED])
def test_a_small_case(execution: str) -> None:
    case = linear(4, 3, 2)
    two = {name: case.builders[name] for name in (PLAIN, "LayerNorm+Linear")}
    rows = {row.contender: row for row in measure_kept(replace(case, builders=two), execution)}
    assert rows[PLAIN].kept == 0
    assert rows["LayerNorm+Linear"].kept > 0
    assert {row.output for row in rows.values()} == {4 * 2 * NUMBER}


def test_contenders_hold_the_same_weights_in_one_place() -> None:
    from bench.modes import Mode
    from bench.running import prepare

    for case in CASES:
        if case.family != "linear" or case.shape[1] < 1000:
            ready = prepare(case, Mode())
            weights = {p.data_ptr() for p in ready[PLAIN].module.parameters() if p.dim() > 1}
            for one in ready.values():
                assert {p.data_ptr() for p in one.module.parameters() if p.dim() > 1} == weights
                assert one.x is ready[PLAIN].x

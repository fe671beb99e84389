"""The meter of what is kept for backward, on functions whose graphs are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.cases import CASES, PLAIN, linear
from bench.memory import Storage, kept_storages, listed, measure_kept
from bench.modes import COMPILED, EAGER

N, J, I_ = 6, 5, 7
NUMBER = 4


def tensors() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(N, J, requires_grad=True)
    return x, nn.Parameter(torch.randn(I_, J)), nn.Parameter(torch.randn(I_))


def kept_bytes(call, x: Tensor, known: list[Tensor], *, is_eager: bool = True) -> int:
    return sum(one.size for one in kept_storages(call, x, known, is_eager=is_eager))


def words(call, x: Tensor, known: list[Tensor], *, is_eager: bool = True) -> str:
    return listed(kept_storages(call, x, known, is_eager=is_eager))


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


# ------------------------------------------------------------------ in words
@pytest.mark.parametrize("is_eager", [True, False])
def test_tensors_are_named_largest_first_and_equal_ones_once(is_eager: bool) -> None:
    x, W, b = tensors()
    s = torch.rand(N, 1, dtype=torch.float64)

    def call(x: Tensor) -> Tensor:
        return F.linear(x, W, b).sin().cos() * s  # keeps what sin and cos read, and s

    found = words(call, x, [W, b], is_eager=is_eager)
    assert found == f"float32 {N}x{I_} ×2, float64 {N}x1"


def test_of_a_part_the_storage_is_named_if_its_birth_was_seen() -> None:
    """A row, and an expanded number: neither has as many bytes as its storage."""
    x, _, _ = tensors()

    def row(x: Tensor) -> Tensor:
        return (x + 1)[:1].sin()

    assert words(row, x, []) == f"float32 {N}x{J}"
    assert words(row, x, [], is_eager=False) == f"{N * J * NUMBER} bytes"
    s = torch.rand(())
    assert words(lambda x: x * s.expand(N, J), x, []) == f"{NUMBER} bytes"  # born before
    assert words(lambda x: x * torch.rand(()).expand(N, J), x, []) == "float32 1"


def test_a_storage_at_the_address_of_a_dead_one_is_named_anew() -> None:
    x, _, _ = tensors()

    def call(x: Tensor) -> Tensor:
        for _ in range(3):
            (x + 1).view(torch.int32).add(1)
        return (x + 1)[:1].sin()

    assert words(call, x, []) == f"float32 {N}x{J}"


def test_nothing_is_no_words() -> None:
    x, W, b = tensors()
    assert words(lambda x: F.linear(x, W, b), x, [W, b]) == ""
    assert listed([Storage(8, "b"), Storage(8, "a"), Storage(9, "c"), Storage(8, "b")]) == (
        "c, a, b ×2"
    )


def test_what_nobody_names_counts() -> None:
    x, W, b = tensors()
    assert kept_bytes(lambda x: F.linear(x, W, b), x, [b]) == W.numel() * NUMBER


@pytest.mark.parametrize("execution", [EAGER, COMPILED])
def test_a_small_case(execution: str) -> None:
    case = linear(4, 3, 2)
    two = {name: case.builders[name] for name in (PLAIN, "LayerNorm+Linear")}
    rows = {row.contender: row for row in measure_kept(replace(case, builders=two), execution)}
    assert rows[PLAIN].kept == 0
    assert rows[PLAIN].tensors == ""
    assert rows["LayerNorm+Linear"].kept > 0
    assert rows["LayerNorm+Linear"].tensors.startswith("float32 4x3")
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

"""The small functions that generated files carry along, each by its own, in every file."""

import importlib
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import forward_ad

import truestep.layers

FILES = sorted(Path(truestep.layers.__file__).parent.glob("[a-z]*.py"))
WIDE = {torch.float16: torch.float32, torch.float32: torch.float64, torch.float64: torch.float64}
LIMIT = 2.0**90
"""Sums of squares are taken in float32 strictly between 1/LIMIT and LIMIT."""


def of(name):
    """Once for every file that has the function."""
    stems = [p.stem for p in FILES if f"\ndef {name}(" in p.read_text(encoding="utf-8")]
    assert stems
    return pytest.mark.parametrize("layer", stems, indirect=True)


@pytest.fixture
def layer(request):
    return importlib.import_module(f"truestep.layers.{request.param}")


def normal(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


# ---------------------------------------------------------------------- sums of squares
@of("_wide_dtype")
def test_wide_is_float64_where_the_device_has_it(layer):
    for device in ("cpu", "mps"):
        for dtype, wide in {**WIDE, torch.bfloat16: torch.float64}.items():
            x = SimpleNamespace(dtype=dtype, device=SimpleNamespace(type=device))
            wanted = torch.float32 if device == "mps" else wide
            assert layer._wide_dtype(x) == wanted


@of("_energy")
@pytest.mark.parametrize("dim", [-1, 1, (1, 2), 0])
@pytest.mark.parametrize("dtype", [*WIDE, torch.bfloat16])
def test_energy_is_the_sum_of_squares(layer, dtype, dim):
    x = normal(3, 4, 5, dtype=dtype)
    wanted = x.double().square().sum(dim)
    fast = dtype in (torch.float32, torch.bfloat16)
    for record in (True, False):
        with torch.set_grad_enabled(record):
            found = layer._energy(x, dim)
        wide = torch.float32 if fast and not record else layer._wide_dtype(x)
        assert found.dtype == wide
        torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=0)


@of("_energy")
def test_energy_is_narrow_only_where_float32_holds_it(layer):
    ordinary, near = torch.ones(4), 2.0**-0.5
    cases = {1: True, 1 / LIMIT: False, LIMIT: False, near / LIMIT: False, LIMIT / near: False}
    cases |= {1 / near / LIMIT: True, LIMIT * near: True, 2.0**-140: False, 2.0**120: False}
    for energy, narrow in cases.items():
        odd = torch.full((4,), math.sqrt(energy) / 2)
        for dim in (-1, 0):
            x = torch.stack([ordinary, odd])
            x = x if dim == -1 else x.T.contiguous()
            with torch.no_grad():
                found = layer._energy(x, dim)
            torch.testing.assert_close(
                found.double(), x.double().square().sum(dim), rtol=1e-6, atol=0
            )
            if energy not in (1 / LIMIT, LIMIT):
                assert (found.dtype == torch.float32) == narrow, energy


@of("_energy")
def test_the_limits_themselves_are_wide(layer):
    for energy in (1 / LIMIT, LIMIT):
        with torch.no_grad():
            for dim in (-1, 0):
                found = layer._energy(torch.full((1, 1), math.sqrt(energy)), dim)
                assert found.dtype == torch.float64


@of("_energy")
def test_energy_of_nothing_and_without_numbers(layer):
    with torch.no_grad():
        assert layer._energy(torch.ones(0, 3), -1).shape == (0,)
        assert layer._energy(torch.ones(3, 0), -1).tolist() == [0, 0, 0]
        assert layer._energy(torch.ones(3, 4, device="meta"), -1).dtype == torch.float64


@of("_energy")
def test_only_sums_over_the_last_axis_are_norms_of_float32(layer, monkeypatch):
    types = []
    norm = torch.linalg.vector_norm
    monkeypatch.setattr(
        torch.linalg,
        "vector_norm",
        lambda x, **more: types.append(more["dtype"]) or norm(x, **more),
    )
    with torch.no_grad():
        layer._energy(normal(3, 4, 5), -1)
        assert types == [torch.float32]
        layer._energy(normal(3, 4, 5), (1, 2))
        layer._energy(normal(3, 4, 5), 1)
        layer._energy(normal(3, 4, 5), 0)
        assert types == [torch.float32]
        layer._energy(normal(3, 4, 5, dtype=torch.float16), -1)
        layer._energy(normal(3, 4, 5, dtype=torch.float64), 1)
        assert types == [torch.float32, torch.float32, torch.float64]


@of("_energy")
def test_energy_under_transforms_is_a_plain_sum(layer, monkeypatch):
    monkeypatch.setattr(layer, "_is_transformed", lambda: True)
    with torch.no_grad():
        assert layer._energy(normal(3, 4), -1).dtype == torch.float64


# ---------------------------------------------------------------------- how a file runs
ASKED = {
    "compiling": (torch.compiler, "is_compiling"),
    "tracing": (torch._C, "_is_tracing"),
    "func": (torch._C, "_are_functorch_transforms_active"),
}


@of("_is_transformed")
def test_each_transform_alone_is_one(layer, monkeypatch):
    assert layer._is_transformed() is False
    for holder, name in ASKED.values():
        with monkeypatch.context() as patch:
            patch.setattr(holder, name, lambda: True)
            assert layer._is_transformed() is True
    with forward_ad.dual_level():
        assert layer._is_transformed() is True


@of("_takes_derived")
def test_who_takes_the_derived_gradient(layer, monkeypatch):
    x = torch.ones(2, 3)
    assert layer._takes_derived(x) is True
    assert layer._takes_derived(x.to("meta")) is False
    with torch.autocast("cpu"):
        assert layer._takes_derived(x) is False
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        for exporting in (True, False):
            patch.setattr(torch.compiler, "is_exporting", lambda e=exporting: e)
            assert layer._takes_derived(x) is not exporting
            assert layer._takes_derived(x, compiled=False) is False
    for transformed in (True, False):
        monkeypatch.setattr(layer, "_is_transformed", lambda t=transformed: t)
        assert layer._takes_derived(x) is not transformed


@of("_no_autocast")
def test_no_autocast_in_the_block(layer):
    x = torch.ones(2, 3)
    for given in (x, x.to("meta")):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert (x @ x.T).dtype == torch.bfloat16
            with layer._no_autocast(given):
                assert (x @ x.T).dtype == torch.float32


@of("_add_product")
def test_a_product_is_added_in_place_unless_a_second_derivative_needs_what_it_is_added_to(layer):
    x, factor = normal(2, 3), normal(2, 3)
    for grad in (True, False):
        h = normal(2, 3)
        before = h.clone()
        with torch.set_grad_enabled(grad):
            found = layer._add_product(h, x, factor, -1)
        torch.testing.assert_close(found, before - x * factor)
        assert (found.data_ptr() == h.data_ptr()) is not grad
        assert torch.equal(h, before) is grad


# ---------------------------------------------------------------------- scales
@of("_rows")
def test_rows(layer):
    x = normal(2, 3, 4)
    matrix = x[0]
    assert layer._rows(matrix) is matrix
    assert torch.equal(layer._rows(x), x.reshape(6, 4))
    assert torch.equal(layer._rows(x[0, 0]), x[0, :1])


@of("_finite")
def test_a_scale_saturates_where_the_numbers_end(layer):
    for dtype in (*WIDE, torch.bfloat16):
        most = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).max
        scale = torch.tensor([0.5, 1e300, math.inf], dtype=torch.float64)
        found = layer._finite(scale, torch.ones(1, dtype=dtype))
        assert found.tolist() == [0.5, min(1e300, most), most]


@of("_times")
def test_a_product_is_rounded_once(layer):
    for dtype in (*WIDE, torch.bfloat16):
        z, scale = normal(50, dtype=dtype), normal(50, dtype=torch.float64)
        found = layer._times(z, scale)
        assert found.dtype == dtype
        narrow = dtype in (torch.float16, torch.bfloat16)
        wanted = (z * scale.float()).to(dtype) if narrow else z * scale.to(dtype)
        assert torch.equal(found, wanted)


@of("_single")
def test_half_precision_becomes_single(layer):
    for dtype in (*WIDE, torch.bfloat16):
        wanted = torch.float64 if dtype == torch.float64 else torch.float32
        x = normal(3, dtype=dtype)
        assert layer._single(x).dtype == wanted
        assert torch.equal(layer._single(x), x.to(wanted))


@of("_inverse_root")
def test_inverse_roots(layer):
    x = normal(200, dtype=torch.float64).square()
    assert torch.equal(layer._inverse_root(x, 2), 1 / torch.sqrt(x))
    for degree in (1, 3, 4, 0.5):
        found = layer._inverse_root(x, degree)
        torch.testing.assert_close(found**-degree, x, rtol=1e-12, atol=0)
    for degree in (2, 3):
        edge = torch.tensor([0.0, -1e-9, 1.0], dtype=torch.float64, requires_grad=True)
        found = layer._inverse_root(edge, degree)
        assert found.tolist() == [0, 0, 1]
        (slope,) = torch.autograd.grad(found.sum(), edge)
        assert slope.tolist() == [0, 0, -1 / degree]
    # x^(-3/2) is beyond float64 here, the slope of what is as small as √x is not.
    tiny = torch.tensor([1e-240], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(layer._inverse_root(tiny, 2), tiny, tiny.detach().sqrt())
    torch.testing.assert_close(slope, torch.tensor([-5e239], dtype=torch.float64))


# ---------------------------------------------------------------------- windows and indices
@of("_take")
def test_elements_along_an_axis_and_none_outside(layer):
    x = normal(2, 5, 3)
    index = torch.tensor([[-1, 0, 4], [5, 2, 4]])
    padded = torch.nn.functional.pad(x, (0, 0, 1, 1))
    assert torch.equal(layer._take(x, -2, index), padded[:, index + 1])
    last = torch.nn.functional.pad(x, (1, 1))[..., torch.tensor([[0, 4]])]
    assert torch.equal(layer._take(x, -1, torch.tensor([[-1, 3]])), last)


@of("_window_sum")
def test_window_sums(layer):
    x = torch.arange(40.0).square().reshape(2, 20)
    for size in range(1, 8):
        for step in (1, 2):
            wanted = x.unfold(-1, (size - 1) * step + 1, 1)[..., ::step].sum(-1)
            assert torch.equal(layer._window_sum(x, size, step), wanted)


@of("_box_sum")
@pytest.mark.parametrize("padding", [(0, 0), (1, 0), (0, 2)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
def test_box_sums_are_convolutions_with_ones(layer, padding, stride, dilation):
    x = torch.arange(2 * 9 * 10.0).reshape(2, 1, 9, 10)
    ones = torch.ones(1, 1, 2, 3)
    wanted = torch.nn.functional.conv2d(x, ones, None, stride, padding, dilation)
    assert torch.equal(layer._box_sum(x, (2, 3), stride, padding, dilation), wanted)


@of("_whiten")
def test_whitening(layer):
    z = normal(4, 3, dtype=torch.float32)
    root = normal(4, 3, 3, dtype=torch.float64)
    kernel = root @ root.mT + torch.eye(3)
    kernel[1] = 0
    found = layer._whiten(kernel, z)
    assert found.dtype == torch.float32
    assert found[1].tolist() == [0, 0, 0]
    wanted = (
        torch.linalg.inv(torch.linalg.cholesky(kernel[[0, 2, 3]])) @ z[[0, 2, 3], :, None].double()
    )
    torch.testing.assert_close(found[[0, 2, 3]].double(), wanted[..., 0], rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------- arguments
@of("_as_tuple")
def test_one_number_or_one_an_axis(layer):
    assert layer._as_tuple(3, 2) == (3, 3)
    assert layer._as_tuple([3, 4], 2) == (3, 4)
    for wrong in ((1,), (1, 2, 3)):
        with pytest.raises(ValueError, match="expected 2 numbers"):
            layer._as_tuple(wrong, 2)


@of("_as_int")
def test_a_number_or_a_tuple_of_one(layer):
    assert layer._as_int(3) == layer._as_int((3,)) == 3
    for wrong in ((), (1, 2)):
        with pytest.raises(ValueError, match="expected one number"):
            layer._as_int(wrong)


@of("_resolve_padding")
def test_how_much_to_pad_and_how_much_to_overrun(layer):
    def resolve(padding, mode="zeros", kernel=(3, 4), stride=(1, 1), dilation=(1, 2)):
        return layer._resolve_padding(padding, mode, kernel, stride, dilation)

    assert resolve((1, 2)) == ([], (1, 2))
    assert resolve("valid") == ([], (0, 0))
    assert resolve("valid", "reflect") == ([0, 0, 0, 0], (0, 0))
    assert resolve((1, 2), "circular") == ([2, 2, 1, 1], (0, 0))
    assert resolve("same") == ([], (1, 3))
    assert resolve("same", "replicate") == ([3, 3, 1, 1], (0, 0))
    assert resolve("same", kernel=(2, 3)) == ([2, 2, 0, 1], (0, 0))
    assert resolve("valid", stride=(2, 1)) == ([], (0, 0))
    for words, given in {
        "unknown padding_mode": {"padding": "same", "mode": "odd"},
        "strided": {"padding": "same", "stride": (1, 2)},
        "must be a number": {"padding": "odd"},
    }.items():
        with pytest.raises(ValueError, match=words):
            resolve(**given)

"""Generated layers against 256 bits, and the naive forms that the same measurement refuses."""

from functools import cache

import pytest
import torch

from codegen import generate
from derive import load_spec
from tests.support import SPEC_FILES
from truestep.cli import main
from verify.accuracy import bound, measure
from verify.accuracy_inputs import FORMATS, patterns, rounded, shaped
from verify.accuracy_table import Row, judged, title
from verify.load import load_module
from verify.sources import subjects

ROWS = [(name, format) for name in ("linear", "bilinear") for format in FORMATS]
ROWS += [("scale", "float32"), ("multihead_attention", "float32")]
WINDOWS = [("conv1d", "float32"), ("conv1d", "float16"), ("depthwise_conv1d", "bfloat16")]
OUTSIDE = {"one huge", *(f"1e{k}" for k in (-44, -38, -30, -25, -20, 20, 25, 30, 36, 38))}
"""What a window's float32 squares are documented not to hold."""
# Of a bilinear layer and of attention: W x and the mixed tokens overflow before z does.
INNER_SUMS = {"1e38"}

NAIVE = """
def _energy(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    return (x if x.dtype == torch.float64 else x.float()).square().sum(dim)
"""


@cache
def source(name):
    return generate(load_spec(SPEC_FILES[name]))


def rows(name, format, text=None):
    given = source(name)
    module = None if text is None else load_module(text, given.module)
    for subject in judged(subjects(given, module=module)):
        count, errors = measure(subject, format)
        yield Row(title(subject), format, bound(count, format), tuple(errors))


def naive(name):
    text = source(name).text
    start = text.index("def _energy(")
    end = text.index("\n\n\n", start)
    return text[:start] + NAIVE.strip() + text[end:]


@pytest.mark.parametrize(("name", "format"), ROWS)
def test_sums_over_an_axis_are_right_in_all_of_the_format(name, format):
    found = list(rows(name, format))
    assert found
    for row in found:
        inner = INNER_SUMS if "Bilinear" in row.name or "mix" in row.name else set()
        assert set(row.wrong) <= inner, row
        assert {"1e0", "zeros", "equal", "one huge", "one tiny"} <= {
            e.pattern.name for e in row.kept
        }


@pytest.mark.parametrize(("name", "format"), WINDOWS)
def test_windows_are_right_within_their_documented_range(name, format):
    outside = OUTSIDE if format in ("float32", "bfloat16") else set()
    # Its gauge is as large as the output, and its cube, in the gradient, is of float32.
    outside |= {"1e-18"} if "depthwise" in name else set()
    for row in rows(name, format):
        assert set(row.wrong) <= outside, row
        # Beyond it the gauge is 0 or short of digits, and never not a number.
        assert not any(e.broken for e in row.errors), row
        assert len(row.kept) >= 8


@pytest.mark.parametrize("format", ["float32", "bfloat16"])
def test_squares_in_float32_are_refused(format):
    found = list(rows("linear", format, naive("linear")))
    for row in found:
        assert {"1e20", "1e25", "1e30", "one huge"} <= set(row.wrong)
        if row.name != "AffineLikeLinear":
            assert {"1e-25", "1e-30"} <= set(row.wrong)


def test_a_scale_rounded_to_half_precision_is_refused():
    text = source("linear").text
    wrong = text.replace("return (z * scale.float()).to(z.dtype)", "return z * scale.to(z.dtype)")
    once = "torch.addcmul(added.float(), z.float(), scale.float()).to(z.dtype)"
    assert wrong != text
    assert once in text
    wrong = wrong.replace(once, "added.to(z.dtype) + z * scale.to(z.dtype)")
    for row in rows("linear", "float16", wrong):
        if row.name != "AffineLikeLinear":
            assert "1e-5" in row.wrong


def test_an_error_in_the_gauge_is_refused():
    text = source("linear").text
    wrong = text.replace("torch.rsqrt(1 + energy)", "torch.rsqrt(1.00001 + energy)")
    row = next(rows("linear", "float32", wrong))
    assert {"1e-10", "1e-2", "1e0"} <= set(row.wrong)
    # Where the bias alone is left, a wrong gauge shows; where the input dwarfs 1, it does not.
    assert "1e10" not in row.wrong


def test_the_least_numbers_saturate_and_zero_gives_zero():
    module = load_module(source("linear").text, "linear")
    layer = module.NormLikeLinear(2, 3, bias=False)
    least = torch.full((1, 2), 2.0**-149)
    assert layer(least).isfinite().all()
    assert not layer(torch.zeros(1, 2)).any()
    norms = [layer(k * least).norm().item() for k in (2**4, 2**10, 2**30)]
    assert norms == sorted(norms)


def test_the_divisor_drops_out_of_every_derivative():
    module = load_module(source("linear").text, "linear")
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))

    def energy(x):
        return module._energy(x, -1)

    torch.testing.assert_close(torch.func.jacrev(energy)(x).sum(0).float(), 2 * x)
    hessian = torch.func.jacrev(torch.func.jacrev(energy))
    second = hessian(x[0]).float()
    torch.testing.assert_close(second, 2 * torch.eye(4))
    assert hessian(torch.zeros(4)).isfinite().all()


def test_inputs_are_numbers_of_the_format():
    for format, dtype in FORMATS.items():
        normal = torch.randn(3, 2, dtype=torch.float64).numpy()
        for pattern in patterns(format):
            values = torch.from_numpy(shaped(pattern, normal, format))
            assert torch.equal(values.to(dtype).double(), values)
            assert values.isfinite().all()
    assert rounded(normal * 1e300, "float16").max() <= 65504


def test_command(capsys):
    assert main(["accuracy", "--classes", "scale", "--formats", "float32", "--jobs", "1"]) == 0
    shown = capsys.readouterr().out
    assert "`UnitGaugeScale` | float32" in shown

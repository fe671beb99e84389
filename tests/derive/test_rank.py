"""Where K(s,s) loses rank: sizes, hyperparameters and sites that most draws do not meet."""

import numpy as np
import pytest

from derive import LayerSpec, derive
from derive.points import constant_places, missed_points, random_point, random_sizes
from derive.rank import always_zero, largest_ranks

SLIDING = "l + 2*padding - k + 1"
TRANSPOSED = "(l - 1)*stride + k"


def windowed(value, positions, sizes=None, **hyperparameters):
    """A layer over windows of x with the units i."""
    return LayerSpec(
        name="Windowed",
        forward=f"z[n, p, i] = {value}",
        site="n p",
        unit="i",
        parameters={p: {"torch": p.lower()} for p in "ABVW" if p in value},
        sizes={"p": positions, "i": "units", "k": "kernel", **(sizes or {})},
        hyperparameters=hyperparameters,
        inputs={"x": "n l"},
    )


def matrix_gauge(spec):
    return derive(spec).correction("matrix gauge")


@pytest.mark.parametrize(
    ("spec", "number"),
    [
        (windowed("x[n, (p - k)/stride]*W[i, k] + V", TRANSPOSED, stride=1), "stride=2"),
        (windowed("x[n, p + k - padding]*W[i, k] + V", SLIDING, padding=0), "padding="),
    ],
)
def test_a_site_that_no_window_reaches_has_the_share_of_the_other_parameters_alone(spec, number):
    found = matrix_gauge(spec)
    assert "has rank 1 <" in found.reason
    assert number in found.reason


def test_windows_that_reach_every_site_leave_the_gauge():
    assert matrix_gauge(windowed("x[n, p + k]*W[i, k] + V", "l - k + 1")).applies


@pytest.mark.parametrize("bias", ["", " + B[i, d]"])
def test_units_along_two_axes_are_missed_along_each_of_them(bias):
    spec = LayerSpec(
        name="Windowed",
        forward=f"z[n, p, i, d] = W[i] + x[n, (p - k)/stride]*V[i, d, k]{bias}",
        site="n p",
        unit="i d",
        parameters={p: {"torch": p.lower()} for p in ("WVB" if bias else "WV")},
        sizes={"p": TRANSPOSED, "i": "units", "d": "heads", "k": "kernel"},
        hyperparameters={"stride": 1},
        inputs={"x": "n l"},
    )
    found = derive(spec)
    seeds = map(np.random.default_rng, range(20))
    points = [p for rng in seeds for p in missed_points(found.program, rng)]
    assert points
    assert all(p.sizes["i"] > 1 and p.sizes["d"] > 1 for p in points)
    assert found.correction("matrix gauge").applies == bool(bias)


def test_a_site_where_nothing_moves_says_nothing_about_the_others():
    value = "B[i, r]*A[r, k]*x[n, p + k - padding]"
    spec = windowed(value, SLIDING, {"r": "rank"}, padding=1)
    derivation = derive(spec)
    points = list(missed_points(derivation.program, np.random.default_rng(0)))
    ranks = [largest_ranks(derivation.program, derivation.update.self_kernel, p) for p in points]
    assert any((r == 0).any() for r in ranks)
    assert derivation.correction("matrix gauge").applies


def rows(forward):
    return LayerSpec(
        name="Rows",
        forward=forward,
        site="n",
        unit="i",
        parameters={"A": {"torch": "a"}, "B": {"torch": "b"}},
        sizes={"i": "units", "r": "rank"} | ({"j": "features"} if "j" in forward else {}),
    )


def test_an_input_may_switch_a_site_off_and_a_parameter_may_not():
    assert matrix_gauge(rows("z[n, i] = relu(x[n])*B[i, r]*A[r]")).applies
    off = matrix_gauge(rows("z[n, i] = B[i, r]*relu(A[r, j]*x[n, j])"))
    assert "K(s,s) has rank" in off.reason


def test_saturation_is_no_loss_also_beside_a_flat_function():
    forward = "h[n, r] = max(A[r, j]*x[n, j], -0.25)\nz[n, i] = tanh(h[n, r]*B[i, r]**2)"
    assert matrix_gauge(rows(forward)).applies
    off = forward.replace("tanh(h[n, r]*B[i, r]**2)", "max(h[n, r]*B[i, r]**2, 0)")
    assert "K(s,s) has rank" in matrix_gauge(rows(off)).reason


def test_a_site_that_some_parameters_switch_off_is_not_one_that_never_moves():
    derivation = derive(rows("z[n, i] = B[i, r]*relu(A[r, j]*x[n, j])"))
    program, kernel = derivation.program, derivation.update.self_kernel
    for seed in range(6):
        rng = np.random.default_rng(seed)
        point = random_point(program, rng, 1, 1)  # half of all parameters switch its relu off
        assert not always_zero(program, kernel, point, rng, np.array([True])).any()


@pytest.mark.parametrize(("size", "still"), [(1, True), (2, False)])
def test_what_rounding_leaves_of_0_is_0(size, still):
    lines = "h[n, r] = A[r]*x[n]\nh2[n] = h[n, r]\nh3[n] = sum[r]((h[n, r] - h2[n])**2)"
    derivation = derive(rows(f"{lines}\nz[n, i] = h3[n]*sigmoid(h[n, r]*B[i, r])"))
    for seed in range(6):
        rng = np.random.default_rng(seed)
        point = random_point(derivation.program, rng, size, size)
        asked = np.full(size, True)
        found = always_zero(derivation.program, derivation.update.self_kernel, point, rng, asked)
        assert (found == still).all()


@pytest.mark.parametrize("size", ["columns", "7"])
@pytest.mark.parametrize("index", ["6", "2*j - 6"])
def test_a_constant_index_exists_at_the_points_that_decide(index, size):
    """V[6, i] is 0 where there are six rows, and K = x² + 1 would be x² there."""
    spec = LayerSpec(
        name="Constant",
        forward=f"z[n, i] = x[n]*W[i, j] + V[i, {index}]*u[n, 0] + h[n, 3]*W[i, 2]",
        site="n",
        unit="i",
        parameters={"W": {"torch": "w", "axes": "i j"}, "V": {"torch": "v", "axes": "i a"}},
        sizes={"i": "units", "j": "columns", "a": size},
        inputs={"u": "n k", "h": "n d"},
    )
    program = derive(spec).program
    places = {"k": 0, "d": 3, "j": 2}
    if size == "columns":  # one argument for both
        places |= {"a": 2}
    if index == "6":
        places |= {"a": 6, "j": 6} if size == "columns" else {"a": 6}
    assert constant_places(program) == places
    for seed in range(40):
        sizes, _ = random_sizes(program, np.random.default_rng(seed))
        assert all(sizes[x] > place for x, place in places.items() if x != "a" or size != "7")
        assert sizes["i"] >= 1

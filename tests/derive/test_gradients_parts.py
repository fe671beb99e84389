"""The derived backward pass of small corrected maps, against finite differences.

A map is written in the notation as z̃ = σ A + B, with a line ``k`` for κ, of which σ is a power,
and lines ``A`` and ``B``. These are taken out of the layer and handed over as what an ansatz finds.
"""

import functools
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
from sympy import Add, Expr, Integer, Rational, Symbol, exp, sqrt

from derive.correction import Correction
from derive.errors import DerivationError
from derive.evaluate import Evaluator
from derive.gradients import Gradients, derive_gradients, pullback
from derive.nodes import Delta, Letter, Read, reads
from derive.points import random_point
from derive.program import Program
from derive.resolve import resolve
from derive.spec import LayerSpec

K = Symbol("κ", positive=True)
RADIUS = Symbol("radius", positive=True)
HALF = Rational(1, 2)
TAKEN = ("k", "A", "B")


@dataclass(frozen=True)
class Map:
    """A corrected map, and a point to look at it."""

    program: Program
    correction: Correction
    point: Evaluator

    @functools.cached_property
    def gradients(self) -> Gradients:
        return derive_gradients(self.program, self.correction)

    def along(self, name: str, way: np.ndarray, upstream: np.ndarray) -> float:
        """∂/∂t Σ g z̃ at T + t way, by differences; a frozen gauge stays as it is."""
        value = self.point.tensors[name]
        above, below = (self.output({name: value + step * way}) for step in (1e-6, -1e-6))
        return float((upstream * (above - below)).sum() / 2e-6)

    def output(self, moved: dict[str, np.ndarray]) -> np.ndarray:
        """z̃."""
        letters = self.program.output.letters
        at = replace(self.point, tensors={**self.point.tensors, **moved})
        gauge = self.point if self.correction.frozen else at
        scale = gauge.array(self.correction.gauge, letters)
        return sum(scale**degree * at.array(e, letters) for degree, e in self.correction.terms)

    def derived(self, upstream: np.ndarray) -> dict[str, np.ndarray]:
        """∂/∂T Σ g z̃ of every tensor by the derived pass."""
        found = self.gradients
        tensors = {**self.point.tensors, found.upstream.tensor: upstream}
        at = replace(self.point, tensors=tensors)
        for step in (found.scale, *([found.kept] if found.kept else []), *found.steps):
            tensors[step.name] = at.array(step.value, step.letters)
        return {name: at.array(step.value, step.letters) for name, step in found.of.items()}


def layer(forward: str, site: str = "n", unit: str = "i", **more) -> Program:
    sizes = {"i": "out", "j": "width", "o": "out", "c": "channels", "w": "kernel"}
    options = {
        "parameters": {x: {"torch": f"{x}_weight"} for x in "WVb" if f"{x}[" in forward},
        "sizes": {x: size for x, size in sizes.items() if re.search(rf"\b{x}\b", forward)},
    }
    return resolve(LayerSpec("Own", forward, site, unit, **{**options, **more}))


def corrected(
    forward: str, gauge: Expr = K**-HALF, degree: int = 1, exactness: str = "exact", **more
) -> Map:
    """The map of a text with lines ``k``, ``A`` and, where something is not scaled, ``B``."""
    whole = layer(forward, **more)
    values = {line.target: line.value for line in whole.lines if line.target in TAKEN}
    terms = tuple((degree * (x == "A"), values[x]) for x in "AB" if x in values)
    output = replace(whole.output, value=Add(*(value for _, value in terms)))
    program = replace(
        whole,
        tensors={x: tensor for x, tensor in whole.tensors.items() if x not in TAKEN},
        lines=(*(line for line in whole.lines[:-1] if line.target not in TAKEN), output),
    )
    found = Correction(
        "output gauge", True, "", gauge=gauge.xreplace({K: values["k"]}), exactness=exactness
    )
    point = random_point(whole, np.random.default_rng(0), low=2, high=3)
    point = replace(point, symbols={**point.symbols, "radius": 0.7})
    return Map(program, replace(found, terms=terms), point)


KAPPA = "k[n] = 1 + x[n, j]**2"
Z = "z[n, i] = k[n]*A[n, i]"
WINDOW = {
    "site": "n p",
    "unit": "o",
    "sizes": {"o": "out", "c": "channels", "w": "kernel", "p": "l - w + 1"},
    "inputs": {"x": "n c l"},
}
SLID = """k[n, p] = 1 + x[n, c, p + w]**2
A[n, o, p] = W[o, c, w]*x[n, c, p + w]
z[n, o, p] = k[n, p]*A[n, o, p]"""
AFFINE = f"{KAPPA}\nA[n, i] = W[i, j]*x[n, j] + b[i]\n{Z}"
NORM = f"{KAPPA}\nA[n, i] = W[i, j]*x[n, j]\nB[n, i] = b[i]*y[n]\n{Z} + B[n, i]"
OTHER = f"k[n] = 1 + v[n]**2\nA[n, i] = W[i, j]*x[n, j]\n{Z}"
MAPS = {
    # text, options, sources, parameters, whether A is kept, the letters of h
    "affine": (AFFINE, {}, "x", "Wb", False, "nj"),
    "norm": (NORM, {"gauge": 2 * RADIUS / (3 * K)}, "xy", "Wb", False, "nj"),
    "another's gauge": (OTHER, {}, "vx", "W", False, "nj"),
    "degree of the gauge": (
        NORM,
        {"gauge": K ** Rational(-1, 4), "degree": 2},
        "xy",
        "Wb",
        False,
        "nj",
    ),
    "square": (f"{KAPPA}\nA[n, i] = W[i, j]*x[n, j]**2 + b[i]\n{Z}", {}, "x", "Wb", False, "nj"),
    "norm of a row": (
        f"{KAPPA}\nA[n, i] = W[i]*sqrt(sum[j](x[n, j]**2))\n{Z}",
        {},
        "x",
        "W",
        False,
        "nj",
    ),
    "several degrees": (
        f"{KAPPA}\nA[n, i] = W[i, j]*x[n, j] + V[i, j]*x[n, j]**2\n{Z}",
        {},
        "x",
        "WV",
        True,
        "nj",
    ),
    "no degree": (
        f"{KAPPA}\nA[n, i] = W[i, j]*tanh(x[n, j])*tanh(y[n])\n{Z}",
        {},
        "xy",
        "W",
        True,
        "nj",
    ),
    "the second is of a degree": (
        f"{KAPPA}\nA[n, i] = W[i, j]*(x[n, j] + x[n, j]**2)*y[n]\n{Z}",
        {},
        "xy",
        "W",
        False,
        "n",
    ),
    "one unit": (
        "k[n, i] = 1 + x[n, i]**2\nA[n, i] = b[i]*x[n, i]\nz[n, i] = k[n, i]*A[n, i]",
        {},
        "x",
        "b",
        True,
        "ni",
    ),
    "shift": (f"{KAPPA}\nA[n, i] = W[i, j]*x[n, j + 1]\n{Z}", {}, "x", "W", True, "nj"),
    "window": (SLID, WINDOW, "x", "W", True, "ncl"),
}


@pytest.mark.parametrize("case", MAPS)
def test_gradients_are_finite_differences(case):
    text, options, sources, parameters, kept, local = MAPS[case]
    found = corrected(text, **options)
    derived = found.gradients
    assert derived.sources == tuple(sources)
    assert derived.parameters == tuple(parameters)
    assert list(derived.of) == [*sources, *parameters]
    assert [step.name for step in derived.of.values()] == [f"d{x}" for x in derived.of]
    assert derived.upstream.tensor == "grad"
    assert derived.scale.name == "scale"
    assert [step.name for step in derived.steps] == ["u", "h", "a"]
    assert [str(x) for x in derived.steps[1].letters] == list(local)
    assert derived.steps[2].letters == derived.scale.letters
    assert derived.scale.letters == tuple(
        x for x in found.program.output.letters if x in found.correction.gauge.free_symbols
    )
    assert (derived.kept is not None) is kept
    if kept:
        assert derived.kept.name == "z"
        assert derived.kept.letters == found.program.output.letters
    assert_right(found)


def assert_right(found: Map) -> None:
    rng = np.random.default_rng(1)
    upstream = rng.standard_normal(found.point.tensors[found.program.output.target].shape)
    for name, value in found.derived(upstream).items():
        way = rng.standard_normal(value.shape)
        wanted = found.along(name, way, upstream)
        np.testing.assert_allclose((value * way).sum(), wanted, rtol=1e-6, err_msg=name)


def test_a_frozen_gauge_is_a_constant():
    text = f"k[n] = 1 + W[i, j]**2*x[n, j]**2\nA[n, i] = W[i, j]*x[n, j] + b[i]\n{Z}"
    found = corrected(text, exactness="frozen")
    assert [step.name for step in found.gradients.steps] == ["u"]
    assert found.gradients.kept is None
    assert_right(found)


def test_what_is_nothing_is_no_part():
    found = corrected(NORM)
    terms = ((2, Integer(0)), *found.correction.terms, (0, Integer(0)))
    padded = replace(found, correction=replace(found.correction, terms=terms))
    assert set(padded.gradients.of) == set(found.gradients.of) == set("xyWb")
    assert_right(padded)


def test_what_is_not_read_has_none():
    found = corrected(NORM)
    (scaled,) = (term for term in found.correction.terms if term[0])
    alone = replace(found, correction=replace(found.correction, terms=(scaled,)))
    assert alone.gradients.sources == ("x",)
    assert alone.gradients.parameters == ("W",)
    assert_right(alone)


def test_lines_before_the_last_are_read_like_inputs():
    text = f"h[n, j] = x[n, j]**2\nk[n] = 1 + h[n, j]**2\nA[n, i] = W[i, j]*h[n, j]\n{Z}"
    found = corrected(text)
    assert found.gradients.sources == ("h",)
    assert_right(found)


@pytest.mark.parametrize(
    ("taken", "free"),
    [
        ({"forward": AFFINE.replace("x[", "u[")}, ["grad", "scale", "u2", "h", "a"]),
        ({"forward": AFFINE.replace("j]", "a]"), "sizes": {"i": "o", "a": "w"}}, ["a2"]),
        ({"sizes": {"i": "grad", "j": "h"}}, ["grad2", "scale", "u", "h2", "a"]),
        ({"parameters": {"W": {"torch": "u"}, "b": {"torch": "a"}}}, ["u2", "h", "a2"]),
        ({"parameters": {"W": {"torch": "scale"}, "b": {"torch": "scale2"}}}, ["scale3", "u"]),
        ({"hyperparameters": {"h": 1}}, ["h2"]),
    ],
)
def test_names_are_apart_from_those_of_the_layer(taken, free):
    found = corrected(**{"forward": AFFINE, **taken})
    derived = found.gradients
    names = [derived.upstream.tensor, derived.scale.name, *(step.name for step in derived.steps)]
    assert set(free) <= set(names)
    assert len(set(names)) == 5
    assert_right(found)


X, Y = (Read(Symbol(x), Letter("n", "n")) for x in "xy")


@pytest.mark.parametrize(
    ("terms", "gauge", "message"),
    [
        (((1, X), (2, X)), 1 / X, "not one scaled part"),
        (((0, X),), 1 / X, "not one scaled part"),
        (((1, X),), None, "not one scaled part"),
        (((1, X),), Integer(2), "one power"),
        (((1, X),), 2 + X, "one power"),
        (((1, X),), 2 * exp(X), "one power"),
        (((1, X),), X**RADIUS, "one power"),
        (((1, X),), sqrt(X) * sqrt(2 + X), "one power"),
    ],
)
def test_other_forms_are_refused(terms, gauge, message):
    program = layer("z[n, i] = W[i]*x[n]")
    other = Correction("output gauge", True, "", gauge=gauge, terms=terms)
    with pytest.raises(DerivationError, match=message):
        derive_gradients(program, other)


TABLE = {"W": {"torch": "weight", "axes": "j i"}}


@pytest.mark.parametrize("forward", ["z[n, i] = W[t[n], i]*x[n]", "z[n, i] = W[t[n], i]"])
def test_a_tensor_of_integers_has_no_gradient(forward):
    program = layer(forward, parameters=TABLE, sizes={"j": "count", "i": "out"})
    terms = ((1, program.output.value),)
    other = Correction("output gauge", True, "", gauge=1 / sqrt(1 + X**2), terms=terms)
    with pytest.raises(DerivationError, match="a tensor of integers"):
        derive_gradients(program, other)


@pytest.mark.parametrize(
    "body",
    [
        "x[n, p + v, 2*q + w]**2",
        "3*y[n]*x[n, p + v, 2*q + w]**2",
        "x[n, p + v, 2*q + w]**2 + y[n]*x[n, p + v, 2*q + w]**4",
        "x[n, p + v, q]**2 + x[n, p, q]**3",
        "x[n, p + v, 2 - q]**2*y[n]",
    ],
)
def test_a_tensor_is_read_at_its_own_letters_where_its_element_stands(body):
    program = windows(body)
    own = program.tensors["x"].letters
    found = pullback(program, Integer(1), program.output.value, "x", program.output.letters)
    assert found.has(Delta)
    assert {read.indices for read in reads(found, "x")} == {own}
    assert_pulled_back(program, found)


def test_what_stands_elsewhere_is_read_there():
    program = windows("x[n, p + v, q]*x[n, p + v, q + 1]")
    found = pullback(program, Integer(1), program.output.value, "x", program.output.letters)
    assert_pulled_back(program, found)


def windows(body: str) -> Program:
    sizes = {"v": "v_size", "w": "w_size", "p": "a - v + 1", "q": "(b - w)//2 + 1"}
    return layer(
        f"z[n, p, q, i] = W[i, v, w]*({body})",
        site="n p q",
        sizes={"i": "out", **sizes},
        inputs={"x": "n a b"},
    )


def assert_pulled_back(program: Program, found: Expr) -> None:
    """Σ ∂z/∂x m over the output along some m."""
    rng = np.random.default_rng(0)
    point = random_point(program, rng, low=2, high=3)
    x = point.tensors["x"]
    way = rng.standard_normal(x.shape)
    sides = [
        replace(point, tensors={**point.tensors, "x": x + step * way}).array(
            program.output.value, program.output.letters
        )
        for step in (1e-6, -1e-6)
    ]
    pulled = (point.array(found, program.tensors["x"].letters) * way).sum()
    np.testing.assert_allclose(pulled, (sides[0] - sides[1]).sum() / 2e-6, rtol=1e-6)


def test_what_is_read_along_its_diagonal_is_pulled_back_onto_it():
    program = layer("z[n, i] = W[i, j]*x[n, j, j]")
    found = pullback(program, Integer(1), program.output.value, "x", program.output.letters)
    assert_pulled_back(program, found)

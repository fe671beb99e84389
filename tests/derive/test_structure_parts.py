"""What is said of a kernel, against brute force, and what each part of a classification is for."""

import functools
import re
from dataclasses import replace

import numpy as np
import pytest
from sympy import Add, Expr, Integer, Mul, Pow, Symbol, exp, log, nan, oo, sqrt
from sympy import expand as multiplied_out

from derive import DerivationError, LayerSpec, structure
from derive.budget import TooLargeError
from derive.evaluate import Evaluator
from derive.functions import Step, maximum, relu, sigmoid
from derive.nodes import Contraction, Delta, Letter, Read, reads, size_symbol
from derive.normal import normal
from derive.points import random_sizes, random_tensors, with_lines
from derive.program import Line, Program
from derive.resolve import resolve
from derive.structure import (
    Structure,
    at_zero_input,
    classify,
    constant_mean,
    expanded_terms,
    gram,
    is_diagonal,
    is_positive_sum,
    named,
    on_diagonal,
    shortest,
    simplest,
    subtracts,
    sum_of_gradients,
    sum_of_squares,
    tower,
    unit_delta,
    vanishing,
)
from derive.update import Update, derive_update

SIZES = {"i": "units", "j": "features", "r": "rank", "t": "tokens"}
N, T, U, J = (Letter(*pair) for pair in ("nn", "tt", "ii", "jj"))
D, E = Delta(U - U.primed), Delta(J - J.primed)
A, B, C, G, H = (Read(Symbol(s), U) for s in "abcgh")
X, XI, XT = (Read(Symbol("x"), N, letter) for letter in (J, U, T))
M, V, Y = (Read(Symbol(s), N) for s in "mvy")
SQUARES, TOTAL = normal(Contraction(X**2, J)), normal(Contraction(X, J))
LONG = normal(Contraction(X**2 * exp(X), J))
P, Q = (Symbol(s, real=True) for s in "pq")
WIDTH, TOKENS, SITES = (size_symbol(s) for s in "jtn")

LINEAR = "z[n, i] = W[i, j]*x[n, j] + b[i]"
SCALE = "z[n, i] = a[i]*x[n, i] + b[i]"
# The unit is the second axis of W: the first is summed.
CENTRED = "z[n, i] = W[j, i]*(x[n, j] - mean[j](x[n, j])) + b[i]"
CENTRED_UNITS = "z[n, i] = a[i]*(x[n, i] - mean[i](x[n, i]))"
FIXED = "z[n, i] = W[j, i]*(x[n, j] - mean[j](x[n, j])) + U[i, 0]"
NORMED = "v[n] = mean[j](x[n, j]**2)\nz[n, i] = W[i, j]*x[n, j]/sqrt(1 + v[n]) + b[i]"
GATED = "g[n, i] = V[i, j]*x[n, j]\nz[n, i] = W[i, j]*x[n, j]*sigmoid(g[n, i])"
DEAD = "z[n, i] = relu(W[i, j]*x[n, j])"
LOW_RANK = "h[n, r] = V[r, j]*x[n, j]\nz[n, i] = W[i, r]*h[n, r]"
WEIGHTED = "z[n, i] = W[i, r]*V[r, j]*x[n, j]*(1 - y[n])"
RESIDUAL = f"{WEIGHTED} + a*u[n, i]"
SUM = "z[n, i] = a*(x[n, i] + y[n, i])"
DIFFERENCE = "z[n, i] = a*(x[n, i] - y[n, i])"
NORM = "m[n] = sum[j](x[n, j]**2)\nz[n, i] = a*m[n]*y[n, i]"
SHARED = "z[n, i] = x[n, i] + b[i] + a"
ALMOST = "z[n, i] = x[n, i] + b[i] + 0.0001*a"
TABLE = "z[n, t, i] = W[i, j]*x[n, t, j] + b[i, t]"
BATCH = "v = mean[n](x[n, j]**2)\nz[n, i] = W[i, j]*x[n, j]/sqrt(v) + b[i]"
TOKEN = "v[n] = mean[t](x[n, t]**2)\nz[n, t, i] = a[i]*x[n, t]/sqrt(v[n])"
# With m and with p q written out nothing of these is left: no kernel, no second part, no factor.
NOTHING = "m[n] = sum[j](x[n, j]**2)\nz[n, i] = a[i]*(m[n] - sum[j](x[n, j]**2))"
HIDDEN = "m[n] = sum[j](x[n, j]**2)\nz[n, i] = b[i]*y[n] + a*(m[n] - sum[j](x[n, j]**2))"
WITHIN = "h[n, i] = x[n, i] + y[n]\nz[n, i] = b[i]*h[n, i]/(x[n, i] + y[n]) + W[i, j]*u[n, j]"
OPPOSITE = "p[n] = exp(a*y[n])\nq[n] = exp(-a*y[n])\nz[n, i] = W[i, j]*x[n, j]*p[n]*q[n]"


@functools.cache
def update(forward: str) -> Update:
    left = forward.splitlines()[-1].split("=")[0]
    parameters = {p: {"torch": f"{p}_"} for p in "UVWab" if re.search(rf"\b{p}\b", forward)}
    if "U" in parameters:
        parameters["U"]["axes"] = "i r"
    letters = {k for k in SIZES if re.search(rf"\b{k}\b", forward) or (k == "r" and "U" in forward)}
    spec = LayerSpec(
        name="Layer",
        forward=forward,
        site="n t" if "t" in left else "n",
        unit="i",
        parameters=parameters,
        sizes={k: v for k, v in SIZES.items() if k in letters},
    )
    return derive_update(resolve(spec, frozenset()))


@functools.cache
def classified(forward: str) -> Structure:
    return classify(update(forward))


def program(forward: str) -> Program:
    return update(forward).program


def point(forward: str, seed: int = 0) -> Evaluator:
    rng = np.random.default_rng(seed)
    sizes, symbols = random_sizes(program(forward), rng, 2, 4)
    tensors = random_tensors(program(forward), sizes, rng)
    return with_lines(program(forward), Evaluator(sizes, tensors, symbols))


def kernels(forward: str) -> np.ndarray:
    """K(s,s) at each site of a random point."""
    at, unit = point(forward), update(forward).program.unit
    letters = (*program(forward).site, *unit, *(x.primed for x in unit))
    found = at.array(update(forward).self_kernel, letters)
    return found.reshape(-1, *found.shape[-2:])


def with_kernel(forward: str, kernel: Expr) -> Update:
    """A layer whose self-kernel is said to be another."""
    return replace(update(forward), self_kernel=kernel)


def with_line(forward: str, target: str, value: Expr) -> Program:
    """A layer with a line before its output."""
    found = program(forward)
    return replace(found, lines=(Line(target, (N,), value), found.output))


ALL = {
    # kind, whether it depends on parameters and is constant, what κ reads
    LINEAR: ("isotropic", False, False, "x"),
    CENTRED: ("isotropic", False, False, "x"),
    FIXED: ("isotropic", False, False, "x"),
    NORMED: ("isotropic", False, False, "xv"),
    TABLE: ("isotropic", False, False, "x"),
    BATCH: ("isotropic", False, False, "xv"),
    TOKEN: ("isotropic", False, False, "xv"),
    OPPOSITE: ("isotropic", False, False, "x"),
    WITHIN: ("isotropic", False, False, "u"),
    HIDDEN: ("isotropic", False, False, "xmy"),
    SCALE: ("diagonal", False, False, "x"),
    CENTRED_UNITS: ("diagonal", False, False, "x"),
    GATED: ("diagonal", True, False, "xgW"),
    DEAD: ("diagonal", True, False, "xW"),
    LOW_RANK: ("anisotropic", True, False, "xhW"),
    WEIGHTED: ("anisotropic", True, False, "xyVW"),
    RESIDUAL: ("anisotropic", True, False, "uxyVW"),
    SUM: ("anisotropic", False, False, "xy"),
    DIFFERENCE: ("anisotropic", False, False, "xy"),
    NORM: ("anisotropic", False, False, "ym"),
    SHARED: ("anisotropic", False, True, ""),
    ALMOST: ("anisotropic", False, True, ""),
}


class TestClassify:
    @pytest.mark.parametrize("forward", ALL)
    def test_what_is_said_of_a_layer(self, forward):
        found = classified(forward)
        kind, dependent, constant, names = ALL[forward]
        assert (found.kind, found.parameter_dependent, found.constant) == (
            kind,
            dependent,
            constant,
        )
        assert {r.tensor for r in reads(found.kappa)} == set(names)
        assert {r.tensor for r in reads(found.full)} <= set("uxyabUVW")
        assert subtracts(found.kappa) is (forward in (FIXED, DIFFERENCE))

    @pytest.mark.parametrize("forward", ALL)
    def test_kappa_is_the_kernel(self, forward):
        found, at = classified(forward), point(forward)
        site, unit = program(forward).site, program(forward).unit
        wanted = kernels(forward)
        letters = {
            "isotropic": site,
            "diagonal": (*site, *unit),
            "anisotropic": (*site, *unit, *(x.primed for x in unit)),
        }[found.kind]
        diagonal = np.einsum("sii->si", wanted)
        for expression in (found.kappa, found.full):
            value = at.array(expression, letters)
            if found.kind == "anisotropic":
                np.testing.assert_allclose(value.reshape(wanted.shape), wanted, atol=1e-12)
            else:
                identity = np.eye(wanted.shape[1])
                np.testing.assert_allclose(wanted, diagonal[:, :, None] * identity, atol=1e-12)
                value = value.reshape(len(wanted), -1)
                np.testing.assert_allclose(diagonal, np.broadcast_to(value, diagonal.shape))
            assert value.size

    @pytest.mark.parametrize(
        ("forward", "mean"), [(BATCH, ((N,), Integer(2))), (TOKEN, ((T,), Integer(1)))]
    )
    def test_a_mean_that_is_constant_is_found(self, forward, mean):
        found, at = classified(forward), point(forward)
        assert found.mean == mean
        value = at.array(found.full, program(forward).site)
        axis = program(forward).site.index(mean[0][0])
        np.testing.assert_allclose(value.mean(axis=axis), float(mean[1]))
        assert all(classified(f).mean is None for f in ALL if f not in (BATCH, TOKEN))

    def test_where_no_unit_is_on_the_kernel_vanishes(self):
        words = "there no step moves the activation, whatever multiplies it"
        assert classified(DEAD).vanishing == f"κ = 0 wherever Σ_j W[i,j] x[n,j] < 0: {words}"
        assert all(classified(f).vanishing is None for f in ALL if f != DEAD)

    def test_a_kernel_of_nothing_is_refused(self):
        for nothing in (update(NOTHING), with_kernel(LINEAR, Integer(0))):
            with pytest.raises(DerivationError, match="no parameter moves this activation"):
                classify(nothing)

    def test_a_diagonal_kernel_needs_no_witness(self, monkeypatch):
        monkeypatch.setattr(structure, "witness_off_diagonal", None)
        assert classify(update(LINEAR)).kind == "isotropic"

    @pytest.mark.parametrize(
        ("kernel", "text"),
        [
            (WIDTH * TOKENS + WIDTH, "size(j)*(size(t) + 1)"),
            (1 - 1 / WIDTH, "1 - 1/size(j)"),
            (100 * WIDTH + 100, "100*size(j) + 100"),
            (Integer(2), "2"),
        ],
    )
    def test_a_constant_is_factored_where_that_is_shorter(self, kernel, text):
        found = classify(with_kernel(LINEAR, multiplied_out(D * kernel)))
        assert found.constant
        assert str(found.kappa) == str(found.full) == text

    def test_parameters_that_cancel_once_written_out_are_not_kept(self):
        p, q = (Read(Symbol(s), N) for s in "pq")
        found = classify(with_kernel(OPPOSITE, D * p**2 * q**2 * SQUARES))
        assert found.kappa == found.full == SQUARES

    def test_a_constant_that_differs_from_site_to_site_has_no_mean_to_speak_of(self):
        window = Contraction(Delta(T - 1 - J), J)
        assert constant_mean(program(TABLE), window)[0] == (T,)
        found = classify(with_kernel(TABLE, D * window))
        assert (found.constant, found.mean) == (True, None)

    def test_what_depends_on_parameters_has_no_mean(self):
        b = Read(Symbol("b"), U, T)
        kernel = b**2 / Contraction(b**2, T)
        assert constant_mean(program(TABLE), kernel) == ((T,), 1 / TOKENS)
        found = classify(with_kernel(TABLE, D * kernel))
        assert (found.kind, found.parameter_dependent, found.mean) == ("diagonal", True, None)


class TestAnisotropic:
    def test_a_short_kernel_is_simplified(self):
        x, y = (Read(Symbol(s), N, U) for s in "xy")
        there = {U: U.primed}
        assert classified(SUM).kappa == (x + y) * (x + y).xreplace(there)
        assert classified(DIFFERENCE).kappa == (x - y) * (x - y).xreplace(there)

    def test_what_takes_the_parameters_away_is_written_out(self):
        """(a y + y)/(a + 1) is y."""
        a = Read(Symbol("a"))
        lines = with_line(SHARED, "m", a * XI.func(Symbol("x"), N, Integer(0)))
        first = Read(Symbol("x"), N, Integer(0))
        kernel = (M + first) / (a + 1)
        found = classify(replace(with_kernel(SHARED, kernel), program=lines))
        assert (found.kind, found.parameter_dependent) == ("anisotropic", False)
        assert found.kappa == found.full == first

    @pytest.mark.parametrize("terms", [8, 100])
    @pytest.mark.parametrize("name", "ax")
    def test_what_is_long_is_not_written_out(self, name, terms):
        read = Read(Symbol("a")) if name == "a" else Read(Symbol("x"), N, Integer(0))
        value = Add(*(read**k / k for k in range(1, terms + 1)))
        lines = with_line(SHARED, "m", value)
        found = classify(replace(with_kernel(SHARED, M), program=lines))
        assert (found.kind, found.parameter_dependent) == ("anisotropic", name == "a")
        assert found.kappa == M
        assert found.full == (value if terms == 8 else M)

    def test_a_sum_of_products_that_takes_too_long_is_left(self, monkeypatch):
        def refuse(*_):
            raise TooLargeError("too large")

        kernel = update(RESIDUAL).self_kernel
        assert not subtracts(gram(update(RESIDUAL), kernel))
        monkeypatch.setattr(structure, "sum_of_gradients", refuse)
        assert gram(update(RESIDUAL), kernel) == kernel


class TestDeltas:
    @pytest.mark.parametrize(
        ("expression", "unit", "wanted"),
        [
            (D, (U,), True),
            (D * X**2 + 2 * D, (U,), True),
            (D * (X + Y) - D * Y, (U,), True),
            ((D * X + D) * (Y + 1), (U,), True),
            (Integer(0), (U,), True),
            (Integer(1), (U,), False),
            (D + 1, (U,), False),
            (D * X + Y, (U,), False),
            (D * E * X, (U, J), True),
            (D * E + D, (U, J), False),
            (Delta(U + U.primed), (U,), False),
            (Delta(U - J), (U,), False),
            (Delta(U), (U,), False),
            (Delta(U.primed), (U,), False),
            (X, (), True),
        ],
    )
    def test_diagonal_is_what_every_term_says(self, expression, unit, wanted):
        assert is_diagonal(expression, unit) is wanted

    def test_the_identity_is_diagonal_and_one_on_its_diagonal(self):
        for unit in ((U,), (U, J)):
            assert is_diagonal(unit_delta(unit), unit)
            assert on_diagonal(unit_delta(unit), unit) == 1
        assert unit_delta((U, J)) == D * E

    def test_the_diagonal(self):
        there = XI.xreplace({U: U.primed})
        assert on_diagonal(D * XI * there + there, (U,)) == XI**2 + XI


class TestForms:
    def test_the_shortest_is_by_length_then_by_text(self):
        a, b, longer = Symbol("a"), Symbol("b"), Symbol("aa")
        assert shortest(longer, b) == b
        assert shortest(b, a) == shortest(a, b) == a

    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            (A**2 / (A - 1) - 1 / (A - 1), A + 1),
            (A * (B + 1), A * (B + 1)),
            # Of four terms and more it may be a product, three stay a sum.
            (A * B + A * C + A * G + A, A * (B + C + G + 1)),
            (A * B + A * C + A * G + A * H + A, A * (B + C + G + H + 1)),
            (A * B + A * C + A, A * B + A * C + A),
            (A + B + C + G, A + B + C + G),
        ],
    )
    def test_simplest(self, expression, wanted):
        assert simplest(expression) == wanted

    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            (P + Q, False),
            (P - Q, True),
            (-P - Q, True),
            (-P * Q, False),
            (1 / P, False),
            (P * (P - Q), True),
            (1 + (P - Q) * Q, True),
            (sqrt(P - Q), True),
            (1 + sqrt(P - Q), True),
            ((P - Q) ** 3, True),
            (1 / (P - Q), True),
            (P * (P + Q), False),
            ((P - Q) ** 2, False),
            ((P - Q) ** 4, False),
            ((P - Q) ** -2, False),
            (P * (P - Q) ** 2 + 1, False),
            # Of its own the sum in a function is no sum, nor is an index.
            (exp(P - Q), False),
            (Read(Symbol("x"), U - 1), False),
        ],
    )
    def test_what_subtracts(self, expression, wanted):
        assert subtracts(expression) is wanted

    @pytest.mark.parametrize(
        ("parts", "wanted"),
        [
            ([A**2 * (G - 1) ** 2, A**2], A**2 * ((G - 1) ** 2 + 1)),
            ([A**2 * (G - 1) ** 2, A**4], A**2 * ((G - 1) ** 2 + A**2)),
            ([(A - B) ** 2, (G - H) ** 2], (A - B) ** 2 + (G - H) ** 2),
            (
                [(G - 1) ** 2 / (A + 1), B**2 / (A + 1) ** 2],
                ((G - 1) ** 2 * A + (G - 1) ** 2 + B**2) / (A + 1) ** 2,
            ),
        ],
    )
    def test_a_sum_of_squares_is_factored_one_parameter_at_a_time(self, parts, wanted):
        shares = {f"p{k}": D * multiplied_out(part) for k, part in enumerate(parts)}
        found = sum_of_squares(replace(update(SCALE), self_parts=shares))
        assert found == wanted


def assert_equal(forward: str, found: Expr, kernel: Expr) -> None:
    letters = (*program(forward).site, U, U.primed)
    at = point(forward)
    np.testing.assert_allclose(at.array(found, letters), at.array(kernel, letters), atol=1e-12)


class TestSumOfGradients:
    def test_nothing_is_multiplied_out(self):
        mean = TOTAL / WIDTH
        for forward, wanted in (
            (CENTRED, Contraction((X - mean) ** 2, J) + 1),
            (CENTRED_UNITS, (XI - Contraction(XI, U) / size_symbol("i")) ** 2),
        ):
            kappa = on_diagonal(update(forward).self_kernel, (U,))
            found = sum_of_gradients(update(forward), kappa)
            assert normal(found - kappa) == 0
            assert_same(found, wanted)

    def test_a_letter_that_nothing_holds_counts(self):
        forward = "z[n, i] = sqrt(size(j) - 1)*x[n, i]*V[i, j]"
        kappa = on_diagonal(update(forward).self_kernel, (U,))
        assert subtracts(kappa)
        found = sum_of_gradients(update(forward), kappa)
        assert found == WIDTH * (WIDTH - 1) * XI**2

    @pytest.mark.parametrize("forward", [WEIGHTED, RESIDUAL, f"{WEIGHTED} + a*(u[n, i] - y[n])"])
    def test_a_kernel_is_a_sum_of_products(self, forward):
        kernel = update(forward).self_kernel
        found = gram(update(forward), kernel)
        assert subtracts(kernel)
        products = Add.make_args(found)
        assert len(products) == len(update(forward).gradients)
        assert_equal(forward, found, kernel)

    def test_a_letter_of_the_site_is_fixed_at_both_units(self):
        forward = f"{WEIGHTED.replace('z[n', 'z[n, t')} + b[i, t]"
        kernel = update(forward).self_kernel
        found = gram(update(forward), kernel)
        assert not subtracts(Mul(*(t for t in Add.make_args(found) if t != D)))
        assert_equal(forward, found, kernel)

    def test_a_sum_of_tensors_is_not_held_at_every_site(self):
        forward = "z[n, i] = W[i, r]*V[r, j]*(x[n, j] - y[n, j])"
        kernel = update(forward).self_kernel
        assert gram(update(forward), kernel) == kernel

    @pytest.mark.parametrize("other", [FIXED, "z[n, i] = x[n]*(b[i] - mean[i](b[i]))"])
    def test_where_deltas_stay_kappa_does(self, other):
        kappa = on_diagonal(update(other).self_kernel, (U,))
        assert sum_of_gradients(update(other), kappa) == kappa

    def test_what_is_not_kappa_is_not_taken_for_it(self):
        kappa = on_diagonal(update(CENTRED).self_kernel, (U,))
        for other in (kappa + 1, 2 * kappa, -kappa):
            assert sum_of_gradients(update(CENTRED), other) == other


def assert_same(found: Expr, wanted: Expr) -> None:
    """The same text, whatever bound letters are called."""
    assert re.sub(r"[#~]\d+", "", str(found)) == re.sub(r"[#~]\d+", "", str(wanted))


class TestExpandedTerms:
    @pytest.mark.parametrize(
        ("expression", "terms"),
        [
            (A, 1),
            (A + B + C, 3),
            (A * (B + C), 2),
            ((A + B) * (C + G + H), 6),
            ((A + B) ** 3, 8),
            ((A + B) ** -3, 8),
            (sqrt(A + B), 2),
            (1 / (A + B), 2),
            (exp(A + B), 2),
            (Contraction((A + B) * (C + G), U), 4),
            (Read(Symbol("p"), N), 2),
            (Read(Symbol("q"), N) ** 2, 36),
            (Read(Symbol("p"), N) * (1 + Read(Symbol("q"), N)), 14),
        ],
    )
    def test_terms(self, expression, terms):
        p, q = (Read(Symbol(s), N) for s in "pq")
        lines = (Line("p", (N,), A + B), Line("q", (N,), p * (A + B + C)))
        found = program(LINEAR)
        assert expanded_terms(expression, replace(found, lines=(*lines, found.output))) == terms
        assert p != q


class TestConstantMean:
    @pytest.mark.parametrize(
        ("kappa", "wanted"),
        [
            (XT**2 / Contraction(XT**2, T), ((T,), 1 / TOKENS)),
            (XT**2 / Contraction(XT**2, N) + 1, ((N,), 1 + 1 / SITES)),
            (XT**2 / Contraction(XT**2, N, T), ((N, T), 1 / (SITES * TOKENS))),
            (XT**2, None),
            (XT**2 / Contraction(XT**2, T) * Contraction(XT, T), None),
        ],
    )
    def test_over_the_fewest_letters(self, kappa, wanted):
        assert constant_mean(program(TOKEN), kappa) == wanted

    def test_what_numbers_show_to_vary_is_not_summed(self, monkeypatch):
        monkeypatch.setattr(structure, "contract", None)
        assert constant_mean(program(TOKEN), XT**2) is None

    def test_without_a_letter_of_the_site_there_is_no_mean(self, monkeypatch):
        monkeypatch.setattr(structure, "witness_mean", None)
        for kappa in (Integer(3), Contraction(XT**2, N, T)):
            assert constant_mean(program(TOKEN), kappa) is None


class TestVanishing:
    @pytest.mark.parametrize(
        ("kappa", "where"),
        [
            (Step(A), "a[i] < 0"),
            (Step(A * XI) + Step(A * XI) * B**2, "a[i] x[n,i] < 0"),
            (relu(A), "a[i] < 0"),
            ((relu(A) - A) ** 2, "a[i] > 0"),
            (maximum(A, B) - B, "a[i] - b[i] < 0"),
            (maximum(A, B) - A, "a[i] - b[i] > 0"),
            (Step(A) * Step(B), "a[i] < 0, b[i] < 0"),
            (Step(A) * (1 - Step(B)), "a[i] < 0, b[i] < 0"),
            (Step(A) + Step(XI), None),
            (Step(A) * Step(XI), "a[i] < 0"),
            (Step(XI), None),
            (relu(XI) ** 2, None),
            (Step(A) + 1, None),
            (A**2, None),
            (Integer(0), None),
        ],
    )
    def test_where_units_are_off(self, kappa, where):
        words = "there no step moves the activation, whatever multiplies it"
        found = vanishing(kappa, program(SCALE))
        assert found == (where and f"κ = 0 wherever {where}: {words}")

    @pytest.mark.parametrize(("number", "tried"), [(3, True), (4, True), (5, False)])
    def test_not_more_steps_are_tried_than_takes_no_time(self, number, tried):
        steps = [Step(A - k) for k in range(number)]
        assert (vanishing(Add(*steps), program(SCALE)) is not None) is tried
        assert vanishing(Mul(*steps), program(SCALE)) is not None


class TestPositive:
    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            (A**2 + 1, True),
            (2 * WIDTH * A**2 + B**4 * C**2, True),
            ((A - B) ** 2, True),
            (relu(A) * B**2, True),
            (log(A) ** 2, True),
            (log(A) ** 2 * WIDTH + relu(B), True),
            (Contraction(X**2, J), True),
            (sigmoid(A) + A**2, True),
            (Integer(0), True),
            (A, False),
            (-relu(A), False),
            (-A, False),
            (A**2 - 1, False),
            (A**3 + 1, False),
            (A * B**2, False),
            (log(A) ** 3, False),
            (log(A) ** 2 * B, False),
            (Contraction(X, J), False),
        ],
    )
    def test_a_sum_of_squares_and_positive_constants(self, expression, wanted):
        assert is_positive_sum(expression) is wanted


def towered(height: int, top: Expr) -> Expr:
    return functools.reduce(lambda e, _: exp(e), range(height), top)


class TestAtZero:
    @pytest.mark.parametrize(
        ("expression", "height"),
        [(A, 0), (exp(A), 1), (exp(exp(A)) + B, 2), (exp(A) * exp(exp(exp(B))), 3), (A**2, 0)],
    )
    def test_exponentials_within_exponentials(self, expression, height):
        assert tower(expression) == height

    @pytest.mark.parametrize(("height", "finite"), [(1, True), (4, True), (5, False)])
    def test_a_tower_of_exponentials_is_not_computed(self, height, finite):
        found = at_zero_input(towered(height, XI), ("x",))
        assert (found == oo) is not finite
        if finite:
            assert found == towered(height, Integer(0))

    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            (A * XI + B, B),
            (exp(XI) + Y, 1 + Y),
            (SQUARES + 2, Integer(2)),
            (SQUARES / (1 + Contraction(A**2, U)), Integer(0)),
            (Contraction(A**2, U) + SQUARES, Contraction(A**2, U)),
            (Contraction(exp(X), J), WIDTH),
            (SQUARES / TOTAL, nan),
        ],
    )
    def test_inputs_are_zero_and_nothing_else(self, expression, wanted):
        assert normal(at_zero_input(expression, ("x",))) == normal(wanted)


class TestNamed:
    def test_a_sum_is_written_by_what_it_makes(self):
        found = classified(NORMED)
        shown = named(program(NORMED), found.full)
        assert {r.tensor for r in reads(shown)} == {"v"}
        at = point(NORMED)
        np.testing.assert_allclose(at.array(shown, (N,)), at.array(found.full, (N,)))

    @pytest.mark.parametrize(
        ("value", "expression", "wanted"),
        [
            (SQUARES, SQUARES + Y, M + Y),
            (-SQUARES, SQUARES + Y, Y - M),
            (2 * SQUARES / WIDTH, SQUARES, WIDTH * M / 2),
            (SQUARES + 3, SQUARES**2, (M - 3) ** 2),
            (SQUARES - TOTAL**2, SQUARES - TOTAL**2 + Y, M + Y),
            # What is not linear in the sum, has a slope that may be 0, or is of another sum.
            (LONG**2, LONG, LONG),
            (Y, LONG, LONG),
            (SQUARES * Y, SQUARES + 1, SQUARES + 1),
            (TOTAL, SQUARES + Y, SQUARES + Y),
            # What depends on parameters is no statistic.
            (SQUARES + Contraction(A, U), SQUARES + Y, SQUARES + Y),
        ],
    )
    def test_where_that_is_shorter(self, value, expression, wanted):
        found = named(with_line(SCALE, "m", value), expression)
        assert multiplied_out(found - wanted) == 0

    @pytest.mark.parametrize("shorter", [True, False])
    def test_not_where_it_is_as_long(self, shorter):
        name = "m" * (len(str(SQUARES)) - len("[n]") - shorter)
        found = named(with_line(SCALE, name, SQUARES), SQUARES)
        assert found == (Read(Symbol(name), N) if shorter else SQUARES)

    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            ((M + V + Y) / (M + V), Y / (M + V) + 1),
            (Y / (M + V), Y / (M + V)),
            (1 - Y / (M + V), 1 - Y / (M + V)),
        ],
    )
    def test_a_one_is_split_off_where_that_is_shorter(self, expression, wanted):
        found = named(program(SCALE), expression)
        assert found == wanted


def test_a_power_of_a_size_is_no_square():
    """Of (p - q)^n nothing is known, as of (p - q)^(2 n) it is."""
    n = Symbol("k", integer=True)
    assert subtracts(Pow(P - Q, n))
    assert not subtracts(Pow(P - Q, 2 * n))

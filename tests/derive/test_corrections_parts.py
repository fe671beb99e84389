"""What each ansatz says of small layers: the corrected map by brute force, and every refusal."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import sympy
from sympy import Integer, Symbol

from derive import ANSATZE, LayerSpec, input_map
from derive.corrections import Solver, solve_corrections
from derive.evaluate import Evaluator, run_program
from derive.input_map import NO_CLOSED_FORM
from derive.nodes import Read, reads
from derive.normal import inline
from derive.points import random_sizes, random_tensors, with_lines
from derive.resolve import resolve
from derive.roots import vanishes
from derive.structure import classify, subtracts
from derive.update import definitions, derive_update

SIZES = {"i": "units", "j": "features", "k": "others", "t": "tokens"}
MU, RATE, RADIUS = (Symbol(name, positive=True) for name in ("μ", "c", "radius"))
UNKNOWN = ("λ", "μ", "ν", "c", "radius")
OUTPUT, INPUT, SPLIT, UNIT, MATRIX = ANSATZE

AFFINE = "z[n, i] = W[i, j]*x[n, j] + b[i]"
LINEAR = "z[n, i] = W[i, j]*x[n, j]"
CENTRED = "m[n] = mean[j](x[n, j])\nz[n, i] = W[i, j]*(x[n, j] - m[n]) + b[i]"
SHARED = "z[n, t, i] = W[i, j]*x[n, j] + b[i, t]"
FOURTH = "z[n, i] = W[i, j]*x[n, j]**2 + b[i]"
TWO_DEGREES = "z[n, i] = W[i, j]*x[n, j] + V[i, j]*x[n, j]**2 + b[i]"
TWO_AND_SIX = "z[n, i] = W[i, j]*x[n, j] + V[i, j]*x[n, j]**3 + b[i]"
FOUR_AND_SIX = "z[n, i] = W[i, j]*x[n, j]**2 + V[i, j]*x[n, j]**3 + b[i]"
MIXED = "h[n] = sum[j](x[n, j] + x[n, j]**2)\nz[n, i] = W[i, j]*x[n, j] + b[i] + h[n]"
EXPONENTIAL = "h[n] = sum[j](exp(x[n, j]))\nz[n, i] = W[i, j]*x[n, j] + b[i] + h[n]"
CUBIC = f"{AFFINE} + y[n, i]**3"
SUMS = "v[n] = sum[j](x[n, j]**2)\nm[n] = sum[j](x[n, j])\n"
IGNORED = f"{SUMS}z[n, i] = V[i]*m[n]/sqrt(v[n]) + b[i]"
VARYING = f"{SUMS}z[n, i] = W[i, j]*x[n, j] + V[i]*m[n]/sqrt(v[n]) + b[i]"
DIRECTED = f"{SUMS}z[n, i] = W[i, j]*x[n, j] + b[i] + m[n]/sqrt(v[n])"
NORMED = "v[n] = sum[j](x[n, j]**2)\nz[n, i] = W[i, j]*x[n, j]/sqrt(v[n]) + b[i]"
TWO_INPUTS = "z[n, i] = W[i, j]*x[n, j] + V[i, k]*y[n, k] + b[i] + c[i]"
ABSOLUTE = "z[n, i] = max(b[i], -b[i])*x[n] + c[i]"
BIAS = "z[n, i] = b[i] + x[n, i]"
PROJECTED = (
    "z[n, i] = a*x[n]/sqrt(size(i)) + b[i]*x[n] - mean[i](b[i])*x[n] + W[i, j]*y[n, j] + c[i]"
)
COMPLEMENT = (
    "z[n, i] = a[i]*y[n]*sqrt(sigmoid(x[n, i])) + b[i]*y[n]*sqrt(1 - sigmoid(x[n, i])) + c[i]"
)
SCALE = "z[n, i] = a[i]*x[n, i] + b[i]"
SHARED_GAIN = "z[n, i] = W[i, j]*y[n, j] + b*x[n, i]"
ABSOLUTE_GAIN = "z[n, i] = W[i, j]*y[n, j] + max(b, -b)*x[n, i]"
LOW_RANK = "z[n, i] = B[i, u]*A[u, j]*x[n, j]"
ONE_GAIN = "z[n, i] = a*x[n, i]"
TOKEN = "e[t, i] = b[i, t]\nz[n, i] = e[token[n], i]"
ONE_UNIT = "z[n] = exp(b)*x[n]"
DEAD = "z[n, i] = relu(W[i, j]*x[n, j] + b[i])"


def spec(forward):
    last = forward.splitlines()[-1]
    site = "n t" if last.startswith("z[n, t") else "n"
    sizes = {**SIZES, "u": "rank"} if "u]" in forward else SIZES
    return LayerSpec(
        name="Layer",
        forward=forward,
        site=site,
        unit="i" if "i]" in last.split("=")[0] else "",
        parameters={p: {"torch": p + "_"} for p in "WVABabc" if p in read(forward)},
        sizes={k: v for k, v in sizes.items() if f"{k}]" in forward or f"{k}," in forward},
    )


def read(forward):
    """Which of the names of parameters a layer reads."""
    words = "".join(c if c.isalnum() else " " for c in forward).split()
    return {w for w in words if len(w) == 1}


@functools.cache
def solver(forward):
    update = derive_update(resolve(spec(forward), frozenset()))
    return Solver(update, classify(update))


def solved(forward, ansatz):
    found = solver(forward).solve(ansatz)
    assert found.applies, found.reason
    assert found.ansatz == ansatz
    return found


class Corrected:
    """A random point of a layer, and what a gauge makes of it."""

    def __init__(self, forward, correction):
        self.program = solver(forward).program
        rng = np.random.default_rng(5)
        sizes, symbols = random_sizes(self.program, rng, 2, 3)
        self.tensors = random_tensors(self.program, sizes, rng)
        self.at = with_lines(
            self.program, Evaluator(sizes, self.tensors, {**symbols, "radius": 1.5})
        )
        self.letters = self.program.output.letters
        # The kernel reads the gauge over those letters that the gauge depends on.
        self.own = tuple(x for x in self.letters if x in correction.gauge.free_symbols)
        self.gauge = self.over(correction.gauge, self.own)
        self.rate = float(correction.rate.subs(RADIUS, 1.5))

    def over(self, expression, letters, **tensors):
        at = replace(self.at, tensors={**self.at.tensors, **tensors})
        return at.array(expression, letters)

    def along(self, values):
        """An array over the gauge's letters as one over the output's."""
        shape = [self.at.sizes[x.size] if x in self.own else 1 for x in self.letters]
        return values.reshape(shape)

    def moved(self):
        """Inputs of one sample each, times the sample's factor."""
        assert [x.name for x in self.own] == ["n"]
        return {
            t.name: self.gauge.reshape(-1, *[1] * (self.tensors[t.name].ndim - 1))
            * self.tensors[t.name]
            for t in self.program.inputs
        }

    def run(self, **tensors):
        at = replace(self.at, tensors={**self.tensors, **tensors})
        return run_program(self.program, at)[self.program.output.target]

    def jacobian(self, **tensors):
        """∂z/∂θ at other inputs by central differences, over the output's letters and θ."""
        columns = []
        for parameter in self.program.parameters:
            value = self.tensors[parameter.name]
            for index in np.ndindex(value.shape):
                step = np.zeros_like(value)
                step[index] = 1e-5
                up, down = (
                    self.run(**tensors, **{parameter.name: moved})
                    for moved in (value + step, value - step)
                )
                columns.append((up - down) / 2e-5)
        return np.stack(columns, axis=-1)

    def kernel(self, correction, unknown):
        letters = (*self.letters, *(x.primed for x in self.letters))
        values = self.over(correction.kernel, letters, **{unknown: self.gauge})
        outputs = int(np.prod(values.shape[: len(self.letters)]))
        return values.reshape(outputs, outputs)


def assert_ideal(jacobian, rate):
    """Each site's own kernel is ``rate`` times the identity over the units, the last letter."""
    rows = jacobian.reshape(-1, *jacobian.shape[-2:])
    own = np.einsum("sip,skp->sik", rows, rows)
    np.testing.assert_allclose(own, np.broadcast_to(rate * np.eye(own.shape[1]), own.shape), 1e-6)


def gram(jacobian):
    rows = jacobian.reshape(-1, jacobian.shape[-1])
    return rows @ rows.T


@pytest.mark.parametrize(
    ("forward", "ansatz"),
    [
        *((f, OUTPUT) for f in (AFFINE, LINEAR, CENTRED, SHARED, TWO_INPUTS, ABSOLUTE, BIAS)),
        (SCALE, UNIT),
    ],
)
class TestScalarGauges:
    def test_the_corrected_map_takes_the_ideal_step(self, forward, ansatz):
        found = solved(forward, ansatz)
        at = Corrected(forward, found)
        jacobian = at.along(at.gauge)[..., None] * at.jacobian()
        assert_ideal(jacobian, 1)
        np.testing.assert_allclose(at.kernel(found, "λ"), gram(jacobian), rtol=1e-5, atol=1e-8)
        assert found.rate == 1

    def test_what_is_said_of_it(self, forward, ansatz):
        found = solved(forward, ansatz)
        shown = {OUTPUT: "λ(s)", UNIT: "λ_i(s)"}[ansatz]
        nothing = "K(s,s) = I already: there is nothing to correct"
        assert found.reason == (nothing if forward == BIAS else "")
        assert found.unknown == shown
        assert found.exactness == ("first-order" if forward == ABSOLUTE else "exact")
        assert found.terms == ((1, solver(forward).program.output.value),)
        assert found.members == {}
        texts, expressions = zip(*found.steps, strict=True)
        assert texts == (
            f"put z̃ = {shown} z through the derivation: K̃(s,s) = κ̃ I with κ̃",
            f"solve κ̃ = c for {shown}",
            "choose c = 1",
        )
        kappa, general, gauge = expressions
        assert found.equation == kappa - RATE
        assert gauge == found.gauge == general.xreplace({RATE: Integer(1)})
        assert vanishes(found.equation.xreplace({Symbol("λ", positive=True): general}))


def test_a_constant_kernel_other_than_the_identity_is_corrected():
    found = solved(NORMED, OUTPUT)
    assert (found.gauge, found.reason) == (1 / sympy.sqrt(2), "")


MAPPED = (
    AFFINE,
    LINEAR,
    CENTRED,
    SHARED,
    FOURTH,
    TWO_DEGREES,
    MIXED,
    DIRECTED,
    TWO_INPUTS,
    ABSOLUTE,
)


@pytest.mark.parametrize("forward", MAPPED)
class TestInputMap:
    def test_the_layer_at_scaled_inputs_takes_the_ideal_step(self, forward):
        found = solved(forward, INPUT)
        at = Corrected(forward, found)
        jacobian = at.jacobian(**at.moved())
        assert_ideal(jacobian, at.rate)
        np.testing.assert_allclose(at.kernel(found, "μ"), gram(jacobian), rtol=1e-5, atol=1e-8)

    def test_its_terms_are_the_layer_at_scaled_inputs(self, forward):
        found = solved(forward, INPUT)
        at = Corrected(forward, found)
        powers = [at.along(at.gauge) ** d * at.over(part, at.letters) for d, part in found.terms]
        np.testing.assert_allclose(sum(powers), at.run(**at.moved()))
        degrees = [d for d, _ in found.terms]
        assert degrees == sorted(set(degrees))

    def test_the_layer_with_a_line_for_the_factor_is_the_layer_at_scaled_inputs(self, forward):
        found = solved(forward, INPUT)
        at = Corrected(forward, found)
        factor = Read(Symbol("μ"), *at.own)
        names = tuple(t.name for t in at.program.inputs)
        program = solver(forward).rescaled_with_line(factor, at.own, found.gauge, names)
        values = run_program(program, replace(at.at, tensors=at.tensors))
        np.testing.assert_allclose(values["z"], at.run(**at.moved()))
        mu = program.tensors["μ"]
        assert (mu.name, mu.kind, mu.letters) == ("μ", "intermediate", at.own)

    def test_what_is_said_of_it(self, forward):
        found = solved(forward, INPUT)
        program = solver(forward).program
        assert (found.reason, found.unknown, found.members) == ("", "μ(s)", {})
        first_order = forward == ABSOLUTE
        whole = "exact" if forward == LINEAR else "constant-rate"
        assert found.exactness == ("first-order" if first_order else whole)
        constant = {LINEAR: 0, TWO_INPUTS: 2}.get(forward, 1)
        assert found.rate == RADIUS**2 + constant
        texts, expressions = zip(*found.steps, strict=True)
        assert texts == (
            "put z̃ = z(μ(s) x) through the derivation: κ(μx)",
            "choose c = κ(0) + radius²",
            "solve κ(μx) = c for μ(s)",
        )
        assert expressions == (found.equation + RATE, found.rate, found.gauge)
        assert expressions[0].subs(MU, 0) == constant
        gauge = inline(found.gauge, definitions(program))
        for factor, right in ((1, True), (2, False)):
            left = found.equation.xreplace({MU: factor * gauge, RATE: found.rate})
            assert vanishes(left) is right
        side = found.side
        assert (side.scale_invariant, side.smooth_at_zero, side.parameter_free) == (
            True,
            False,
            True,
        )


def test_the_factor_is_in_terms_of_the_intermediates():
    found = solved(CENTRED, INPUT)
    assert "m" in {r.tensor for r in reads(found.gauge)}
    assert {r.tensor for _, part in found.terms for r in reads(part)} == set("Wbxm")


class TestReadable:
    def test_over_a_denominator_nothing_is_subtracted(self):
        """(m + v)/v - 1 is m/v."""
        layer = solver(IGNORED)
        m, v = (line.value for line in layer.program.lines[:2])
        kappa = (m**2 + v) / v
        found = Solver(layer.update, replace(layer.structure, kappa=kappa))
        shown = found.readable(m**2 / v, Integer(1))
        assert not subtracts(shown)
        assert vanishes(shown - m**2 / v)

    def test_what_is_not_kappa_without_its_constant_is_not_taken_for_it(self):
        found = solver(AFFINE)
        square = found.structure.kappa - 1
        assert found.readable(square, Integer(1)) == square
        assert found.readable(3 * square, Integer(1)) == 3 * square
        assert found.readable(square, Integer(0)) == square


def test_what_has_no_closed_form_is_refused_before_it_is_derived_anew(monkeypatch):
    update = derive_update(resolve(spec("z[n, i] = W[i, j]*tanh(x[n, j])"), frozenset()))
    found = Solver(update, classify(update))
    monkeypatch.setattr(input_map, "derive_update", None)
    assert found.solve(INPUT).reason == NO_CLOSED_FORM


class TestSplitGauge:
    @pytest.mark.parametrize(
        ("forward", "members"),
        [
            (AFFINE, {"affine-like", "norm-like"}),
            (SHARED, {"affine-like", "norm-like"}),
            (CENTRED, {"affine-like", "norm-like"}),
            (TWO_INPUTS, {"affine-like", "norm-like"}),
            # Not λA + νB: what holds no parameter is scaled in another way.
            (CUBIC, {"affine-like"}),
            # μ(s) is no λ(s): it stands under a square.
            (FOURTH, {"affine-like"}),
            (EXPONENTIAL, {"affine-like"}),
        ],
    )
    def test_family_and_members(self, forward, members):
        found = solved(forward, SPLIT)
        assert set(found.members) == members
        program = solver(forward).program
        for member in found.members.values():
            assert set(member) == {"λ", "ν", "c"}
            values = {
                s: inline(member[s.name], definitions(program))
                for s in found.equation.free_symbols
                if str(s) in member
            }
            assert len(values) == 3
            assert vanishes(found.equation.xreplace(values))
        affine = solver(forward).solve(OUTPUT).gauge
        assert found.members["affine-like"] == {"λ": affine, "ν": affine, "c": 1}
        if "norm-like" in members:
            norm = solver(forward).solve(INPUT)
            assert found.members["norm-like"] == {"λ": norm.gauge, "ν": 1, "c": norm.rate}

    def test_a_member_has_to_solve_the_equation(self):
        found = solver(AFFINE)
        equation = found.solve(SPLIT).equation
        assert set(found.members(equation)) == {"affine-like", "norm-like"}
        assert found.members(equation + 1) == {}

    def test_what_was_not_solved_is_no_member(self, monkeypatch):
        whole = solver(AFFINE)
        found = Solver(whole.update, whole.structure)
        monkeypatch.setattr(found, "output_gauge", lambda: found.refuse(OUTPUT, "not asked"))
        assert set(found.solve(SPLIT).members) == {"norm-like"}

    @pytest.mark.parametrize("forward", [AFFINE, TWO_INPUTS, CENTRED])
    @pytest.mark.parametrize("kept", [0.3, 0.8])
    def test_any_nu_gives_the_ideal_step(self, forward, kept):
        """Parameters named b and c have the constant kernel, the others have λ(s)."""
        found = solved(forward, SPLIT)
        at = Corrected(forward, solved(forward, OUTPUT))
        symbols = {**at.at.symbols, "c": 2.5, "ν": kept}
        lam = replace(at.at, symbols=symbols).array(found.gauge, at.own)
        factors = np.concatenate(
            [
                np.broadcast_to(
                    np.full_like(lam, kept) if p.name in "bc" else lam,
                    (at.tensors[p.name].size, *lam.shape),
                )
                for p in at.program.parameters
            ]
        )
        assert_ideal(np.moveaxis(factors, 0, -1)[:, None, :] * at.jacobian(), 2.5)

    def test_what_is_said_of_it(self):
        found = solved(TWO_INPUTS, SPLIT)
        lam, nu = (Symbol(name, positive=True) for name in "λν")
        a = solver(TWO_INPUTS).structure.full - 2
        assert found.equation == lam**2 * a + 2 * nu**2 - RATE
        assert found.reason == "a one-parameter family: ν is free"
        assert found.unknown == "λ(s), ν(s)"
        assert (found.rate, found.exactness) == (RATE, "constant-rate")
        assert (found.terms, found.kernel, found.side) == ((), None, None)
        assert found.steps == (
            (
                "split z by parameters with varying and with constant kernel: κ̃ - c",
                found.equation,
            ),
            ("solve for λ with ν free", found.gauge),
        )


class TestMatrixGauge:
    @pytest.mark.parametrize(
        ("forward", "exactness"),
        [(SHARED_GAIN, "exact"), (ABSOLUTE_GAIN, "first-order"), (LOW_RANK, "frozen")],
    )
    def test_what_is_said_of_it(self, forward, exactness):
        found = solved(forward, MATRIX)
        kernel = solver(forward).structure.kappa
        assert (found.reason, found.unknown, found.exactness) == ("", "Λ(s)", exactness)
        assert (found.gauge, found.rate) == (kernel, 1)
        assert found.terms == ((1, solver(forward).program.output.value),)
        assert (found.kernel, found.members) == (None, {})
        side = found.side
        assert side.parameter_free is (exactness != "frozen")
        assert (side.scale_invariant, side.smooth_at_zero) == (False, False)
        assert (side.freedom_lost, type(side.freedom_lost)) == (0, int)
        assert found.steps == (
            ("K(s,s) is positive definite; factor it", kernel),
            ("K = L Lᵀ, Λ = L⁻¹ solves Λ K Λᵀ = I", kernel),
        )

    def test_the_equation_is_solved_by_the_inverse_of_the_cholesky_factor(self):
        equation = solved(SHARED_GAIN, MATRIX).equation
        at = {s.name: s for s in equation.atoms(sympy.MatrixSymbol)}
        assert set(at) == {"Λ", "L"}
        lower = sympy.Matrix([[2, 0], [3, 5]])
        size = {Symbol("U"): 2}
        other = sympy.Matrix([[1, 4], [0, 7]])
        for gauge, wanted in (
            (lower.inv(), sympy.eye(2)),
            (other, other * lower * lower.T * other.T),
        ):
            chosen = {at["L"]: lower, at["Λ"]: gauge}
            left = equation.subs(size).subs({k.subs(size): v for k, v in chosen.items()})
            assert left.doit() == wanted


REFUSED = [
    (SCALE, OUTPUT, "K(s,s) is diagonal, and one factor for all units keeps it so"),
    (SCALE, INPUT, "K(s,s) is diagonal, and one factor on the input keeps it so"),
    (SCALE, SPLIT, "K(s,s) is diagonal"),
    (SCALE, MATRIX, "K(s,s) is diagonal: the unit gauge does it"),
    (LOW_RANK, OUTPUT, "K(s,s) is anisotropic, and one factor for all units keeps it so"),
    (LOW_RANK, INPUT, "K(s,s) is anisotropic, and one factor on the input keeps it so"),
    (LOW_RANK, SPLIT, "K(s,s) is anisotropic"),
    (LOW_RANK, UNIT, "K(s,s) is not diagonal, and factors per unit cannot make it so"),
    (AFFINE, UNIT, "K(s,s) is isotropic: the unit gauge is the output gauge"),
    (AFFINE, MATRIX, "K(s,s) is isotropic: the output gauge does it"),
    (
        DEAD,
        UNIT,
        "κ = 0 wherever Σ_j W[i,j] x[n,j] + b[i] < 0: there no step moves the activation, "
        "whatever multiplies it",
    ),
    (ONE_UNIT, INPUT, "κ depends on the parameters, so a factor on the input would too"),
    (ONE_UNIT, SPLIT, "z is not a sum of parts with one parameter each"),
    (TOKEN, INPUT, "no input holds real numbers"),
    (NORMED, INPUT, "κ is constant: no factor on the input changes it"),
    (IGNORED, INPUT, "κ(μx) does not depend on μ: the layer ignores the input's scale"),
    (
        VARYING,
        INPUT,
        "the part 1 + (Σ_j x[n,j])²/(Σ_j x[n,j]²) of κ(μx) does not depend on μ, yet varies with "
        "the input",
    ),
    *(
        (f, INPUT, "κ(μx) = c has a degree above two in a power of μ: no usable closed form")
        for f in (TWO_AND_SIX, FOUR_AND_SIX, "z[n, i] = W[i, j]*(x[n, j] + x[n, j]**2)")
    ),
    (EXPONENTIAL, INPUT, "the input stands inside a function: no factor can be drawn out of it"),
    (ABSOLUTE, SPLIT, "z is not a sum of parts with one parameter each"),
    (PROJECTED, SPLIT, "a parameter's own kernel is not isotropic"),
    (COMPLEMENT, SPLIT, "a parameter's own kernel is not isotropic"),
    (LINEAR, SPLIT, "no parameter has a constant kernel (no bias): there is nothing to split"),
    (BIAS, SPLIT, "every parameter has a constant kernel: there is nothing to split"),
]


@pytest.mark.parametrize(("forward", "ansatz", "reason"), REFUSED)
def test_refusals(forward, ansatz, reason):
    found = solver(forward).solve(ansatz)
    assert (found.ansatz, found.applies, found.reason) == (ansatz, False, reason)
    assert (found.gauge, found.exactness) == (None, "none")


def test_a_kernel_without_full_rank_is_not_factored():
    found = solver(ONE_GAIN).solve(MATRIX)
    assert (found.ansatz, found.applies) == (MATRIX, False)
    assert found.reason.startswith("K(s,s) has rank 1 <")


@pytest.mark.parametrize("forward", [AFFINE, LINEAR, SCALE, TWO_DEGREES])
def test_every_unknown_is_positive(forward):
    for found in solver(forward).all():
        for expression in (found.equation, found.rate) if found.applies else ():
            assert all(s.is_positive for s in expression.atoms(Symbol) if s.name in UNKNOWN)


@pytest.mark.parametrize(
    ("forward", "invariant", "smooth", "lost"),
    [(AFFINE, False, True, 0), (LINEAR, True, False, 1), (CENTRED, False, True, 0)],
)
def test_side_conditions_of_the_output_gauge(forward, invariant, smooth, lost):
    side = solved(forward, OUTPUT).side
    assert (side.scale_invariant, side.smooth_at_zero) == (invariant, smooth)
    assert (side.parameter_free, side.freedom_lost) == (True, lost)


def test_every_ansatz_is_asked_in_order():
    found = solver(AFFINE)
    asked = solve_corrections(found.update, found.structure)
    assert tuple(c.ansatz for c in asked) == ANSATZE


def test_a_quotient_of_sums_that_vanish_together_is_not_smooth_at_zero():
    """(Σx)²/Σx² is 2 along (1, 1) and 0 along (1, -1), however near to 0."""
    assert not solved(IGNORED, OUTPUT).side.smooth_at_zero
    assert solved(AFFINE, OUTPUT).side.smooth_at_zero


def test_the_split_gauge_says_what_it_solves():
    split = solved(AFFINE, SPLIT)
    x2 = sympy.Symbol("λ", positive=True) ** 2
    assert split.reason == "a one-parameter family: ν is free"
    assert split.unknown == "λ(s), ν(s)"
    (what, equation), (then, family) = split.steps
    assert what == "split z by parameters with varying and with constant kernel: κ̃ - c"
    assert then == "solve for λ with ν free"
    assert equation == split.equation
    assert family == split.gauge
    assert equation.has(x2)
    assert not family.has(x2)


def test_degrees_up_to_twice_the_least_have_a_closed_form():
    assert solved(TWO_DEGREES, INPUT).applies
    refused = solver(TWO_AND_SIX).solve(INPUT)
    assert not refused.applies
    assert "a degree above two in a power of μ" in refused.reason

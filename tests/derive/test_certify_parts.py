"""Programs with a factor in them, what a solved gauge is checked by, and fractions of atoms."""

from dataclasses import replace

import numpy as np
import pytest
from sympy import Abs, Add, Integer, Mul, Symbol, cos, exp, fraction, sqrt
from sympy import cancel as sympy_cancel

from derive import DerivationError, LayerSpec, certify
from derive.budget import TooLargeError
from derive.certify import Certifier
from derive.evaluate import Evaluator, run_program
from derive.extended import rescaled_inputs, scale_reads, scaled, with_line
from derive.fractions import apart, cancel, factored
from derive.nodes import Contraction, Delta, Letter, MaxOver, Read, Softmax
from derive.normal import normal
from derive.resolve import resolve
from derive.structure import classify
from derive.update import derive_update

N, U, J, K = (Letter(*x) for x in ("nn", "ii", "jj", "kj"))
X, M = Read(Symbol("x"), N, J), Read(Symbol("m"), N)
A, B, C, D = (Read(Symbol(x), J) for x in "abcd")
FACTOR = Read(Symbol("λ"), N)
SQUARES = Contraction(X**2, J)
FORWARD = "m[n] = x[n, j]*x[n, j]\nz[n, i] = m[n]*W[i, j]*x[n, j] + b[i]"


def resolved(forward, parameters="W b"):
    spec = LayerSpec(
        name="Layer",
        forward=forward,
        site="n",
        unit="i",
        parameters={p: {"torch": p + "_"} for p in parameters.split()},
        sizes={"j": "in_features", "i": "out_features"} if "j" in forward else {"i": "features"},
    )
    return resolve(spec, frozenset())


def certifier(*layer):
    update = derive_update(resolved(*layer))
    return Certifier(update, classify(update))


@pytest.fixture(scope="module")
def program():
    return resolved(FORWARD)


@pytest.fixture(scope="module")
def found():
    return certifier(FORWARD)


@pytest.fixture
def tensors(rng):
    shapes = {"x": (2, 3), "W": (4, 3), "b": (4,), "λ": (2,)}
    return {k: rng.standard_normal(v) for k, v in shapes.items()}


def run(program, tensors):
    values = run_program(program, Evaluator({"n": 2, "i": 4, "j": 3}, tensors, {}))
    return values[program.output.target]


def assert_well_formed(program, *added):
    """Of what is added every name is a tensor over its line's letters, and the last the output."""
    for target in added:
        tensor, line = program.tensors[target], program.line(target)
        assert tensor.name == line.target
        assert tensor.letters == line.letters
    assert added[-1] == program.output.target
    assert [program.tensors[t].kind for t in added] == [
        *["intermediate"] * (len(added) - 1),
        "output",
    ]


class TestExtended:
    def test_a_gauge_line_reads_intermediates_and_scales_the_output(self, program, tensors):
        gauge, z = 1 / sqrt(1 + M), Read(Symbol("z"), *program.output.letters)
        found = with_line(program, "λ", (N,), gauge, FACTOR * z)
        assert_well_formed(found, "λ", "z̃")
        del tensors["λ"]
        factor = 1 / np.sqrt(1 + (tensors["x"] ** 2).sum(axis=1))
        np.testing.assert_allclose(run(found, tensors), factor[:, None] * run(program, tensors))

    def test_an_opaque_factor_scales_the_output(self, program, tensors):
        found = scaled(program, FACTOR)
        assert_well_formed(found, "z̃")
        expected = tensors["λ"][:, None] * run(program, tensors)
        np.testing.assert_allclose(run(found, tensors), expected)

    def test_a_factor_on_inputs_scales_them_wherever_they_are_read(self, program, tensors):
        found = run(rescaled_inputs(program, FACTOR, ("x",)), tensors)
        moved = {**tensors, "x": tensors["λ"][:, None] * tensors["x"]}
        np.testing.assert_allclose(found, run(program, moved))

    @pytest.mark.parametrize(
        "expression",
        [
            Contraction(exp(A) * B, J),
            MaxOver(A * B, J),
            Softmax(A * B, J, K) + A.subs(J, K),
            Contraction(Softmax(A, J, K) * A.subs(J, K), K),
        ],
    )
    def test_a_factor_that_holds_a_bound_letter_is_not_captured(self, expression, rng):
        """The factor is free in j, the letter that the sums bind; each j gives a number."""
        values = {x: rng.standard_normal(3) for x in "abc"}
        found = scale_reads(expression, C, ("a",))
        free = [x for x in (J, K) if x in found.free_symbols]
        got = Evaluator({"j": 3}, values, {}).array(found, free)
        for j, factor in enumerate(values["c"]):
            moved = Evaluator({"j": 3}, {**values, "a": factor * values["a"]}, {})
            np.testing.assert_allclose(got[j], moved.array(expression, free[1:]))


class TestCertifier:
    def test_intermediates_are_written_out_where_they_hide_a_diagonal_kernel(self, found):
        found.must_be(3 * Delta(U - U.primed) + M - SQUARES, {}, Integer(3))
        with pytest.raises(DerivationError, match="not diagonal"):
            found.must_be(3 * Delta(U - U.primed) + 2 * M - SQUARES, {}, Integer(3))

    @pytest.mark.parametrize(("kernel", "rest"), [(Integer(3), Integer(2)), (M, SQUARES - 1)])
    def test_a_kernel_that_is_not_the_rate_says_what_is_left_over(self, found, kernel, rest):
        with pytest.raises(DerivationError) as raised:
            found.must_be(kernel * Delta(U - U.primed), {}, Integer(1))
        assert str(raised.value).endswith(f"is not 1·I: {normal(rest)} is left over")

    def test_the_solved_unknown_is_written_out(self, found):
        kernel = FACTOR**2 * (M + 1) * Delta(U - U.primed)
        found.must_be(kernel, {"λ": ((N,), 1 / sqrt(1 + M))}, Integer(1))
        with pytest.raises(DerivationError, match="left over"):
            found.must_be(kernel, {"λ": ((N,), 1 / sqrt(2 + M))}, Integer(1))

    def test_equal_with_intermediates_written_out(self, found):
        assert found.equal(M + 1, 1 + SQUARES)
        assert not found.equal(M + 1, 2 + SQUARES)

    def test_equal_in_terms_of_intermediates_that_are_too_long_to_write_out(self, found):
        m, z = found.program.lines
        first = Read(Symbol("x"), N, Integer(0))
        sums = (Add(*(first**k + d for k in range(1, 10))) for d in range(1, 10))
        lines = (replace(m, value=Mul(*sums)), z)
        program = replace(found.program, lines=lines)
        long = Certifier(replace(found.update, program=program), found.structure)
        assert long.equal((M**2 - 1) / (M - 1), M + 1)
        with pytest.raises(TooLargeError):
            long.equal((M**2 - 1) / (M - 1), M + 2)

    def test_a_gauge_wrongly_taken_for_free_of_parameters_does_not_pass(self, monkeypatch):
        """With e⁻ᵇ/|x| as a line of its own the step moves the gauge too, and z̃ not at all."""
        found = certifier("z[n, i] = exp(b[i])*x[n, i]", "b")
        x, b = Read(Symbol("x"), N, U), Read(Symbol("b"), U)
        gauge = exp(-b) / Abs(x)
        assert found.certify(gauge, (N, U), Integer(1)) != 0
        monkeypatch.setattr(certify, "depends_on_parameters", lambda *_: False)
        with pytest.raises(DerivationError, match="is left over"):
            found.certify(gauge, (N, U), Integer(1))

    def test_side_conditions_see_the_parameters(self):
        found = certifier("z[n, i] = exp(b[i])*x[n, i]", "b")
        x, b, z = Read(Symbol("x"), N, U), Read(Symbol("b"), U), found.program.output.value
        frozen, free = (found.side_conditions(g, g * z) for g in (exp(-b) / Abs(x), 1 / Abs(x)))
        assert (frozen.parameter_free, free.parameter_free) == (False, True)

    @pytest.mark.parametrize(
        ("gauge", "smooth"),
        [
            (1 / sqrt(1 + SQUARES), True),
            (1 / sqrt(SQUARES), False),
            (sqrt(SQUARES), False),
            (SQUARES / (SQUARES + SQUARES**2), True),
            ((SQUARES + SQUARES**2) / SQUARES, True),
            ((SQUARES + SQUARES**3) / SQUARES**2, False),
        ],
    )
    def test_a_gauge_is_smooth_where_it_is_finite_and_not_zero(self, found, gauge, smooth):
        assert found.side_conditions(gauge, M).smooth_at_zero is smooth
        assert found.smooth_at_zero(gauge, ("x",)) is smooth
        assert found.smooth_at_zero(1 / gauge, ("x",)) is smooth


def minus_signs(fraction_):
    terms = Add.make_args(fraction(fraction_)[1].expand())
    return sum(t.could_extract_minus_sign() for t in terms), len(terms)


P, Q, R, S = (exp(x) for x in (A, B, C, D))
x, y, z = (Symbol(s, real=True) for s in "xyz")


class TestFractions:
    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            ((A**2 - 4) / (A - 2), A + 2),
            ((A**2 * B - B) / (2 * A + 2), A * B / 2 - B / 2),
            # A common factor of what stands under roots: |a| of a real atom, a of a positive one.
            (sqrt(A**2 * P + A**2), Abs(A) * sqrt(P + 1)),
            ((sqrt(P**2 * B + P**2) + P) / P, sqrt(B + 1) + 1),
            (
                (sqrt(A**2 * P + A**2) + sqrt(A**2 * Q + A**2)) / sqrt(A**2 * R + A**2),
                (sqrt(P + 1) + sqrt(Q + 1)) / sqrt(R + 1),
            ),
            (
                (sqrt(A**2 * B**2 + A**2) * sqrt(A**2 * C**2 + A**2) + A**2) / (A**2 + A**2 * D),
                (sqrt(B**2 + 1) * sqrt(C**2 + 1) + 1) / (1 + D),
            ),
        ],
    )
    def test_common_factors_cancel(self, expression, wanted):
        found = cancel(expression)
        assert (found - wanted).expand() == 0
        assert found != expression
        for value in (-3, 5):
            numbers = {A: value, B: 5, C: 7, D: 11}
            assert abs((found - expression).xreplace(numbers).evalf()) < 1e-12

    @pytest.mark.parametrize("expression", [A * (A + B), (A + B) ** 2, A**2 * (B + 1) - A**2])
    def test_without_a_denominator_or_a_root_nothing_is_multiplied_out(self, expression):
        assert cancel(expression) == expression

    def test_a_symbol_keeps_its_assumptions(self):
        any_number = Symbol("w")
        root = sqrt(any_number**2)
        assert cancel((A * B + A * root) / A) == B + root

    @pytest.mark.parametrize("simplest", [cancel, factored])
    @pytest.mark.parametrize("denominator", [x - y - z, x**2 - x * y - z, x - y - z - 1])
    def test_a_denominator_of_mostly_negative_terms_is_turned(self, simplest, denominator):
        for expression in (1 / denominator, (x + 2) / denominator, -1 / denominator):
            found = simplest(expression)
            negative, terms = minus_signs(found)
            assert 2 * negative <= terms
            assert (found - expression).equals(0)

    @pytest.mark.parametrize("simplest", [cancel, factored])
    @pytest.mark.parametrize("denominator", [x - y, x + y - z, x + 1, x * y - z, x])
    def test_others_are_left_as_they_are(self, simplest, denominator):
        assert simplest(z / denominator + 1) == sympy_cancel(z / denominator + 1)

    def test_exponentials_are_taken_apart_wherever_they_stand(self):
        whole, parts = exp(A + B), Mul(exp(A), exp(B))
        assert whole != parts
        for outer in (lambda e: e + 1, lambda e: C * e, lambda e: 1 / (1 + e), lambda e: e):
            assert apart(outer(whole)) == outer(parts)
        assert apart(cos(whole)) == cos(whole)

    def test_a_root_is_one_atom_of_what_is_factored(self):
        root = sqrt(Add(*(Read(Symbol(f"t{k}"), J) for k in range(9))))
        assert factored(A * root + A * B * root) == A * (B + 1) * root
        assert factored(A * root**2 + A * B * root**2).is_Add

    @pytest.mark.parametrize(("atoms", "short"), [(8, True), (9, False)])
    def test_what_has_many_atoms_is_not_factored(self, atoms, short):
        terms = [A * Read(Symbol(f"t{k}"), J) for k in range(atoms - 1)]
        assert factored(Add(*terms)).is_Mul is short

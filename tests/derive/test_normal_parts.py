"""The normal form: what it makes of sums, deltas, fractions and definitions."""

import numpy as np
import pytest
from sympy import Add, Expr, Integer, Mul, Rational, Symbol, exp, sqrt

from derive.evaluate import Evaluator
from derive.nodes import (
    Contraction,
    Delta,
    Letter,
    MaxOver,
    Read,
    Softmax,
    TokenRead,
    size_symbol,
    substitute,
)
from derive.normal import (
    _apply_deltas,
    _components,
    _flatten,
    _join_deltas,
    _letter_key,
    _opaque_letters,
    _solve_delta,
    contract,
    expand,
    inline,
    letter_pair,
    normal,
)
from derive.renaming import rename_bound

G, H, F, J = (Letter(x, "j") for x in "ghij")
K, L, P = Letter("k", "k"), Letter("l", "l"), Letter("p", "p")
K2, M2, N2 = Letter("m", "k"), Letter("m", "n"), Letter("n", "n")
SIZES = {"j": 3, "k": 2, "l": 4, "p": 8, "n": 2}
SHAPES = {"a": "j", "b": "k", "c": "", "d": "", "e": "l", "x": "jk", "y": "nj", "v": "kl", "w": "p"}
NJ, NK, NL = (size_symbol(x) for x in "jkl")


def read(name: str, *indices: Expr) -> Expr:
    return Read(Symbol(name), *indices)


A, B, C, D, E, W = read("a", J), read("b", K), read("c"), read("d"), read("e", L), read("w", P)
X, V, Y = read("x", J, K), read("v", K, L), read("y", N2, J)
T, T2 = TokenRead(Symbol("ids"), N2), TokenRead(Symbol("ids"), M2)
STRIDE = Symbol("stride", integer=True, positive=True)


def at(expression: Expr, letter: Expr) -> Expr:
    """A read with another first index."""
    return read(expression.tensor, letter, *expression.indices[1:])


def total(body: Expr, *letters: Letter) -> Expr:
    """A sum whose letters have the names that equal sums share."""
    return rename_bound(Contraction(body, *letters))


def value(expression: Expr, letters: tuple[Letter, ...] = ()) -> np.ndarray:
    rng = np.random.default_rng(0)
    tensors = {
        name: np.asarray(rng.uniform(0.5, 2.0, tuple(SIZES[x] for x in shape)))
        for name, shape in SHAPES.items()
    }
    tensors["ids"] = np.asarray([2, 0])
    return Evaluator(SIZES, tensors, {"stride": 2}).array(expression, letters)


def assert_equal(found: Expr, expression: Expr) -> None:
    letters = (found.free_symbols | expression.free_symbols) - {STRIDE}
    named = sorted((x for x in letters if isinstance(x, Letter)), key=str)
    wanted = value(expression, tuple(named))
    np.testing.assert_allclose(value(found, tuple(named)), wanted, rtol=1e-10, atol=1e-12)


def assert_normal(expression: Expr, wanted: Expr) -> None:
    assert_equal(wanted, expression)
    found = normal(expression)
    assert found == wanted
    assert normal(found) == found


class TestSums:
    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            (Contraction(Integer(3), J, K), 3 * NJ * NK),
            (Contraction(5 * A * B * C, J, K), 5 * C * total(A, J) * total(B, K)),
            (Contraction(A * C, J, K, L), C * NK * NL * total(A, J)),
            (Contraction(A + 1 - A, J), NJ),
            (Contraction((A + C) * (A - C), J), total(A**2, J) - C**2 * NJ),
            (Contraction(A * (B + 2), J, K), total(A, J) * (total(B, K) + 2 * NK)),
            (Contraction(-3 * A * X * B * C, J, K), -3 * C * total(A * X * B, J, K)),
            # The same free letter, and the same tensor, connect nothing.
            (Contraction(Y * at(at(Y, N2), N2), J), None),
            (Contraction(Y * read("y", N2, F), J, F), total(Y, J) ** 2),
            (
                Contraction(A * X * V * E * W, J, K, L, P),
                total(A * X * V * E, J, K, L) * total(W, P),
            ),
            (
                Contraction(A * W * E * V * X, J, K, L, P),
                total(A * X * V * E, J, K, L) * total(W, P),
            ),
            (Contraction(exp(A * B) * D, J, K), D * total(exp(A * B), J, K)),
        ],
    )
    def test_a_sum_is_a_product_of_connected_ones(self, expression, wanted):
        if wanted is None:
            assert_equal(normal(expression), expression)
        else:
            assert_normal(expression, wanted.expand())

    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            (A * Contraction(X * B, K), total(A * X * B, J, K)),
            (A * Contraction(B, K), total(A, J) * total(B, K)),
            (A * Contraction(B, K) ** 2, total(A, J) * total(B, K) ** 2),
            (A * Contraction(X, K) ** 2, total(A * X * read("x", J, K2), J, K, K2)),
            (A / Contraction(X**2, K), total(A / total(X**2, K), J)),
            (A * sqrt(Contraction(X**2, K)), total(A * sqrt(total(X**2, K)), J)),
            (Contraction(A, J) * A, total(A, J) ** 2),
            (exp(Contraction(X * (1 + C), K)), None),
        ],
    )
    def test_a_sum_within_a_sum(self, expression, wanted):
        whole = Contraction(expression, J)
        if wanted is None:
            assert_equal(normal(whole), whole)
        else:
            assert_normal(whole, wanted)

    def test_a_finished_sum_stays_as_it_is_in_a_product(self):
        """Its summand is in factored form, which is not multiplied out again."""
        inner = normal(Contraction((E - D) ** 2 / (1 + E**2), L))
        assert inner.body.has((E - D).xreplace({E: at(E, inner.letters[0])}) ** 2)
        for whole in (inner * (1 + C), Contraction(inner * (Delta(J - F) * A + Delta(J - H)), J)):
            found = normal(whole)
            assert_equal(found, whole)
            assert found.atoms(Contraction) == {inner}

    def test_where_a_delta_is_used_in_a_finished_sum_it_is_finished_again(self):
        inner = normal(Contraction(X * (X - C) / (1 + X**2), K))
        assert any(factor.is_Add for factor in Mul.make_args(inner.body))
        for other in (F, T):
            wanted = at(A, other) * substitute(inner, {J: other})
            assert normal(Contraction(Delta(J - other) * A * inner, J)) == wanted

    def test_only_sums_that_hold_a_summed_letter_are_opened(self):
        term = A * total(B, K) ** 2 * total(read("y", N2, F), F)
        assert _flatten(term, [J, N2.primed]) == (term, {J, N2.primed})
        opened, bound = _flatten(term, [J, N2])
        (letter,) = bound - {J, N2}
        assert opened == A * total(B, K) ** 2 * read("y", N2, letter)


ROOT = sqrt(1 + A)
RATIO = A / (1 + A**2)


class TestFractions:
    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            (A / (1 + A) + 1 / (1 + A), NJ),
            (C * A / (2 + A) + 2 * C / (2 + A) + 3 * A, C * NJ + 3 * total(A, J)),
            (RATIO + A, total(RATIO, J) + total(A, J)),
            (RATIO * C + D / (1 + A**2) + A, None),
            (C * A / (D + D * A), C / D * total(A / (1 + A), J)),
            (C * A + A * ROOT, C * total(A, J) + total(A * ROOT, J)),
            (Delta(G - H) * RATIO, Delta(G - H) * total(RATIO, J)),
            (
                Delta(G - H) * C * RATIO + Delta(G - F) * D * RATIO + RATIO,
                (Delta(G - H) * C + Delta(G - F) * D + 1) * total(RATIO, J),
            ),
            (Delta(J - H) * RATIO, RATIO.xreplace({A: at(A, H)})),
            (Delta(K - 2 * J) * RATIO, total(Delta(K - 2 * J) * RATIO, J)),
            (Delta(J - H) * RATIO + A, RATIO.xreplace({A: at(A, H)}) + total(A, J)),
            (sqrt(4 * A + 4 * D) * A, 2 * total(A * sqrt(A + D), J)),
            ((A**2 - 1) / (A - 1), total(A, J) + NJ),
            ((A**2 - 1) / (A - 1) + ROOT, total(A, J) + NJ + total(ROOT, J)),
        ],
    )
    def test_a_sum_of_fractions(self, expression, wanted):
        whole = Contraction(expression, J)
        if wanted is None:
            assert_equal(normal(whole), whole)
        else:
            assert_normal(whole, wanted.expand())

    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            (A * B / (B + A * B), NK * NL * total(A / (1 + A), J)),
            (A * B * E / (E + A * E), NL * total(B, K) * total(A / (1 + A), J)),
            (A * E * B / (1 + A * B), total(E, L) * total(A * B / (1 + A * B), J, K)),
            (A * B * E / (A * B + B), total(E, L) * NK * total(A / (1 + A), J)),
            (C * A * E / (D * E + D * A * E), C / D * NK * NL * total(A / (1 + A), J)),
            (1 / ((1 + A) * (1 + B)), None),
            (1 / ((1 + A) * (1 + B)) + E / (1 + A), None),
        ],
    )
    def test_letters_that_cancel_or_stand_above_are_summed_first(self, expression, wanted):
        whole = Contraction(expression, J, K, L)
        if wanted is None:
            assert_equal(normal(whole), whole)
        else:
            assert_normal(whole, wanted)

    def test_a_delta_stays_outside_of_a_sum_that_is_not_factored(self):
        many = [read("w", P, Symbol(x, integer=True)) for x in "abcdefghi"]
        found = contract(Delta(G - 2 * H) * Add(*many) / (1 + many[0]), [P])
        (factor,) = [f for f in Mul.make_args(found) if isinstance(f, Contraction)]
        assert found == Delta(G - 2 * H) * factor
        assert not factor.has(Delta)

    @pytest.mark.parametrize(
        ("term", "letters"),
        [
            (C / (1 + A), {J}),
            (C / ((1 + A) * sqrt(2 + B)), {J, K}),
            (sqrt(1 + A * B) * E, {J, K}),
            (A**-2 * E, set()),
            (A * B, set()),
            (1 / (1 + E), set()),
            (1 / (1 + A * E), {J}),
        ],
    )
    def test_where_a_sum_does_not_distribute(self, term, letters):
        assert _opaque_letters(term, [J, K, P]) == letters


class TestPowers:
    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            ((C + D) ** 2, C**2 + 2 * C * D + D**2),
            ((C + 1) ** 3 * D, (D * (C + 1) ** 3).expand()),
            (sqrt(4 * C + 4 * D), 2 * sqrt(C + D)),
            (1 / (2 * C + 2), 1 / (C + 1) / 2),
            (1 / (3 * C + 6 * D) ** 2, 1 / (C + 2 * D) ** 2 / 9),
            (1 / (C + (D**2 - 1) / (D - 1)), 1 / (C + D + 1)),
            (sqrt((C**2 - 1) / (C - 1)), sqrt(C + 1)),
            (1 / (5 * C), 1 / C / 5),
            (sqrt(C) ** 3, C ** Rational(3, 2)),
            # No factor is taken out of a root of a sum.
            (sqrt(C + D) ** 3 * C, (C + D) ** Rational(3, 2) * C),
            (sqrt(C + D) ** 3, (C + D) ** Rational(3, 2)),
            (sqrt(C + D) ** 3 + C * (1 + D), (C + D) ** Rational(3, 2) + C + C * D),
            (1 / Contraction(A * (1 + C), J), 1 / (total(A, J) * C + total(A, J))),
            (exp(C * (1 + D)), exp(C + C * D)),
            (C * (C + D * (C + 1)) - C**2, C**2 * D + C * D),
            (C * (1 + D) - C - C * D, Integer(0)),
        ],
    )
    def test_a_power(self, expression, wanted):
        assert_equal(wanted, expression)
        assert normal(expression) == wanted

    def test_an_expression_of_sums_is_multiplied_out(self):
        assert expand(C * (1 + D)) == C + C * D
        assert expand((1 + D) ** 2) == 1 + 2 * D + D**2
        # Nothing is taken out of a root.
        assert expand((C + D) ** Rational(3, 2)) == (C + D) ** Rational(3, 2)
        assert expand((1 + D) * (1 + C) / (1 + A)).is_Add

    @pytest.mark.parametrize(
        "atom", [read("a", (J + 1) ** 2), Delta((J + 1) ** 2 - K), T, C, NJ, J]
    )
    def test_an_atom_stays(self, atom):
        assert normal(atom) == atom

    def test_softmax_and_maximum_are_atoms_of_a_normal_body(self):
        assert normal(Softmax(A * (1 + C), J, F)) == Softmax(A + A * C, J, F)
        named = total(A + A * C, J)
        wanted = MaxOver(named.body, *named.letters)
        assert normal(MaxOver(A * (1 + C), J)) == wanted
        assert normal(MaxOver(at(A, F) * (1 + C), F)) == wanted


class TestDeltas:
    @pytest.mark.parametrize(
        ("expression", "letters", "wanted"),
        [
            (Delta(J - F) * A * D, [J], at(A, F) * D),
            (Delta(J - F) * A * D, [F], A * D),
            (Delta(J - F) * A, [J, F], total(A, J)),
            (Delta(J - F) * B * E, [J, F, K], NJ * total(B, K) * E),
            (Delta(J - F) * Delta(K - K2) * X, [J, K], read("x", F, K2)),
            (Delta(J - F) * Delta(F - H) * A, [J, F], at(A, H)),
            (Delta(J - F) * Delta(J - F - 1) * A, [J], Integer(0)),
            (Delta(J - F) * A * (C + D), [J], at(A, F) * C + at(A, F) * D),
            (Delta(J - T) * A, [J], at(A, T)),
            (Delta(J - T) * Delta(J - T2) * A * C, [J], Delta(T - T2) * at(A, T2) * C),
            (Delta(J - T) * A, [N2], total(Delta(J - T), N2) * A),
            (Delta(J - T) * Delta(F - T2) * A, [N2, M2], None),
            (Delta(J - 2 * T) * A, [J], total(Delta(J - 2 * T) * A, J)),
            (Delta(J + T) * A, [J], total(Delta(J + T) * A, J)),
            (Delta(2 * J - T) * A, [J], total(Delta(2 * J - T) * A, J)),
            (Delta(J - K) * A * B, [J, K], total(Delta(J - K) * A * B, J, K)),
            (Delta(K - 2 * J) * A, [J], total(Delta(K - 2 * J) * A, J)),
            (Delta(J + F) * A, [J], total(Delta(J + F) * A, J)),
            (Delta(J - F - H) * A, [J], total(Delta(J - F - H) * A, J)),
            (Delta(J - 2) * A * C, [J], C * total(Delta(J - 2) * A, J)),
            (Delta(K - 2 * J) * Delta(K - 2 * F) * A, [J], Delta(K - 2 * F) * at(A, F)),
            (Delta(J - F) * Delta(G - H) * A * at(A, H), [J], None),
        ],
    )
    def test_a_delta_fixes_a_letter(self, expression, letters, wanted):
        whole = Contraction(expression, *letters)
        if wanted is None:
            assert_equal(normal(whole), whole)
        else:
            assert_normal(whole, wanted)

    def test_no_letter_is_fixed_to_a_token_that_it_chooses(self):
        token = TokenRead(Symbol("ids"), J)
        whole = Contraction(Delta(J - token) * A, J)
        assert J not in normal(whole).free_symbols
        assert normal(whole) == total(Delta(J - token) * A, J)

    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            (Delta(F - H) * at(A, F), Delta(F - H) * at(A, H)),
            (Delta(F - H) * at(A, F) * C * at(A, H), Delta(F - H) * at(A, H) ** 2 * C),
            (Delta(H - F) * Delta(F - J) * A, Delta(H - F) * Delta(H - J) * at(A, H)),
            (Delta(F - H) * (at(A, F) - at(A, H)), Integer(0)),
            (Delta(F - H) * at(A, F) + C, Delta(F - H) * at(A, H) + C),
            (Delta(F - H.primed) * read("a", H.primed), Delta(F - H.primed) * at(A, F)),
            (Delta(F - K) * at(A, F) * B, Delta(F - K) * at(A, F) * B),
            (Delta(F - H - 1) * at(A, F), Delta(F - H - 1) * at(A, F)),
            (Delta(F - H) * C, Delta(F - H) * C),
        ],
    )
    def test_on_the_support_of_a_delta_there_is_one_letter(self, expression, wanted):
        assert_normal(expression, wanted)

    @pytest.mark.parametrize(
        ("delta", "pair"),
        [
            (Delta(F - J), {F, J}),
            (Delta(F - F.primed), {F, F.primed}),
            (Delta(F - K), None),
            (Delta(F + J), None),
            (Delta(F - 2 * J), None),
            (Delta(F - J + 1), None),
            (Delta(F - J - H), None),
            (Delta(F - STRIDE), None),
            (Delta(F - J + STRIDE), None),
            (Delta(F - T), None),
            (Delta(F - 2), None),
            (A, None),
            (C, None),
        ],
    )
    def test_the_letters_of_a_delta(self, delta, pair):
        found = letter_pair(delta)
        assert (found and set(found)) == pair

    @pytest.mark.parametrize(
        ("delta", "bound", "wanted"),
        [
            (Delta(F - J), {J}, (J, F)),
            (Delta(F - J), {F}, (F, J)),
            (Delta(F - J), {F, J}, (J, F)),
            (Delta(F.primed - J), {F.primed, J}, (F.primed, J)),
            (Delta(F - J), {K}, None),
            (Delta(F - J), set(), None),
            (Delta(F - K), {F, K}, None),
            (Delta(J - T), {J}, (J, T)),
            (Delta(J - T), {F, J, K}, (J, T)),
            (Delta(J - T), {F, N2}, None),
            (Delta(J - read("a", F)), {J}, None),
            (Delta(J - T - 1), {J}, None),
            (Delta(J - at(T, J)), {J}, None),
        ],
    )
    def test_what_a_delta_fixes(self, delta, bound, wanted):
        assert _solve_delta(delta, bound) == wanted

    @pytest.mark.parametrize(
        ("first", "second", "wanted"),
        [
            (K - 2 * F, K - 2 * J, Delta(F - J)),
            (K - 2 * J, K - 2 * F, Delta(F - J)),
            (2 * H - F, F - 2 * J, Delta(H - J)),
            (K + L - STRIDE * F, K + L - STRIDE * J, Delta(F - J)),
            (K - 2 * F + 1, K - 2 * J + 1, Delta(F - J)),
            (K - 2 * F, K - 3 * J, None),
            (K - 2 * F, K - 2 * J + 1, None),
            (K - 2 * F, K - 2 * F + 2, None),
            (K - 2 * F, L - 2 * J, None),
            (P - K, P - L, None),
            (P - F, P - F - H - G + J, None),
            # a - b times what may be 0.
            (K - F * J, K - F * F, None),
            (K - F * J, K - J * J, None),
            (2 * K - STRIDE * F - J, 2 * K - STRIDE * J - F, None),
            # One letter for another, for ever.
            (F - J, F - H, None),
            (K - F, F - H, None),
        ],
    )
    def test_two_deltas_that_differ_by_two_letters(self, first, second, wanted):
        assert _join_deltas(Delta(first), Delta(second)) == wanted

    def test_a_delta_of_two_letters_takes_these_out_of_another(self):
        pair, other = Delta(G - H), Delta(G - H + F - J)
        (term, bound) = _apply_deltas(pair * other, {K})
        assert (term, bound) == (pair * Delta(F - J), {K})


class TestComponents:
    def test_what_shares_no_letter_is_apart(self):
        factors = [A, W, E, C, V, X, D, W**2]
        found = dict(_components(factors, {J, K, L, P}))
        assert found == {A * E * V * X: [J, K, L], W**3: [P], C: [], D: []}

    def test_a_free_letter_or_tensor_connects_nothing(self):
        assert len(_components([X, read("x", F, K2)], {J})) == 2
        assert len(_components([X, read("x", F, K)], {J, F})) == 2

    def test_letters_of_a_spec_come_first_then_names(self):
        a, b = Letter("a", "j"), Letter("b", "j")
        copies = [Letter("a", "j", "#2"), Letter("a", "j", "#3"), Letter("b", "j", "#1")]
        wanted = [a, b, *copies]
        assert sorted([*copies[::-1], b, a], key=_letter_key) == wanted


Q, R = read("q", F), read("r", J)
DEFINITIONS = {
    "q": ((G,), Contraction(at(A, J) * read("r", G) * Delta(J - G), J)),
    "r": ((G,), at(A, G) + C),
}


class TestDefinitions:
    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            (R, A + C),
            (2 * R + D, 2 * (A + C) + D),
            (exp(R) * D, exp(A + C) * D),
            (Q, at(A, F) * (at(A, F) + C)),
            (Contraction(R * D, J), (total(A, J) + NJ * C) * D),
            # The letter of the sum is that of the definition's own sum.
            (Contraction(read("q", J) * A, J), total(A**3, J) + C * total(A**2, J)),
            (Contraction(Contraction(R * B, K), J), total(B, K) * (total(A, J) + NJ * C)),
            (Softmax(A, J, F), exp(at(A, F)) / total(exp(A), J)),
            (Softmax(R, J, F), exp(at(A, F) + C) / total(exp(A + C), J)),
            (
                Contraction(Softmax(X, J, J) * A, J),
                Contraction(A * exp(X) / Contraction(exp(read("x", F, K)), F), J),
            ),
        ],
    )
    def test_definitions_are_put_in_everywhere(self, expression, wanted):
        found = inline(expression, DEFINITIONS)
        assert not found.has(Softmax, Symbol("q"), Symbol("r"))
        assert_equal(found, wanted)

    def test_a_maximum_is_of_what_is_defined(self):
        found = inline(MaxOver(R, J), DEFINITIONS)
        assert normal(found) == normal(MaxOver(A + C, J))

    @pytest.mark.parametrize(
        "expression", [A * D + 1, Contraction(A * X, J), exp(A), J - 2, Integer(2), MaxOver(A, J)]
    )
    def test_without_a_definition_nothing_changes(self, expression):
        assert inline(expression, DEFINITIONS) is expression

"""Expressions as torch code: it is run, and gives what brute force over every letter gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from sympy import Expr, Function, Integer, Mul, Symbol, exp, sin, tanh
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from codegen.helpers import helper_code
from codegen.lower import Lowering, einsum_names
from codegen.sizes import SizeCode
from codegen.values import BATCH, Axis, Level, Value
from derive import program as p
from derive.errors import DerivationError
from derive.evaluate import Evaluator
from derive.nodes import (
    Contraction,
    Delta,
    Letter,
    MaxOver,
    Read,
    Softmax,
    TokenRead,
    letters_in,
    size_symbol,
)
from tests.codegen.specs import spec

SIZES = {"n": 2, "m": 3, "i": 3, "j": 4, "k": 5, "l": 2, "v": 6}
N, M, I, J, K, L, V = (  # noqa: E741 - an index
    Letter(x, x) for x in "nmijklv"
)
I2, J2 = Letter("a", "i"), Letter("b", "j")
ROW, COLUMN = Letter("row", "j"), Letter("column", "i")
BOUND = Letter("j", "j", "~1")
AXES: dict[str, tuple[str, Any]] = {
    "x": ("input", (N, M, J)),
    "y": ("input", (N, M, J, K)),
    "w": ("input", (N, M, J, K, L)),
    "q": ("input", (N, M, J, J2)),
    "f": ("input", (J, K)),
    "t": ("token", (N, M)),
    "r": ("token", (N, I)),
    "A": ("parameter", (I, J)),
    "B": ("parameter", (J, K)),
    "D": ("parameter", (J, J2)),
    "E": ("parameter", (V, I)),
    "G": ("parameter", (I, V)),
    "T": ("parameter", (V, I, K)),
    "C": ("parameter", ((I, J), K)),
    "b": ("parameter", (I,)),
    "c": ("parameter", ()),
    "g": ("intermediate", (N, M, J)),
    "h": ("intermediate", (N, M, J)),
    "z": ("output", (N, M, I)),
}


def axes_of(name: str) -> tuple[tuple[Letter, ...], ...]:
    return tuple(a if isinstance(a, tuple) else (a,) for a in AXES[name][1])


def read(name: str, *indices: Expr) -> Expr:
    kind = TokenRead if AXES[name][0] == "token" else Read
    return kind(Symbol(name), *indices)


X, Y, A, B, D, G = (
    read(name, *(x for axis in axes_of(name) for x in axis))
    for name in ("x", "y", "A", "B", "D", "b")
)
Ac, Ar = read("A", I, J2), read("A", I2, J)
S, TAU = Symbol("stride", integer=True, positive=True), Symbol("tau", positive=True)
SYMBOLS = {"stride": 2, "tau": 0.7}
RNG = np.random.default_rng(0)
ARRAYS: dict[str, np.ndarray] = {}
for _name, (_kind, _axes) in AXES.items():
    _shape = tuple(SIZES[x.size] for axis in axes_of(_name) for x in axis)
    ARRAYS[_name] = (
        RNG.integers(0, SIZES["v"], _shape) if _kind == "token" else RNG.standard_normal(_shape)
    )
PROGRAM = p.Program(
    spec("Parts", "z[n, i] = W[i, j]*x[n, j] + b[i]"),
    frozenset(),
    {name: p.Tensor(name, kind, axes_of(name)) for name, (kind, _) in AXES.items()},
    (
        p.Line("g", (N, M, J), X),
        p.Line("h", (N, M, J), read("g", N, M, J)),
        p.Line("z", (N, M, I), G),
    ),
    (N, M),
    (I,),
    {},
    dict.fromkeys(SIZES),
    {},
)


def axes_in_code(name: str) -> tuple[Axis, ...]:
    own = axes_of(name)
    return (BATCH, *own[2:]) if own[:2] == ((N,), (M,)) else own


def lowering(*recognisers: Any, general: bool = False, wide: bool = False) -> Lowering:
    """One in which n and m lead, and every size but theirs has a name."""
    values = {name: Value(name, axes_in_code(name)) for name in AXES}
    shapes = {x: Value(f"size_{x}", scalar=True) for x in SIZES if x not in "nm"}
    sizes = SizeCode(PROGRAM, {x: x for x in SYMBOLS}, shapes)
    low = Lowering(
        PROGRAM, (N, M), values, sizes, "x.device", recognisers=recognisers, general=general
    )
    low.wide = wide
    return low


def letters_of(value: Value) -> tuple[Letter, ...]:
    return tuple(x for a in value.axes for x in (a if isinstance(a, tuple) else (N, M)))


def run(low: Lowering, value: Value) -> Any:
    """What the code gives."""
    stored = {
        name: torch.from_numpy(
            a.reshape([math.prod(SIZES[x.size] for x in s) for s in axes_of(name)])
        )
        for name, a in ARRAYS.items()
    }
    names: dict[str, Any] = {f"size_{x}": size for x, size in SIZES.items()}
    names |= {"torch": torch, "math": math, "F": F, "Tensor": Tensor, "forward_ad": forward_ad}
    names |= {**SYMBOLS, **stored}
    exec("\n".join([*helper_code(low.helpers), *low.statements]), names)
    return eval(value.code, names)


def assert_right(low: Lowering, value: Value, e: Expr) -> None:
    value = low.split(value)
    found = run(low, value)
    letters = letters_of(value)
    assert set(letters) == letters_in([e])
    wanted = Evaluator(SIZES, ARRAYS, SYMBOLS).array(e, letters)
    assert isinstance(found, Tensor) is not value.scalar
    assert np.shape(found) == wanted.shape
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-12, atol=1e-12)


def right(e: Expr, **options: Any) -> tuple[Lowering, Value]:
    """The lowering of an expression, which gives its value."""
    low = lowering(**options)
    value = low.of(e)
    assert_right(low, value, e)
    return low, value


class TestReads:
    @pytest.mark.parametrize(
        "e",
        [
            read("c"),
            X,
            read("x", N, M, J2),
            read("A", I2, J2),
            read("A", I, ROW),
            read("f", J2, K),
            read("C", I2, J2, K),
            read("q", N, M, J2, J),
        ],
    )
    def test_other_letters_of_the_same_sizes_are_names_alone(self, e):
        low, value = right(e)
        assert value.code == e.tensor
        assert not low.statements

    @pytest.mark.parametrize("e", [read("D", J, J), read("q", N, M, J2, J2), read("q", N, M, J, J)])
    def test_one_letter_twice_is_a_diagonal(self, e):
        _, value = right(e)
        assert "einsum" in value.code

    @pytest.mark.parametrize(
        ("e", "taken"),
        [
            (read("x", N, M, J + 1), 1),
            (read("x", N, M, 2 * J - 1), 1),
            (read("x", N, M, S * J2 + K - 2), 1),
            (read("x", N, M, 3 - J), 1),
            (read("x", N, M, K), 1),
            (read("x", N, M, L), 1),
            (read("x", N, M, Integer(2)), 1),
            (read("x", N, M, Integer(0)), 1),
            (read("x", N, M, size_symbol("j") - 1 - J), 1),
            (read("x", N, M, I + 3 * J2 + K - 6), 1),
            (read("f", J + 1, K), 1),
            (read("f", J, K - 1), 1),
            (read("y", N, M, J, K + 1), 1),
            (read("y", N, M, J + 1, K), 1),
            (read("y", N, M, I + J, K - L), 2),
            (read("y", N, M, K, J), 2),
            (read("y", N, M, S * J + I, S * K + L), 2),
            (read("w", N, M, J, K - 1, L), 1),
            (read("w", N, M, J + I, K, L), 1),
            (read("w", N, M, J + I, 2 * K, 1 - L), 3),
            (read("C", I + 1, J, K), 1),
            (read("C", I, J + 1, K), 1),
            # A letter that is also the name of an axis behind.
            (read("y", N, M, K + 1, J), 2),
            (read("q", N, M, J2, J + 1), 1),
            (read("q", N, M, J2 + 1, J), 1),
            (read("q", N, M, J2 + 1, J - 1), 2),
            (read("D", J2, 2 * J), 1),
        ],
    )
    @pytest.mark.parametrize("wide", [False, True])
    def test_an_index_without_letters_of_another_is_taken_on_its_axis(self, e, taken, wide):
        low, value = right(e, wide=wide)
        assert value.code.count("_take(") == taken
        assert "_gather" not in low.helpers

    @pytest.mark.parametrize(
        "e",
        [
            read("y", N, M, J + K, J - K + 1),
            read("y", N, M, J, J + 1),
            read("y", N, M, J + 1, J),
            read("f", J, J),
            read("f", J + K, 2 * J),
            read("D", J, J - 1),
            read("w", N, M, J + K, K, L),
            read("w", N, M, I, J + K, J),
            read("w", N, M, J + K, L, J),
            # One index lacks letters of the others, or has none.
            read("w", N, M, J + L, K - J, Integer(1)),
            read("w", N, M, Integer(0), K - J, J),
            read("w", N, M, J + K, K + L, L),
            read("y", N, M, J - Letter("j", "j", "'"), J),
        ],
    )
    def test_indices_that_share_a_letter_are_gathered_at_once(self, e):
        low, value = right(e)
        assert value.code.startswith("_gather(")
        assert "_take" not in low.helpers

    @pytest.mark.parametrize(
        "e",
        [
            read("x", M, N, J),
            read("y", M, N, J + 1, K),
            read("x", J, M, N),
            read("y", M, N, J + K, J),
        ],
    )
    def test_leading_axes_stay_in_their_places(self, e):
        with pytest.raises(DerivationError, match="runs over the leading axes"):
            lowering().of(e)

    def test_a_read_at_a_letter_keeps_how_tightly_its_code_binds(self):
        low = lowering()
        low.values["x"] = Value("x + x", (BATCH, (J,)), Level.SUM)
        assert low.of(read("x", N, M, J2)) == Value("x + x", (BATCH, (J2,)), Level.SUM)

    def test_a_line_that_is_a_number_stays_one(self):
        low = lowering(wide=True)
        low.values["c"] = Value("c", scalar=True)
        assert low.of(read("c")) == Value("c", scalar=True)


class TestTokens:
    TOKEN = read("t", N, M)

    @pytest.mark.parametrize("general", [False, True])
    @pytest.mark.parametrize(
        ("e", "code"),
        [
            (read("E", TOKEN, I), "E[t]"),
            (read("E", TOKEN, I2), "E[t]"),
            (read("G", I, TOKEN), "G.movedim(1, 0)[t]"),
            (read("T", TOKEN, I, K), "T[t]"),
        ],
    )
    def test_rows_are_picked(self, e, code, general):
        _, value = right(e, general=general)
        embeds = e.tensor == "E" and not general
        assert value.code == ("F.embedding(t, E)" if embeds else code)

    def test_a_letter_of_the_token_and_of_the_row_is_a_diagonal(self):
        e = read("E", read("r", N, I), I)
        low = lowering()
        low.batch = ()
        assert_right(low, low.of(e), e)

    def test_in_a_gauge_the_table_is_wide_and_the_token_is_not(self):
        _, value = right(read("E", self.TOKEN, I), wide=True)
        assert value.code == "F.embedding(t, _wide(E))"

    @pytest.mark.parametrize(
        "e",
        [
            read("E", TOKEN, I + 1),
            read("T", TOKEN, I, K - 1),
            read("T", TOKEN, I - 1, K),
            read("C", TOKEN, J, K),
        ],
    )
    def test_other_indices_are_refused(self, e):
        with pytest.raises(DerivationError, match="one plain axis of a tensor with plain axes"):
            lowering().of(e)


class TestWidth:
    """What a gauge reads is in the wide dtype, a window in float32 at least."""

    @pytest.mark.parametrize(
        ("name", "windowed", "code"),
        [
            ("x", False, "_wide(x)"),
            ("x", True, "_single(x)"),
            # Autocast may have narrowed these.
            ("g", False, "g.to(_wide_dtype(x))"),
            ("h", False, "h.to(_wide_dtype(x))"),
            ("g", True, "_single(g)"),
        ],
    )
    def test_of_a_read(self, name, windowed, code):
        low = lowering(wide=True)
        low.windowed = windowed
        value = low.of(read(name, N, M, J))
        assert value == Value(code, (BATCH, (J,)))
        assert low.widened(value) == value or name in "gh"
        low.wide = False
        assert low.of(read(name, N, M, J)).code == name

    def test_only_numbers_and_wide_values_are_left(self):
        low = lowering(wide=True)
        for value in (Value("2", scalar=True), Value("_wide(b)", ((I,),))):
            assert low.widened(value) == value

    def test_its_user_may_widen_it(self):
        low = lowering(wide=True)
        assert low.narrow(X).code == "x"
        assert low.wide
        low.wide = False
        low.narrow(X)
        assert not low.wide

    def test_the_dtype_is_that_of_the_first_real_input(self):
        low = lowering()
        assert low.dtype() == "x.dtype"
        low.wide = True
        assert low.dtype() == "_wide_dtype(x)"
        assert low.helpers == {"_wide_dtype"}
        low.source = "q"
        assert low.dtype() == "_wide_dtype(q)"

    def test_or_of_the_first_parameter(self):
        low = lowering()
        kept = {k: t for k, t in PROGRAM.tensors.items() if t.kind != "input"}
        low.program = p.Program(**{**vars(PROGRAM), "tensors": kept})
        assert low.dtype() == "A.dtype"


class TestIndices:
    @pytest.mark.parametrize(
        ("e", "letters", "code"),
        [
            (J + 1, (J,), "j_index + 1"),
            (J + K, (J, K), "j_index[:, None] + k_index"),
            (J + K, (K, J), "k_index[:, None] + j_index"),
            (
                S * I + 2 * J - K,
                (I, J, K),
                "stride * i_index[:, None, None] + 2 * j_index[:, None] - 1 * k_index",
            ),
            (K - 1, (J, K), "k_index - 1"),
            (J - S - 1, (J,), "j_index - stride - 1"),
            (J + S - 1, (J,), "j_index + stride - 1"),
            (-J, (J,), "-1 * j_index"),
            ((S + 1) * J - J, (J,), "stride * j_index"),
            ((S + 1) * J + 2, (J,), "(stride + 1) * j_index + 2"),
            (Integer(3), (), "torch.tensor(3, device=x.device)"),
            (size_symbol("j") - 1, (J,), "torch.tensor(size_j - 1, device=x.device)"),
            (Integer(0), (J, K), "torch.tensor(0, device=x.device)"),
        ],
    )
    def test_as_sums_of_positions(self, e, letters, code):
        assert lowering().index(e, letters) == code

    def test_positions_are_written_once_for_every_letter(self):
        low = lowering()
        names = [low.positions(x) for x in (J, K, J, BOUND, Letter("j", "k"), K)]
        assert names == ["j_index", "k_index", "j_index", "j_index2", "j_index3", "k_index"]
        assert low.statements == [
            f"{name} = torch.arange(size_{size}, device=x.device)"
            for name, size in zip(
                ("j_index", "k_index", "j_index2", "j_index3"), "jkjk", strict=True
            )
        ]

    def test_letters_of_the_output_come_first_and_others_by_name(self):
        low = lowering()
        primed = Letter("i", "i", "'")
        ordered = [N, M, I, I2, J2, primed, J, BOUND, K]
        assert sorted(reversed(ordered), key=low.letter_order) == ordered
        e = read("x", N, M, J + K + I + primed)
        assert low.letters_of(e.indices[2] + TAU) == (I, primed, J, K)


class TestDeltas:
    @pytest.mark.parametrize(
        ("e", "identity"),
        [
            (Delta(J - J2), True),
            (Delta(J2 - J), True),
            (Delta(J - K), False),
            (Delta(J + J2), False),
            (Delta(J + J2 - 3), False),
            (Delta(J - J2 + 1), False),
            (Delta(J - 2), False),
            (Delta(J - 2 * K + I), False),
            (Delta(J - J2 + K), False),
            (Delta(J - S), False),
            (Delta(size_symbol("j") - S - 2), False),
        ],
    )
    @pytest.mark.parametrize("wide", [False, True])
    def test_a_bracket_of_two_letters_of_one_size_is_the_identity(self, e, identity, wide):
        low, value = right(e, wide=wide)
        assert ("torch.eye" in value.code) is identity
        assert run(low, value).dtype == torch.float64

    def test_it_has_the_dtype_of_the_layer(self):
        for e in (Delta(J - J2), Delta(J - 2)):
            assert "x.dtype" in lowering().of(e).code


LEADING = Contraction(read("x", Letter("n", "n", "~"), M, J), Letter("n", "n", "~"))


class TestSums:
    @pytest.mark.parametrize(
        "e",
        [
            Contraction(A * X, J),
            Contraction(X, J),
            Contraction(X * X * Y, J),
            Contraction(Y * A * G, J, K),
            Contraction(A * B * X, J, K),
            Contraction(3 * TAU * A * X, J),
            Contraction(A * X * TAU / size_symbol("k"), J),
            Contraction(A * Ac, J2),
            Contraction(D * read("D", J2, J), J),
            Contraction(Delta(J - J2) * Ac, J2),
            Contraction(Delta(J - 2) * X, J),
            Contraction(2 * Delta(J - J2), J),
            Contraction(read("C", I, J, K) * X, J),
            Contraction(read("C", I, J, K) * read("C", I, J2, K), K, I),
            Contraction(D * read("D", J, J2), J),
        ],
    )
    @pytest.mark.parametrize("wide", [False, True])
    def test_of_products(self, e, wide):
        low, value = right(e, wide=wide)
        assert low.contraction(e, Value("b", ((I,),))) == (value, False)

    @pytest.mark.parametrize(
        ("e", "einsum"),
        [
            (Contraction(A * X, J), '"ij,...j->...i"'),
            (Contraction(A * B * Y, J, K), '"ij,jk,...jk->...i"'),
            (Contraction(read("A", COLUMN, ROW) * read("x", N, M, ROW), ROW), '"ab,...b->...a"'),
            (Contraction(X * read("x", N, M, J), J), ""),
            (Contraction(D * read("D", J2, J), J), ""),
            (Contraction(X * read("h", N, M, J), J), ""),
            (Contraction(read("A", J2, I) * read("f", I, K), I), '"bi,ik->bk"'),
            (Contraction(read("f", J, K) * read("A", I, J), J), '"ij,jk->ik"'),
        ],
    )
    def test_axes_that_agree_are_multiplied_and_others_go_to_an_einsum(self, e, einsum):
        value = lowering().of(e)
        assert ("einsum" in value.code) is bool(einsum)
        assert einsum in value.code

    @pytest.mark.parametrize("wide", [False, True])
    @pytest.mark.parametrize(
        "e",
        [
            LEADING,
            Contraction(A * LEADING.body, J, *LEADING.letters),
            Contraction(LEADING.body**2, *LEADING.letters),
            Contraction(LEADING.body**2, J, *LEADING.letters),
            # What nothing depends on is drawn out by the derivation.
            Contraction(G, J),
            Contraction(A * X, J, K),
        ],
    )
    def test_over_axes_that_no_factor_has_is_refused(self, e, wide):
        with pytest.raises(DerivationError, match="leading axes are summed in recognised forms"):
            lowering(wide=wide).of(e)

    @pytest.mark.parametrize(
        ("axes", "names"),
        [
            ((BATCH, (J,), (I,)), "...,j,i"),
            (((J,), (BOUND,), (Letter("a", "j"),)), "j,b,a"),
            (((I2,), (ROW,), (COLUMN,)), "a,b,c"),
            (((ROW,), (I2,)), "b,a"),
            ((BATCH, (BOUND,), (Letter("j", "j", "'"),), (J,)), "...,j,a,b"),
        ],
    )
    def test_an_einsum_has_the_letters_of_the_spec_where_it_can(self, axes, names):
        assert einsum_names(axes) == dict(zip(axes, names.split(","), strict=True))


class TestEnergies:
    @pytest.mark.parametrize(
        ("e", "helped"),
        [
            (Contraction(X**2, J), True),
            (Contraction(Y**2, K), True),
            (Contraction(Y**2, J, K), True),
            (Contraction(read("C", I, J, K) ** 2, J), True),
            (Contraction(read("x", N, M, J + K) ** 2, K), True),
            (Contraction(X**3, J), False),
            (Contraction(X, J), False),
            (Contraction((X + 1) ** 2, J), False),
            (Contraction(X**2 * Y, J), False),
            (Contraction(tanh(X) ** 2, J), False),
        ],
    )
    def test_a_gauge_sums_squares_of_a_tensor_in_its_range(self, e, helped):
        low, _ = right(e, wide=True)
        assert ("_energy" in low.helpers) is helped
        low, _ = right(e)
        assert "_energy" not in low.helpers
        low = lowering(wide=True)
        low.windowed = True
        assert_right(low, low.of(e), e)
        assert "_energy" not in low.helpers

    def test_the_bias_is_not_in_it(self):
        found = lowering(wide=True).contraction(Contraction(X**2, J), Value("b", ((I,),)))
        assert found == (Value("_energy(x, -1)", (BATCH,)), False)


class TestRecognisers:
    E = Contraction(A * X, J)

    def test_the_first_that_knows_a_sum_writes_it(self):
        asked = []

        def no(*given: Any) -> None:
            asked.append(given)

        found = Value("known", (BATCH, (I,))), True
        low = lowering(no, lambda *_: found, no)
        bias = Value("b", ((I,),))
        assert low.contraction(self.E, bias) == found
        assert asked == [(low, self.E, bias)]
        assert low.of(self.E) == found[0]
        assert asked[1] == (low, self.E, None)

    def test_one_that_gives_up_leaves_nothing_behind(self):
        def no(low: Lowering, e: Contraction, bias: Value | None) -> None:
            low.share([tanh(X), tanh(X)])
            low.of(tanh(X))
            low.positions(J)
            low.of(read("x", N, M, J + 1))
            assert len(low.statements) == 4

        low = lowering(no)
        low.assign("value", Value("x", (BATCH, (J,))))
        low.positions(K)
        low.helper("_rows")
        before = list(low.statements), set(low.names), dict(low.cache), set(low.helpers)
        value = low.of(self.E)
        assert (low.statements, low.names, low.cache, low.helpers) == before
        assert_right(low, value, self.E)

    def test_they_learn_whether_a_gauge_is_a_sum_that_cannot_vanish(self):
        seen = []

        def ask(low: Lowering, *_: Any) -> None:
            seen.append(low.bounded)

        energy = Contraction(X**2 * Y**2, J, K)
        for wide, e in (
            (True, 1 + energy),
            (True, energy),
            (True, energy - 1),
            (True, 1 + energy + Contraction(tanh(energy - 1) * Y**2, K)),
            (False, 1 + energy),
        ):
            low = lowering(ask, wide=wide)
            low.of(e)
            assert low.bounded is False
            seen.append(None)
        text = "".join({True: "1", False: "0", None: " "}[s] for s in seen)
        assert text.split() == ["1", "0", "0", "000", "0"]

    def test_a_sum_within_another_is_asked_for_itself(self):
        low = lowering(wide=True)
        low.bounded = True
        seen = []
        low.recognisers = (lambda low, *_: seen.append(low.bounded),)
        low.of(Contraction(Y, K) - 1)
        assert (seen, low.bounded) == ([False], True)


ENERGY, TOTAL = Contraction(X**2, J), Contraction(X, J)


class TestSharing:
    @pytest.mark.parametrize(
        ("e", "name"),
        [
            (ENERGY, "energy"),
            (TOTAL, "total"),
            (exp(X), "exp"),
            (tanh(X), "tanh"),
            (sympy.Abs(X), "magnitude"),
            (Softmax(X, J, J), "factor"),
            (MaxOver(X, J), "factor"),
        ],
    )
    def test_what_occurs_twice_is_computed_once_by_a_name(self, e, name):
        once = lowering()
        once.share([e * G])
        once.of(e * G)
        assert not once.statements
        for expressions in ([e * G + 2 * e], [e, e + 1]):
            low = lowering()
            low.share(expressions)
            assert e in low.shared
            for _ in range(2):
                value = low.of(e)
                assert value.code == name
                assert [s.split(" = ")[0] for s in low.statements] == [name]
                assert_right(low, value, e)

    def test_counts_of_one_call_and_marks_of_all(self):
        low = lowering()
        low.share([ENERGY, ENERGY])
        low.share([TOTAL, exp(X), TOTAL])
        low.share([exp(X)])
        assert low.shared == {ENERGY, TOTAL}

    def test_what_stands_within_another_sum_is_computed_there(self):
        within = exp(read("x", N, M, BOUND))
        low = lowering()
        low.share(
            [Contraction(within, BOUND) * Contraction(within * A, BOUND) * exp(TAU) ** within]
        )
        assert low.shared == set()
        inner = exp(read("x", N, M, BOUND) * size_symbol("j"))
        low.share([inner, inner, exp(X * TAU), exp(X * TAU)])
        assert low.shared == {exp(X * TAU)}

    def test_numbers_reads_and_what_has_a_name_are_not_named(self):
        low = lowering(lambda *_: (Value("known", (BATCH,)), False))
        low.share([exp(TAU), exp(TAU), X, X, TOTAL, TOTAL])
        assert low.shared == {exp(TAU), TOTAL}
        assert low.of(exp(TAU)).scalar
        assert [low.of(e).code for e in (TOTAL, X)] == ["known", "x"]
        assert not low.statements


class Unknown(Expr):
    """No node of the notation."""


class TestNodes:
    """Every node of the notation."""

    @pytest.mark.parametrize(
        "e",
        [
            X + A,
            X * A - 2,
            X**2,
            exp(X),
            Softmax(X, J, J2),
            Softmax(Y, K, K) * A,
            MaxOver(Y, K) - X,
            Delta(J - J2) + X,
            2 * Delta(J - 1),
            size_symbol("j") * TAU,
            exp(TAU),
            sympy.sqrt(2) * X,
            TAU + Contraction(TAU * X, J),
        ],
    )
    def test_is_right(self, e):
        right(e)

    @pytest.mark.parametrize(
        ("e", "message"),
        [
            (Unknown(X), "no code for Unknown"),
            (sin(X), "no code for the function sin"),
            (Function("unknown")(X), "no code for the function unknown"),
            (Mul(J, TAU), "no code for the symbol j"),
        ],
    )
    def test_or_has_no_code(self, e, message):
        with pytest.raises(DerivationError, match=message):
            lowering().of(e)

"""Printed formulas: golden text, and text that is read back and evaluated."""

import re

import numpy as np
import pytest
import sympy
from sympy import Expr, Integer, Rational, Symbol

from derive import LayerSpec, derive
from derive.formula import formula, grouped, latex
from derive.functions import FUNCTIONS, Step
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
from derive.program import Program
from derive.stages import stage_spec

TOKEN = re.compile(
    r"\s*(sum_\{[^}]*\}|sum_[A-Za-z]\w*'*|(?:soft)?max\[[^]]*\]|size\(\w+\)|\d+(?:\.\d+)?|[A-Za-z]\w*'*|.)"
)


class Reader:
    """Reads an ASCII formula back into an expression; knows the notation, not the printer."""

    def __init__(self, text: str, program: Program) -> None:
        self.tokens = TOKEN.findall(text)
        self.program = program
        self.scope: list[tuple[str, Letter]] = []

    def next(self) -> str:
        return self.tokens.pop(0)

    def accept(self, *texts: str) -> str | None:
        return self.next() if self.tokens and self.tokens[0] in texts else None

    def expect(self, text: str) -> None:
        found = self.next()
        assert found == text, f"{found} where {text} was expected, before {self.tokens}"

    def total(self) -> Expr:
        value = -self.product() if self.accept("-") else self.product()
        while sign := self.accept("+", "-"):
            value += self.product() if sign == "+" else -self.product()
        return value

    def product(self) -> Expr:
        value = self.power()
        while sign := self.accept("*", "/"):
            value = value * self.power() if sign == "*" else value / self.power()
        return value

    def power(self) -> Expr:
        base = self.atom()
        return base ** self.atom() if self.accept("^") else base

    def atom(self) -> Expr:
        token = self.next()
        if token == "(":
            value = self.total()
            self.expect(")")
            return value
        if token == "|":
            value = sympy.Abs(self.total())
            self.expect("|")
            return value
        if token == "[":
            return self.bracket()
        if token[0].isdigit():
            return Rational(token)
        if token.startswith("size("):
            return size_symbol(token[5:-1])
        if token.startswith(("sum_", "max[")):
            return self.binder(token)
        if token.startswith("softmax["):
            return self.softmax(self.letter(token[8:-1]))
        return self.name(token)

    def softmax(self, letter: Letter) -> Expr:
        bound = Letter(letter.name, letter.size, "#bound")
        return Softmax(substitute(self.atom(), {letter: bound}), bound, letter)

    def bracket(self) -> Expr:
        left = self.total()
        sign = self.next()
        right = self.total()
        self.expect("]")
        return Delta(left - right) if sign == "=" else Step(left - right)

    def binder(self, token: str) -> Expr:
        names = re.findall(r"[A-Za-z]\w*'*", token[4:])
        letters = [Letter(n, self.letter(n).size, "#bound") for n in names]
        self.scope += zip(names, letters, strict=True)
        body = self.product()
        del self.scope[-len(names) :]
        return (Contraction if token.startswith("sum") else MaxOver)(body, *letters)

    def letter(self, name: str) -> Letter:
        for bound, letter in reversed(self.scope):
            if bound == name:
                return letter
        plain = name.rstrip("'")
        letter = self.program.letters.get(plain, Letter(plain, plain))
        return letter.primed if name.endswith("'") else letter

    def name(self, token: str) -> Expr:
        program = self.program
        if self.tokens[:1] == ["["] and token in program.spec.hyperparameters:
            self.next()
            index = self.next()
            self.expect("]")
            return Symbol(f"{token}[{index}]")
        if self.tokens[:1] == ["["] and token in program.tensors:
            self.next()
            indices = [self.total()]
            while self.accept(","):
                indices.append(self.total())
            self.expect("]")
            kind = TokenRead if program.tensors[token].kind == "token" else Read
            return kind(Symbol(token), *indices)
        if self.tokens[:1] == ["("] and token in FUNCTIONS:
            self.next()
            value = FUNCTIONS[token](self.total())
            self.expect(")")
            return value
        if token.rstrip("'") in program.letters and token not in program.spec.hyperparameters:
            return self.letter(token)
        return Symbol(token)


def read(text: str, program: Program) -> Expr:
    reader = Reader(text, program)
    value = reader.total()
    assert not reader.tokens, f"{reader.tokens} is left over of {text}"
    return value


def test_read_back(name, shipped, draw):
    """Every formula of every shipped layer means what it says."""
    spec = shipped(name)
    # Attention as a whole has too many letters for brute force; its stages together say the same.
    for part in [stage_spec(spec, stage) for stage in spec.stages] or [spec]:
        check_read_back(derive(part), draw(part))


def check_read_back(derivation, point):
    program, update = derivation.program, derivation.update
    letters = program.output.letters
    both = (*letters, *(x.primed for x in letters))
    expressions = [
        (update.kernel, both),
        (grouped(update.kernel), both),
        (grouped(update.self_kernel), both),
        (derivation.structure.full, both),
        *((line.value, line.letters) for line in program.lines),
        *(
            (c.gauge, both)
            for c in derivation.applied
            if c.ansatz in ("output gauge", "unit gauge")
        ),
    ]
    for expression, free in expressions:
        text = formula(expression, program)
        assert text.isascii()
        found = point.over(read(text, program), *free)
        np.testing.assert_allclose(found, point.over(expression, *free), rtol=1e-9, atol=1e-9)


@pytest.fixture
def linear(shipped):
    return derive(shipped("linear"))


def test_notations_of_a_gauge(linear):
    gauge = linear.correction("output gauge").gauge
    assert formula(gauge, linear.program) == "1/sqrt(1 + sum_j x[n, j]^2)"
    assert formula(gauge, linear.program, unicode=True) == "1/√(1 + Σ_j x[n,j]²)"
    assert formula(gauge, linear.program, unicode=True, norms=True) == "1/√(1 + ‖x[n]‖²)"
    assert latex(gauge, linear.program) == r"\frac{1}{\sqrt{1 + \sum_{j} x_{nj}^{2}}}"


def test_deltas_stand_before_what_they_multiply(linear):
    kernel = grouped(linear.update.kernel)
    shown = formula(kernel, linear.program, unicode=True)
    assert shown == "δ_ii' (1 + Σ_j x[n,j] x[n',j])"
    assert formula(kernel, linear.program) == "[i = i']*(1 + sum_j x[n, j]*x[n', j])"


def test_grouping_keeps_the_value(linear):
    kernel = linear.update.kernel
    assert sympy.expand(grouped(kernel) - kernel) == 0


def test_sizes_are_shown_as_arguments(shipped):
    derivation = derive(shipped("layer_norm_linear"))
    mean = derivation.program.lines[0].value
    assert formula(mean, derivation.program) == "(sum_j x[n, j])/in_features"


def test_norms_only_over_all_axes_but_the_site(shipped):
    program = derive(shipped("batch_norm_linear")).program
    n, j = program.letters["n"], program.letters["j"]
    inner = Letter("n", n.size, "~0")
    over_samples = Contraction(Read(Symbol("x"), inner, j) ** 2, inner)
    over_features = Contraction(Read(Symbol("x"), n, Letter("j", j.size, "~0")) ** 2, j)
    assert formula(over_samples, program, unicode=True, norms=True) == "Σ_n x[n,j]²"
    assert "‖" not in formula(over_features, program, unicode=True, norms=True)


def test_bound_letters_get_primes_where_the_name_is_taken():
    j = Letter("j", "j")
    bound = [Letter("j", "j", f"~{k}") for k in range(2)]
    x = Symbol("x")
    square = Contraction(Read(x, bound[0]) * Read(x, bound[1]) * Read(x, j), *bound)
    assert formula(square) == "sum_{j',j''} x[j]*x[j']*x[j'']"
    assert formula(square.body) == "x[j]*x[j']*x[j'']"


def test_a_sum_may_bind_a_letter_of_the_sum_around_it():
    letter = Letter("j", "j", "~0")
    x = Read(Symbol("x"), letter)
    expression = Contraction((Contraction(x, letter) + x**2) * x**3, letter)
    assert formula(expression) == "sum_j x[j]^3*(sum_j' x[j'] + x[j]^2)"


@pytest.mark.parametrize(
    ("expression", "text", "tex"),
    [
        (Rational(1, 3), "1/3", r"\frac{1}{3}"),
        (-Rational(44715, 10**6), "-0.044715", "-0.044715"),
        (sympy.sqrt(2) * Symbol("radius"), "sqrt(2)*radius", r"\sqrt{2} \, \mathrm{radius}"),
        (Symbol("a") ** Rational(-1, 4), "1/a^(1/4)", r"\frac{1}{\sqrt[4]{a}}"),
        (1 - Symbol("λ") ** 2, "1 - lambda^2", r"1 - \lambda^{2}"),
        (-(Symbol("a") + 1) / 2, "-1/2 - a/2", r"-\frac{1}{2} - \frac{a}{2}"),
        (Symbol("a") ** Symbol("b"), "a^b", "a^{b}"),
        (FUNCTIONS["gelu"](Symbol("a")), "gelu(a)", r"\operatorname{gelu}\left(a\right)"),
        (Step(Symbol("a", real=True)), "[a > 0]", "[a > 0]"),
        (Integer(0), "0", "0"),
    ],
)
def test_small_expressions(expression, text, tex):
    assert formula(expression) == text
    assert latex(expression) == tex


def test_names_of_several_letters():
    spec = LayerSpec(
        name="Named",
        forward="z[n, unit] = W_1[unit, j]*x_in[n, j]",
        site="n",
        unit="unit",
        parameters={"W_1": {"torch": "weight"}},
        sizes={"unit": "out", "j": "in_size"},
    )
    derivation = derive(spec)
    line = derivation.program.lines[0].value
    assert latex(line) == r"\sum_{j} W^{(1)}_{\mathrm{unit},j} \, \mathrm{x\_in}_{nj}"
    kernel = formula(derivation.update.kernel, derivation.program, unicode=True)
    assert kernel.startswith("δ_{unit,unit'} Σ_j")


def test_what_has_no_notation_is_refused():
    with pytest.raises(TypeError, match="no notation"):
        formula(sympy.Integral(Symbol("a"), Symbol("a")))

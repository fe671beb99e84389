"""Sums, products, powers and functions of tensors with named axes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import sympy
from sympy import Add, Expr, Function, Mul, Pow

from codegen.axes import Axes
from codegen.signs import positive
from codegen.sizes import LARGEST_INTEGER
from codegen.values import Axis, Level, Value, single
from derive.errors import DerivationError
from derive.nodes import Contraction, Letter, MaxOver, Read, Softmax, reads, size_symbol, substitute

FUNCTION_CODE = {
    "exp": "torch.exp",
    "log": "torch.log",
    "tanh": "torch.tanh",
    "erf": "torch.erf",
    "sigmoid": "torch.sigmoid",
    "relu": "F.relu",
    "silu": "F.silu",
    "gelu": "F.gelu",
    "Abs": "torch.abs",
    "sign": "torch.sign",
}


class Elementwise(Axes):
    """Elementwise code, with reductions over single axes."""

    @abstractmethod
    def contraction(self, e: Contraction, bias: Value | None) -> tuple[Value, bool]:
        """A sum over letters; the flag says whether the bias went into it."""

    def add(self, e: Add) -> Value:
        """A sum; a parameter added to a recognised product is handed to it as its bias."""
        terms = sorted(e.args, key=self.term_order)
        values: list[Value] = []
        rest = list(terms)
        for term in terms:
            if not isinstance(term, Contraction):
                continue
            for other in [t for t in rest if self.is_bias(t)]:
                found = self.contraction(term, self.of(other))
                if found[1]:
                    rest.remove(other)
                    rest.remove(term)
                    values.append(found[0])
                    break
        if e == self.outermost and values + [t for t in rest if not self.is_bias(t)]:
            # Added by a statement of its own, which the layer without this bias simply lacks.
            self.deferred = [self.of(t) for t in rest if self.is_bias(t)]
            rest = [t for t in rest if not self.is_bias(t)]
        negative = [t for t in rest if t.could_extract_minus_sign()]
        positive = [t for t in rest if t not in negative]
        values += [self.of(t) for t in positive]
        minus = [self.of(-t) for t in negative]
        if not values:
            values, minus = [self.negated(minus[0])], minus[1:]
        return self.total(values, minus)

    def negated(self, value: Value) -> Value:
        """-value."""
        return Value(f"-{value.at(Level.MATRIX)}", value.axes, Level.UNARY, value.scalar)

    def total(self, plus: Sequence[Value], minus: Sequence[Value] = ()) -> Value:
        """A + b - c with broadcasting; something is added, and something is a tensor."""
        (first, *others), axes = self.aligned([*plus, *minus])
        if not others:
            return first
        code, more = first.code, len(plus) - 1
        for value in others[:more]:
            code += f" + {value.code}" if not value.code.startswith("-") else f" - {value.code[1:]}"
        for value in others[more:]:
            code += f" - {value.at(Level.MATRIX)}"
        return Value(code, axes, Level.SUM)

    def term_order(self, term: Expr) -> tuple[bool, bool, int, str]:
        """Numbers first, then what depends on inputs, largest first; biases last."""
        return (bool(reads(term)), self.is_bias(term), -len(reads(term)), str(term))

    def is_bias(self, term: Expr) -> bool:
        """A parameter times a number."""
        _, rest = term.as_coeff_Mul()
        return isinstance(rest, Read) and rest.tensor in {t.name for t in self.program.parameters}

    def multiply(self, e: Mul) -> Value:
        """A product, with divisions written as such."""
        top: list[Value] = []
        bottom: list[Value] = []
        coefficient, factors = e.as_coeff_mul()
        mean, factors = self.mean(list(factors))
        if mean is not None:
            top.append(mean)
        negative = coefficient.is_negative
        coefficient = abs(coefficient)
        if max(coefficient.p, coefficient.q) >= LARGEST_INTEGER:
            top.append(self.sizes.number(coefficient))
            coefficient = sympy.Integer(1)
        top.append(self.sizes.number(sympy.Integer(coefficient.p)))
        if coefficient.q != 1:
            bottom.append(self.sizes.number(sympy.Integer(coefficient.q)))
        for factor in sorted(factors, key=lambda f: (bool(reads(f)), not self.is_bias(f), str(f))):
            if isinstance(factor, Pow) and factor.exp == -1:
                bottom.append(self.of(factor.base))
            else:
                top.append(self.of(factor))
        value = self.product(top)
        if bottom:
            under = self.product(bottom)
            (over, below), axes = self.aligned([value, under])
            code = f"{over.at(Level.MATRIX)} / {below.at(Level.UNARY)}"
            value = Value(code, axes, Level.PRODUCT)
        return self.negated(value) if negative else value

    def mean(self, factors: list[Expr]) -> tuple[Value | None, list[Expr]]:
        """Σ_j f / size(j) as a mean, where the sum is a plain one."""
        for factor in factors:
            if not isinstance(factor, Contraction):
                continue
            counts = [1 / size_symbol(x.size) for x in factor.letters]
            rest = [f for f in factors if f is not factor]
            if self.general or any(c not in rest for c in counts) or len(set(counts)) < len(counts):
                continue
            body = self.split(self.of(factor.body))
            return self.reduced(body, factor.letters, "mean"), [f for f in rest if f not in counts]
        return None, factors

    def product(self, values: Sequence[Value]) -> Value:
        """A * b with broadcasting."""
        scalars = [v for v in values if v.scalar]
        tensors = [v for v in values if not v.scalar]
        if not tensors:
            return self.sizes.product(scalars)
        aligned, axes = self.aligned([self.sizes.product(scalars), *tensors])
        first, *others = (v for v in aligned if v.code != "1")
        if not others:
            return first
        code = " * ".join([first.at(Level.MATRIX), *(v.at(Level.PRODUCT) for v in others)])
        return Value(code, axes, Level.PRODUCT)

    def power(self, e: Pow) -> Value:
        """Squares, roots and reciprocals by their torch names.

        Raises:
            DerivationError: If the exponent is not rational.
        """
        exponent = e.exp
        if not exponent.is_Rational:
            raise DerivationError(f"no code for the power {exponent}")
        base = self.of(e.base)
        code = base.at(Level.ATOM)
        if exponent == 2:
            return base.with_code(f"{code}.square()")
        if exponent == sympy.Rational(1, 2) and self.wide and not positive(e.base):
            return base.with_code(f"{self.helper('_root')}({base.code})")
        if exponent == sympy.Rational(1, 2):
            return base.with_code(f"{code}.sqrt()")
        if exponent == sympy.Rational(-1, 2):
            return base.with_code(f"torch.rsqrt({base.code})")
        if exponent == -1:
            return base.with_code(f"{code}.reciprocal()")
        shown = str(int(exponent)) if exponent.is_Integer else repr(float(exponent))
        return base.with_code(f"{code}.pow({shown})")

    def function(self, e: Function) -> Value:
        """A function of the notation.

        Raises:
            DerivationError: If there is no code for the function.
        """
        name = e.func.__name__
        if name == "maximum":
            return self.maximum(e)
        (argument,) = e.args
        inner = self.of(argument)
        if name == "Step":
            return inner.with_code(f"({inner.code} > 0).to({inner.at(Level.ATOM)}.dtype)")
        if name not in FUNCTION_CODE:
            raise DerivationError(f"no code for the function {name}")
        return inner.with_code(f"{FUNCTION_CODE[name]}({inner.code})")

    def maximum(self, e: Function) -> Value:
        """max(a, b); with a number it is a clamp."""
        one, other = sorted((self.of(a) for a in e.args), key=lambda v: v.scalar)
        if other.scalar:
            return one.with_code(f"{one.at(Level.ATOM)}.clamp(min={other.code})")
        (one, other), axes = self.aligned([one, other])
        return Value(f"torch.maximum({one.code}, {other.code})", axes)

    def softmax(self, e: Softmax) -> Value:
        """torch.softmax over the axis of its letter."""
        body, bound, at = e.args
        if not isinstance(at, Letter) or at.size != bound.size:
            return self.of(e.expanded())
        inner = self.split(self.of(substitute(body, {bound: at})))
        return inner.with_code(f"torch.softmax({inner.code}, dim={inner.position((at,))})")

    def maximum_over(self, e: MaxOver) -> Value:
        """Amax over axes."""
        inner = self.split(self.of(e.body))
        return self.reduced(inner, e.letters, "amax")

    def reduced(self, value: Value, letters: Sequence[Letter], method: str) -> Value:
        """Sum or maximum over the axes of some letters."""
        shown, axes = self.without(value, letters)
        return value.with_code(f"{value.at(Level.ATOM)}.{method}({shown})", axes)

    def sum_of_squares(self, value: Value, letters: Sequence[Letter]) -> Value:
        """Σ value² over the axes of some letters, in the wide dtype and in its range."""
        shown, axes = self.without(value, letters)
        return value.with_code(f"{self.helper('_energy')}({value.code}, {shown})", axes)

    def without(self, value: Value, letters: Sequence[Letter]) -> tuple[str, list[Axis]]:
        """The dimensions of some letters as an argument, and the axes that are left."""
        gone = [single(x) for x in letters]
        dims = ", ".join(map(str, sorted(map(value.position, gone))))
        return (dims if len(gone) == 1 else f"({dims})"), [a for a in value.axes if a not in gone]

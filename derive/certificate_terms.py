"""Derived expressions in the language of certificates, which ``verify/checker.py`` reads.

An expression is an integer, a name, or a list. A name is a letter, a size, a hyperparameter, or
``pi``; real ones are positive.

=============================  ================================================
``["+", ...]``, ``["*", ...]``  sums and products
``["root", q, e]``             the positive root of order q; 1/e for q = -1, 1/√e for q = -2
``["call", name, e]``          exp, log, tanh, sigmoid or erf
``["held", e]``                e, held fixed during the step
``["is 0", index]``            1 where the index is 0, else 0
``["sum", letter, size, e]``    a sum over a letter
``["read", array, index...]``  an element of a line or tensor, 0 out of range
=============================  ================================================

Powers are written out. Other functions are written in these: relu(x) = (x + |x|)/2, |x| the
positive root of x², gelu(x) = x (1 + erf(x/√2))/2. A maximum over letters of something without
parameters becomes an input of its own: what holds for every value of it holds for the maximum.
Arguments of exp are taken apart by :mod:`derive.certificate_exponents`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sympy
from sympy import Add, Expr, Function, Integer, Mul, Pow, Rational, Symbol

from derive import grammar as g
from derive.certificate_exponents import denominators, squares, take_apart
from derive.correction import LAMBDA, MU, NU
from derive.errors import DerivationError
from derive.nodes import Contraction, Delta, Letter, MaxOver, Read, Softmax, substitute
from derive.program import Program

Json = Any
Names = Mapping[Letter, str]
GAUGES = [["read", name] for name in (LAMBDA, MU, NU)]


class TermWriter:
    """Writes the expressions of one layer.

    Args:
        program: The layer.
        expressions: Everything that will be written.
        reads: Symbols that stand for a tensor, with its letters: the free gauge ν.

    Attributes:
        sizes: Size class → the name of its size.
        reals, integers: Names of the hyperparameters and other numbers met, in order.
        held: Gauges that are held fixed during the step where they are read.
        opaque: Maxima over letters → the tensor and the letters that stand for them.
    """

    def __init__(
        self,
        program: Program,
        expressions: Iterable[Expr],
        reads: Mapping[str, tuple[Letter, ...]] | None = None,
    ) -> None:
        """Start with no names met."""
        self.program = program
        self.squares = squares(program)
        self.denominator = denominators(expressions, self.squares)
        self.symbol_reads = dict(reads or {})
        self.sizes = size_names(program)
        self.reals: dict[str, None] = {}
        self.integers: dict[str, None] = {}
        self.held: set[str] = set()
        self.opaque: dict[str, tuple[str, tuple[Letter, ...]]] = {}

    # -------------------------------------------------------------- letters and indices
    def is_integer(self, name: str) -> bool:
        """Whether a hyperparameter, or an element of one, is an integer."""
        value = self.program.spec.hyperparameters.get(name.partition("[")[0])
        first = value[0] if isinstance(value, tuple) else value
        return isinstance(first, int) and not isinstance(first, bool)

    def letter(self, x: Letter, names: Names) -> str:
        """The name of a letter; bound ones are named when they are bound."""
        return names.get(x, f"{x.name}{x.mark}")

    def letters(self, letters: Iterable[Letter]) -> dict[str, str]:
        """Letters with the names of their sizes."""
        return {f"{x.name}{x.mark}": self.sizes[x.size] for x in letters}

    def bind(self, letters: tuple[Letter, ...], names: Names) -> tuple[dict[str, str], Names]:
        """New names for bound letters, told apart by how many letters are bound around them."""
        found = {x: f"{x.name}.{len(names) + k}" for k, x in enumerate(letters)}
        return {name: self.sizes[x.size] for x, name in found.items()}, {**names, **found}

    def index(self, e: Expr, names: Names) -> Json:
        """An index expression.

        Raises:
            DerivationError: If the expression is no index.
        """
        if isinstance(e, Letter):
            return self.letter(e, names)
        if e.is_Integer:
            return int(e)
        if isinstance(e, Symbol):
            if e.name.startswith("size("):
                return self.sizes[e.name[5:-1]]
            self.integers.setdefault(e.name)
            return e.name
        if isinstance(e, Read):
            return ["read", e.tensor, *(self.index(i, names) for i in e.indices)]
        if isinstance(e, Add | Mul):
            parts = ordered([self.index(a, names) for a in e.args])
            return ["+" if isinstance(e, Add) else "*", *parts]
        raise DerivationError(f"{e} is no index")

    def indices(self, e: Read, names: Names) -> list[Json]:
        """The indices of a read; a letter that may leave its axis is written as a sum."""
        tensor = self.program.tensors.get(e.tensor)
        axes = e.indices if tensor is None else tensor.letters
        found = []
        for i, axis in zip(e.indices, axes, strict=True):
            index = self.index(i, names)
            leaves = isinstance(i, Letter) and self.sizes[i.size] != self.sizes[axis.size]
            found.append(["+", index] if leaves else index)
        return found

    # -------------------------------------------------------------- numbers
    def write(self, e: Expr, names: Names | None = None) -> Json:
        """An expression.

        Raises:
            DerivationError: If certificates have no word for a node.
        """
        names = names or {}
        if isinstance(e, Read):
            read = ["read", e.tensor, *self.indices(e, names)]
            return ["held", read] if e.tensor in self.held else read
        if isinstance(e, Delta):
            return ["is 0", self.index(e.args[0], names)]
        if isinstance(e, Contraction):
            letters, inner = self.bind(e.letters, names)
            return total(letters, self.write(e.body, inner))
        if isinstance(e, Softmax):
            return self.write(e.expanded(), names)
        if isinstance(e, MaxOver):
            return self.maximum(e, names)
        if isinstance(e, Add | Mul):
            parts = [self.write(a, names) for a in e.args]
            return product(*parts) if isinstance(e, Mul) else ["+", *ordered(parts)]
        if isinstance(e, Pow) and e.exp.is_Rational:
            return self.power(e.base, e.exp, names)
        if isinstance(e, Symbol) and not isinstance(e, Letter):
            return self.symbol(e, names)
        if isinstance(e, sympy.exp) or e == sympy.E:
            return self.exponential(Integer(1) if e == sympy.E else e.args[0], names)
        if isinstance(e, Function):
            return self.function(e, names)
        if e.is_number and not e.args:
            return self.number(e)
        raise DerivationError(f"a certificate has no word for {type(e).__name__}: {e}")

    def number(self, e: Expr) -> Json:
        """A rational number, or π.

        Raises:
            DerivationError: If the number is neither.
        """
        if e == sympy.pi:
            return "pi"
        value = Rational(str(e)) if e.is_Float else e
        if not value.is_Rational:
            raise DerivationError(f"a certificate has no word for the number {e}")
        return quotient(int(value.p), int(value.q))

    def symbol(self, e: Symbol, names: Names) -> Json:
        """A size, a hyperparameter, or another real number."""
        if e.name in self.symbol_reads:
            return ["read", e.name, *(self.letter(x, names) for x in self.symbol_reads[e.name])]
        if e.name.startswith("size(") or self.is_integer(e.name):
            return self.index(e, names)
        self.reals.setdefault(e.name)
        return e.name

    def power(self, base: Expr, exponent: Rational, names: Names) -> Json:
        """base**(p/q).

        Roots of a quotient of sizes are quotients of roots, so that equal roots are written alike.
        """
        top, bottom = (
            (base, Integer(1)) if exponent.q == 1 else sympy.fraction(sympy.together(base))
        )
        if bottom != 1 and bottom.is_positive:
            parts = [self.power(top, exponent, names), self.power(bottom, -exponent, names)]
            return product(*parts)
        return power(self.write(base, names), exponent)

    def exponential(self, argument: Expr, names: Names) -> Json:
        """exp(Σ c t) = Π exp(t/L)^(c L) with L the common denominator."""
        factors = []
        for c, term in take_apart(argument, self.squares):
            whole = ["call", "exp", self.write(term / self.denominator, names)]
            factors.append(power(whole, c * self.denominator))
        return product(*factors)

    def function(self, e: Function, names: Names) -> Json:
        """A function of the notation, in the functions of the checker.

        Raises:
            DerivationError: If certificates have no word for the function.
        """
        x, *more = (self.write(a, names) for a in e.args)
        name = e.func.__name__
        if name in ("log", "tanh", "sigmoid", "erf"):
            return ["call", name, x]
        if name not in WRITTEN:
            raise DerivationError(f"a certificate has no word for the function {name}")
        return WRITTEN[name](x, *more)

    def maximum(self, e: MaxOver, names: Names) -> Json:
        """A tensor that stands for the maximum; equal maxima share one.

        Raises:
            DerivationError: If the maximum is over something that depends on a parameter.
        """
        if any(r.tensor in self.program.dependent for r in e.atoms(Read)):
            raise DerivationError("max[...] over something that depends on a parameter")
        free = tuple(sorted((x for x in e.free_symbols if isinstance(x, Letter)), key=str))
        slots = tuple(Letter(x.name, x.size, "slot") for x in free)
        shape = substitute(e, dict(zip(free, slots, strict=True)))
        bound = self.bind(e.letters, {})[1]
        key = json.dumps(self.write(shape.body, {**bound, **{x: f"{x.name}?" for x in slots}}))
        name, _ = self.opaque.setdefault(key, (f"max.{len(self.opaque) + 1}", slots))
        return ["read", name, *(self.letter(x, names) for x in free)]


# ---------------------------------------------------------------------- writing helpers
def ordered(parts: Iterable[Json]) -> list[Json]:
    """Parts by their text, which does not depend on SymPy's order, but first of all what decides.

    Brackets skip what follows; and the checker skips it after a 0 too, where a gauge is 1/0.
    """
    return sorted(parts, key=lambda p: (rank(p), json.dumps(p)))


def rank(part: Json) -> int:
    """0 of a bracket, 1 of a gauge, 2 of anything else."""
    if not isinstance(part, list):
        return 2
    if part[0] in ("held", "root"):
        return rank(part[-1])
    return 0 if part[0] == "is 0" else 1 if part[:2] in GAUGES else 2


def product(*parts: Json) -> Json:
    """A product of all factors."""
    flat = [x for p in parts for x in (p[1:] if isinstance(p, list) and p[0] == "*" else [p])]
    return flat[0] if len(flat) == 1 else ["*", *ordered(flat)]


def total(letters: Mapping[str, Json], body: Json) -> Json:
    """A sum over letters, the first outermost."""
    for x, size in reversed(list(letters.items())):
        body = ["sum", x, size, body]
    return body


def power(base: Json, exponent: Rational) -> Json:
    """base**(p/q), by the positive root."""
    p, q = int(exponent.p), int(exponent.q)
    return product(*[base if (p > 0) and q == 1 else ["root", q if p > 0 else -q, base]] * abs(p))


def quotient(top: Json, bottom: Json) -> Json:
    """top/bottom."""
    return top if bottom == 1 else product(top, ["root", -1, bottom])


def half(*terms: Json) -> Json:
    """Half a sum."""
    return quotient(["+", *terms], 2)


def absolute(x: Json) -> Json:
    """|x|, the positive root of x²."""
    return ["root", 2, product(x, x)]


def negated(x: Json) -> Json:
    """-x."""
    return product(-1, x)


WRITTEN: dict[str, Callable[..., Json]] = {
    "Abs": absolute,
    "sign": lambda x: quotient(absolute(x), x),
    "Step": lambda x: half(1, quotient(absolute(x), x)),
    "relu": lambda x: half(x, absolute(x)),
    "maximum": lambda x, y: half(x, y, absolute(["+", x, negated(y)])),
    "silu": lambda x: product(x, ["call", "sigmoid", x]),
    "gelu": lambda x: product(x, half(1, ["call", "erf", product(x, ["root", -2, 2])])),
}


# ---------------------------------------------------------------------- sizes
def size_names(program: Program) -> dict[str, str]:
    """Size class → the name of its size, shared by those that have the same constructor argument.

    Every other size is free, also one that is computed: what holds for all sizes holds for those
    that a constructor allows, as an element out of range is 0.
    """
    named: dict[g.Tree, str] = {}
    for size, tree in program.sizes.items():
        if isinstance(tree, g.Name):
            known = tree.name in program.spec.hyperparameters
            named.setdefault(tree, hyperparameter(tree) if known else f"size({size})")
    found = {k: f"size({k})" for k in program.sizes}
    return found | {k: named[t] for k, t in program.sizes.items() if t in named}


def hyperparameter(tree: g.Name) -> str:
    """The name of a hyperparameter or of an element of one."""
    return tree.name if tree.element is None else f"{tree.name}[{tree.element}]"

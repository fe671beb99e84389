"""Derived expressions in the language of certificates, which ``verify/checker.py`` reads.

An index is an integer, a name, or a list: ``["size", axis]``, ``["+", ...]``, ``["*", ...]``,
``["//", a, b]`` and ``["token", tensor, index...]``. A number is an integer or a list:

=============================  ================================================
``["int", index]``             an index that holds no letter
``["real", name]``             a real hyperparameter, or ``pi``
``["add", ...]``, ``["mul"..]``  sums and products
``["pow", e, n]``              an integer power
``["root", q, e]``             the positive root of order q
``["call", name, e]``          exp, log, tanh, sigmoid or erf
``["held", e]``                 e, held fixed during the step
``["is 0", index]``            1 where the index is 0, else 0
``["sum", {letter: axis}, e]`` a sum over letters
``["read", tensor, index...]``  an element, 0 out of range
=============================  ================================================

Other functions are written in these: relu(x) = (x + |x|)/2, |x| the positive root of x²,
gelu(x) = x (1 + erf(x/√2))/2. A maximum over letters of something without parameters becomes an
input of its own: what holds for every value of it holds for the maximum. Arguments of exp are
taken apart by :mod:`derive.certificate_exponents`.
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

    def bind(self, letters: tuple[Letter, ...], names: Names) -> tuple[dict[str, str], Names]:
        """New names for bound letters, told apart by how many letters are bound around them."""
        found = {x: f"{x.name}.{len(names) + k}" for k, x in enumerate(letters)}
        return {name: x.size for x, name in found.items()}, {**names, **found}

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
                return ["size", e.name[5:-1]]
            self.integers.setdefault(e.name)
            return e.name
        if isinstance(e, Read):
            return ["token", e.tensor, *(self.index(i, names) for i in e.indices)]
        if isinstance(e, Add | Mul):
            parts = ordered([self.index(a, names) for a in e.args])
            return ["+" if isinstance(e, Add) else "*", *parts]
        raise DerivationError(f"{e} is no index")

    def indices(self, e: Read, names: Names) -> list[Json]:
        """The indices of a read; a letter that is made for another axis is written as a sum.

        As of a window of one offset: only sums may leave the axis that they are made for.
        """
        tensor = self.program.tensors.get(e.tensor)
        axes = e.indices if tensor is None else tensor.letters
        found = []
        for i, axis in zip(e.indices, axes, strict=True):
            index = self.index(i, names)
            other = isinstance(i, Letter) and i.size != axis.size
            found.append(["+", index] if other else index)
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
            axes, inner = self.bind(e.letters, names)
            return ["sum", axes, self.write(e.body, inner)]
        if isinstance(e, Softmax):
            return self.write(e.expanded(), names)
        if isinstance(e, MaxOver):
            return self.maximum(e, names)
        if isinstance(e, Add | Mul):
            parts = ordered([self.write(a, names) for a in e.args])
            return ["add" if isinstance(e, Add) else "mul", *parts]
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
            return ["real", "pi"]
        value = Rational(str(e)) if e.is_Float else e
        if not value.is_Rational:
            raise DerivationError(f"a certificate has no word for the number {e}")
        return quotient(int(value.p), int(value.q))

    def symbol(self, e: Symbol, names: Names) -> Json:
        """A size, a hyperparameter, or another real number."""
        if e.name in self.symbol_reads:
            return ["read", e.name, *(self.letter(x, names) for x in self.symbol_reads[e.name])]
        if e.name.startswith("size(") or self.is_integer(e.name):
            return ["int", self.index(e, names)]
        self.reals.setdefault(e.name)
        return ["real", e.name]

    def power(self, base: Expr, exponent: Rational, names: Names) -> Json:
        """base**(p/q) as the power p of the root of order q, even roots as roots of roots.

        Roots of a quotient of sizes are quotients of roots, so that equal roots are written alike.
        """
        top, bottom = (
            (base, Integer(1)) if exponent.q == 1 else sympy.fraction(sympy.together(base))
        )
        if bottom != 1 and bottom.is_positive:
            parts = [self.power(top, exponent, names), self.power(bottom, -exponent, names)]
            return ["mul", *ordered(parts)]
        value, order = self.write(base, names), int(exponent.q)
        while order % 2 == 0:
            value, order = ["root", 2, value], order // 2
        value = ["root", order, value] if order > 1 else value
        return value if exponent.p == 1 else ["pow", value, int(exponent.p)]

    def exponential(self, argument: Expr, names: Names) -> Json:
        """exp(Σ c t) = Π exp(t/L)^(c L) with L the common denominator."""
        factors = []
        for c, term in take_apart(argument, self.squares):
            whole = ["call", "exp", self.write(term / self.denominator, names)]
            factors.append(["pow", whole, int(c * self.denominator)])
        return ["mul", *ordered(factors)]

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
def ordered(parts: list[Json]) -> list[Json]:
    """Parts by their text, which does not depend on SymPy's order, but first of all what decides.

    Brackets skip what follows; and the checker skips it after a 0 too, where a gauge is 1/0.
    """
    return sorted(parts, key=lambda p: (rank(p), json.dumps(p)))


def rank(part: Json) -> int:
    """0 of a bracket, 1 of a gauge, 2 of anything else."""
    if not isinstance(part, list):
        return 2
    if part[0] in ("held", "pow"):
        return rank(part[1])
    return 0 if part[0] == "is 0" else 1 if part[:2] in GAUGES else 2


def quotient(top: Json, bottom: Json) -> Json:
    """top/bottom."""
    return top if bottom == 1 else ["mul", top, ["pow", bottom, -1]]


def half(*terms: Json) -> Json:
    """Half a sum."""
    return ["mul", ["pow", 2, -1], ["add", *terms]]


def absolute(x: Json) -> Json:
    """|x|, the positive root of x²."""
    return ["root", 2, ["pow", x, 2]]


def negated(x: Json) -> Json:
    """-x."""
    return ["mul", -1, x]


WRITTEN: dict[str, Callable[..., Json]] = {
    "Abs": absolute,
    "sign": lambda x: quotient(absolute(x), x),
    "Step": lambda x: half(1, quotient(absolute(x), x)),
    "relu": lambda x: half(x, absolute(x)),
    "maximum": lambda x, y: half(x, y, absolute(["add", x, negated(y)])),
    "silu": lambda x: ["mul", x, ["call", "sigmoid", x]],
    "gelu": lambda x: ["mul", x, half(1, ["call", "erf", quotient(x, ["root", 2, 2])])],
}


# ---------------------------------------------------------------------- sizes
class SizeWriter:
    """The axes of a layer as free sizes and formulas.

    A size that is a constructor argument, or the part of one that is left after division, is free:
    what holds for all sizes holds for those that a constructor allows.
    """

    def __init__(self, program: Program) -> None:
        """Find what every constructor argument amounts to."""
        self.program = program
        self.integers: dict[str, int] = {}
        self.arguments: dict[g.Tree, Json] = {}
        for size, tree in program.sizes.items():
            if isinstance(tree, g.Name) and tree.name not in program.spec.hyperparameters:
                self.arguments.setdefault(tree, ["size", size])
        for size, tree in program.sizes.items():
            if self.is_rest(tree):
                whole, others = tree.arguments  # type: ignore[union-attr]
                self.arguments.setdefault(whole, ["*", ["size", size], self.formula(others)])

    def is_rest(self, tree: g.Tree | None) -> bool:
        """Whether a size is a constructor argument divided by other sizes."""
        call = isinstance(tree, g.Call) and isinstance(tree.arguments[0], g.Name)
        return call and tree.arguments[0].name not in self.program.spec.hyperparameters  # type: ignore[union-attr]

    def axes(self) -> dict[str, Json]:
        """Axis → formula or ``None``, each after what it is computed from."""
        free = [k for k, tree in self.program.sizes.items() if self.is_free(tree)]
        rest = {k: self.formula(t) for k, t in self.program.sizes.items() if t and k not in free}
        found: dict[str, Json] = dict.fromkeys(free)
        while rest:
            ready = [k for k, e in rest.items() if not needed(e) & set(rest)]
            found.update({k: rest.pop(k) for k in ready})
        return found

    def is_free(self, tree: g.Tree | None) -> bool:
        """Whether any number will do."""
        named = isinstance(tree, g.Name) and tree.name not in self.program.spec.hyperparameters
        return tree is None or named or self.is_rest(tree)

    def formula(self, tree: g.Tree) -> Json:
        """A size formula.

        Raises:
            DerivationError: If a node cannot stand in a size.
        """
        if isinstance(tree, g.Number):
            return int(tree.value)
        if isinstance(tree, g.SizeOf):
            return ["size", tree.letter]
        if isinstance(tree, g.Name):
            if tree in self.arguments:
                return self.arguments[tree]
            return self.integer(
                tree.name if tree.element is None else f"{tree.name}[{tree.element}]"
            )
        parts = [self.formula(child) for child in g.children(tree)]
        if isinstance(tree, g.Total):
            return ["+", *parts]
        if isinstance(tree, g.Product):
            return ["*", *parts]
        if isinstance(tree, g.Power):
            return ["*", *parts * tree.exponent]
        if isinstance(tree, g.Call) and tree.function == "//":
            return ["//", *parts]
        raise DerivationError(f"{type(tree).__name__} cannot stand in a size")

    def integer(self, name: str) -> str:
        """An integer hyperparameter; its least value is 0 where its default is, else 1."""
        value = self.program.spec.hyperparameters[name.partition("[")[0]]
        default = value[int(name[:-1].rpartition("[")[2])] if isinstance(value, tuple) else value
        self.integers[name] = min(1, int(default))
        return name


def needed(e: Json) -> set[str]:
    """The axes whose sizes occur in a formula."""
    if not isinstance(e, list):
        return set()
    if e[0] == "size":
        return {e[1]}
    return set().union(*(needed(part) for part in e[1:]))

"""Arguments of exp, taken apart so that equal exponentials are written alike.

SymPy merges exp(a) exp(b) to exp(a + b) and multiplies a square in an exponent out; the checker
knows exp(a), exp(b) and exp(a²) as numbers of their own. So an argument is written as Σ c t with
whole c: first the squares of the arguments of erf and gelu, whose derivatives hold exp(-t²) and
exp(-t²/2), are found again, and what is left is taken term by term, each over the common
denominator of all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import sympy
from sympy import Add, Expr, Rational, erf

from derive.functions import gelu
from derive.nodes import Contraction, Letter, MaxOver, Softmax, substitute
from derive.normal import inline, normal
from derive.program import Program
from derive.update import definitions

BINDERS = (Contraction, MaxOver, Softmax)


@dataclass(frozen=True)
class Square:
    """t²/2 for an argument t of gelu, t² for one of erf.

    Attributes:
        written: The square as it stands in the formula.
        terms: Its normal form's terms → coefficients.
    """

    written: Expr
    terms: dict[Expr, Expr]

    @property
    def letters(self) -> set[Letter]:
        """The free letters."""
        return {x for x in self.written.free_symbols if isinstance(x, Letter)}

    def read_at(self, letters: Iterable[Letter]) -> Iterator[Square]:
        """The same square at letters of the same sizes, those of the same names first."""
        own, others = sorted(self.letters, key=str), sorted(letters, key=str)
        alike = ([x for x in others if x.size == y.size] or [y] for y in own)
        for chosen in itertools.product(*map(sorted_by_name, own, alike)):
            yield square(substitute(self.written, dict(zip(own, chosen, strict=True))))


def sorted_by_name(like: Letter, letters: Iterable[Letter]) -> list[Letter]:
    """Letters that are called like another before those that are not."""
    return sorted(letters, key=lambda x: x.name != like.name)


def square(written: Expr) -> Square:
    """A square with its terms."""
    terms = (t.as_coeff_Mul() for t in Add.make_args(normal(written)))
    return Square(written, {rest: c for c, rest in terms})


def squares(program: Program) -> tuple[Square, ...]:
    """The square of every argument of erf and gelu, with and without the lines written out."""
    found: dict[Expr, Square] = {}
    for line in program.lines:
        for node in sympy.preorder_traversal(line.value):
            if isinstance(node, gelu | erf):
                weight = Rational(1, 2) if isinstance(node, gelu) else Rational(1)
                for t in (node.args[0], inline(node.args[0], definitions(program))):
                    found.setdefault(t, square(weight * t**2))
    return tuple(found.values())


def take_apart(argument: Expr, known: Sequence[Square]) -> list[tuple[Expr, Expr]]:
    """Pairs (coefficient, term) whose products sum up to the argument."""
    left = square(argument).terms if known else square_free(argument)
    found: list[tuple[Expr, Expr]] = []
    for term in sorted(left, key=lambda t: (-len(t.free_symbols), str(t))):
        letters = [x for x in term.free_symbols if isinstance(x, Letter)]
        for here in itertools.chain.from_iterable(s.read_at(letters) for s in known):
            if term not in here.terms or left.get(term, 0) == 0:
                continue
            ratio = left[term] / here.terms[term]
            rest = {t: left.get(t, 0) - ratio * here.terms.get(t, 0) for t in {*left, *here.terms}}
            if sum(c != 0 for c in rest.values()) < sum(c != 0 for c in left.values()):
                left = rest
                found.append((ratio, here.written))
    return found + [(c, t) for t, c in left.items() if c != 0]


def square_free(argument: Expr) -> dict[Expr, Expr]:
    """The terms of an argument."""
    terms = (t.as_coeff_Mul() for t in Add.make_args(sympy.expand(argument)))
    return {rest: c for c, rest in terms}


def denominators(expressions: Iterable[Expr], known: Sequence[Square]) -> int:
    """The least common denominator of the coefficients in all arguments of exp."""
    found = 1
    for e in expressions:
        for node in sympy.preorder_traversal(e):
            if isinstance(node, sympy.exp | Softmax):
                pairs = take_apart(node.args[0], known)
                found = math.lcm(found, *(int(c.q) for c, _ in pairs))
    return found

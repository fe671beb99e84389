"""What every written form of an expression shares: order, brackets, fractions, names of letters.

Constants come first in sums and parameters first in products; ties are broken by the printed text,
so the output is the same in every process. A bound letter is shown by the letter of the spec; a
prime is added where that name is taken. :mod:`derive.formula` adds the signs.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import sympy
from sympy import Add, Expr, Integer, Mul, Pow, Rational, Symbol
from sympy.printing.printer import Printer

from derive.nodes import Contraction, Delta, Letter, MaxOver, Read, Softmax, substitute
from derive.program import Program

# How tightly a printed node holds together; a smaller number needs brackets inside a larger one.
ADD, SUM, MUL, POWER, ATOM = range(5)

MAX_ORDERS = 24  # of the letters of one sum
DECIMAL_FROM = 100  # a terminating fraction with a larger denominator was written as a decimal


class Notation(Printer):
    """What the three notations share: order, brackets, fractions and the names of letters.

    Args:
        program: Gives sizes their constructor arguments and tensors their order; may be ``None``.
        reserved: Names that bound letters must not take.
        norms: Whether Σ over every axis of x but free letters, of x², is shown as ‖x‖².
    """

    printmethod = None

    def __init__(
        self, program: Program | None = None, reserved: Iterable[str] = (), norms: bool = False
    ) -> None:
        super().__init__()
        self.program = program
        self.norms = norms
        self.inside_index = False
        self.used = set(reserved)
        self.names: dict[Letter, str] = {}
        self.printed: dict[Hashable, str] = {}
        self.ranks = {name: k for k, name in enumerate(program.tensors)} if program else {}
        self.parameters = {t.name for t in program.parameters} if program else set()

    # ------------------------------------------------------------------ letters
    def show(self, expr: Expr) -> str:
        """The whole expression; free letters claim their names before bound ones."""
        free = sorted(
            (s for s in expr.free_symbols if isinstance(s, Letter)),
            key=lambda x: (x.mark not in ("", "'"), x.name, x.mark),
        )
        for letter in free:
            self.claim(letter)
        return self._print(expr)

    def _print(self, expr: Expr, **kwargs: Any) -> str:
        """Print a node once for each way its letters can be named: sorting asks for texts again."""
        key = (expr, self.inside_index, frozenset(self.names.items()), frozenset(self.used))
        if key not in self.printed:
            self.printed[key] = str(super()._print(expr, **kwargs))
        return self.printed[key]

    def claim(self, letter: Letter) -> str:
        """Name a letter, with primes where the plain name is taken."""
        if letter not in self.names:
            name = letter.name + ("'" if letter.mark == "'" else "")
            while letter.mark not in ("", "'") and name in self.used:
                name += "'"
            self.names[letter] = name
            self.used.add(name)
        return self.names[letter]

    def bound(self, letters: Sequence[Letter], body: Expr) -> tuple[list[str], str]:
        """Print ``body`` with ``letters`` in scope, then forget their names.

        Where letters share a name, the one printed first gets the plain one. A sum that reads no
        letter of the sum around may bind one that is called the same, and that keeps its name.
        """
        found = []
        around = self.names
        names = dict.fromkeys(x.name for x in letters)
        alike = ([x for x in letters if x.name == name] for name in names)
        orders = itertools.product(*(itertools.permutations(group) for group in alike))
        for groups in itertools.islice(orders, MAX_ORDERS):
            order = [x for group in groups for x in group]
            self.names = {x: name for x, name in around.items() if x not in order}
            shown = [self.claim(x) for x in order]
            text = self._print(body)
            found.append((text.replace("'", "~"), shown, text))
            self.used.difference_update(shown)
        self.names = around
        _, shown, text = min(found)
        return shown, text

    # ------------------------------------------------------------------ order and brackets
    def level(self, expr: Expr) -> int:
        """How tightly an expression holds together when printed."""
        if expr.is_Add:
            return ADD
        if expr.could_extract_minus_sign() and (expr.is_Mul or expr.is_number):
            return ADD
        if isinstance(expr, Contraction):
            return ATOM if self.norm_of(expr) else SUM
        if expr.is_Mul or (expr.is_Rational and not expr.is_Integer):
            return MUL
        if isinstance(expr, Pow):
            return POWER if expr.exp != Rational(1, 2) else ATOM
        return ATOM

    def wrap(self, expr: Expr, level: int) -> str:
        """Print, in brackets if the expression holds together less than ``level``."""
        text = self._print(expr)
        return self._brackets(text) if self.level(expr) < level else text

    def term_key(self, term: Expr) -> tuple[Any, ...]:
        """Where a term of a sum stands."""
        negative = bool(term.could_extract_minus_sign())
        text = self._print(term)
        if self.inside_index:
            return (negative, bool(term.is_number), self.seniority(term), text)
        nodes = list(sympy.preorder_traversal(term))
        found = {r.tensor for r in nodes if isinstance(r, Read)}
        kind = 0 if term.is_number else 1 if not found else 2
        holds = sorted(self.ranks.get(t, 0) for t in found if t in self.parameters)
        degree = sum(int(p.exp) for p in nodes if isinstance(p, Pow) and p.exp.is_Integer)
        return (negative, kind, holds, len(nodes), degree, text)

    def seniority(self, expr: Expr) -> int:
        """When the first of its letters was named: free letters before bound ones."""
        order = {letter: k for k, letter in enumerate(self.names)}
        return min((order[s] for s in expr.free_symbols if s in order), default=len(order))

    def factor_key(self, factor: Expr) -> tuple[Any, ...]:
        """Where a factor of a product stands: δ, symbols, parameters, inputs, functions, sums."""
        base = factor.base if isinstance(factor, Pow) else factor
        text = self._print(factor)
        if isinstance(base, Delta):
            return (0, len(text), text)
        if factor.is_number:
            return (-1, text)
        if isinstance(base, Letter):
            return (2, text)
        if isinstance(base, Symbol):
            return (1, text)
        if isinstance(base, Read):
            letters = (s for s in base.free_symbols if isinstance(s, Letter))
            primes = sum(self.names.get(s, "").count("'") for s in letters)
            rank = self.ranks.get(base.tensor, -1)
            return (3, base.tensor not in self.parameters, rank, primes, text)
        order = 6 if isinstance(base, Contraction) else 5 if base.is_Add else 4
        return (order, len(text), text)

    def factors(self, expr: Expr) -> tuple[bool, list[Expr], list[Expr]]:
        """Sign, numerator and denominator of a product, in printing order."""
        coefficient, rest = expr.as_coeff_Mul()
        negative = bool(coefficient.is_negative)
        top: list[Expr] = []
        bottom: list[Expr] = []
        for factor in Mul.make_args(rest):
            base, exponent = factor.args if isinstance(factor, Pow) else (factor, Integer(1))
            if exponent.is_Rational and exponent.is_negative:
                bottom.append(base ** (-exponent))
            elif factor != 1:
                top.append(factor)
        top.sort(key=self.factor_key)
        bottom.sort(key=self.factor_key)
        if negative and bottom:
            negative = not turn_sign(top) and not turn_sign(bottom)
        coefficient = abs(coefficient)
        if decimal_text(coefficient) is not None:
            return negative, [coefficient, *top], bottom
        if coefficient.p != 1:
            top.insert(0, Integer(coefficient.p))
        if coefficient.q != 1:
            bottom.insert(0, Integer(coefficient.q))
        return negative, top, bottom

    def product(self, parts: Sequence[Expr]) -> str:
        """Factors side by side; only the last may be an open sum."""
        if not parts:
            return "1"
        if len(parts) == 1:
            return self._print(parts[0])
        sums = sum(self.level(p) == SUM for p in parts)
        texts = [self.wrap(p, SUM if p is parts[-1] and sums == 1 else MUL) for p in parts]
        return self._juxtapose(list(zip(parts, texts, strict=True)))

    # ------------------------------------------------------------------ shared nodes
    def _print_Add(self, expr: Expr) -> str:
        texts: list[str] = []
        for term in sorted(Add.make_args(expr), key=self.term_key):
            text = self._print(term)
            minus = text.startswith("-")
            if texts:
                texts.append(" - " if minus else " + ")
                text = text.removeprefix("-").lstrip()
            texts.append(text)
        return "".join(texts)

    def _print_Mul(self, expr: Expr) -> str:
        negative, top, bottom = self.factors(expr)
        text = self._fraction(top, bottom) if bottom else self.product(top)
        return f"-{text}" if negative else text

    def _print_Pow(self, expr: Expr) -> str:
        base, exponent = expr.args
        norm = self.norm_of(base) if isinstance(base, Contraction) else None
        if norm is not None and exponent.is_positive and (4 * exponent).is_Integer:
            return self._norm_power(*norm, 2 * exponent)
        if exponent.is_Rational and exponent.is_negative:
            return self._fraction([], [base ** (-exponent)])
        if exponent.is_Rational and exponent.p == 1 and exponent.q != 1:
            return self._root(base, exponent.q)
        return self._power(self.wrap(base, ATOM), exponent)

    def _print_Rational(self, expr: Expr) -> str:
        decimal = decimal_text(expr)
        if decimal is not None:
            return decimal
        if expr.q == 1:
            return str(expr.p)
        text = self._fraction([Integer(abs(expr.p))], [Integer(expr.q)])
        return f"-{text}" if expr.p < 0 else text

    def _print_Integer(self, expr: Expr) -> str:
        return str(int(expr))

    def _print_Symbol(self, expr: Symbol) -> str:
        name = expr.name
        if name.startswith("size(") and self.program is not None:
            name = self.program.size_name(name[5:-1])
        return self._symbol(name)

    _print_Dummy = _print_Symbol

    def _print_Letter(self, expr: Letter) -> str:
        return self.claim(expr)

    def _print_NumberSymbol(self, expr: Expr) -> str:
        return self._symbol({"Pi": "π", "Exp1": "e"}.get(type(expr).__name__, str(expr)))

    _print_Pi = _print_Exp1 = _print_NumberSymbol

    def _print_Read(self, expr: Read) -> str:
        before, self.inside_index = self.inside_index, True
        texts = [self._print(i) for i in expr.indices]
        self.inside_index = before
        return self._read(expr.tensor, texts, all(isinstance(i, Letter) for i in expr.indices))

    _print_TokenRead = _print_Read

    def _print_Delta(self, expr: Delta) -> str:
        before, self.inside_index = self.inside_index, True
        terms = Add.make_args(expr.args[0])
        sides = [
            Add(*(t for t in terms if not t.could_extract_minus_sign())),
            Add(*(-t for t in terms if t.could_extract_minus_sign())),
        ]
        texts = sorted((len(Add.make_args(s)), self.seniority(s), self._print(s)) for s in sides)
        plain = all(isinstance(s, Letter) for s in sides)
        self.inside_index = before
        return self._delta(texts[0][2], texts[1][2], plain)

    def _print_Contraction(self, expr: Contraction) -> str:
        norm = self.norm_of(expr)
        if norm is not None:
            return self._norm_power(*norm, Integer(2))
        body, letters = expr.body, expr.letters
        while isinstance(body, Contraction) and self.norm_of(body) is None:
            body, letters = body.body, (*letters, *body.letters)
        names, text = self.bound(letters, body)
        return self._total(names, self._brackets(text) if self.level(body) == ADD else text)

    def _print_MaxOver(self, expr: MaxOver) -> str:
        names, text = self.bound(expr.letters, expr.body)
        return self._apply("max", text, names)

    def _print_Softmax(self, expr: Softmax) -> str:
        at = substitute(expr.body, {expr.args[1]: expr.args[2]})
        return self._apply("softmax", self._print(at), [self._print(expr.args[2])])

    def _print_Function(self, expr: Expr) -> str:
        name = expr.func.__name__
        texts = [self._print(a) for a in expr.args]
        if name == "Abs":
            return self._bars(texts[0])
        if name == "Step":
            return f"[{texts[0]} > 0]"
        return self._apply({"maximum": "max"}.get(name, name), ", ".join(texts), [])

    def _print_MatrixSymbol(self, expr: Any) -> str:
        return self._symbol(str(expr.name))

    def _print_Transpose(self, expr: Any) -> str:
        return f"{self._print(expr.arg)}{self.transposed}"

    def _print_MatMul(self, expr: Any) -> str:
        return " ".join(self._print(a) for a in expr.args)

    def emptyPrinter(self, expr: Any) -> str:  # noqa: N802 - SymPy's name
        """Refuse what has no notation rather than show SymPy's internals."""
        raise TypeError(f"no notation for {type(expr).__name__}")

    # ------------------------------------------------------------------ norms
    def norm_of(self, expr: Contraction) -> tuple[str, list[str]] | None:
        """``(x, free indices)`` if the sum is x² over every axis but those of free letters."""
        body = expr.body
        if not self.norms or not isinstance(body, Pow) or body.exp != 2:
            return None
        if not isinstance(body.base, Read):
            return None
        indices = body.base.indices
        if not all(isinstance(i, Letter) for i in indices):
            return None
        sites = {(x.name, x.size) for x in self.program.site} if self.program else set()
        if not all(i in expr.letters or (i.name, i.size) in sites for i in indices):
            return None
        summed = [i for i in indices if i in expr.letters]
        if len(summed) != len(expr.letters) or len(set(indices)) != len(indices):
            return None
        return body.base.tensor, [self.claim(i) for i in indices if i not in expr.letters]

    # ------------------------------------------------------------------ a notation's own signs
    transposed = "ᵀ"

    def _brackets(self, text: str) -> str:
        """Round brackets."""
        return f"({text})"

    def _juxtapose(self, parts: list[tuple[Expr, str]]) -> str:
        """A product."""
        raise NotImplementedError

    def _fraction(self, top: list[Expr], bottom: list[Expr]) -> str:
        """A quotient."""
        raise NotImplementedError

    def _root(self, base: Expr, degree: int) -> str:
        """A root."""
        raise NotImplementedError

    def _power(self, base: str, exponent: Expr) -> str:
        """A power."""
        raise NotImplementedError

    def _symbol(self, name: str) -> str:
        """A size, a hyperparameter or an unknown."""
        raise NotImplementedError

    def _read(self, tensor: str, indices: list[str], plain: bool) -> str:
        """An element of a tensor."""
        raise NotImplementedError

    def _delta(self, left: str, right: str, plain: bool) -> str:
        """An index relation."""
        raise NotImplementedError

    def _total(self, letters: list[str], body: str) -> str:
        """A sum over letters."""
        raise NotImplementedError

    def _norm_power(self, tensor: str, indices: list[str], exponent: Expr) -> str:
        """‖x‖ to an integer power or its square root."""
        raise NotImplementedError

    def _bars(self, text: str) -> str:
        """An absolute value."""
        return f"|{text}|"

    def _apply(self, name: str, argument: str, letters: list[str]) -> str:
        """A function, perhaps over letters."""
        raise NotImplementedError


def turn_sign(factors: list[Expr]) -> bool:
    """Whether a sign could be drawn into one of the factors, b - a for a - b, and was."""
    for k, factor in enumerate(factors):
        terms = Add.make_args(factor)
        minus = sum(bool(t.could_extract_minus_sign()) for t in terms)
        if len(terms) > 1 and 2 * minus >= len(terms):
            factors[k] = Add(*(-t for t in terms))
            return True
    return False


def decimal_text(value: Expr) -> str | None:
    """``0.044715`` for a fraction that was surely written so."""
    if not value.is_Rational or value.q <= DECIMAL_FROM:
        return None
    odd = int(value.q)
    for prime in (2, 5):
        while odd % prime == 0:
            odd //= prime
    return None if odd != 1 else repr(float(value))

"""The symbolic vocabulary: letters, reads, sums, Kronecker deltas and opaque functions.

Everything here is a SymPy expression, so ``expand``, ``cancel``, ``solve`` and the printers work on
it, but binding is ours: :func:`substitute` is the only function that may replace a letter, because
SymPy's own ``subs`` does not know that a :class:`Contraction` binds.

Index legend: the letters of a spec (``n i j o c p q k t u h d`` ...) are :class:`Letter` objects; a
letter knows the size class that it ranges over, never a number.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import sympy
from sympy import Add, Expr, Integer, Mul, Symbol
from sympy.printing.precedence import PRECEDENCE

_FRESH = itertools.count(1)
_INDEX = Symbol("index", integer=True, nonnegative=True)


class Letter(Symbol):
    """An index: ``name`` is shown, ``size`` names its size class, ``mark`` tells copies apart.

    ``mark`` is ``""`` for a letter of the spec, ``"'"`` for its primed twin (the second site of a
    kernel) and anything else for bound copies. Two letters are equal if all three agree.
    """

    __slots__ = ("mark", "size")

    def __new__(cls, name: str, size: str, mark: str = "") -> Letter:
        """A letter; equal arguments make equal letters."""
        # Symbol.__xnew__ deduces assumptions anew for each symbol; all letters have the same ones.
        letter: Letter = Expr.__new__(cls)
        letter.name = name
        letter._assumptions = _INDEX._assumptions.copy()
        letter._assumptions_orig = _INDEX._assumptions_orig
        letter._assumptions0 = _INDEX._assumptions0
        letter.size = size
        letter.mark = mark
        return letter

    def __getnewargs_ex__(self) -> tuple[tuple[str, str, str], dict[str, Any]]:
        return (self.name, self.size, self.mark), {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Letter, (self.name, self.size, self.mark)

    def _hashable_content(self) -> tuple[Any, ...]:
        return (self.name, self.size, self.mark)

    def sort_key(self, order: Any = None) -> Any:
        """Sort by name, then mark, then size (SymPy's own key knows only the name)."""
        return (
            self.class_key(),
            (1, (f"{self.name}|{self.mark}|{self.size}",)),
            Integer(1),
            Integer(1),
        )

    @property
    def primed(self) -> Letter:
        """The same letter of the second site s'."""
        return Letter(self.name, self.size, "'")

    def fresh(self) -> Letter:
        """A copy that occurs nowhere else."""
        return Letter(self.name, self.size, f"#{next(_FRESH)}")

    def _sympystr(self, printer: Any) -> str:
        return f"{self.name}{self.mark}"

    def _latex(self, printer: Any) -> str:
        return f"{self.name}{self.mark}" if self.mark in ("", "'") else self.name


def size_symbol(size: str) -> Symbol:
    """The symbolic size of a size class, a positive integer."""
    return Symbol(f"size({size})", integer=True, positive=True)


class Read(Expr):
    """An element of a tensor, ``Read(Symbol("x"), n, j)`` for x[n, j]; real, 0 out of range."""

    is_commutative = True
    is_real = True
    is_extended_real = True
    is_finite = True

    @property
    def tensor(self) -> str:
        """The tensor's name."""
        name: str = self.args[0].name
        return name

    @property
    def indices(self) -> tuple[Expr, ...]:
        """The index expressions, one a logical axis."""
        return tuple(self.args[1:])

    def _sympystr(self, printer: Any) -> str:
        if not self.indices:
            return self.tensor
        return f"{self.tensor}[{', '.join(printer._print(i) for i in self.indices)}]"

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        name = self.tensor if len(self.tensor) == 1 else rf"\mathrm{{{self.tensor}}}"
        text = (
            rf"{name}_{{{','.join(printer._print(i) for i in self.indices)}}}"
            if self.indices
            else name
        )
        return rf"{text}^{{{exp}}}" if exp is not None else text

    def _eval_derivative(self, symbol: Symbol) -> Expr:
        return Integer(0)


class TokenRead(Read):
    """An element of an integer input that is itself used as an index (an embedding's token)."""

    is_integer = True
    is_nonnegative = True


def _leads_with_minus(expression: Expr) -> bool:
    """Whether the first term by sort key is negative: exactly one of e and -e has this."""
    terms = (t.as_coeff_Mul() for t in Add.make_args(expression))
    return bool(min(terms, key=lambda term: term[1].sort_key())[0].is_negative)


class Delta(Expr):
    """Iverson bracket [e = 0] of an integer expression; idempotent, sign-free."""

    is_commutative = True
    is_real = True
    is_extended_real = True
    is_nonnegative = True
    is_finite = True

    def __new__(cls, difference: Expr) -> Expr:
        """1 or 0 where that can be seen, else a bracket of canonical sign."""
        if any(f.is_Add for t in Add.make_args(difference) for f in Mul.make_args(t)[1:]):
            difference = sympy.expand(difference)
        if difference.is_Number:
            return Integer(int(difference == 0))
        if _leads_with_minus(difference):
            difference = -difference
        return Expr.__new__(cls, difference)

    def _eval_power(self, exponent: Expr) -> Expr | None:
        return self if exponent.is_positive else None

    def _sides(self) -> tuple[Expr, Expr]:
        left = [t for t in sympy.Add.make_args(self.args[0]) if not t.could_extract_minus_sign()]
        right = [-t for t in sympy.Add.make_args(self.args[0]) if t.could_extract_minus_sign()]
        sides = sorted((sympy.Add(*left), sympy.Add(*right)), key=str)
        return sides[0], sides[1]

    def _sympystr(self, printer: Any) -> str:
        left, right = self._sides()
        return f"[{printer._print(left)} = {printer._print(right)}]"

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        left, right = self._sides()
        if left.is_Symbol and right.is_Symbol:
            return rf"\delta_{{{printer._print(left)}{printer._print(right)}}}"
        return rf"[{printer._print(left)} = {printer._print(right)}]"

    def _eval_derivative(self, symbol: Symbol) -> Expr:
        return Integer(0)


class Contraction(Expr):
    """A sum over bound letters, ``Contraction(body, j, k)`` = Σ_j Σ_k body."""

    precedence = PRECEDENCE["Add"]

    def __new__(cls, body: Expr, *letters: Letter) -> Expr:
        """A sum of a sum is one sum."""
        if isinstance(body, Contraction) and letters:
            inner = {x: x.fresh() for x in body.letters if x in letters}
            body, letters = (
                substitute(body.body, inner),
                (*letters, *(inner.get(x, x) for x in body.letters)),
            )
        return Expr.__new__(cls, body, *letters)

    is_commutative = True
    is_real = True
    is_extended_real = True
    is_finite = True

    @property
    def body(self) -> Expr:
        """What is summed."""
        return self.args[0]

    @property
    def letters(self) -> tuple[Letter, ...]:
        """The bound letters."""
        return tuple(self.args[1:])

    @property
    def free_symbols(self) -> set[Symbol]:
        """Symbols that occur free, that is, without the bound letters."""
        free: set[Symbol] = self.body.free_symbols - set(self.letters)
        return free

    @property
    def is_nonnegative(self) -> bool | None:
        """True where every summand is."""
        sign: bool | None = self.body.is_nonnegative
        return sign

    def _eval_derivative(self, symbol: Symbol) -> Expr:
        return Contraction(self.body.diff(symbol), *self.letters)

    def _sympystr(self, printer: Any) -> str:
        body = printer._print(self.body)
        if self.body.is_Add:
            body = f"({body})"
        return f"Σ_{{{','.join(printer._print(x) for x in self.letters)}}} {body}"

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        body = printer._print(self.body)
        if self.body.is_Add:
            body = rf"\left({body}\right)"
        text = rf"\sum_{{{','.join(printer._print(x) for x in self.letters)}}} {body}"
        return rf"\left({text}\right)^{{{exp}}}" if exp is not None else text


class Softmax(Expr):
    """``Softmax(body, u, e)`` = exp(body at u := e) / Σ_u exp(body); ``u`` is bound."""

    is_commutative = True
    is_real = True
    is_extended_real = True
    is_positive = True
    is_finite = True

    @property
    def body(self) -> Expr:
        """The score."""
        return self.args[0]

    @property
    def letters(self) -> tuple[Letter, ...]:
        """The bound letter."""
        return (self.args[1],)

    @property
    def free_symbols(self) -> set[Symbol]:
        """Symbols that occur free."""
        free: set[Symbol] = self.body.free_symbols - {self.args[1]}
        return free.union(self.args[2].free_symbols)

    def expanded(self) -> Expr:
        """The quotient that the softmax stands for."""
        at = substitute(self.body, {self.args[1]: self.args[2]})
        return sympy.exp(at) / Contraction(sympy.exp(self.body), self.args[1])

    def _sympystr(self, printer: Any) -> str:
        at = substitute(self.body, {self.args[1]: self.args[2]})
        return f"softmax_{printer._print(self.args[2])}({printer._print(at)})"

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        at = substitute(self.body, {self.args[1]: self.args[2]})
        power = rf"^{{{exp}}}" if exp is not None else ""
        return (
            rf"\operatorname{{softmax}}_{{{printer._print(self.args[2])}}}{power}"
            rf"\left({printer._print(at)}\right)"
        )

    def _eval_derivative(self, symbol: Symbol) -> Expr:
        return self.expanded().diff(symbol)


class MaxOver(Expr):
    """``MaxOver(body, u)`` = max_u body; ``u`` is bound."""

    is_commutative = True
    is_real = True
    is_extended_real = True
    is_finite = True

    @property
    def body(self) -> Expr:
        """What is maximised."""
        return self.args[0]

    @property
    def letters(self) -> tuple[Letter, ...]:
        """The bound letters."""
        return tuple(self.args[1:])

    @property
    def free_symbols(self) -> set[Symbol]:
        """Symbols that occur free."""
        free: set[Symbol] = self.body.free_symbols - set(self.letters)
        return free

    def _sympystr(self, printer: Any) -> str:
        letters = ",".join(printer._print(x) for x in self.letters)
        return f"max_{{{letters}}} ({printer._print(self.body)})"

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        power = rf"^{{{exp}}}" if exp is not None else ""
        letters = ",".join(printer._print(x) for x in self.letters)
        return rf"\max_{{{letters}}}{power} \left({printer._print(self.body)}\right)"


BINDERS = (Contraction, Softmax, MaxOver)


@functools.lru_cache(maxsize=1 << 14)
def free(expression: Expr) -> frozenset[Symbol]:
    """The symbols that occur free, remembered: SymPy looks through the whole tree every time."""
    return frozenset(expression.free_symbols)


def substitute(expression: Expr, mapping: Mapping[Expr, Expr]) -> Expr:
    """Replace letters (or any atoms) without capturing a bound letter.

    Args:
        expression: Any expression of this module.
        mapping: What to replace by what; keys are compared as whole nodes, top down.

    Returns:
        The expression with every free occurrence replaced.
    """
    if not mapping:
        return expression
    if expression in mapping:
        return mapping[expression]
    if not expression.args:
        return expression
    if isinstance(expression, BINDERS):
        return _substitute_binder(expression, mapping)
    arguments = [substitute(a, mapping) for a in expression.args]
    if all(a is b for a, b in zip(arguments, expression.args, strict=True)):
        return expression
    return expression.func(*arguments)


def _substitute_binder(expression: Expr, mapping: Mapping[Expr, Expr]) -> Expr:
    bound = expression.letters
    held = free(expression.body)
    # A symbol that is not free within changes nothing there, and must not force a renaming.
    inner = {k: v for k, v in mapping.items() if k not in bound and (k in held or not k.is_Symbol)}
    if not inner and not isinstance(expression, Softmax):
        return expression
    captured: set[Expr] = set()
    for value in inner.values():
        captured |= value.free_symbols & set(bound)
    renamed = {letter: letter.fresh() for letter in bound if letter in captured}
    body = expression.body
    if renamed:
        body = substitute(body, renamed)
    body = substitute(body, inner)
    letters = [renamed.get(letter, letter) for letter in bound]
    if isinstance(expression, Softmax):
        return Softmax(body, letters[0], substitute(expression.args[2], mapping))
    return expression.func(body, *letters)


def reads(expression: Expr, tensor: str | None = None) -> set[Read]:
    """Every read in an expression, also under binders; of one tensor if named."""
    found = {r for r in sympy.preorder_traversal(expression) if isinstance(r, Read)}
    return {r for r in found if tensor is None or r.tensor == tensor}


def tensors(expression: Expr) -> set[str]:
    """The names of all tensors read."""
    return {r.tensor for r in reads(expression)}


def letters_in(expressions: Iterable[Expr]) -> set[Letter]:
    """The free letters of some expressions."""
    return {s for e in expressions for s in e.free_symbols if isinstance(s, Letter)}

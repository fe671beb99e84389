"""Expressions as readable mathematics: ASCII for docstrings, Unicode text, and LaTeX.

``formula(expr, program)`` gives ``1/sqrt(1 + sum_j x[n, j]^2)``, with ``unicode=True``
``1/√(1 + Σ_j x[n,j]²)``; ``latex(expr, program)`` gives the same for typesetting.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from sympy import Add, Expr, Integer, Mul, Symbol

from derive.fractions import factored
from derive.nodes import Delta
from derive.notation import ATOM, MUL, POWER, Notation
from derive.program import Program

GREEK = {"λ": "lambda", "μ": "mu", "ν": "nu", "κ": "kappa", "η": "eta", "Λ": "Lambda", "π": "pi"}
GREEK_NAMES = (
    "alpha beta gamma delta zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi "
    "omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega"
)
LATEX_NAMES = {
    "z̃": r"\tilde{z}",
    "eps": r"\varepsilon",
    "epsilon": r"\varepsilon",
    **{sign: f"\\{name}" for sign, name in GREEK.items()},
    **{name: f"\\{name}" for name in GREEK_NAMES.split()},
}
SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
LATEX_FUNCTIONS = frozenset(("exp", "log", "tanh", "max"))


class Ascii(Notation):
    """``1/sqrt(1 + sum_j x[n, j]^2)``, which reads like code and fits a docstring."""

    transposed = "^T"

    def _juxtapose(self, parts: list[tuple[Expr, str]]) -> str:
        return "*".join(text for _, text in parts)

    def _fraction(self, top: list[Expr], bottom: list[Expr]) -> str:
        above = self._juxtapose([(p, self.wrap(p, MUL)) for p in top]) if top else "1"
        below = self.wrap(bottom[0], POWER) if len(bottom) == 1 else f"({self.product(bottom)})"
        return f"{above}/{below}"

    def _root(self, base: Expr, degree: int) -> str:
        if degree == 2:
            return f"sqrt({self._print(base)})"
        return f"{self.wrap(base, ATOM)}^(1/{degree})"

    def _power(self, base: str, exponent: Expr) -> str:
        text = self._print(exponent)
        return f"{base}^{text}" if exponent.is_Integer or exponent.is_Symbol else f"{base}^({text})"

    def _symbol(self, name: str) -> str:
        return GREEK.get(name, name)

    def _read(self, tensor: str, indices: list[str], plain: bool) -> str:
        tensor = GREEK.get(tensor, tensor)
        return f"{tensor}[{', '.join(indices)}]" if indices else tensor

    def _delta(self, left: str, right: str, plain: bool) -> str:
        return f"[{left} = {right}]"

    def _total(self, letters: list[str], body: str) -> str:
        return f"sum_{below(letters)} {body}"

    def _norm_power(self, tensor: str, indices: list[str], exponent: Expr) -> str:
        return self.raised(f"|{self._read(tensor, indices, True)}|", exponent)

    def raised(self, norm: str, exponent: Expr) -> str:
        """A norm to an integer power or its square root."""
        if exponent.is_Integer:
            return norm if exponent == 1 else self._power(norm, exponent)
        return f"sqrt({norm})"

    def _apply(self, name: str, argument: str, letters: list[str]) -> str:
        return f"{name}[{', '.join(letters)}]({argument})" if letters else f"{name}({argument})"


class Unicode(Ascii):
    """``1/√(1 + Σ_j x[n,j]²)`` for terminals and reports."""

    transposed = "ᵀ"

    def _juxtapose(self, parts: list[tuple[Expr, str]]) -> str:
        text = parts[0][1]
        for (left, _), (right, after) in itertools.pairwise(parts):
            dot = self.bare(left) and self.bare(right) and not (left.is_number and right.is_number)
            text += ("·" if dot or right.is_number else " ") + after
        return text

    @staticmethod
    def bare(factor: Expr) -> bool:
        """Whether a factor is printed as a word, so that a space beside another is not enough."""
        base = factor.base if factor.is_Pow else factor
        return bool(base.is_Symbol or factor.is_number)

    def _root(self, base: Expr, degree: int) -> str:
        if degree == 2:
            text = self._print(base)
            return f"√{text}" if isinstance(base, Symbol) or base.is_Integer else f"√({text})"
        return super()._root(base, degree)

    def _power(self, base: str, exponent: Expr) -> str:
        if exponent.is_Integer:
            return base + str(int(exponent)).translate(SUPERSCRIPTS)
        return super()._power(base, exponent)

    def _symbol(self, name: str) -> str:
        return name

    def _read(self, tensor: str, indices: list[str], plain: bool) -> str:
        if not indices:
            return tensor
        return f"{tensor}[{(',' if plain else ', ').join(indices)}]"

    def _delta(self, left: str, right: str, plain: bool) -> str:
        if not plain:
            return f"[{left} = {right}]"
        short = len(left.rstrip("'")) == len(right.rstrip("'")) == 1
        return f"δ_{left}{right}" if short else f"δ_{{{left},{right}}}"

    def _total(self, letters: list[str], body: str) -> str:
        return f"Σ_{below(letters)} {body}"

    def _norm_power(self, tensor: str, indices: list[str], exponent: Expr) -> str:
        norm = f"‖{self._read(tensor, indices, True)}‖"
        return self.raised(norm, exponent) if exponent.is_Integer else f"√{norm}"

    def _apply(self, name: str, argument: str, letters: list[str]) -> str:
        return f"{name}_{','.join(letters)}({argument})" if letters else f"{name}({argument})"


class Latex(Notation):
    r"""``\frac{1}{\sqrt{1 + \sum_{j} x_{nj}^{2}}}``."""

    transposed = r"^{\top}"

    def _brackets(self, text: str) -> str:
        return rf"\left({text}\right)"

    def _juxtapose(self, parts: list[tuple[Expr, str]]) -> str:
        text = parts[0][1]
        for right, after in parts[1:]:
            text += (r" \cdot " if right.is_number else r" \, ") + after
        return text

    def _fraction(self, top: list[Expr], bottom: list[Expr]) -> str:
        return rf"\frac{{{self.product(top)}}}{{{self.product(bottom)}}}"

    def _root(self, base: Expr, degree: int) -> str:
        text = self._print(base)
        return rf"\sqrt{{{text}}}" if degree == 2 else rf"\sqrt[{degree}]{{{text}}}"

    def _power(self, base: str, exponent: Expr) -> str:
        return f"{base}^{{{self._print(exponent)}}}"

    def _symbol(self, name: str) -> str:
        return latex_name(name)

    def _read(self, tensor: str, indices: list[str], plain: bool) -> str:
        name = latex_name(tensor)
        if not indices:
            return name
        short = all(len(i.rstrip("'")) == 1 for i in indices)
        if plain:
            shown = [i if len(i.rstrip("'")) == 1 else rf"\mathrm{{{i}}}" for i in indices]
            return f"{name}_{{{('' if short else ',').join(shown)}}}"
        listed = r",\, ".join(indices)
        return f"{name}[{listed}]"

    def _delta(self, left: str, right: str, plain: bool) -> str:
        if plain:
            return rf"\delta_{{{left}{right}}}"
        return rf"[{left} = {right}]"

    def _total(self, letters: list[str], body: str) -> str:
        return rf"\sum_{{{','.join(letters)}}} {body}"

    def _norm_power(self, tensor: str, indices: list[str], exponent: Expr) -> str:
        norm = rf"\left\lVert {self._read(tensor, indices, True)} \right\rVert"
        if not exponent.is_Integer:
            return rf"\sqrt{{{norm}}}"
        return norm if exponent == 1 else f"{norm}^{{{self._print(exponent)}}}"

    def _bars(self, text: str) -> str:
        return rf"\left|{text}\right|"

    def _apply(self, name: str, argument: str, letters: list[str]) -> str:
        shown = rf"\{name}" if name in LATEX_FUNCTIONS else rf"\operatorname{{{name}}}"
        below = f"_{{{','.join(letters)}}}" if letters else ""
        return rf"{shown}{below}\left({argument}\right)"


def below(letters: list[str]) -> str:
    """Letters as a subscript."""
    return letters[0] if len(letters) == 1 else f"{{{','.join(letters)}}}"


def latex_name(name: str) -> str:
    r"""A symbol's name: Greek where it is Greek, upright where it is a word, ``W_q`` as W^{(q)}."""
    if name in LATEX_NAMES:
        return LATEX_NAMES[name]
    if len(name) == 1:
        return name
    size = re.fullmatch(r"size\((\w+)\)", name)
    if size:
        return rf"\mathrm{{size}}({size[1]})"
    marked = re.fullmatch(r"([A-Za-z])_?([a-z]|[0-9]+)", name)
    if marked and ("_" in name or marked[2].isdigit()):
        return rf"{marked[1]}^{{({marked[2]})}}"
    word = name.replace("_", r"\_")
    return rf"\mathrm{{{word}}}"


def formula(
    expr: Expr,
    program: Program | None = None,
    *,
    unicode: bool = False,
    norms: bool = False,
    reserved: Iterable[str] = (),
) -> str:
    """An expression in one line of text.

    Args:
        expr: Any expression of a derivation.
        program: The layer; gives sizes their argument names and products their order.
        unicode: ``√(1 + Σ_j x[n,j]²)`` instead of ``sqrt(1 + sum_j x[n, j]^2)``.
        norms: Show Σ_j x[n,j]² over all of x's axes but the site as ‖x[n]‖².
        reserved: Names of letters that bound letters must not take.
    """
    notation = Unicode if unicode else Ascii
    return notation(program, reserved, norms).show(expr)


def latex(
    expr: Expr, program: Program | None = None, *, norms: bool = False, reserved: Iterable[str] = ()
) -> str:
    """An expression as LaTeX; the arguments are those of :func:`formula`."""
    return Latex(program, reserved, norms).show(expr)


def grouped(expr: Expr) -> Expr:
    """A sum of terms with Kronecker deltas as Σ deltas · common factors · (rest)."""
    groups: dict[Expr, list[Expr]] = {}
    for term in Add.make_args(expr):
        factors = Mul.make_args(term)
        deltas = Mul(*(f for f in factors if isinstance(f, Delta)))
        groups.setdefault(deltas, []).append(Mul(*(f for f in factors if not isinstance(f, Delta))))
    return Add(*(deltas * drawn_out(rest) for deltas, rest in groups.items()))


def drawn_out(terms: list[Expr]) -> Expr:
    """A sum with the powers that all its terms share in front, factored where that is shorter."""
    whole = Add(*terms)
    if len(terms) == 1:
        return whole
    powers = [dict(f.as_base_exp() for f in Mul.make_args(t) if not f.is_number) for t in terms]
    shared = Integer(1)
    for base, exponent in powers[0].items():
        others = [p.get(base, Integer(0)) for p in powers]
        if all(e.is_number and (e * exponent).is_positive for e in others):
            shared *= base ** (min(others) if exponent.is_positive else max(others))
    candidates = [shared * Add(*(t / shared for t in terms))]
    if len(terms) > 3:
        candidates.append(factored(whole))
    return min(candidates, key=lambda e: (len(str(e)), str(e)))

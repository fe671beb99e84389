"""Degrees of the rational functions that the exact stage compares, for its error bound."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sympy import Add, Expr, Function, Mul, Pow, erf, exp, preorder_traversal

from derive.functions import gelu
from derive.nodes import Contraction, Delta, Letter, MaxOver, Read, Softmax
from derive.program import Program
from verify.subject import Subject

Degrees = tuple[int, int]


def degrees(e: Expr, sizes: Mapping[str, int], known: Mapping[str, Degrees]) -> Degrees:
    """Upper bounds of the degrees of numerator and denominator.

    Reads of inputs and parameters and values of functions count 1 each: they are what is drawn. A
    root counts as half of its radicand, rounded up, plus 1 for itself.

    Args:
        e: The expression.
        sizes: Size class → size.
        known: Line → its degrees.
    """
    if isinstance(e, Read):
        return known.get(e.tensor, (1, 0))
    if isinstance(e, Delta | Letter) or e.is_number:
        return 0, 0
    if isinstance(e, MaxOver):
        return 1, 0
    if isinstance(e, Softmax):
        return degrees(e.expanded(), sizes, known)
    if isinstance(e, Contraction):
        top, bottom = degrees(e.body, sizes, known)
        volume = math.prod(sizes.get(x.size, 1) for x in e.letters)
        return top + bottom * (volume - 1), bottom * volume
    if isinstance(e, Mul | Add):
        parts = [degrees(a, sizes, known) for a in e.args]
        bottom = sum(b for _, b in parts)
        if isinstance(e, Mul):
            return sum(a for a, _ in parts), bottom
        return max(a + bottom - b for a, b in parts), bottom
    if isinstance(e, Pow) and e.exp.is_Rational:
        top, bottom = degrees(e.base, sizes, known)
        if not e.exp.is_Integer:
            top, bottom = (top + 1) // 2 + 1, (bottom + 1) // 2
        times = abs(int(e.exp.p))
        return (top * times, bottom * times) if e.exp > 0 else (bottom * times, top * times)
    if isinstance(e, Function):
        return 1, 0
    return 1, 0


def line_degrees(program: Program, sizes: Mapping[str, int]) -> dict[str, Degrees]:
    """Every line's degrees."""
    known: dict[str, Degrees] = {}
    for line in program.lines:
        known[line.target] = degrees(line.value, sizes, known)
    return known


def degree_bound(subject: Subject, sizes: Mapping[str, int]) -> int:
    """A bound of the degree of every difference that :mod:`verify.exact` compares with 0.

    The measured side is a product of two derivatives of z, whose degrees are at most those of z
    with the denominator counted twice.
    """
    known = line_degrees(subject.program, sizes)
    top, bottom = known[subject.program.output.target]
    measured = 2 * (top + 2 * bottom)
    sides = [subject.derivation.update.kernel, subject.derivation.update.self_kernel]
    sides += [subject.derivation.structure.kappa, subject.derivation.structure.full]
    predicted = max(sum(degrees(e, sizes, known)) for e in sides)
    gauge = 2 * sum(degrees(subject.correction.gauge, sizes, known))
    return max(1, measured * (1 + gauge) + predicted + gauge)


def exponent_degree(subject: Subject, sizes: Mapping[str, int]) -> int:
    """A bound of the degree of a difference of two exponents in z, its derivatives or K.

    Sums of exponents have the degree of their terms where these are polynomials; denominators at
    most double it. The derivatives of erf and gelu hold exp of the argument's square.
    """
    known = line_degrees(subject.program, sizes)
    found = 1
    for line in subject.program.lines:
        for node in preorder_traversal(line.value):
            if isinstance(node, exp | Softmax):
                found = max(found, sum(degrees(node.args[0], sizes, known)))
            elif isinstance(node, erf | gelu):
                found = max(found, 2 * sum(degrees(node.args[0], sizes, known)))
    return 2 * found

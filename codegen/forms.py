"""Recognised forms: contractions that torch has a function for, found by their structure alone.

Each recogniser looks at one sum of products and either returns the call that computes it, or
``None`` and leaves it to the general path. None of them knows a layer's name.
"""

from __future__ import annotations

from collections.abc import Sequence

from sympy import Expr

from codegen.boxes import box_sum
from codegen.calls import Found, bias_code, factors_of, parameter_read
from codegen.lower import Lowering
from codegen.transposed import transposed_box, transposed_convolution
from codegen.values import BATCH, Level, Value
from codegen.windows import convolution
from derive.nodes import Contraction, Delta, Letter, Read


def linear(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_j W[i, j] v[..., j] = F.linear(v, W), and matrix products in the other layouts."""
    if lowering.wide:
        return None
    weight, rest = _weight_and_rest(lowering, e)
    if weight is None or not rest:
        return None
    matrix = lowering.read(weight)
    bound = set(e.letters)
    inner = [a for a in matrix.axes if isinstance(a, tuple) and set(a) <= bound]
    outer = [a for a in matrix.axes if a not in inner]
    if len(outer) != 1 or {x for a in inner for x in a} != bound or BATCH in matrix.axes:
        return None
    feature = lowering.product([lowering.of(f) for f in rest])
    if feature.scalar or set(outer[0]) & set(feature.letters):  # type: ignore[arg-type]
        return None
    count = len(inner)
    tail = trailing(feature, [x for a in inner for x in a])
    if tail and matrix.axes == (outer[0], *inner):
        left = feature.code if tail == 1 else f"{feature.at(Level.ATOM)}.flatten({-tail})"
        right = matrix.code if count == 1 else f"{matrix.code}.flatten(1)"
        argument, used = bias_code(lowering, matrix.code, bias, outer[0])
        return Value(
            f"F.linear({left}, {right}{argument})", (*feature.axes[:-tail], outer[0])
        ), used
    if count == 1 and feature.axes[-1:] == (inner[0],) and matrix.axes == (inner[0], outer[0]):
        return Value(
            f"{feature.at(Level.MATRIX)} @ {matrix.code}",
            (*feature.axes[:-1], outer[0]),
            Level.MATRIX,
        ), False
    if (
        count == 1
        and len(feature.axes) > 1
        and feature.axes[-2] == inner[0]
        and matrix.axes == (outer[0], inner[0])
    ):
        axes = (*feature.axes[:-2], outer[0], feature.axes[-1])
        return Value(f"{matrix.code} @ {feature.at(Level.UNARY)}", axes, Level.MATRIX), False
    return None


def trailing(value: Value, letters: Sequence[Letter]) -> int:
    """How many last axes hold exactly these letters in this order; 0 if none do."""
    for count in range(1, len(value.axes) + 1):
        held = [x for a in value.axes[-count:] for x in (a if isinstance(a, tuple) else (None,))]
        if held == list(letters):
            return count
    return 0


def _weight_and_rest(lowering: Lowering, e: Contraction) -> tuple[Read | None, list[Expr]]:
    """The one parameter that carries bound letters, and the other factors."""
    factors = factors_of(e)
    found = [(f, r) for f in factors if (r := parameter_read(lowering, f)) is not None]
    bearing = [(f, r) for f, r in found if set(e.letters) & set(r.indices)]
    if len(bearing) != 1 or e.body.has(Delta):
        return None, []
    factor, read = bearing[0]
    rest = [f for f in factors if f is not factor]
    # Every remaining factor must hold all of the sum's letters or none of them.
    if any(set(e.letters) & f.free_symbols and not set(e.letters) <= f.free_symbols for f in rest):
        return None, []
    return read, rest


def bilinear(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_jk W[i, j, k] x[..., j] y[..., k] = F.bilinear(x, y, W)."""
    if lowering.wide or len(e.letters) != 2:
        return None
    factors = factors_of(e)
    weights = [(f, r) for f in factors if (r := parameter_read(lowering, f)) is not None]
    if len(factors) != 3 or len(weights) != 1:
        return None
    factor, weight = weights[0]
    matrix = lowering.read(weight)
    if len(matrix.axes) != 3 or any(not isinstance(a, tuple) for a in matrix.axes):
        return None
    outer, first, second = matrix.axes
    others = [lowering.of(f) for f in factors if f is not factor]
    left = next((v for v in others if v.axes[-1:] == (first,)), None)
    right = next((v for v in others if v.axes[-1:] == (second,)), None)
    if left is None or right is None or left is right or left.axes[:-1] != right.axes[:-1]:
        return None
    if {(x,) for x in e.letters} != {first, second}:
        return None
    if set(outer) & set(left.letters):  # type: ignore[arg-type]
        return None
    argument, used = bias_code(lowering, matrix.code, bias, outer)
    return Value(
        f"F.bilinear({left.code}, {right.code}, {matrix.code}{argument})", (*left.axes[:-1], outer)
    ), used


RECOGNISERS = (linear, bilinear, convolution, transposed_convolution, transposed_box, box_sum)

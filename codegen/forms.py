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
from codegen.values import Level, Value
from codegen.windows import convolution
from derive.nodes import Contraction, Delta, Letter, Read


def linear(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_j W[i, j] v[..., j] = F.linear(v, W), and matrix products in the other layouts."""
    found = None if lowering.wide else _weight_and_rest(lowering, e)
    if found is None:
        return None
    weight, rest = found
    matrix, axes = _parameter(lowering, weight)
    bound = set(e.letters)
    inner = tuple(a for a in axes if set(a) <= bound)
    outer = [a for a in axes if a not in inner]
    if len(outer) != 1 or {x for a in inner for x in a} != bound:
        return None
    [unit] = outer
    feature = lowering.product([lowering.of(f) for f in rest])
    if set(unit) & set(feature.letters):
        return None
    tail = trailing(feature, [x for a in inner for x in a])
    if tail and axes == (unit, *inner):
        left = feature.code if tail == 1 else f"{feature.at(Level.ATOM)}.flatten({-tail})"
        right = matrix if len(inner) == 1 else f"{matrix}.flatten(1)"
        argument, used = bias_code(lowering, matrix, bias, unit)
        return Value(f"F.linear({left}, {right}{argument})", (*feature.axes[:-tail], unit)), used
    if feature.axes[-1:] == inner:
        # The weight's axes are in the other order, as this one is left.
        code = f"{feature.at(Level.MATRIX)} @ {matrix}"
        return Value(code, (*feature.axes[:-1], unit), Level.MATRIX), False
    if feature.axes[-2:-1] == inner and axes == (unit, *inner):
        code = f"{matrix} @ {feature.at(Level.UNARY)}"
        return Value(code, (*feature.axes[:-2], unit, feature.axes[-1]), Level.MATRIX), False
    return None


def trailing(value: Value, letters: Sequence[Letter]) -> int:
    """How many last axes hold exactly these letters in this order; 0 if none do."""
    held: list[Letter | None] = []
    for count, axis in enumerate(reversed(value.axes), 1):
        held = [*(axis if isinstance(axis, tuple) else (None,)), *held]
        if held == list(letters):
            return count
    return 0


def _parameter(lowering: Lowering, read: Read) -> tuple[str, tuple[tuple[Letter, ...], ...]]:
    """A parameter's code and axes, of which none is a leading one."""
    value = lowering.read(read)
    return value.code, value.axes  # type: ignore[return-value]


def _weight_and_rest(lowering: Lowering, e: Contraction) -> tuple[Read, list[Expr]] | None:
    """The one parameter that carries bound letters, and the other factors."""
    bound, factors = set(e.letters), factors_of(e)
    parameters = [r for f in factors if (r := parameter_read(lowering, f)) is not None]
    weights = [r for r in parameters if bound & set(r.indices)]
    if len(weights) != 1 or e.body.has(Delta):
        return None
    [weight] = weights
    rest = [f for f in factors if f is not weight]
    # Every remaining factor must hold all of the sum's letters or none of them.
    if {len(bound & f.free_symbols) for f in rest} - {0, len(bound)}:
        return None
    return weight, rest


def bilinear(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_jk W[i, j, k] x[..., j] y[..., k] = F.bilinear(x, y, W)."""
    factors = factors_of(e)
    weights = [r for f in factors if (r := parameter_read(lowering, f)) is not None]
    if lowering.wide or len(factors) != 3 or len(weights) != 1:
        return None
    [weight] = weights
    matrix, axes = _parameter(lowering, weight)
    if len(axes) != 3:
        return None
    outer, first, second = axes
    if {first, second} != {(x,) for x in e.letters}:
        return None
    others = [lowering.of(f) for f in factors if f is not weight]
    left = next((v for v in others if v.axes[-1:] == (first,)), None)
    right = next((v for v in others if v.axes[-1:] == (second,)), None)
    if left is None or right is None or left.axes[:-1] != right.axes[:-1]:
        return None
    if set(outer) & set(left.letters):
        return None
    argument, used = bias_code(lowering, matrix, bias, outer)
    code = f"F.bilinear({left.code}, {right.code}, {matrix}{argument})"
    return Value(code, (*left.axes[:-1], outer)), used


RECOGNISERS = (linear, bilinear, convolution, transposed_convolution, transposed_box, box_sum)

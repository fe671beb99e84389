"""Recognised forms of the backward pass: sums over the leading axes, and products with vectors."""

from __future__ import annotations

from codegen.calls import Found, factors_of, parameter_read
from codegen.lower import Lowering
from codegen.values import BATCH, Level, Value
from derive.nodes import Contraction, Read


def over_rows(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_n u[n, i] x[n, j] = uᵀ x, and Σ_n u[n, i], over all the leading axes at once."""
    if sorted(x.size for x in e.letters) != sorted(x.size for x in lowering.batch):
        return None
    factors = factors_of(e)
    if not all(isinstance(f, Read) for f in factors):
        return None
    values = [lowering.of(f) for f in factors]
    if any(len(v.axes) != 2 or v.axes[0] is not BATCH for v in values):
        return None
    if len(values) > 2 or len({v.axes for v in values}) < len(values):
        return None
    rows = [Value(f"{lowering.helper('_rows')}({v.code})", v.axes[1:]) for v in values]
    left, *others = rows
    if not others:
        return left.with_code(f"{left.code}.sum(0)"), False
    (right,) = others
    return Value(f"{left.code}.mT @ {right.code}", (*left.axes, *right.axes), Level.MATRIX), False


def with_vector(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_i b[i] u[..., i] = u @ b."""
    factors = factors_of(e)
    vectors = [f for f in factors if (r := parameter_read(lowering, f)) and len(r.indices) == 1]
    if len(factors) != 2 or len(vectors) != 1 or len(e.letters) != 1:
        return None
    (letter,) = e.letters
    (factor,) = vectors
    (other,) = (f for f in factors if f is not factor)
    vector, value = lowering.of(factor), lowering.of(other)
    if vector.axes != ((letter,),) or value.axes[-1:] != vector.axes:
        return None
    code = f"{value.at(Level.MATRIX)} @ {vector.code}"
    return Value(code, value.axes[:-1], Level.MATRIX), False


BACKWARD_RECOGNISERS = (over_rows, with_vector)

"""What the recognised forms share: the factors of a sum, parameter reads and bias arguments."""

from __future__ import annotations

from sympy import Expr, Mul

from codegen.lower import Lowering
from codegen.values import Axis, Level, Value
from derive.nodes import Contraction, Letter, Read, substitute

Found = tuple[Value, bool] | None


def factors_of(e: Contraction) -> list[Expr]:
    """The factors of a summand, powers of reads kept whole."""
    return list(Mul.make_args(e.body))


def flattened(e: Contraction) -> Contraction:
    """Sums among the factors drawn out: Σ_k W[k] (Σ_q x[q]) = Σ_kq W[k] x[q]."""
    letters, factors = list(e.letters), []
    for factor in factors_of(e):
        if not isinstance(factor, Contraction):
            factors.append(factor)
            continue
        taken = {*letters, *e.body.free_symbols}
        renamed = {x: x.fresh() if x in taken else x for x in factor.letters}
        letters += renamed.values()
        factors.append(substitute(factor.body, renamed))
    joined: Contraction = Contraction(Mul(*factors), *letters)
    return joined


def parameter_read(lowering: Lowering, factor: Expr) -> Read | None:
    """A parameter read at distinct plain letters, if the factor is one."""
    names = {t.name for t in lowering.program.parameters}
    if isinstance(factor, Read) and factor.tensor in names:
        plain = all(isinstance(i, Letter) for i in factor.indices)
        if plain and len(set(factor.indices)) == len(factor.indices):
            return factor
    return None


def bias_code(lowering: Lowering, weight: str, bias: Value | None, axis: Axis) -> tuple[str, bool]:
    """The bias argument: the offered one if its axis fits, or the full layer's absent one."""
    if bias is not None and bias.axes == (axis,):
        if bias.level == Level.ATOM:
            lowering.fused[weight] = bias.code
        return f", {bias.code}", True
    if bias is None and weight in lowering.absent_fused:
        return f", {lowering.absent_fused[weight]}", False
    return "", False

"""The symbolic stage: the published correction goes back through the derivation.

The corrected program is put together from the :class:`~derive.corrections.Correction` alone, as
Σ gauge**degree · term, which is also what the code generator builds from. Its self-kernel must
cancel to c·I symbolically, at every size at once; what does not cancel counts as a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

import sympy
from sympy import Expr, Symbol

from derive.corrections import LAMBDA, MU
from derive.derivation import Derivation
from derive.fractions import cancel
from derive.nodes import Letter, Read
from derive.normal import inline, normal
from derive.program import Line, Program, Tensor
from derive.roots import what_is_left
from derive.structure import is_diagonal, on_diagonal
from derive.update import definitions, depends_on_parameters, derive_update
from verify.results import VerificationError
from verify.stage import Record, Settings
from verify.subject import Subject

OUTPUT = "z̃"


def corrected_program(
    subject: Subject,
) -> tuple[Program, dict[str, tuple[tuple[Letter, ...], Expr]]]:
    """The corrected map as a program, and what its gauge stands for.

    A gauge that depends on the parameters is an opaque tensor (it is frozen during a step); any
    other is a line of the program, differentiated like all lines.

    Raises:
        VerificationError: If the correction has no gauge.
    """
    program, correction = subject.program, subject.correction
    if correction.gauge is None:
        raise VerificationError(f"{subject.name}: the correction has no gauge")
    letters = program.output.letters
    name = MU if correction.ansatz == "input map" else LAMBDA
    used = tuple(x for x in letters if x in correction.gauge.free_symbols)
    factor = Read(Symbol(name), *used)
    value = sympy.Add(*(factor**degree * term for degree, term in correction.terms))
    tensors = dict(program.tensors)
    tensors[name] = Tensor(name, "intermediate", tuple((x,) for x in used))
    tensors[OUTPUT] = Tensor(OUTPUT, "output", tuple((x,) for x in letters))
    lines = program.lines[:-1]
    if not depends_on_parameters(program, correction.gauge):
        lines = (*lines, Line(name, used, correction.gauge))
    lines = (*lines, Line(OUTPUT, letters, value))
    corrected = replace(program, tensors=MappingProxyType(tensors), lines=lines)
    return corrected, {**definitions(program), name: (used, correction.gauge)}


def remainder(subject: Subject) -> Expr:
    """K̃(s,s) - c·I on the diagonal, cancelled; 0 for a correction that holds.

    What is 0 with intermediates as indeterminates is 0; else they are written out.

    Raises:
        VerificationError: If K̃(s,s) is not even diagonal.
    """
    corrected, known = corrected_program(subject)
    kernel = derive_update(corrected).self_kernel
    lines = {line.target for line in subject.program.lines}
    gauge = {name: value for name, value in known.items() if name not in lines}
    left = difference(subject, normal(inline(kernel, gauge)))
    if left != 0 and lines & set(known):
        left = difference(subject, normal(inline(kernel, known)))
    if left is None:
        raise VerificationError(f"{subject.name}: the corrected map's self-kernel is not diagonal")
    return left


def difference(subject: Subject, kernel: Expr) -> Expr | None:
    """The diagonal of a self-kernel less c; ``None`` of one that is no diagonal."""
    unit = subject.program.unit
    if not is_diagonal(kernel, unit):
        return None
    return what_is_left(on_diagonal(kernel, unit) - subject.correction.rate)


def matrix_remainder(derivation: Derivation, gauge: Expr) -> Expr:
    """What the matrix gauge factors, less the derived K(s,s); 0 if Λ K Λᵀ = I factors the right K.

    With K = L Lᵀ and Λ = L⁻¹ the identity Λ K Λᵀ = I is that of the Cholesky factor, checked here
    for a symbolic matrix of any size.

    Raises:
        VerificationError: If the Cholesky identity does not hold.
    """
    size = Symbol("U", integer=True, positive=True)
    factor = sympy.MatrixSymbol("L", size, size)
    product = (factor.inverse() * (factor * factor.T) * factor.inverse().T).doit()
    if product != sympy.Identity(size):
        raise VerificationError("the Cholesky identity does not hold")
    known = definitions(derivation.program)
    left = cancel(normal(gauge - derivation.update.self_kernel))
    return left if left == 0 else cancel(normal(inline(left, known)))


def symbolic_stage(variants: Sequence[Subject], settings: Settings, record: Record) -> None:
    """Every choice of optional parameters, at all sizes at once."""
    for subject in variants:
        if subject.correction.ansatz == "matrix gauge":
            left = matrix_remainder(subject.derivation, subject.correction.gauge)
        else:
            left = remainder(subject)
        record.instances += 1
        record.judge(0.0 if left == 0 else 1.0, 0.0, f"K̃(s,s) - c·I leaves {left}")
    record.note("K̃(s,s) - c·I = 0 re-derived from the published gauge, at every size")

"""Layers with an unknown in them: a factor on the output, a gauge line, a factor on the inputs."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from sympy import Expr, Symbol

from derive.nodes import BINDERS, Letter, Read, substitute
from derive.normal import inline
from derive.program import Line, Program, Tensor
from derive.update import definitions


def with_line(
    program: Program, name: str, letters: tuple[Letter, ...], value: Expr, output: Expr
) -> Program:
    """The program with a gauge line and a new output."""
    tensors = dict(program.tensors)
    tensors[name] = Tensor(name, "intermediate", tuple((x,) for x in letters))
    tensors["z̃"] = Tensor("z̃", "output", tuple((x,) for x in program.output.letters))
    lines = (
        *program.lines,
        Line(name, letters, value),
        Line("z̃", program.output.letters, output),
    )
    return replace(program, tensors=MappingProxyType(tensors), lines=lines)


def scaled(program: Program, factor: Expr) -> Program:
    """z̃ = factor · z with an opaque factor."""
    z = Read(Symbol(program.output.target), *program.output.letters)
    tensors = dict(program.tensors)
    tensors["z̃"] = Tensor("z̃", "output", tuple((x,) for x in program.output.letters))
    lines = (*program.lines, Line("z̃", program.output.letters, factor * z))
    return replace(program, tensors=MappingProxyType(tensors), lines=lines)


def rescaled_inputs(program: Program, factor: Expr, names: tuple[str, ...]) -> Program:
    """z(factor · x) as one line; ``factor`` may hold the output's letters."""
    value = scale_reads(inline(program.output.value, definitions(program)), factor, names)
    line = Line(program.output.target, program.output.letters, value)
    return replace(program, lines=(line,))


def scale_reads(expression: Expr, factor: Expr, names: tuple[str, ...]) -> Expr:
    """Every read of the named tensors times ``factor``, binders renamed apart from it."""
    if isinstance(expression, Read):
        return factor * expression if expression.tensor in names else expression
    if not expression.args:
        return expression
    if isinstance(expression, BINDERS):
        fresh = {x: x.fresh() for x in expression.letters}
        body = scale_reads(substitute(expression.body, fresh), factor, names)
        return expression.func(body, *fresh.values(), *expression.args[1 + len(fresh) :])
    return expression.func(*(scale_reads(a, factor, names) for a in expression.args))


def float_inputs(program: Program) -> tuple[str, ...]:
    """Inputs that hold real numbers."""
    return tuple(t.name for t in program.inputs if t.kind == "input")

"""What one mutation may change: node of a syntax tree → the nodes that could stand in its place.

A mutation changes what is computed, in one place, and leaves a file that runs as far as its text
goes:

    operator    of arithmetic, comparison or logic, or a function that is one: another, or an
                operand alone; in a text that is written out, the operator that stands there
    constant    a number beside it or twice and half as large; the other truth value
    exponent    ``**``, ``square``, ``sqrt``, ``rsqrt``, and the numbers above
    axis        two neighbours among arguments or items in each other's place; a bound of a slice
                dropped; a transposed weight; letters of an einsum
    sign        dropped
    condition   negated, of a branch; a filter dropped
    derivative  a value cut off from it

Of two changes one is left out where whatever shows the one shows the other: ``and`` for ``or``
beside an operand less, the opposite of a comparison that is changed itself.

Left alone is what breaks no meaning but the text: other names, words and attributes, calls or
arguments left out, statements deleted. Such a file mostly fails at the first call, by torch or
Python and not by a check.

Each family of changes is one function; :data:`FAMILIES` lists them. A change is named by its kind,
which with the place in the file identifies it.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Surroundings:
    """What a family may know of where a node stands.

    Attributes:
        function: Name of the innermost function; empty outside.
        tensors: Whether the file computes with tensors, so that detaching means something.
    """

    function: str = ""
    tensors: bool = False


@dataclass(frozen=True)
class Change:
    """One node in another's place.

    Attributes:
        kind: What was done, as ``+ to -``.
        line, column: The part of the node that tells the change apart from others.
        node: The new node.
    """

    kind: str
    line: int
    column: int
    node: ast.AST = field(compare=False, repr=False)


Family = Callable[[Any, Surroundings], Iterator[Change]]

BINARY: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.BitXor: ast.BitAnd,
}
COMPARISONS: Mapping[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
RELATIVES: Mapping[str, str] = {
    a: b
    for pair in (
        "sum mean",
        "rsqrt sqrt",
        "square abs",
        "amax amin",
        "max min",
        "maximum minimum",
        "any all",
        "new_ones new_zeros",
        "ones_ zeros_",
        "ones zeros",
        "ceil floor",
        "Add Mul",
        "issubset issuperset",
        "union intersection",
        "clamp_min clamp_max",
        "exp log",
        "sin cos",
        "tanh sigmoid",
    )
    for a, b in (pair.split(), pair.split()[::-1])
}
ONE_WAY: Mapping[str, str] = {"uniform_": "normal_", "isqrt": "sqrt", "floor": "ceil"}
WRITTEN: Mapping[str, str] = {
    " + ": " - ",
    " - ": " + ",
    " * ": " / ",
    " / ": " * ",
    " // ": " * ",
    " ** ": " * ",
}
"""Operators in a text that is written out."""
EQUATION = re.compile(r"(?:\.\.\.)?([a-z]+)((?:,(?:\.\.\.)?[a-z]+)*)->.*")
"""An einsum."""
# The order of their arguments means nothing.
SYMMETRIC = frozenset(["max", "min", "maximum", "minimum", "Add", "Mul", "isinstance"])


def operator_name(node: ast.AST) -> str:
    """``ast.Add()`` → ``Add``."""
    return type(node).__name__


def binary(node: ast.BinOp, _: Surroundings) -> Iterator[Change]:
    """Another operator, or one operand alone."""
    line, column = node.right.lineno, node.right.col_offset
    other = BINARY.get(type(node.op))
    if other is not None:
        kind = f"{operator_name(node.op)} to {other.__name__}"
        yield Change(kind, line, column, ast.BinOp(node.left, other(), node.right))
    yield Change("left operand alone", line, column, node.left)
    yield Change("right operand alone", line, column, node.right)


def augmented(node: ast.AugAssign, _: Surroundings) -> Iterator[Change]:
    """``+=`` ↔ ``-=`` and so on, and ``=``."""
    line, column = node.value.lineno, node.value.col_offset
    other = BINARY.get(type(node.op))
    if other is not None:
        kind = f"{operator_name(node.op)} to {other.__name__}"
        yield Change(kind, line, column, ast.AugAssign(node.target, other(), node.value))
    yield Change("assigned", line, column, ast.Assign([node.target], node.value))


def comparison(node: ast.Compare, _: Surroundings) -> Iterator[Change]:
    """Another relation: with and without the boundary, and the opposite."""
    for k, (op, right) in enumerate(zip(node.ops, node.comparators, strict=True)):
        for other in COMPARISONS[type(op)]:
            ops = [*node.ops[:k], other(), *node.ops[k + 1 :]]
            kind = f"{operator_name(op)} to {other.__name__}"
            new = ast.Compare(node.left, ops, node.comparators)
            yield Change(kind, right.lineno, right.col_offset, new)


def boolean(node: ast.BoolOp, _: Surroundings) -> Iterator[Change]:
    """One operand less; with two, ``and`` ↔ ``or`` shows wherever either of these does."""
    for k, value in enumerate(node.values):
        rest = [*node.values[:k], *node.values[k + 1 :]]
        new = rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        yield Change("operand dropped", value.lineno, value.col_offset, new)


def sign(node: ast.UnaryOp, _: Surroundings) -> Iterator[Change]:
    """No sign, no ``not``."""
    kind = f"{operator_name(node.op)} dropped"
    yield Change(kind, node.lineno, node.col_offset, node.operand)


def constant(node: ast.Constant, _: Surroundings) -> Iterator[Change]:
    """A number beside it, the other truth value, another operator in a text."""
    value, line, column = node.value, node.lineno, node.col_offset
    if isinstance(value, bool):
        yield Change(f"{value} to {not value}", line, column, ast.Constant(not value))
    elif isinstance(value, int):
        for other in (value + 1, value - 1):
            yield Change(f"{value} to {other}", line, column, ast.Constant(other))
    elif isinstance(value, float):
        for near in (value * 2, value / 2) if value else (1.0,):
            yield Change(f"{value!r} to {near!r}", line, column, ast.Constant(near))
    elif isinstance(value, str):
        for kind, text in rewritten(value, value.startswith("-")):
            yield Change(kind, line, column, ast.Constant(text))


def rewritten(text: str, signed: bool) -> Iterator[tuple[str, str]]:
    """Kinds and texts: another operator, no sign in front, another order of an einsum's axes."""
    for match in re.finditer("|".join(map(re.escape, WRITTEN)), text):
        old = match.group()
        new = text[: match.start()] + WRITTEN[old] + text[match.end() :]
        yield f"written {old.strip()} to {WRITTEN[old].strip()}", new
    if signed:
        yield "written sign dropped", text[1:]
    equation = EQUATION.fullmatch(text)
    if equation is not None and len(equation[1]) > 1:
        yield "axes swapped", text.replace(equation[1], equation[1][1::-1] + equation[1][2:], 1)


def formatted(node: ast.JoinedStr, _: Surroundings) -> Iterator[Change]:
    """Another operator, or no sign, in a text with values."""
    for k, part in enumerate(node.values):
        if isinstance(part, ast.Constant):
            words = str(part.value)
            for kind, text in rewritten(words, k == 0 and words.startswith("-")):
                values = [*node.values[:k], ast.Constant(text), *node.values[k + 1 :]]
                yield Change(kind, node.lineno, node.col_offset, ast.JoinedStr(values))


def changed_within(test: ast.expr) -> bool:
    """Whether a condition is changed where it stands, so that its opposite shows no more."""
    negation = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
    return negation or isinstance(test, ast.Compare | ast.BoolOp)


def condition(node: ast.If | ast.IfExp | ast.While, _: Surroundings) -> Iterator[Change]:
    """The opposite condition."""
    if changed_within(node.test):
        return
    new = copy.copy(node)
    new.test = ast.UnaryOp(ast.Not(), node.test)
    yield Change("condition negated", node.test.lineno, node.test.col_offset, new)


def comprehension(node: ast.comprehension, _: Surroundings) -> Iterator[Change]:
    """A filter dropped."""
    for k, test in enumerate(node.ifs):
        new = copy.copy(node)
        new.ifs = [*node.ifs[:k], *node.ifs[k + 1 :]]
        yield Change("filter dropped", test.lineno, test.col_offset, new)


def slicing(node: ast.Slice, _: Surroundings) -> Iterator[Change]:
    """A slice without one of its bounds."""
    for name in ("lower", "upper", "step"):
        bound = getattr(node, name)
        if bound is not None:
            new = copy.copy(node)
            setattr(new, name, None)
            yield Change(f"{name} bound dropped", bound.lineno, bound.col_offset, new)


def place_of(node: ast.Call) -> tuple[int, int]:
    """Where the opening bracket of a call stands, which no other call shares."""
    return node.func.end_lineno or node.lineno, node.func.end_col_offset or node.col_offset


def called_name(node: ast.Call) -> str:
    """The last part of what is called."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def relative(node: ast.Call, _: Surroundings) -> Iterator[Change]:
    """A near relative of what is called."""
    name = called_name(node)
    other = RELATIVES.get(name) or ONE_WAY.get(name)
    if other is None:
        return
    func = copy.copy(node.func)
    if isinstance(func, ast.Attribute):
        func.attr = other
    elif isinstance(func, ast.Name):
        func.id = other
    yield Change(f"{name} to {other}", *place_of(node), ast.Call(func, node.args, node.keywords))


def arguments(node: ast.Call, _: Surroundings) -> Iterator[Change]:
    """Two neighbours in each other's place."""
    for k in range(1, len(node.args)):
        if called_name(node) not in SYMMETRIC:
            one, other = node.args[k - 1 : k + 1]
            args = [*node.args[: k - 1], other, one, *node.args[k + 1 :]]
            new = ast.Call(node.func, args, node.keywords)
            yield Change("arguments swapped", other.lineno, other.col_offset, new)
    for k in range(1, len(node.keywords)):
        before, after = node.keywords[k - 1 : k + 1]
        if before.arg and after.arg:
            pair = [ast.keyword(before.arg, after.value), ast.keyword(after.arg, before.value)]
            keywords = [*node.keywords[: k - 1], *pair, *node.keywords[k + 1 :]]
            where = after.value.lineno, after.value.col_offset
            yield Change("keywords swapped", *where, ast.Call(node.func, node.args, keywords))


def items(node: ast.Tuple | ast.List, _: Surroundings) -> Iterator[Change]:
    """Two neighbours of a tuple or list in each other's place."""
    if isinstance(node.ctx, ast.Load):
        for k in range(1, len(node.elts)):
            new = copy.copy(node)
            new.elts = [*node.elts[: k - 1], node.elts[k], node.elts[k - 1], *node.elts[k + 1 :]]
            item = node.elts[k]
            yield Change("items swapped", item.lineno, item.col_offset, new)


def transposed(node: ast.Attribute, around: Surroundings) -> Iterator[Change]:
    """A weight with its axes in another order."""
    own = isinstance(node.value, ast.Name) and node.value.id == "self"
    if own and around.tensors and "weight" in node.attr and around.function == "forward":
        where = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
        yield Change("transposed", *where, ast.Attribute(node, "T", ast.Load()))


def detached(node: ast.Assign, around: Surroundings) -> Iterator[Change]:
    """A computed value cut off from the gradient."""
    computed = isinstance(node.value, ast.Call | ast.BinOp | ast.IfExp)
    if not (around.tensors and computed) or around.function in ("__init__", "reset_parameters"):
        return
    new = ast.Call(ast.Attribute(node.value, "detach", ast.Load()), [], [])
    yield Change("detached", node.lineno, node.col_offset, ast.Assign(node.targets, new))


FAMILIES: Mapping[type[ast.AST], tuple[Family, ...]] = {
    ast.BinOp: (binary,),
    ast.AugAssign: (augmented,),
    ast.Compare: (comparison,),
    ast.BoolOp: (boolean,),
    ast.UnaryOp: (sign,),
    ast.Constant: (constant,),
    ast.JoinedStr: (formatted,),
    ast.If: (condition,),
    ast.IfExp: (condition,),
    ast.While: (condition,),
    ast.comprehension: (comprehension,),
    ast.Slice: (slicing,),
    ast.Call: (relative, arguments),
    ast.Tuple: (items,),
    ast.List: (items,),
    ast.Attribute: (transposed,),
    ast.Assign: (detached,),
}

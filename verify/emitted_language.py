"""An emitted file, read statement by statement in exact arithmetic; nothing of it is executed.

:class:`Machine` walks the syntax tree. What a node means is written here, what a call of torch
means in :mod:`verify.exact_torch`; a node, name, attribute, argument or operator that has no meaning
there is a :class:`Refusal` with its line, so that nothing is passed over. Annotations mean nothing.
``reset_parameters`` is only looked at: parameters are given their numbers from outside.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from verify.emitted_operators import combine, compare, negative, truth_of
from verify.emitted_syntax import arguments, bound_names, check_reset, is_text, literal
from verify.emitted_values import (
    BUILTINS,
    ERRORS,
    IMPORTS,
    RESERVED,
    SPECIAL,
    Blank,
    Bound,
    EmittedClass,
    Function,
    Instance,
    Named,
    Raised,
    Super,
    attribute,
    iterated,
    spoken,
)
from verify.exact_array import Exact, Refusal, Whole
from verify.exact_shapes import item
from verify.exact_torch import TABLE, Autocast, call, integers
from verify.residues import Residues

# What ``super().__init__`` of a class without a base in the file is.
NOTHING = "nn.Module.__init__"
DEEPEST = 40
LONGEST = 20_000


@dataclass
class Frame:
    """A call of a function: its names, and the method's class and instance.

    Attributes:
        names: Local names.
        local: Every name that the function binds somewhere; unbound, it is no global one.
        owner: The class that defines the method.
        first: The instance.
    """

    names: dict[str, Any]
    local: frozenset[str] = frozenset()
    owner: EmittedClass | None = None
    first: Instance | None = None


@dataclass
class Returned:
    """The value of a return statement."""

    value: Any


@dataclass
class Machine:
    """Reads one file.

    Args:
        ring: The numbers.

    Attributes:
        names: What the module binds.
    """

    ring: Residues
    names: dict[str, Any] = field(default_factory=dict)
    depth: int = 0
    steps: int = 0

    # ------------------------------------------------------------------ the module
    def load(self, tree: ast.Module) -> None:
        """Bind imports, constants, functions and classes.

        Raises:
            Refusal: If the module does anything else.
        """
        for node in tree.body:
            self.at(node, lambda node=node: self.define(node))  # type: ignore[misc]

    def at(self, node: ast.AST, act: Callable[[], Any]) -> Any:
        """Act; a refusal names the innermost statement's line.

        Raises:
            Refusal: If the node is refused.
        """
        try:
            return act()
        except Refusal as error:
            if str(error).startswith("line "):
                raise
            raise Refusal(f"line {getattr(node, 'lineno', '?')}: {error}") from error

    def define(self, node: ast.stmt) -> None:
        """One statement of a module."""
        if isinstance(node, ast.Import | ast.ImportFrom):
            text = ast.unparse(node)
            if text not in IMPORTS:
                raise Refusal(f"`{text}` is not known")
            self.names |= {name: Named(what) for name, what in IMPORTS[text].items()}
        elif isinstance(node, ast.FunctionDef):
            self.names[node.name] = self.function(node, None)
        elif isinstance(node, ast.ClassDef):
            self.names[node.name] = self.emitted_class(node)
        elif isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) for t in node.targets):
            for target in node.targets:
                assert isinstance(target, ast.Name)
                self.names[target.id] = literal(node.value)
        elif not is_text(node):
            raise Refusal(f"a {type(node).__name__} in a module is not known")

    def function(self, node: ast.FunctionDef, owner: EmittedClass | None) -> Function:
        """A definition, without decorators or generators."""
        if node.decorator_list or node.args.vararg or node.args.kwarg or node.args.posonlyargs:
            raise Refusal(f"`{node.name}` is no plain function")
        return Function(node, owner)

    def emitted_class(self, node: ast.ClassDef) -> EmittedClass:
        """A class whose base is ``nn.Module`` or a class of the file.

        Raises:
            Refusal: If it holds anything but methods, constants and annotations, or a method of
                ``nn.Module`` that calling it goes through.
        """
        if node.decorator_list or node.keywords or len(node.bases) != 1:
            raise Refusal(f"`{node.name}` is no plain class")
        base = self.value(node.bases[0], Frame({}))
        if not isinstance(base, EmittedClass) and base != Named("nn.Module"):
            raise Refusal(f"the base {spoken(base)} is not known")
        made = EmittedClass(node.name, base if isinstance(base, EmittedClass) else None)
        for part in node.body:
            self.at(part, lambda part=part: self.class_part(part, made))  # type: ignore[misc]
        return made

    def class_part(self, part: ast.stmt, made: EmittedClass) -> None:
        """One statement of a class."""
        name, value = "", None
        if isinstance(part, ast.FunctionDef):
            name, value = part.name, self.function(part, made)
            if name == "reset_parameters":
                check_reset(part)
        elif isinstance(part, ast.Assign) and len(part.targets) == 1:
            (target,) = part.targets
            if isinstance(target, ast.Name):
                name, value = target.id, literal(part.value)
        elif is_text(part) or (isinstance(part, ast.AnnAssign) and part.value is None):
            return
        if not name or name in RESERVED or (name.startswith("__") and name != "__init__"):
            raise Refusal(f"`{name or type(part).__name__}` in a class is not known")
        made.held[name] = value

    # ------------------------------------------------------------------ calls
    def call(self, what: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """A call of anything that can be called.

        Raises:
            Refusal: If it cannot be.
            Raised: If the file raises an error.
        """
        if isinstance(what, Function):
            return self.run(what, args, keywords)
        if isinstance(what, EmittedClass):
            made = Instance(what)
            self.run(bound_to(made, what.find("__init__")), args, keywords)
            return made
        if isinstance(what, Instance):
            return self.run(bound_to(what, what.type.find("forward")), args, keywords)
        if isinstance(what, Bound):
            return self.call_bound(what, args, keywords)
        if isinstance(what, Named) and what.name in TABLE:
            return call(self.ring, what.name, args, dict(keywords))
        if isinstance(what, Named):
            return self.call_named(what.name, args, dict(keywords))
        raise Refusal(f"a call of {spoken(what)} is not known")

    def call_bound(self, what: Bound, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """A method of a tensor, list, dictionary or module."""
        if what.name in TABLE:
            return call(self.ring, what.name, [what.first, *args], dict(keywords))
        if keywords:
            raise Refusal(f"`{what.name}` with keywords")
        if what.name == "items" and not args:
            return list(what.first.items())
        if what.name == "append" and len(args) == 1:
            what.first.append(args[0])
            return None
        if what.name == "register_parameter" and len(args) == 2 and isinstance(args[0], str):
            if args[1] is not None and not (isinstance(args[1], Blank) and args[1].parameter):
                raise Refusal("register_parameter of what is no parameter")
            what.first.set(*args)
            return None
        raise Refusal(f"`{what.name}` with {len(args)} arguments")

    def call_named(self, name: str, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
        """A builtin, an error, a parameter or an empty tensor."""
        if name == NOTHING and not args and not keywords:
            return None
        if name in ERRORS and not keywords:
            return Raised(name, " ".join(map(str, args)))
        if name == "torch.empty" and set(keywords) == {"device", "dtype"}:
            return Blank(integers(*args))
        if name == "nn.Parameter" and len(args) == 1 and not keywords:
            if isinstance(args[0], Blank) and not args[0].parameter:
                return Blank(args[0].shape, True)
        elif name in BUILTINS:
            try:
                return BUILTINS[name](*args, **keywords)
            except (TypeError, ValueError) as error:
                raise Refusal(f"`{name}`: {error}") from error
        raise Refusal(f"a call of `{name}` with {len(args)} arguments and {sorted(keywords)}")

    def run(self, function: Function, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """A function of the file.

        Raises:
            Refusal: If calls are nested too deeply.
        """
        node = function.node
        if node.name == "reset_parameters" and function.first is not None:
            return None
        given = list(args) if function.first is None else [function.first, *args]
        names = arguments(node, given, keywords)
        self.depth += 1
        if self.depth > DEEPEST:
            raise Refusal("calls are nested too deeply")
        frame = Frame(names, bound_names(node), function.owner, function.first)
        try:
            result = self.block(node.body, frame)
        finally:
            self.depth -= 1
        return result.value if result is not None else None

    # ------------------------------------------------------------------ statements
    def block(self, body: Sequence[ast.stmt], frame: Frame) -> Returned | None:
        """Statements in order, up to a return."""
        for node in body:
            self.steps += 1
            if self.steps > LONGEST:
                raise Refusal("the file takes too many steps")
            found = self.at(node, lambda node=node: self.statement(node, frame))  # type: ignore[misc]
            if found is not None:
                return found  # type: ignore[no-any-return]
        return None

    def statement(self, node: ast.stmt, frame: Frame) -> Returned | None:
        """One statement.

        Raises:
            Refusal: If its kind is not known.
            Raised: If it raises.
        """
        if isinstance(node, ast.Return):
            return Returned(None if node.value is None else self.value(node.value, frame))
        if isinstance(node, ast.Assign):
            value = self.value(node.value, frame)
            for target in node.targets:
                self.bind(target, value, frame)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.bind(node.target, self.value(node.value, frame), frame)
        elif isinstance(node, ast.Expr):
            if not is_text(node):
                self.value(node.value, frame)
        elif isinstance(node, ast.If):
            test = truth_of(self.value(node.test, frame))
            return self.block(node.body if test else node.orelse, frame)
        elif isinstance(node, ast.For) and not node.orelse:
            return self.loop(node, frame)
        elif isinstance(node, ast.With):
            if [type(self.value(i.context_expr, frame)) for i in node.items] != [Autocast] or (
                node.items[0].optional_vars is not None
            ):
                raise Refusal("a block that is not without autocast")
            return self.block(node.body, frame)
        elif isinstance(node, ast.Raise) and node.exc is not None and node.cause is None:
            error = self.value(node.exc, frame)
            if error in [Named(name) for name in ERRORS]:
                error = Raised(error.name, "")
            if not isinstance(error, Raised):
                raise Refusal(f"raise of {spoken(error)}")
            raise error
        elif not isinstance(node, ast.Pass):
            raise Refusal(f"a {type(node).__name__} is not known")
        return None

    def loop(self, node: ast.For, frame: Frame) -> Returned | None:
        """For each element."""
        for element in iterated(self.value(node.iter, frame)):
            self.bind(node.target, element, frame)
            found = self.block(node.body, frame)
            if found is not None:
                return found
        return None

    def bind(self, target: ast.expr, value: Any, frame: Frame) -> None:
        """Give a value a name.

        Raises:
            Refusal: If the target is none that is known, or numbers of elements differ.
        """
        if isinstance(target, ast.Name):
            frame.names[target.id] = value
        elif isinstance(target, ast.Attribute):
            holder = self.value(target.value, frame)
            if not isinstance(holder, Instance):
                raise Refusal(f"an attribute of {spoken(holder)} may not be set")
            holder.set(target.attr, value)
        elif isinstance(target, ast.Tuple) and not any(
            isinstance(t, ast.Starred) for t in target.elts
        ):
            parts = iterated(value)
            if len(parts) != len(target.elts):
                raise Refusal(f"{len(parts)} values for {len(target.elts)} names")
            for part, element in zip(target.elts, parts, strict=True):
                self.bind(part, element, frame)
        else:
            raise Refusal(f"an assignment to a {type(target).__name__} is not known")

    # ------------------------------------------------------------------ expressions
    def value(self, node: ast.expr, frame: Frame) -> Any:
        """The value of an expression.

        Raises:
            Refusal: If its kind is not known.
        """
        method = EXPRESSIONS.get(type(node))
        if method is None:
            raise Refusal(f"a {type(node).__name__} is not known")
        return method(self, node, frame)

    def name(self, node: ast.Name, frame: Frame) -> Any:
        """A local name, a name of the module, or a builtin.

        Raises:
            Refusal: If it has no value.
        """
        if node.id in frame.names:
            return frame.names[node.id]
        if node.id in frame.local:
            raise Refusal(f"`{node.id}` has no value yet")
        if node.id in self.names:
            return self.names[node.id]
        if (node.id in BUILTINS and node.id != "pairwise") or node.id in SPECIAL:
            return Named(node.id)
        raise Refusal(f"the name `{node.id}` is not known")

    def called(self, node: ast.Call, frame: Frame) -> Any:
        """A call, ``super()`` among them."""
        what = self.value(node.func, frame)
        if what == Named("super"):
            if node.args or node.keywords or frame.owner is None or frame.first is None:
                raise Refusal("super outside of a method, or with arguments")
            return Super(frame.owner, frame.first)
        args = self.elements(node.args, frame)
        keywords: dict[str, Any] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise Refusal("a call with **")
            keywords[keyword.arg] = self.value(keyword.value, frame)
        return self.call(what, args, keywords)

    def looked_up(self, node: ast.Attribute, frame: Frame) -> Any:
        """``value.name``."""
        holder = self.value(node.value, frame)
        if not isinstance(holder, Super):
            return attribute(holder, node.attr)
        if node.attr != "__init__":
            raise Refusal(f"`super().{node.attr}` is not known")
        base = holder.owner.base
        return Named(NOTHING) if base is None else bound_to(holder.first, base.find("__init__"))

    def elements(self, nodes: Sequence[ast.expr], frame: Frame) -> list[Any]:
        """Values in order, starred ones taken apart."""
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found += iterated(self.value(node.value, frame))
            else:
                found.append(self.value(node, frame))
        return found

    def comprehended(self, node: ast.ListComp | ast.GeneratorExp, frame: Frame) -> list[Any]:
        """A comprehension, as a list."""
        found: list[Any] = []
        self.comprehend(node, 0, Frame(dict(frame.names), frame.local), found)
        return found

    def comprehend(
        self, node: ast.ListComp | ast.GeneratorExp, depth: int, frame: Frame, found: list[Any]
    ) -> None:
        """The loops of a comprehension from one depth on."""
        if depth == len(node.generators):
            found.append(self.value(node.elt, frame))
            return
        loop = node.generators[depth]
        if loop.is_async:
            raise Refusal("an asynchronous loop")
        for element in iterated(self.value(loop.iter, frame)):
            self.bind(loop.target, element, frame)
            if all(truth_of(self.value(test, frame)) for test in loop.ifs):
                self.comprehend(node, depth + 1, frame, found)

    def subscripted(self, node: ast.Subscript, frame: Frame) -> Any:
        """``value[key]`` of a tensor, tuple or list.

        Raises:
            Refusal: If there is no such element, or the value holds none.
        """
        held, key = self.value(node.value, frame), self.value(node.slice, frame)
        try:
            if isinstance(held, Exact | Whole):
                return item(held, key)
            if isinstance(held, tuple | list) and isinstance(key, int | slice):
                return held[key]
        except (IndexError, TypeError, ValueError) as error:
            raise Refusal(f"an element that is not there: {error}") from error
        raise Refusal(f"an element of {spoken(held)} is not known")

    def sliced(self, node: ast.Slice, frame: Frame) -> slice:
        """``low:high:step`` of integers."""
        parts = [
            None if p is None else self.value(p, frame) for p in (node.lower, node.upper, node.step)
        ]
        integers(*(p for p in parts if p is not None))
        return slice(*parts)

    def chosen(self, node: ast.BoolOp, frame: Frame) -> Any:
        """``and`` and ``or``, up to the operand that decides."""
        stop = isinstance(node.op, ast.Or)
        value: Any = None
        for operand in node.values:
            value = self.value(operand, frame)
            if truth_of(value) == stop:
                break
        return value

    def compared(self, node: ast.Compare, frame: Frame) -> Any:
        """A comparison, or a chain of them."""
        left, result = self.value(node.left, frame), True
        for operator, operand in zip(node.ops, node.comparators, strict=True):
            right = self.value(operand, frame)
            result = compare(self.ring, operator, left, right)
            if len(node.ops) > 1 and not truth_of(result):
                return False
            left = right
        return result

    def conditional(self, node: ast.IfExp, frame: Frame) -> Any:
        """``a if test else b``."""
        test = truth_of(self.value(node.test, frame))
        return self.value(node.body if test else node.orelse, frame)

    def operated(self, node: ast.BinOp, frame: Frame) -> Any:
        """``a op b``."""
        return combine(
            self.ring, node.op, self.value(node.left, frame), self.value(node.right, frame)
        )

    def told(self, node: ast.JoinedStr, frame: Frame) -> str:
        """A message; its values are evaluated, and written as Python writes plain ones."""
        parts = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.value(part.value, frame)
                parts.append(str(value) if isinstance(value, int | str | tuple) else spoken(value))
            else:
                parts.append(str(literal(part)))
        return "".join(parts)

    def dictionary(self, node: ast.Dict, frame: Frame) -> dict[Any, Any]:
        """``{key: value}``.

        Raises:
            Refusal: If another dictionary is unpacked in it.
        """
        if None in node.keys:
            raise Refusal("a dictionary with **")
        keys = self.elements([k for k in node.keys if k is not None], frame)
        return dict(zip(keys, self.elements(node.values, frame), strict=True))


def bound_to(first: Instance, function: Any) -> Function:
    """A function as a method of an instance.

    Raises:
        Refusal: If it is no function.
    """
    if not isinstance(function, Function):
        raise Refusal(f"{spoken(function)} is no method")
    return Function(function.node, function.owner, first)


EXPRESSIONS: Mapping[type, Callable[[Machine, Any, Frame], Any]] = {
    ast.Constant: lambda m, node, frame: literal(node),
    ast.Name: Machine.name,
    ast.Attribute: Machine.looked_up,
    ast.Call: Machine.called,
    ast.Subscript: Machine.subscripted,
    ast.Slice: Machine.sliced,
    ast.Tuple: lambda m, node, frame: tuple(m.elements(node.elts, frame)),
    ast.List: lambda m, node, frame: m.elements(node.elts, frame),
    ast.Dict: Machine.dictionary,
    ast.BinOp: Machine.operated,
    ast.UnaryOp: lambda m, node, frame: negative(m.ring, node.op, m.value(node.operand, frame)),
    ast.BoolOp: Machine.chosen,
    ast.Compare: Machine.compared,
    ast.IfExp: Machine.conditional,
    ast.JoinedStr: Machine.told,
    ast.ListComp: Machine.comprehended,
    ast.GeneratorExp: Machine.comprehended,
}

"""An emitted file, read statement by statement in exact arithmetic; nothing of it is executed.

:class:`Machine` walks the syntax tree: :mod:`verify.emitted_statements` says what a statement does,
:mod:`verify.emitted_expressions` what an expression is worth, :mod:`verify.exact_torch` what a call
of torch computes. A node, name, attribute, argument or operator that has no meaning there is a
:class:`Refusal` with its line, so that nothing is passed over. Annotations mean nothing.
Parameters are given their numbers from outside; of ``reset_parameters`` is seen that it gives each
of them initial values once, not which.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from verify.emitted_autograd import PLAIN, Mode, apply
from verify.emitted_expressions import NOTHING, Frame, bound_to
from verify.emitted_statements import Statements
from verify.emitted_syntax import arguments, bound_names, is_text, literal
from verify.emitted_values import (
    ASKED,
    BUILTINS,
    ERRORS,
    FUNCTION,
    IMPORTS,
    INITIAL,
    RESERVED,
    Blank,
    Bound,
    EmittedClass,
    Function,
    Instance,
    Named,
    Raised,
    spoken,
)
from verify.exact_array import Exact, Refusal
from verify.exact_table import TABLE, Device, Kind, Magnitude, integers
from verify.exact_torch import call

DEEPEST = 40


@dataclass
class Machine(Statements):
    """Reads one file.

    Attributes:
        depth: How many calls are nested; more than :data:`DEEPEST` are refused.
        mode: What the file is told of how it runs.
        derives: Whether it holds an autograd function.
    """

    depth: int = 0
    mode: Mode = PLAIN
    derives: bool = False

    def load(self, tree: ast.Module) -> None:
        """Bind imports, constants, functions and classes.

        Raises:
            Refusal: If the module does anything else.
        """
        for node in tree.body:
            self.at(node, lambda node=node: self.define(node))  # type: ignore[misc]

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
        """A definition, without decorators or generators; an autograd function's is static."""
        decorators = [ast.unparse(d) for d in node.decorator_list]
        static = owner is not None and owner.is_function
        odd = node.args.vararg or node.args.kwarg or node.args.posonlyargs
        if decorators != ["staticmethod"] * static or odd:
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
        is_function = base == Named(FUNCTION)
        plain = base == Named("nn.Module") or is_function
        if not plain and not (isinstance(base, EmittedClass) and not base.is_function):
            raise Refusal(f"the base {spoken(base)} is not known")
        made = EmittedClass(node.name, None if plain else base, is_function=is_function)
        self.derives |= is_function
        for part in node.body:
            self.at(part, lambda part=part: self.class_part(part, made))  # type: ignore[misc]
        return made

    def class_part(self, part: ast.stmt, made: EmittedClass) -> None:
        """One statement of a class."""
        name, value = "", None
        if isinstance(part, ast.FunctionDef):
            name, value = part.name, self.function(part, made)
        elif isinstance(part, ast.Assign) and len(part.targets) == 1:
            (target,) = part.targets
            if isinstance(target, ast.Name):
                name, value = target.id, literal(part.value)
        elif is_text(part) or (isinstance(part, ast.AnnAssign) and part.value is None):
            return
        if not name or name in RESERVED or (name.startswith("__") and name != "__init__"):
            raise Refusal(f"`{name or type(part).__name__}` in a class is not known")
        made.held[name] = value

    def call(self, what: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """A call of anything that can be called.

        Raises:
            Refusal: If it cannot be.
            Raised: If the file raises an error.
        """
        if isinstance(what, Function):
            return self.run(what, args, keywords)
        if isinstance(what, EmittedClass) and not what.is_function:
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
        """A method of a tensor, list, dictionary, module, autograd function or its context."""
        if what.name == "apply" and not keywords:
            return apply(self, what.first, args)
        if what.name == "save_for_backward" and not keywords:
            what.first.saved = tuple(args)
            return None
        if what.name in TABLE:
            return call(self.ring, what.name, [what.first, *args], dict(keywords))
        if keywords:
            raise Refusal(f"`{what.name}` with keywords")
        if what.name == NOTHING and not args:
            what.first.started = True
            return None
        if what.name == "size" and len(args) == 1:
            return what.first.shape[integers(*args)[0]]
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
        """A builtin, an error, a parameter, an empty tensor or a question about the mode."""
        if name in ASKED and not keywords:
            return self.mode.answer(name)
        if name == "torch.aminmax" and len(args) == 1 and not keywords:
            return Magnitude(self.mode.in_range), Magnitude(self.mode.in_range)
        if name == "float" and len(args) == 1 and isinstance(args[0], Magnitude):
            return args[0]
        if name in ERRORS and not keywords:
            return Raised(name, " ".join(map(str, args)))
        if name in INITIAL:
            return draw_initial(name, args, keywords)
        if name == "torch.empty" and set(keywords) == {"device", "dtype"}:
            return empty(integers(*args), **keywords)
        if name == "nn.Parameter" and len(args) == 1 and not keywords:
            if isinstance(args[0], Blank) and not args[0].parameter:
                return Blank(args[0].shape, args[0].dtype, True)
            if isinstance(args[0], Exact) and args[0].tangent is None:
                return Blank(args[0].shape, args[0].dtype, True, 1)
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


def empty(shape: tuple[int, ...], device: Any, dtype: Any) -> Blank:
    """``torch.empty``.

    Raises:
        Refusal: If the device is no device or the type no type of real numbers.
    """
    if not (device is None or isinstance(device, Device)):
        raise Refusal("a device that is none")
    if dtype is not None and not (isinstance(dtype, Kind) and dtype.floating):
        raise Refusal("a dtype that is none of real numbers")
    return Blank(shape, "" if dtype is None else dtype.name)


def draw_initial(name: str, args: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    """Initial values for a parameter; which they are is not seen.

    Raises:
        Refusal: If it is given no parameter, or what are no numbers.
    """
    least, most = INITIAL[name]
    given = [*args[1:], *keywords.values()]
    if not least <= 1 + len(given) <= most or not args or not isinstance(args[0], Blank):
        raise Refusal(f"`{name}` takes a parameter and at most {most - 1} numbers")
    if not all(
        isinstance(x, int | Fraction) or (isinstance(x, Exact) and not x.shape) for x in given
    ):
        raise Refusal(f"`{name}` takes numbers")
    if name == "nn.init.uniform_" and len(given) not in (0, 2):
        raise Refusal(f"`{name}` takes both ends of the interval")
    args[0].drawn += 1

"""A spec → a :class:`~derive.program.Program`: parse, find tensors and sizes, check, lower."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NoReturn

from sympy import Expr, Symbol

from derive import grammar as g
from derive.errors import SpecError
from derive.lower import Lowering
from derive.nodes import Contraction, Delta, Letter, Read, substitute
from derive.parser import Parser
from derive.program import Line, Program, Tensor
from derive.sizes import Axes, SizeTable
from derive.spec import LayerSpec, split_letters


class _Resolver:
    """Builds a :class:`Program` from a spec."""

    def __init__(self, spec: LayerSpec, absent: frozenset[str]) -> None:
        self.spec = spec
        self.absent = absent
        self.number: int | None = None
        self.parser = Parser(self.fail)
        self.sizes = SizeTable(spec, self.parser, self.fail)
        self.axes: dict[str, Axes] = {}
        self.kinds: dict[str, str] = {}
        self.lowering = Lowering(spec, self.sizes, self.axes, self.kinds, self.fail)
        self.scalars: set[str] = set()

    # -------------------------------------------------------------- failing
    def fail(self, problem: str, symbol: str = "", remedy: str = "") -> NoReturn:
        """Raise a ``SpecError`` at the current line."""
        line = self.number
        if line is not None and self.spec.text is not None:
            line = _file_line(self.spec.text, self.spec.forward, line)
        raise self.spec.error(problem, symbol, remedy, line)

    # -------------------------------------------------------------- phases
    def build(self) -> Program:
        statements = self.statements()
        hyper = self.spec.hyperparameters
        for name, entry in self.spec.inputs.items():
            self.axes[name] = self.apart(entry.axes)
            for letter in (x for axis in entry.axes for x in axis):
                self.check_letter(letter)
        for name, parameter in self.spec.parameters.items():
            if parameter.axes:
                self.axes[name] = self.apart(parameter.axes)
                for letter in (x for axis in parameter.axes for x in axis):
                    self.check_letter(letter)
        for key in self.spec.sizes:
            for letter in split_letters(key):
                if letter in hyper:
                    self.fail(
                        f"[sizes] names the hyperparameter `{letter}`",
                        letter,
                        "use an index letter",
                    )
                self.check_letter(letter)
        self.sizes.outer = frozenset(x for axis in statements[-1].axes for x in axis)
        self.sizes.declare()
        self.scalars = {
            *self.spec.parameters,
            *self.spec.inputs,
            *(s.target for s in statements),
        } - set(hyper)
        closed = self.reached([self.close(s) for s in statements])
        self.collect(closed)
        self.check_names(closed)
        arguments, sizes = self.sizes.resolve(self.axes, self.kinds, bool(self.absent))
        lines = without_numbers([self.lower(s) for s in closed])
        return self.assemble(closed, lines, arguments, sizes)

    def reached(self, statements: list[g.Statement]) -> list[g.Statement]:
        """The lines that the output needs, where an absent parameter leaves others without use."""
        if not self.absent:
            return statements
        needed = {statements[-1].target}
        kept: list[g.Statement] = []
        for statement in reversed(statements):
            if statement.target in needed:
                kept.append(statement)
                needed |= {r.tensor for r in g.references(statement.value)}
        return kept[::-1]

    def statements(self) -> list[g.Statement]:
        found: list[g.Statement] = []
        for number, text in enumerate(self.spec.forward.split("\n"), start=1):
            if not text.strip():
                continue
            self.number = number
            found.append(self.parser.statement(text, number))
        targets = [s.target for s in found]
        for statement in found:
            self.number = statement.number
            name = statement.target
            if targets.count(name) > 1:
                self.fail(f"`{name}` is defined twice", name, "define it once")
            self.spec.check_name(name, "forward")
            for table in ("parameters", "hyperparameters", "inputs"):
                if name in getattr(self.spec, table):
                    self.fail(
                        f"`{name}` is defined here and declared in [{table}]", name, "rename one"
                    )
            for letter in (x for axis in statement.axes for x in axis):
                self.check_letter(letter)
        self.number = None
        return found

    def check_letter(self, letter: str) -> None:
        self.spec.check_name(letter, "letter")
        if letter in self.spec.hyperparameters:
            self.fail(f"`{letter}` is an index and a hyperparameter", letter, "rename one")

    def close(self, statement: g.Statement) -> g.Statement:
        """Drop absent parameters, turn elements into names and make Einstein sums explicit."""
        self.number = statement.number
        hyper = self.spec.hyperparameters

        def element(tree: g.Tree) -> g.Tree:
            if isinstance(tree, g.Reference) and tree.tensor in hyper:
                found = g.element_of(tree)
                values = hyper[tree.tensor]
                if not isinstance(found, g.Name) or not isinstance(values, tuple):
                    self.fail(
                        f"`{tree.tensor}` is a hyperparameter, not a tensor",
                        tree.tensor,
                        "use a list default and [0]",
                    )
                if (found.element or 0) >= len(values):
                    self.fail(
                        f"`{tree.tensor}` has {len(values)} elements",
                        tree.tensor,
                        "use a smaller element",
                    )
                return found
            if isinstance(tree, g.Name) and tree.element is None and tree.name in self.scalars:
                return g.Reference(tree.name, ())
            return tree

        value = g.map_tree(statement.value, element)
        kept = g.without(value, self.absent)
        if kept is None:
            self.fail(
                f"without {', '.join(sorted(self.absent))} nothing is left of `{statement.target}`",
                statement.target,
                "do not declare all of its parameters optional",
            )
        bound = {x for axis in statement.axes for x in axis}
        closed = g.close_sums(kept, bound, lambda name: name not in hyper)
        return g.Statement(
            statement.target, statement.axes, closed, statement.number, statement.text
        )

    def collect(self, statements: list[g.Statement]) -> None:
        """Find every tensor with its axes, and unify the letters that address one axis."""
        defined: set[str] = set()
        later = {s.target for s in statements}
        for statement in statements:
            self.number = statement.number
            for letter in (x for axis in statement.axes for x in axis):
                self.sizes.add(letter)
            for reference in g.references(statement.value):
                self.register(reference, defined, later)
            self.axes[statement.target] = statement.axes
            self.kinds[statement.target] = "intermediate"
            defined.add(statement.target)
        self.kinds[statements[-1].target] = "output"
        for statement in statements:
            self.number = statement.number
            for reference in g.references(statement.value):
                self.unify(reference)
        self.number = None

    def register(self, reference: g.Reference, defined: set[str], later: set[str]) -> None:
        name = reference.tensor
        if name in later and name not in defined:
            self.fail(
                f"`{name}` is used before it is defined",
                name,
                "order the lines; intermediates cannot be cyclic",
            )
        if name not in self.kinds:
            self.spec.check_name(name, "forward")
            self.kinds[name] = "parameter" if name in self.spec.parameters else "input"
        plain = all(g.is_plain(index) for axis in reference.indices for index in axis)
        if name not in self.axes and plain:
            self.axes[name] = self.apart(
                tuple(i.name for i in axis if isinstance(i, g.Name)) for axis in reference.indices
            )
        for index in (i for axis in reference.indices for i in axis):
            for inner in g.references(index):
                self.spec.check_name(inner.tensor, "forward")
                if self.kinds.setdefault(inner.tensor, "token") != "token":
                    if self.kinds[inner.tensor] != "input" or inner.tensor in defined:
                        self.fail(
                            f"`{inner.tensor}` is used as an index but is no input",
                            inner.tensor,
                            "index by an integer input",
                        )
                    self.kinds[inner.tensor] = "token"
                if inner.tensor not in self.axes and all(
                    g.is_plain(i) for axis in inner.indices for i in axis
                ):
                    self.axes[inner.tensor] = self.apart(
                        tuple(i.name for i in axis if isinstance(i, g.Name))
                        for axis in inner.indices
                    )

    def apart(self, axes: Iterable[tuple[str, ...]]) -> Axes:
        """The axes of a tensor with a letter each: one that stands again gets another name.

        So W[j, j] has the axes j and j2 of one size, and is read along its diagonal.
        """
        seen: set[str] = set()

        def own(letter: str) -> str:
            name = self.another(letter, seen) if letter in seen else letter
            seen.add(name)
            return name

        return tuple(tuple(own(x) for x in axis) for axis in axes)

    def another(self, letter: str, seen: set[str]) -> str:
        """A name of the same size that nothing in the spec has."""
        spec = self.spec
        declared = [*spec.inputs.values(), *spec.parameters.values()]
        taken = seen | {x for entry in declared for axis in entry.axes for x in axis}
        text = " ".join((spec.forward, *spec.sizes, *spec.sizes.values(), *spec.hyperparameters))
        taken |= set(re.findall(r"\w+", text))
        names = (f"{letter}{k}" for k in itertools.count(2))
        name = next(n for n in names if n not in taken)
        self.sizes.unify(letter, name)
        return name

    def unify(self, reference: g.Reference) -> None:
        """Letters that read the same axis of one tensor have one size."""
        name = reference.tensor
        if name not in self.axes:
            for part in (i for axis in reference.indices for i in axis):
                self.lowering.index(part)
            table = "inputs" if self.kinds[name] != "parameter" else "parameters"
            example = f'{name} = "n c l"' if table == "inputs" else f'{name} = {{ axes = "i r" }}'
            self.fail(
                f"`{name}` is read at index expressions only, so its axes are unknown",
                name,
                f"add {example} to [{table}]",
            )
        axes = self.axes[name]
        if len(axes) != len(reference.indices):
            self.fail(
                f"`{name}` has {len(axes)} axes but is read with {len(reference.indices)} indices",
                name,
                "use the same number",
            )
        for axis, index in zip(axes, reference.indices, strict=True):
            if len(axis) != len(index):
                self.fail(
                    f"`{name}` is read with an axis composed in two ways",
                    name,
                    "compose it as in " + " ".join(axis),
                )
            for letter, part in zip(axis, index, strict=True):
                self.sizes.add(letter)
                if not g.is_plain(part):
                    if len(axis) > 1:
                        self.fail(
                            f"a composed axis of `{name}` is read at an index expression",
                            name,
                            "compose plain letters",
                        )
                    for inner in g.index_names(part):
                        if inner not in self.spec.hyperparameters:
                            self.check_letter(inner)
                            self.sizes.add(inner)
                    continue
                assert isinstance(part, g.Name)
                self.check_letter(part.name)
                ranged = (
                    name in self.spec.inputs
                    and part.name != letter
                    and self.sizes.add(part.name) in self.sizes.declared
                )
                if not ranged:
                    self.sizes.unify(letter, part.name)

    def check_names(self, statements: list[g.Statement]) -> None:
        """Every letter of the left occurs on the right; every parameter is used."""
        used: set[str] = set()
        for statement in statements:
            self.number = statement.number
            used |= {r.tensor for r in g.references(statement.value)}
            names = set(g.all_index_names(statement.value))
            for letter in (x for axis in statement.axes for x in axis):
                if letter not in names:
                    self.fail(
                        f"the index `{letter}` stands on the left but nowhere on the right",
                        letter,
                        "use it on the right, or drop it on the left",
                    )
        self.number = None
        for symbol in self.spec.parameters:
            if symbol not in used and symbol not in self.absent:
                self.fail(
                    f"the parameter `{symbol}` is never used",
                    symbol,
                    "use it in `forward` or remove it",
                )
        for symbol in self.spec.inputs:
            if symbol not in used and not self.absent:
                self.fail(
                    f"the input `{symbol}` is never used",
                    symbol,
                    "use it in `forward` or remove it",
                )
        targets = {s.target for s in statements}
        for name in targets - used - {statements[-1].target}:
            self.fail(f"the intermediate `{name}` is never used", name, "use it or remove its line")
        for name in self.axes:
            if name in self.sizes.parent:
                self.fail(f"`{name}` is both a tensor and an index", name, "rename one")

    def lower(self, statement: g.Statement) -> Line:
        self.number = statement.number
        letters = tuple(self.lowering.letter(x) for axis in statement.axes for x in axis)
        value = self.lowering.expression(statement.value)
        self.number = None
        return Line(statement.target, letters, value)

    # -------------------------------------------------------------- result
    def assemble(
        self,
        statements: list[g.Statement],
        lines: tuple[Line, ...],
        arguments: dict[str, int],
        sizes: dict[str, g.Tree | None],
    ) -> Program:
        output = lines[-1]
        site = self.output_letters(self.spec.site, "site", output)
        unit = self.output_letters(self.spec.unit, "unit", output)
        for letter in output.letters:
            if (letter in site) + (letter in unit) != 1:
                self.fail(
                    f"the output index `{letter}` must be in exactly one of site and unit",
                    letter.name,
                    f'e.g. site = "{" ".join(x.name for x in output.letters if x not in unit)}"',
                )
        ordered = [n for n in self.spec.inputs if n in self.kinds]
        seen = dict.fromkeys(r.tensor for s in statements for r in g.references(s.value))
        ordered += [n for n in seen if self.kinds[n] in ("input", "token") and n not in ordered]
        ordered += [n for n, k in self.kinds.items() if k == "token" and n not in ordered]
        ordered += [n for n in self.spec.parameters if n in self.kinds]
        ordered += [line.target for line in lines]
        tensors = {
            n: Tensor(
                n,
                self.kinds[n],
                tuple(tuple(self.lowering.letter(x) for x in axis) for axis in self.axes[n]),
            )
            for n in ordered
        }
        program = Program(
            self.spec,
            self.absent,
            tensors,
            lines,
            site,
            unit,
            dict(self.lowering.letters),
            sizes,
            arguments,
        )
        if output.target not in program.dependent:
            self.fail(
                f"the output `{output.target}` depends on no parameter",
                output.target,
                "use a parameter in it",
            )
        return program

    def output_letters(self, text: str, field: str, output: Line) -> tuple[Letter, ...]:
        found = []
        for name in split_letters(text):
            letter = self.lowering.letters.get(name)
            if letter is None or letter not in output.letters:
                self.fail(
                    f"{field} names `{name}`, which is no index of the output",
                    name,
                    "use the output's indices",
                )
            found.append(letter)
        return tuple(x for x in output.letters if x in found)


def without_numbers(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Lines that are tensors: an intermediate that is a number, as 3*size(j), stands for itself."""
    numbers: dict[Expr, Expr] = {}
    kept = []
    for line in lines:
        value = substitute(line.value, numbers)
        if line.letters or value.has(Read, Delta, Contraction) or line is lines[-1]:
            kept.append(replace(line, value=value))
        else:
            numbers[Read(Symbol(line.target))] = value
    return tuple(kept)


def parse_forward(spec: LayerSpec) -> tuple[g.Statement, ...]:
    """The lines of ``forward`` as trees, each name defined once.

    Raises:
        SpecError: With file, line, symbol and remedy.
    """
    return tuple(_Resolver(spec, frozenset()).statements())


def _file_line(text: str, forward: str, number: int) -> int | None:
    """The file's line of the ``number``-th line of ``forward``."""
    wanted = forward.split("\n")[number - 1].strip()
    for index, line in enumerate(text.splitlines(), start=1):
        if wanted and wanted in line:
            return index
    return None


def resolve(spec: LayerSpec, absent: frozenset[str] = frozenset()) -> Program:
    """Parse and resolve a spec.

    Args:
        spec: The layer.
        absent: Optional parameters to leave out.

    Raises:
        SpecError: With file, line, symbol and remedy.
    """
    try:
        return _Resolver(spec, absent).build()
    except RecursionError:
        raise SpecError(
            "the spec is too deeply nested", spec.name, "name intermediates", spec.file
        ) from None

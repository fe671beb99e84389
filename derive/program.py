"""A spec, parsed and resolved: every tensor with its axes, every letter with its size, every line as
a SymPy expression of :mod:`derive.nodes`."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NoReturn

import sympy
from sympy import Expr, Integer, Rational, Symbol

from derive import grammar as g
from derive.errors import SpecError
from derive.nodes import (
    FUNCTIONS,
    Contraction,
    Delta,
    Letter,
    MaxOver,
    Read,
    Softmax,
    TokenRead,
    size_symbol,
    substitute,
)
from derive.spec import LayerSpec, split_letters


@dataclass(frozen=True)
class Tensor:
    """A tensor of the program.

    Attributes:
        name: Its symbol in the formulas.
        kind: ``input``, ``token`` (an integer input used as an index), ``parameter``,
            ``intermediate`` or ``output``.
        axes: One entry a storage axis; an entry of several letters composes them, first slowest.
    """

    name: str
    kind: str
    axes: tuple[tuple[Letter, ...], ...]

    @property
    def letters(self) -> tuple[Letter, ...]:
        """The logical axes."""
        return tuple(letter for axis in self.axes for letter in axis)


@dataclass(frozen=True)
class Line:
    """``target[letters] = value``."""

    target: str
    letters: tuple[Letter, ...]
    value: Expr
    number: int


@dataclass(frozen=True)
class Program:
    """What a spec says, resolved for one choice of its optional parameters.

    Attributes:
        spec: Where it comes from.
        absent: The optional parameters that this program leaves out.
        tensors: Every tensor by name, in the order inputs, parameters, intermediates, output.
        lines: The definitions; the last is the output.
        site, unit: The letters of the output.
        letters: Every letter of the spec by name.
        sizes: Size class → formula over constructor arguments, hyperparameters and other size
            classes, or ``None`` where the size is read off an input.
        arguments: Constructor argument → its number of elements (0 for a plain integer).
    """

    spec: LayerSpec
    absent: frozenset[str]
    tensors: Mapping[str, Tensor]
    lines: tuple[Line, ...]
    site: tuple[Letter, ...]
    unit: tuple[Letter, ...]
    letters: Mapping[str, Letter]
    sizes: Mapping[str, g.Tree | None]
    arguments: Mapping[str, int]

    @property
    def output(self) -> Line:
        """The last line."""
        return self.lines[-1]

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Inputs in call order."""
        return tuple(t for t in self.tensors.values() if t.kind in ("input", "token"))

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Parameters in declared order, without absent ones."""
        return tuple(t for t in self.tensors.values() if t.kind == "parameter")

    def line(self, name: str) -> Line | None:
        """The line that defines an intermediate, or ``None``."""
        return next((line for line in self.lines if line.target == name), None)

    @functools.cached_property
    def dependent(self) -> frozenset[str]:
        """Names of the parameters and of every line that depends on one."""
        names = {t.name for t in self.parameters}
        for line in self.lines:
            if any(r.tensor in names for r in sympy.preorder_traversal(line.value) if isinstance(r, Read)):
                names.add(line.target)
        return frozenset(names)

    def size_name(self, size: str) -> str:
        """How a size class is shown: its constructor argument if it has one, else ``size(j)``."""
        tree = self.sizes.get(size)
        if isinstance(tree, g.Name):
            return tree.name if tree.element is None else f"{tree.name}[{tree.element}]"
        return f"size({size})"


class _Sizes:
    """Union-find over letters, with the declared size of each class."""

    def __init__(self, spec: LayerSpec, parser: g.Parser) -> None:
        self.spec = spec
        self.parser = parser
        self.parent: dict[str, str] = {}
        self.declared: dict[str, g.Tree] = {}
        self.composed: dict[tuple[str, ...], g.Tree] = {}
        self.order: list[str] = []
        self.outer: frozenset[str] = frozenset()  # output letters: a bound letter names a class better

    def add(self, letter: str) -> str:
        if letter not in self.parent:
            self.parent[letter] = letter
            self.order.append(letter)
        while self.parent[letter] != letter:
            letter = self.parent[letter]
        return letter

    def unify(self, a: str, b: str) -> None:
        ra, rb = self.add(a), self.add(b)
        if ra == rb:
            return
        if ra in self.declared and rb in self.declared and self.declared[ra] != self.declared[rb]:
            raise self.spec.error(
                f"the indices `{a}` and `{b}` address the same axis but have two sizes",
                a,
                "give both the same entry in [sizes], or use two tensors",
            )
        keep, drop = (rb, ra) if ra in self.outer and rb not in self.outer else (ra, rb)
        if drop in self.declared:
            self.declared.setdefault(keep, self.declared[drop])
        self.parent[drop] = keep

    def declare(self) -> None:
        """Read [sizes]."""
        for key, text in self.spec.sizes.items():
            letters = split_letters(key)
            tree = self.parser.parse(text)
            if isinstance(tree, g.Reference):
                found = _element(tree)
                if found is None:
                    raise self.spec.error("a size is read off no tensor", tree.tensor, 'write k = "kernel_size[0]"')
                tree = found
            if len(letters) == 1:
                root = self.add(letters[0])
                self.declared[root] = tree
            else:
                for letter in letters:
                    self.add(letter)
                self.composed[letters] = tree


def _element(tree: g.Tree) -> g.Tree | None:
    """``kernel_size[0]`` as an element of a tuple, if it is one."""
    if isinstance(tree, g.Reference) and len(tree.indices) == 1 and len(tree.indices[0]) == 1:
        index = tree.indices[0][0]
        if isinstance(index, g.Number) and index.value.denominator == 1 and 0 <= index.value < 16:
            return g.Name(tree.tensor, int(index.value))
    return None


def map_tree(tree: g.Tree, change: object) -> g.Tree:
    """Rebuild a tree bottom up with ``change(node)``."""
    parts = [map_tree(child, change) for child in g.children(tree)]
    if isinstance(tree, g.Reference):
        iterator = iter(parts)
        tree = g.Reference(tree.tensor, tuple(tuple(next(iterator) for _ in axis) for axis in tree.indices))
    elif parts:
        tree = g._rebuild(tree, parts)
    result: g.Tree = change(tree)  # type: ignore[operator]
    return result


class _Resolver:
    """Builds a :class:`Program` from a spec."""

    def __init__(self, spec: LayerSpec, absent: frozenset[str]) -> None:
        self.spec = spec
        self.absent = absent
        self.number: int | None = None
        self.parser = g.Parser(self.fail)
        self.sizes = _Sizes(spec, self.parser)
        self.axes: dict[str, tuple[tuple[str, ...], ...]] = {}
        self.kinds: dict[str, str] = {}
        self.letters: dict[str, Letter] = {}
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
            self.axes[name] = entry.axes
            for letter in (x for axis in entry.axes for x in axis):
                self.check_letter(letter)
        for name, parameter in self.spec.parameters.items():
            if parameter.axes:
                self.axes[name] = parameter.axes
                for letter in (x for axis in parameter.axes for x in axis):
                    self.check_letter(letter)
        for key in self.spec.sizes:
            for letter in split_letters(key):
                if letter in hyper:
                    self.fail(f"[sizes] names the hyperparameter `{letter}`", letter, "use an index letter")
                self.check_letter(letter)
        self.sizes.outer = frozenset(x for axis in statements[-1].axes for x in axis)
        self.sizes.declare()
        self.scalars = {*self.spec.parameters, *self.spec.inputs, *(s.target for s in statements)} - set(hyper)
        closed = [self.close(s) for s in statements]
        self.collect(closed)
        self.check_names(closed)
        arguments, sizes = self.resolve_sizes()
        lines = tuple(self.lower(s) for s in closed)
        return self.assemble(closed, lines, arguments, sizes)

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
            self.spec._check_name(name, "forward")
            for table in ("parameters", "hyperparameters", "inputs"):
                if name in getattr(self.spec, table):
                    self.fail(f"`{name}` is defined here and declared in [{table}]", name, "rename one")
            for letter in (x for axis in statement.axes for x in axis):
                self.check_letter(letter)
        self.number = None
        return found

    def check_letter(self, letter: str) -> None:
        self.spec._check_name(letter, "letter")
        if letter in self.spec.hyperparameters:
            self.fail(f"`{letter}` is an index and a hyperparameter", letter, "rename one")

    def close(self, statement: g.Statement) -> g.Statement:
        """Drop absent parameters, turn elements into names and make Einstein sums explicit."""
        self.number = statement.number
        hyper = self.spec.hyperparameters

        def element(tree: g.Tree) -> g.Tree:
            if isinstance(tree, g.Reference) and tree.tensor in hyper:
                found = _element(tree)
                values = hyper[tree.tensor]
                if not isinstance(found, g.Name) or not isinstance(values, tuple):
                    self.fail(f"`{tree.tensor}` is a hyperparameter, not a tensor", tree.tensor, "use a list default and [0]")
                if (found.element or 0) >= len(values):
                    self.fail(f"`{tree.tensor}` has {len(values)} elements", tree.tensor, "use a smaller element")
                return found
            if isinstance(tree, g.Name) and tree.element is None and tree.name in self.scalars:
                return g.Reference(tree.name, ())
            return tree

        value = map_tree(statement.value, element)
        kept = _without(value, self.absent)
        if kept is None:
            self.fail(
                f"without {', '.join(sorted(self.absent))} nothing is left of `{statement.target}`",
                statement.target,
                "do not declare all of its parameters optional",
            )
        bound = {x for axis in statement.axes for x in axis}
        closed = g.close_sums(kept, bound, lambda name: name not in hyper)
        return g.Statement(statement.target, statement.axes, closed, statement.number, statement.text)

    def collect(self, statements: list[g.Statement]) -> None:
        """Find every tensor with its axes, and unify the letters that address one axis."""
        defined: set[str] = set()
        later = {s.target for s in statements}
        for statement in statements:
            self.number = statement.number
            for letter in (x for axis in statement.axes for x in axis):
                self.sizes.add(letter)
            for reference in _references(statement.value):
                self.register(reference, defined, later)
            self.axes[statement.target] = statement.axes
            self.kinds[statement.target] = "intermediate"
            defined.add(statement.target)
        self.kinds[statements[-1].target] = "output"
        for statement in statements:
            self.number = statement.number
            for reference in _references(statement.value):
                self.unify(reference)
        self.number = None

    def register(self, reference: g.Reference, defined: set[str], later: set[str]) -> None:
        name = reference.tensor
        if name in later and name not in defined:
            self.fail(f"`{name}` is used before it is defined", name, "order the lines; intermediates cannot be cyclic")
        if name not in self.kinds:
            self.spec._check_name(name, "forward")
            self.kinds[name] = "parameter" if name in self.spec.parameters else "input"
        if name not in self.axes:
            if all(_plain(index) for axis in reference.indices for index in axis):
                self.axes[name] = tuple(tuple(i.name for i in axis if isinstance(i, g.Name)) for axis in reference.indices)
        for index in (i for axis in reference.indices for i in axis):
            for inner in _references(index):
                if self.kinds.setdefault(inner.tensor, "token") != "token":
                    if self.kinds[inner.tensor] != "input" or inner.tensor in defined:
                        self.fail(f"`{inner.tensor}` is used as an index but is no input", inner.tensor, "index by an integer input")
                    self.kinds[inner.tensor] = "token"
                if inner.tensor not in self.axes and all(_plain(i) for axis in inner.indices for i in axis):
                    self.axes[inner.tensor] = tuple(
                        tuple(i.name for i in axis if isinstance(i, g.Name)) for axis in inner.indices
                    )

    def unify(self, reference: g.Reference) -> None:
        """Letters that read the same axis of one tensor have one size."""
        name = reference.tensor
        if name not in self.axes:
            table = "inputs" if self.kinds[name] != "parameter" else "parameters"
            example = f'{name} = "n c l"' if table == "inputs" else f'{name} = {{ axes = "i r" }}'
            self.fail(f"`{name}` is read at index expressions only, so its axes are unknown", name, f"add {example} to [{table}]")
        axes = self.axes[name]
        if len(axes) != len(reference.indices):
            self.fail(
                f"`{name}` has {len(axes)} axes but is read with {len(reference.indices)} indices", name, "use the same number"
            )
        for axis, index in zip(axes, reference.indices, strict=True):
            if len(axis) != len(index):
                self.fail(f"`{name}` is read with an axis composed in two ways", name, "compose it as in " + " ".join(axis))
            for letter, part in zip(axis, index, strict=True):
                if not _plain(part):
                    if len(axis) > 1:
                        self.fail(f"a composed axis of `{name}` is read at an index expression", name, "compose plain letters")
                    for inner in g._index_names(part):
                        if inner not in self.spec.hyperparameters:
                            self.check_letter(inner)
                            self.sizes.add(inner)
                    continue
                assert isinstance(part, g.Name)
                self.check_letter(part.name)
                self.sizes.add(letter)
                ranged = name in self.spec.inputs and part.name != letter and self.sizes.add(part.name) in self.sizes.declared
                if not ranged:
                    self.sizes.unify(letter, part.name)

    def check_names(self, statements: list[g.Statement]) -> None:
        """Every letter of the left occurs on the right; every parameter is used."""
        used: set[str] = set()
        for statement in statements:
            self.number = statement.number
            used |= {r.tensor for r in _references(statement.value)}
            names = set(_all_index_names(statement.value))
            for letter in (x for axis in statement.axes for x in axis):
                if letter not in names:
                    self.fail(
                        f"the index `{letter}` stands on the left but nowhere on the right", letter,
                        "use it on the right, or drop it on the left",
                    )
        self.number = None
        for symbol in self.spec.parameters:
            if symbol not in used and symbol not in self.absent:
                self.fail(f"the parameter `{symbol}` is never used", symbol, "use it in `forward` or remove it")
        for symbol in self.spec.inputs:
            if symbol not in used:
                self.fail(f"the input `{symbol}` is never used", symbol, "use it in `forward` or remove it")
        targets = {s.target for s in statements}
        for name in targets - used - {statements[-1].target}:
            self.fail(f"the intermediate `{name}` is never used", name, "use it or remove its line")
        for name in self.axes:
            if name in self.letters or name in self.sizes.parent:
                self.fail(f"`{name}` is both a tensor and an index", name, "rename one")

    def resolve_sizes(self) -> tuple[dict[str, int], dict[str, g.Tree | None]]:
        """Constructor arguments in declared order, and a formula a size class."""
        arguments: dict[str, int] = {}
        sizes: dict[str, g.Tree | None] = {self.sizes.add(x): None for x in self.sizes.order}
        used = {x for axes in self.axes.values() for axis in axes for x in axis} | set(self.sizes.order)
        for key in self.spec.sizes:
            letters = split_letters(key)
            for letter in letters:
                if letter not in used:
                    self.fail(f"[sizes] names the index `{letter}`, which occurs nowhere", letter, "remove it")
            tree = self.sizes.composed[letters] if len(letters) > 1 else self.sizes.declared.get(self.sizes.add(letters[0]))
            if tree is None:
                continue
            self.note_arguments(tree, arguments, key)
            if len(letters) == 1:
                root = self.sizes.add(letters[0])
                sizes[root] = self.size_formula(tree)
        for letters, tree in self.sizes.composed.items():
            unknown = [x for x in letters if sizes[self.sizes.add(x)] is None]
            if len(unknown) != 1:
                self.fail(
                    f"of the composed size ({', '.join(letters)}) exactly one letter must be left to find",
                    letters[0],
                    "give the others an entry in [sizes]",
                )
            others = [self.sizes.add(x) for x in letters if x != unknown[0]]
            sizes[self.sizes.add(unknown[0])] = g.Call("//", (tree, g.product(*(g.SizeOf(x) for x in others))))
        from_inputs = {
            self.sizes.add(x)
            for name, axes in self.axes.items()
            if self.kinds.get(name) in ("input", "token")
            for axis in axes
            for x in axis
        }
        for name, axes in self.axes.items():
            if self.kinds.get(name) != "parameter":
                continue
            for letter in (x for axis in axes for x in axis):
                if sizes[self.sizes.add(letter)] is None:
                    self.fail(
                        f"the size of index `{letter}` of parameter `{name}` is unknown", letter,
                        f'add {letter} = "some_argument" to [sizes]',
                    )
        for root, formula in sizes.items():
            if formula is None and root not in from_inputs:
                self.fail(f"the size of index `{root}` is unknown", root, f"add {root} = ... to [sizes]")
        self.check_computed(sizes)
        return arguments, sizes

    def note_arguments(self, tree: g.Tree, arguments: dict[str, int], key: str) -> None:
        """A bare name or tuple element in [sizes] that is no hyperparameter is a constructor argument."""
        if isinstance(tree, g.Name):
            if tree.name in self.spec.hyperparameters:
                return
            self.spec._check_name(tree.name, f"[sizes] {key}")
            if tree.name in self.sizes.parent and tree.name not in arguments:
                return
            count = 0 if tree.element is None else max(arguments.get(tree.name, 0), tree.element + 1)
            if arguments.get(tree.name, count) != count and tree.element is None:
                self.fail(f"`{tree.name}` is used as an integer and as a tuple", tree.name, "use one")
            arguments[tree.name] = count
            torch_names = {p.torch for p in self.spec.parameters.values()}
            if tree.name in torch_names or tree.name in self.spec.inputs:
                self.fail(f"the size `{tree.name}` hides a parameter or input", tree.name, "rename it")

    def size_formula(self, tree: g.Tree) -> g.Tree:
        """Axis letters in a computed size stand for their sizes."""

        def change(node: g.Tree) -> g.Tree:
            if isinstance(node, g.Reference):
                found = _element(node)
                if found is None:
                    self.fail(f"`{node.tensor}` cannot be read in a size", node.tensor, "use sizes and hyperparameters")
                return found
            if isinstance(node, g.Name) and node.element is None and node.name in self.sizes.parent:
                return g.SizeOf(self.sizes.add(node.name))
            if isinstance(node, g.SizeOf):
                return g.SizeOf(self.sizes.add(node.letter))
            if isinstance(node, g.Number) and node.value.denominator != 1:
                self.fail("a size is a whole number", str(node.value), "use // for division")
            if isinstance(node, g.Power) and node.exponent < 0:
                self.fail("a size is a whole number", "/", "use // for division")
            if isinstance(node, g.Call) and node.function != "//" or isinstance(node, g.Reduction):
                self.fail("only + - * // may stand in a size", "", "simplify it")
            return node

        return map_tree(tree, change)

    def check_computed(self, sizes: dict[str, g.Tree | None]) -> None:
        """Names in size formulas are known, and formulas are not cyclic."""
        hyper = self.spec.hyperparameters
        direct = {t.name for t in self.sizes.declared.values() if isinstance(t, g.Name)}
        direct |= {t.name for t in self.sizes.composed.values() if isinstance(t, g.Name)}

        def visit(root: str, trail: tuple[str, ...]) -> None:
            if root in trail:
                self.fail(f"the size of `{root}` is defined by itself", root, "break the cycle in [sizes]")
            tree = sizes.get(root)
            for node in _nodes(tree) if tree is not None else ():
                if isinstance(node, g.SizeOf):
                    visit(node.letter, (*trail, root))
                if isinstance(node, g.Name) and node.name not in hyper and node.name not in direct:
                    self.fail(f"unknown name `{node.name}` in [sizes]", node.name, "use axis letters and hyperparameters")

        for root in sizes:
            visit(root, ())

    # -------------------------------------------------------------- lowering to SymPy
    def letter(self, name: str) -> Letter:
        if name not in self.letters:
            self.letters[name] = Letter(name, self.sizes.add(name))
        return self.letters[name]

    def lower(self, statement: g.Statement) -> Line:
        self.number = statement.number
        letters = tuple(self.letter(x) for axis in statement.axes for x in axis)
        value = self.expression(statement.value)
        self.number = None
        return Line(statement.target, letters, value, statement.number)

    def expression(self, tree: g.Tree) -> Expr:
        if isinstance(tree, g.Number):
            return Rational(tree.value.numerator, tree.value.denominator)
        if isinstance(tree, g.SizeOf):
            if tree.letter not in self.sizes.parent:
                self.fail(f"size of the unknown index `{tree.letter}`", tree.letter, "use an index of the formula")
            return size_symbol(self.sizes.add(tree.letter))
        if isinstance(tree, g.Name):
            return self.scalar(tree)
        if isinstance(tree, g.Reference):
            return self.read(tree)
        if isinstance(tree, g.Total):
            return sympy.Add(*(self.expression(t) for t in tree.terms))
        if isinstance(tree, g.Product):
            return sympy.Mul(*(self.expression(t) for t in tree.factors))
        if isinstance(tree, g.Power):
            base = self.expression(tree.base)
            if base.is_zero and tree.exponent < 0:
                self.fail("division by zero", "", "remove it")
            return base**tree.exponent
        if isinstance(tree, g.Call):
            if tree.function == "//":
                self.fail("// is for sizes only", "//", "use /")
            return self.checked(FUNCTIONS[tree.function](*(self.expression(a) for a in tree.arguments)), tree.function)
        return self.reduction(tree)

    def checked(self, value: Expr, name: str) -> Expr:
        if value.is_real is False or value.has(sympy.zoo, sympy.oo, sympy.nan, sympy.I):
            self.fail(f"`{name}` is not real here", name, "check its argument")
        return value

    def scalar(self, tree: g.Name) -> Expr:
        hyper = self.spec.hyperparameters
        if tree.name in hyper:
            return hyper_symbol(tree, hyper[tree.name], self.fail)
        self.fail(f"`{tree.name}` is an index, used as a number", tree.name, "use size(...) or an input")

    def reduction(self, tree: g.Reduction) -> Expr:
        letters = tuple(self.letter(x) for x in tree.letters)
        body = self.expression(tree.body)
        missing = [x for x in letters if x not in body.free_symbols]
        if missing:
            self.fail(f"{tree.kind}[{missing[0]}] over an expression without `{missing[0]}`", str(missing[0]), "use the index or drop it")
        if tree.kind == "softmax":
            return Softmax(substitute(body, {letters[0]: (u := letters[0].fresh())}), u, letters[0])
        if tree.kind == "max":
            return MaxOver(body, *letters)
        value: Expr = Contraction(body, *letters)
        if tree.kind == "mean":
            value = value / math.prod((size_symbol(x.size) for x in letters), start=Integer(1))
        return value

    def read(self, tree: g.Reference) -> Expr:
        name = tree.tensor
        kind = self.kinds[name]
        deltas: list[Expr] = []
        bound: list[Letter] = []
        indices: list[Expr] = []
        axis_letters = [x for axis in self.axes[name] for x in axis]
        parts = [i for axis in tree.indices for i in axis]
        for letter_name, part in zip(axis_letters, parts, strict=True):
            index, divisor = self.index(part)
            axis = self.letter(letter_name)
            plain = isinstance(index, Letter) and index.size == axis.size
            if isinstance(index, TokenRead) or plain or (kind in ("input", "token") and divisor == 1):
                indices.append(index)
                continue
            # Reads off the lattice or of a formula: sum over the axis where the index hits it.
            q = axis.fresh()
            bound.append(q)
            deltas.append(Delta(index - divisor * q))
            indices.append(q)
        node = TokenRead if kind == "token" else Read
        value = sympy.Mul(node(Symbol(name), *indices), *deltas)
        return Contraction(value, *bound) if bound else value

    def index(self, tree: g.Tree) -> tuple[Expr, Expr]:
        """An index expression and its exact divisor, integer-affine in the letters."""
        divisor: Expr = Integer(1)
        if isinstance(tree, g.Product):
            downs = [f for f in tree.factors if isinstance(f, g.Power) and f.exponent == -1]
            if downs:
                divisor = sympy.Mul(*(self.affine(f.base, letters=False) for f in downs))
                tree = g.product(*(f for f in tree.factors if f not in downs))
        return self.affine(tree, letters=True), divisor

    def affine(self, tree: g.Tree, *, letters: bool) -> Expr:
        bad = "an index must be integer-affine in the indices and hyperparameters"
        remedy = "write e.g. stride*p + dilation*k - padding"
        if isinstance(tree, g.Number):
            if tree.value.denominator != 1:
                self.fail(bad, str(tree.value), remedy)
            return Integer(tree.value.numerator)
        if isinstance(tree, g.SizeOf):
            return size_symbol(self.sizes.add(tree.letter))
        if isinstance(tree, g.Name):
            if tree.name in self.spec.hyperparameters:
                value = self.spec.hyperparameters[tree.name]
                if isinstance(value, bool | float):
                    self.fail(f"`{tree.name}` is no integer and cannot stand in an index", tree.name, remedy)
                return hyper_symbol(tree, value, self.fail)
            if not letters:
                self.fail(bad, tree.name, remedy)
            return self.letter(tree.name)
        if isinstance(tree, g.Total):
            return sympy.Add(*(self.affine(t, letters=letters) for t in tree.terms))
        if isinstance(tree, g.Product):
            value = sympy.expand(sympy.Mul(*(self.affine(f, letters=letters) for f in tree.factors)))
            for term in sympy.Add.make_args(value):
                degree = sum(sympy.degree(term, s) for s in term.free_symbols if isinstance(s, Letter))
                if degree > 1:
                    self.fail(bad, str(value), remedy)
            return value
        if isinstance(tree, g.Reference) and self.kinds.get(tree.tensor) == "token" and letters:
            value = self.read(tree)
            if isinstance(value, TokenRead):
                return value
        self.fail(bad, getattr(tree, "tensor", type(tree).__name__), remedy)

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
                    f"the output index `{letter}` must be in exactly one of site and unit", letter.name,
                    f'e.g. site = "{" ".join(x.name for x in output.letters if x not in unit)}"',
                )
        ordered = [n for n in self.spec.inputs if n in self.kinds]
        seen = dict.fromkeys(r.tensor for s in statements for r in _references(s.value))
        ordered += [n for n in seen if self.kinds[n] in ("input", "token") and n not in ordered]
        ordered += [n for n, k in self.kinds.items() if k == "token" and n not in ordered]
        ordered += [n for n in self.spec.parameters if n in self.kinds]
        ordered += [line.target for line in lines]
        tensors = {
            n: Tensor(n, self.kinds[n], tuple(tuple(self.letter(x) for x in axis) for axis in self.axes[n])) for n in ordered
        }
        program = Program(
            self.spec, self.absent, tensors, lines, site, unit, dict(self.letters), sizes, arguments
        )
        if output.target not in program.dependent:
            self.fail(f"the output `{output.target}` depends on no parameter", output.target, "use a parameter in it")
        return program

    def output_letters(self, text: str, field: str, output: Line) -> tuple[Letter, ...]:
        found = []
        for name in split_letters(text):
            letter = self.letters.get(name)
            if letter is None or letter not in output.letters:
                self.fail(f"{field} names `{name}`, which is no index of the output", name, "use the output's indices")
            found.append(letter)
        return tuple(x for x in output.letters if x in found)


def hyper_symbol(tree: g.Name, value: object, fail: g.Fail) -> Symbol:
    """The symbol of a hyperparameter or of one element of a tuple of them."""
    if isinstance(value, bool):
        fail(f"the flag `{tree.name}` cannot stand in a formula", tree.name, "use a number")
    if isinstance(value, tuple) and tree.element is None:
        fail(f"`{tree.name}` is a tuple", tree.name, f"write {tree.name}[0]")
    name = tree.name if tree.element is None else f"{tree.name}[{tree.element}]"
    if isinstance(value, float):
        return Symbol(name, real=True)
    return Symbol(name, integer=True)


def _plain(tree: g.Tree) -> bool:
    return isinstance(tree, g.Name) and tree.element is None


def _nodes(tree: g.Tree) -> Iterator[g.Tree]:
    yield tree
    for child in g.children(tree):
        yield from _nodes(child)


def _references(tree: g.Tree) -> list[g.Reference]:
    """References in a tree."""
    return [n for n in _nodes(tree) if isinstance(n, g.Reference)]


def _all_index_names(tree: g.Tree) -> list[str]:
    names = []
    for node in _nodes(tree):
        if isinstance(node, g.Reference):
            names += [n for axis in node.indices for index in axis for n in g._index_names(index)]
    return names


def _without(tree: g.Tree, absent: frozenset[str]) -> g.Tree | None:
    """A tree with absent parameters set to zero; ``None`` if nothing is left."""
    if isinstance(tree, g.Reference) and tree.tensor in absent:
        return None
    if isinstance(tree, g.Total):
        kept = [t for t in (_without(term, absent) for term in tree.terms) if t is not None]
        return g.total(*kept) if kept else None
    parts = [_without(child, absent) for child in g.children(tree)]
    if any(part is None for part in parts):
        if isinstance(tree, g.Product | g.Reference | g.Power) or isinstance(tree, g.Reduction) and tree.kind != "softmax":
            return None
        return g._rebuild(tree, [g.Number(Fraction(0)) if p is None else p for p in parts])
    if isinstance(tree, g.Reference) or not parts:
        return tree
    return g._rebuild(tree, [p for p in parts if p is not None])


def _file_line(text: str, forward: str, number: int) -> int | None:
    """The file's line of the ``number``-th line of ``forward``."""
    wanted = forward.split("\n")[number - 1].strip()
    for index, line in enumerate(text.splitlines(), start=1):
        if wanted and wanted in line:
            return index
    return None


def program(spec: LayerSpec, absent: frozenset[str] = frozenset()) -> Program:
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
        raise SpecError("the spec is too deeply nested", spec.name, "name intermediates", spec.file) from None

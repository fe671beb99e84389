"""The size of every axis: letters of one axis share a class, and classes have formulas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NoReturn

from derive import grammar as g
from derive.parser import Fail, Parser
from derive.spec import LayerSpec, split_letters

Axes = tuple[tuple[str, ...], ...]


class SizeTable:
    """Union-find over letters, with the declared size of each class.

    Attributes:
        parent: Letter → a letter of the same class, itself for the class's name.
        declared: Class → its entry in ``[sizes]``.
        composed: Letters of a composed axis → the size of the whole.
        used: Letters that occur outside of ``[sizes]``.
        outer: Output letters; a class is better named after a letter that is bound.
    """

    def __init__(self, spec: LayerSpec, parser: Parser, fail: Fail) -> None:
        """Start with no letter; ``fail`` raises a ``SpecError`` at the current line."""
        self.spec = spec
        self.parser = parser
        self._fail = fail
        self.parent: dict[str, str] = {}
        self.declared: dict[str, g.Tree] = {}
        self.composed: dict[tuple[str, ...], g.Tree] = {}
        self.used: set[str] = set()
        self.outer: frozenset[str] = frozenset()

    def fail(self, problem: str, symbol: str, remedy: str) -> NoReturn:
        """Raise a ``SpecError``.

        Raises:
            SpecError: Always.
        """
        self._fail(problem, symbol, remedy)

    # -------------------------------------------------------------- classes
    def add(self, letter: str) -> str:
        """The class of a letter, which is a new one if the letter is new."""
        self.used.add(letter)
        self.parent.setdefault(letter, letter)
        while self.parent[letter] != letter:
            letter = self.parent[letter]
        return letter

    def unify(self, a: str, b: str) -> None:
        """Let two letters range over the same axis.

        Raises:
            SpecError: If the two indices address one axis but have two sizes.
        """
        ra, rb = self.add(a), self.add(b)
        if ra == rb:
            return
        if ra in self.declared and rb in self.declared and self.declared[ra] != self.declared[rb]:
            self.fail(
                f"the indices `{a}` and `{b}` address the same axis but have two sizes",
                a,
                "give both the same entry in [sizes], or use two tensors",
            )
        keep, drop = (rb, ra) if ra in self.outer and rb not in self.outer else (ra, rb)
        if drop in self.declared:
            self.declared.setdefault(keep, self.declared[drop])
        self.parent[drop] = keep

    def declare(self) -> None:
        """Read ``[sizes]``.

        Raises:
            SpecError: If an entry of ``[sizes]`` names no index, one index twice, or a tensor's
                size.
        """
        for key, text in self.spec.sizes.items():
            letters = split_letters(key)
            if not text.strip():
                self.fail(f"the size of `{key}` is empty", key, f'write {key} = "some_argument"')
            tree = self.parser.parse(text)
            if isinstance(tree, g.Reference):
                element = g.element_of(tree)
                if element is None:
                    self.fail("a size is read off no tensor", tree.tensor, 'write "kernel_size[0]"')
                tree = element
            if not letters:
                self.fail("an entry of [sizes] names no index", key, 'write j = "in_features"')
            if len(letters) == 1:
                self.declared[self.add(letters[0])] = tree
                continue
            if len(set(letters)) < len(letters):
                self.fail("a composed axis names an index twice", key, "use two letters")
            for letter in letters:
                self.add(letter)
            self.composed[letters] = tree
        self.used.clear()

    # -------------------------------------------------------------- formulas
    def resolve(
        self, axes: Mapping[str, Axes], kinds: Mapping[str, str], partial: bool
    ) -> tuple[dict[str, int], dict[str, g.Tree | None]]:
        """Find a formula for every class.

        Args:
            axes: The axes of every tensor.
            kinds: The kind of every tensor.
            partial: Whether a parameter is absent: then a size may have lost its use, yet it stays
                an argument of the constructor.

        Returns:
            Constructor argument → number of elements (0: a plain integer), in declared order, and
            class → formula, or ``None`` where the size is read off an input.

        Raises:
            SpecError: If ``[sizes]`` names an index that occurs nowhere.
        """
        used = {x for entry in axes.values() for axis in entry for x in axis} | self.used
        arguments: dict[str, int] = {}
        formulas: dict[str, g.Tree | None] = {self.add(x): None for x in self.parent}
        for key in self.spec.sizes:
            letters = split_letters(key)
            for letter in letters:
                if letter not in used and not partial:
                    self.fail(
                        f"[sizes] names the index `{letter}`, which occurs nowhere",
                        letter,
                        "remove it",
                    )
            if len(letters) > 1:
                self.note_argument(self.composed[letters], arguments)
            else:
                tree = self.declared[self.add(letters[0])]
                self.note_argument(tree, arguments)
                formulas[self.add(letters[0])] = self.formula(tree)
        for letters, tree in self.composed.items():
            self.divide(letters, self.formula(tree), formulas)
        self.check_known(axes, kinds, formulas)
        self.check_formulas(formulas)
        return arguments, formulas

    def divide(
        self, letters: tuple[str, ...], whole: g.Tree, formulas: dict[str, g.Tree | None]
    ) -> None:
        """The one open size of a composed axis is the whole divided by the others.

        Raises:
            SpecError: If not exactly one letter of a composed size is left to find.
        """
        unknown = [x for x in letters if formulas[self.add(x)] is None]
        if len(unknown) != 1:
            self.fail(
                f"of the composed size ({', '.join(letters)}) exactly one must be left to find",
                letters[0],
                "give the others an entry in [sizes]",
            )
        others = [g.SizeOf(self.add(x)) for x in letters if x != unknown[0]]
        formulas[self.add(unknown[0])] = g.Call("//", (whole, g.product(*others)))

    def note_argument(self, tree: g.Tree, arguments: dict[str, int]) -> None:
        """A bare name or tuple element that is no hyperparameter is a constructor argument.

        Raises:
            SpecError: If the name is used as an integer and as a tuple, or hides a parameter or
                input.
        """
        if not isinstance(tree, g.Name) or tree.name in self.spec.hyperparameters:
            return
        if tree.name in self.parent and tree.name not in arguments:
            return
        self.spec.check_name(tree.name, "sizes")
        before = arguments.get(tree.name)
        if before is not None and (before == 0) != (tree.element is None):
            self.fail(f"`{tree.name}` is used as an integer and as a tuple", tree.name, "use one")
        arguments[tree.name] = 0 if tree.element is None else max(before or 0, tree.element + 1)
        taken = {p.torch for p in self.spec.parameters.values()}
        if tree.name in taken or tree.name in self.spec.inputs:
            self.fail(f"the size `{tree.name}` hides a parameter or input", tree.name, "rename it")

    def formula(self, tree: g.Tree) -> g.Tree:
        """A declared size with axis letters read as their sizes.

        Raises:
            SpecError: If the expression cannot stand in a size.
        """

        def change(node: g.Tree) -> g.Tree:
            if isinstance(node, g.Reference):
                found = g.element_of(node)
                if found is None:
                    self.fail(
                        f"`{node.tensor}` cannot be read in a size",
                        node.tensor,
                        "use sizes and hyperparameters",
                    )
                return found
            if isinstance(node, g.Name) and node.element is None and node.name in self.parent:
                return g.SizeOf(self.add(node.name))
            if isinstance(node, g.SizeOf):
                if node.letter not in self.parent:
                    self.fail(f"size of the unknown index `{node.letter}`", node.letter, "name one")
                return g.SizeOf(self.add(node.letter))
            if isinstance(node, g.Number) and node.value.denominator != 1:
                self.fail("a size is a whole number", str(node.value), "use // for division")
            if isinstance(node, g.Power) and node.exponent < 0:
                self.fail("a size is a whole number", "/", "use // for division")
            called = isinstance(node, g.Call) and node.function != "//"
            if called or isinstance(node, g.Reduction):
                self.fail("only + - * // may stand in a size", "", "simplify it")
            return node

        return g.map_tree(tree, change)

    # -------------------------------------------------------------- checks
    def check_known(
        self,
        axes: Mapping[str, Axes],
        kinds: Mapping[str, str],
        formulas: Mapping[str, g.Tree | None],
    ) -> None:
        """Every size has a formula, or belongs to an input that it can be read off.

        Raises:
            SpecError: If the size of an index is unknown.
        """

        def of_kind(*wanted: str) -> Iterator[tuple[str, str]]:
            for name, entry in axes.items():
                if kinds.get(name) in wanted:
                    yield from ((name, letter) for axis in entry for letter in axis)

        for name, letter in of_kind("parameter"):
            if formulas[self.add(letter)] is None:
                self.fail(
                    f"the size of index `{letter}` of parameter `{name}` is unknown",
                    letter,
                    f'add {letter} = "some_argument" to [sizes]',
                )
        readable = {self.add(letter) for _, letter in of_kind("input", "token")}
        for root, formula in formulas.items():
            if formula is None and root not in readable:
                self.fail(
                    f"the size of index `{root}` is unknown", root, f"add {root} = ... to [sizes]"
                )

    def check_formulas(self, formulas: Mapping[str, g.Tree | None]) -> None:
        """Names in formulas are known, and formulas are not cyclic.

        Raises:
            SpecError: If a size is defined by itself.
        """
        known = {t.name for t in self.declared.values() if isinstance(t, g.Name)}
        known |= {t.name for t in self.composed.values() if isinstance(t, g.Name)}
        done: set[str] = set()

        def visit(root: str, trail: frozenset[str]) -> None:
            if root in trail:
                self.fail(
                    f"the size of `{root}` is defined by itself", root, "break the cycle in [sizes]"
                )
            tree = formulas.get(root)
            for node in g.nodes(tree) if tree is not None and root not in done else ():
                if isinstance(node, g.SizeOf):
                    visit(node.letter, trail | {root})
                if isinstance(node, g.Name):
                    self.check_formula_name(node, known)
            done.add(root)

        for root in formulas:
            visit(root, frozenset())

    def check_formula_name(self, node: g.Name, known: set[str]) -> None:
        """A name in a formula is a number that the constructor knows.

        Raises:
            SpecError: If the name is unknown, or is no integer.
        """
        hyper = self.spec.hyperparameters
        if node.name not in hyper and node.name not in known:
            self.fail(
                f"unknown name `{node.name}` in [sizes]",
                node.name,
                "use axis letters and hyperparameters",
            )
        if node.name in hyper:
            g.check_hyperparameter(node, hyper[node.name], self.fail)
            if isinstance(hyper[node.name], float):
                self.fail(f"`{node.name}` is no integer", node.name, "use an integer in a size")

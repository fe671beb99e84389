"""The exact reading of a generated file, asked where a mutant can be seen, cheapest place first.

The unbroken file is read once at every place, which tells what statements each place takes, and how
long that lasts. A place that does not take a mutant's statement reads the same as before.
"""

from __future__ import annotations

import ast
import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from verify.emitted import Prover, UndefinedError, check_exports, count_of, read
from verify.mutation.mutants import Mutant
from verify.subject import Subject


@dataclass(frozen=True)
class Place:
    """Where a file is read.

    Attributes:
        subject: The class.
        index: Which of its places.
        taken: The first lines of the statements that are run there.
        seconds: How long that takes.
    """

    subject: Subject
    index: int
    taken: frozenset[int]
    seconds: float


class Reading:
    """Reads mutants of one text.

    Args:
        subjects: The classes of the file, with what was derived for them.
        text: The unbroken text.

    Raises:
        VerificationError: If the unbroken text is refused.
    """

    def __init__(self, subjects: Sequence[Subject], text: str) -> None:
        """Read the unbroken text everywhere."""
        self.prover = Prover(subjects)
        self.names = [subject.name for subject in self.prover.subjects]
        self.places = sorted(self.read_everywhere(text), key=lambda place: place.seconds)

    def read_everywhere(self, text: str) -> Iterator[Place]:
        """Every place of the unbroken text, read twice: the first time draws the points."""
        for subject in self.prover.subjects:
            for index in range(count_of(subject)):
                for _ in range(2):
                    machine = read(text)
                    start = time.perf_counter()
                    with contextlib.suppress(UndefinedError):
                        self.prover.judge_place(machine, subject, index)
                seconds = time.perf_counter() - start
                yield Place(subject, index, frozenset(machine.taken), seconds)

    def judge(self, text: str, where: Collection[int] | None, classes: Collection[str]) -> None:
        """Read a text at the places that take certain statements of certain classes.

        Args:
            text: What to read.
            where: First lines of statements in the unbroken text; ``None``: any.
            classes: Names of classes.

        Raises:
            VerificationError: If it is refused.
        """
        machine = read(text)
        check_exports(machine, self.names)
        for place in self.places:
            seen = where is None or not place.taken.isdisjoint(where)
            if seen and place.subject.name in classes:
                with contextlib.suppress(UndefinedError):
                    self.prover.judge_place(machine, place.subject, place.index)


def statement(tree: ast.Module, mutant: Mutant) -> int | None:
    """The first line of the statement that a mutant changes.

    Returns:
        ``None`` where it is run with others, as a constant of a class or an argument's default.
    """
    node: ast.AST = tree
    found, inside = None, False
    for name, k in mutant.path:
        below = getattr(node, name)
        node = below if k < 0 else below[k]
        if isinstance(node, ast.FunctionDef):
            found, inside = None, True
        elif inside and isinstance(node, ast.stmt):
            found = node.lineno
    return found


def reaching(tree: ast.Module, function: str) -> frozenset[str]:
    """The classes of a file that can take a function: it is theirs, or is named on the way to it.

    Args:
        tree: The file.
        function: A qualified name; empty: the file itself.
    """
    definitions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    words = {name: named(node) & set(definitions) for name, node in definitions.items()}
    top = function.split(".", maxsplit=1)[0]
    wanted = {top} if top else set(definitions)
    before = 0
    while before < len(wanted):
        before = len(wanted)
        wanted |= {name for name, below in words.items() if below & wanted}
    return frozenset(wanted)


def named(node: ast.AST) -> set[str]:
    """The names that stand in a definition."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}

"""Mutants of a generated layer, and what refuses them, the most in a second first.

    gate       the text is no generated PyTorch, or does not import
    emitted    the exact interpreter of the text, where it takes what the mutant changes
    declared   constructor, initial values, leading axes, precision, vanishing inputs
    tests      the repository's tests of the layers, in a checkout
    accuracy   units in the last place against arithmetic of 256 bits
    contracts, numeric, lowering, gradients, order      the stages of that name

Only classes that can take the mutated function are judged. That the text is not what the spec
generates would refuse them all and counts for nothing here.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from codegen import generate
from derive.errors import TruestepError
from derive.spec import load_spec
from verify import accuracy_table, conformance
from verify.accuracy import bound, measure
from verify.contracts.stage import contracts_stage
from verify.declared import declared_stage
from verify.gradients import gradients_stage
from verify.lowering import lowering_stage
from verify.mutation.isolation import IsolationError, judged
from verify.mutation.loading import general_of, subjects_of
from verify.mutation.mutants import Mutant, mutants, mutated_tree
from verify.mutation.reading import Reading, reaching, statement
from verify.mutation.suite import run_tests
from verify.numeric import judge_case, judge_whole
from verify.order import order_stage
from verify.results import StageResult
from verify.stage import Case, Record, Settings, Stage, cases, run_stage
from verify.subject import Subject

INSTANCES = 8
T = TypeVar("T")
SECONDS = 240.0
WORST = ("bfloat16", "float16", "float32")
"""The formats whose numbers run out first."""
STAGES: dict[str, Stage] = {
    "declared": declared_stage,
    "contracts": contracts_stage,
    "lowering": lowering_stage,
    "order": order_stage,
    "gradients": gradients_stage,
}


@dataclass(frozen=True)
class Found:
    """What refused a mutant.

    Attributes:
        killer: Its name; empty where nothing did.
        detail: What it said.
    """

    killer: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Broken:
    """A text in place of the generated one.

    Attributes:
        text: The text.
        subjects: Its classes that may differ, with what was derived for them.
        where: See :meth:`Reading.judge`.
    """

    text: str
    subjects: Sequence[Subject]
    where: frozenset[int] | None

    @property
    def names(self) -> frozenset[str]:
        """The classes that may differ."""
        return frozenset(s.name for s in self.subjects)


class LayerTarget:
    """A generated file, its derivations, and instances at which its mutants are judged.

    Args:
        spec_file: The layer's spec.
    """

    alone = False
    seconds = SECONDS

    def __init__(self, spec_file: Path) -> None:
        """Generate the layer."""
        torch.set_num_threads(1)
        self.source: Any = generate(load_spec(spec_file))
        self.stem = spec_file.stem
        self.file = f"layers/{self.source.module}"
        self.tree = ast.parse(self.source.text)

    def within(self, function: Callable[[], T]) -> T:
        """Call a function once the unbroken file is read, and all that the text does not change.

        Raises:
            IsolationError: If anything refuses the unbroken file, whose refusals then mean nothing.
        """
        assert self.reading.places, "a layer is read somewhere"
        assert self.settings.general, "every layer has a general lowering"
        if self.unbroken:
            raise IsolationError(f"{self.file} is refused without a mutant: {self.unbroken}")
        return function()

    @functools.cached_property
    def unbroken(self) -> str:
        """What refuses the unbroken text, laid out like a mutant, and why; nothing should."""
        _ = self.wrong  # known here once, and not in every fork anew
        text = ast.unparse(self.tree)
        (found,) = judged(lambda text: asdict(self.judge_text(text)), [text], self.seconds)
        return "no answer" if found is None else f"{found['killer']} {found['detail']}".strip()

    @functools.cached_property
    def subjects(self) -> tuple[Subject, ...]:
        """The unbroken classes."""
        return subjects_of(self.source)

    @functools.cached_property
    def settings(self) -> Settings:
        """What the stages are given."""
        return Settings(INSTANCES, 0, general_of(self.source))

    @functools.cached_property
    def reading(self) -> Reading:
        """The exact reading of the unbroken text."""
        return Reading(self.subjects, self.text)

    @functools.cached_property
    def cases(self) -> dict[Any, list[Case]]:
        """The instances of the numeric stage for every class and choice of parameters."""
        return {
            s.key: list(cases(s, self.settings, Record("numeric", s.name))) for s in self.subjects
        }

    @functools.cached_property
    def wrong(self) -> dict[Any, set[str]]:
        """The patterns of input at which the unbroken classes are wrong, by key and format."""
        if self.stem not in accuracy_table.SPECS:
            return {}
        return {
            (s.key, format): set(wrong_for(s, format))
            for s in accuracy_table.judged(self.subjects)
            for format in WORST
        }

    def wrong_at(self, key: Any, format: str) -> set[str]:
        """The patterns at which an unbroken class is wrong; it may share a stage with another."""
        if (key, format) not in self.wrong:
            subject = next(s for s in self.subjects if s.key == key)
            self.wrong[key, format] = set(wrong_for(subject, format))
        return self.wrong[key, format]

    @property
    def text(self) -> str:
        """What is mutated."""
        text: str = self.source.text
        return text

    def mutants(self) -> tuple[Mutant, ...]:
        """Every mutant of the file."""
        return mutants(self.text, self.file, tensors=True)

    def judge(self, mutant: Mutant) -> tuple[str, str]:
        """Who refuses a mutant, and why."""
        place = statement(self.tree, mutant)
        found = self.judge_text(
            ast.unparse(mutated_tree(self.tree, mutant)),
            None if place is None else frozenset([place]),
            reaching(self.tree, mutant.function),
        )
        return found.killer, found.detail

    def judge_text(
        self, text: str, where: frozenset[int] | None = None, names: Collection[str] | None = None
    ) -> Found:
        """Who refuses a text in place of the generated one, and why.

        Args:
            text: The text.
            where: First lines of the statements that differ; ``None``: any.
            names: The definitions that may differ; ``None``: all.
        """
        try:
            found = subjects_of(replace(self.source, text=text))
        except (TruestepError, SyntaxError) as error:
            return Found("gate", str(error))
        broken = Broken(text, [s for s in found if names is None or s.name in names], where)
        refusals = (killer(self, broken) for killer in KILLERS if broken.subjects)
        return next((found for found in refusals if found.killer), Found())


Killer = Callable[[LayerTarget, Broken], Found]


def emitted(target: LayerTarget, broken: Broken) -> Found:
    """The exact interpreter of the text."""
    try:
        target.reading.judge(broken.text, broken.where, broken.names)
    except Exception as error:  # what the interpreter cannot read is refused too
        return Found("emitted", f"{type(error).__name__}: {error}")
    return Found()


def numeric(target: LayerTarget, broken: Broken) -> Found:
    """The comparisons of the numeric stage at the prepared instances, up to the first refusal."""
    for case in prepared(target, broken):

        def stage(_: Sequence[Subject], __: Settings, record: Record, case: Case = case) -> None:
            record.instances += 1
            judge_case(case, record)
            judge_whole(case, record)

        result = run_stage("numeric", stage, [case.subject], target.settings)
        if not result.passed:
            return Found("numeric", result.detail)
    return Found()


def prepared(target: LayerTarget, broken: Broken) -> Iterator[Case]:
    """The prepared instances of every subject, first instances first, with the mutated classes."""
    here = {s.key: s for s in broken.subjects}
    for index in range(INSTANCES):
        for key, found in target.cases.items():
            if key in here and index < len(found) and accepts(here[key], found[index]):
                yield replace(found[index], subject=here[key])


def accepts(subject: Subject, case: Case) -> bool:
    """Whether a class takes an instance's arguments; as in every stage, it may refuse them."""
    try:
        subject.build(case.instance)
    except ValueError:
        return False
    except Exception:  # the stage will say so
        return True
    return True


def by_stage(name: str, target: LayerTarget, broken: Broken) -> Found:
    """A stage of verification for every class, up to the first refusal."""
    for result in staged(name, target, broken):
        if not result.passed:
            return Found(name, result.detail)
    return Found()


def staged(name: str, target: LayerTarget, broken: Broken) -> Iterator[StageResult]:
    """A stage's result for every class."""
    for own in dict.fromkeys(s.name for s in broken.subjects):
        variants = [s for s in broken.subjects if s.name == own]
        here = conformance.shared(target.settings, variants)
        yield run_stage(name, STAGES[name], variants, here)


def accuracy(target: LayerTarget, broken: Broken) -> Found:
    """The errors in units of the last place, against arithmetic of 256 bits.

    What the unbroken layer is wrong for too, as the table of accuracy says, refuses nothing.
    """
    for subject in accuracy_table.judged(broken.subjects) if target.wrong else ():
        for format in WORST:
            wrong = set(wrong_for(subject, format)) - target.wrong_at(subject.key, format)
            if wrong:
                return Found("accuracy", f"{subject.name} in {format} is wrong for {sorted(wrong)}")
    return Found()


def wrong_for(subject: Subject, format: str) -> tuple[str, ...]:
    """The patterns of input at which a layer is wrong in a format."""
    count, errors = measure(subject, format)
    return accuracy_table.Row(subject.name, format, bound(count, format), tuple(errors)).wrong


def suite(target: LayerTarget, broken: Broken) -> Found:
    """The tests of the layers with the mutated module in the generated one's place."""
    module = broken.subjects[0].type.__module__
    failed = run_tests(target.source.module, module, sorted(broken.names))
    return Found("tests", failed) if failed else Found()


KILLERS: tuple[Killer, ...] = (
    emitted,
    functools.partial(by_stage, "declared"),
    suite,
    accuracy,
    functools.partial(by_stage, "contracts"),
    numeric,
    functools.partial(by_stage, "lowering"),
    functools.partial(by_stage, "gradients"),
    functools.partial(by_stage, "order"),
)
"""Those first that refuse most in a second."""


@functools.lru_cache(maxsize=2)
def open_layer(spec_file: Path) -> LayerTarget:
    """The target of a spec file; a process that judges several parts of it opens it once."""
    return LayerTarget(spec_file)

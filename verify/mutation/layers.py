"""Mutants of a generated layer, and what refuses them, cheapest first.

    gate       the text is no generated PyTorch, or does not import
    emitted    the exact interpreter of the text
    declared, numeric, contracts, lowering, order, gradients      the stages of that name
    accuracy   units in the last place against arithmetic of 256 bits
    tests      the repository's tests of the layers, in a checkout

That the text is not what the spec generates would refuse them all and counts for nothing here.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from codegen import generate
from derive.errors import TruestepError
from derive.spec import load_spec
from verify import accuracy_table, conformance
from verify.accuracy import bound, measure
from verify.contracts.stage import contracts_stage
from verify.declared import declared_stage
from verify.emitted import Prover
from verify.gradients import gradients_stage
from verify.lowering import lowering_stage
from verify.mutation.loading import general_of, subjects_of
from verify.mutation.mutants import Mutant, mutants, mutated_tree
from verify.mutation.suite import run_tests
from verify.numeric import judge_case, judge_whole
from verify.order import order_stage
from verify.results import StageResult
from verify.stage import Case, Record, Settings, Stage, cases, run_stage
from verify.subject import Subject

INSTANCES = 8
SECONDS = 60.0
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


class LayerTarget:
    """A generated file, its derivations, and instances at which its mutants are judged.

    Args:
        spec_file: The layer's spec.
    """

    alone = False
    seconds = SECONDS

    def __init__(self, spec_file: Path) -> None:
        """Generate the layer and draw the instances, with all that does not depend on the text."""
        torch.set_num_threads(1)
        self.source: Any = generate(load_spec(spec_file))
        self.stem = spec_file.stem
        self.file = f"layers/{self.source.module}"
        self.tree = ast.parse(self.source.text)
        self.subjects = subjects_of(self.source)
        self.settings = Settings(INSTANCES, 0, general_of(self.source))
        self.prover = Prover(self.subjects)
        self.prover.judge(self.text)
        self.cases: dict[Any, list[Case]] = {}
        for subject in self.subjects:
            record = Record("numeric", subject.name)
            self.cases[subject.key] = list(cases(subject, self.settings, record))

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
        found = self.judge_text(ast.unparse(mutated_tree(self.tree, mutant)))
        return found.killer, found.detail

    def judge_text(self, text: str) -> Found:
        """Who refuses a text in place of the generated one, and why."""
        try:
            judged = subjects_of(replace(self.source, text=text))
        except (TruestepError, SyntaxError) as error:
            return Found("gate", str(error))
        for killer in KILLERS:
            found = killer(self, judged)
            if found.killer:
                return found
        return Found()


Killer = Callable[[LayerTarget, Sequence[Subject]], Found]


def numeric(target: LayerTarget, judged: Sequence[Subject]) -> Found:
    """The comparisons of the numeric stage at the prepared instances, up to the first refusal."""
    for case in prepared(target, judged):

        def stage(_: Sequence[Subject], __: Settings, record: Record, case: Case = case) -> None:
            record.instances += 1
            judge_case(case, record)
            judge_whole(case, record)

        result = run_stage("numeric", stage, [case.subject], target.settings)
        if not result.passed:
            return Found("numeric", result.detail)
    return Found()


def emitted(target: LayerTarget, judged: Sequence[Subject]) -> Found:
    """The exact interpreter of the text."""
    try:
        target.prover.judge(judged[0].text)
    except Exception as error:  # what the interpreter cannot read is refused too
        return Found("emitted", f"{type(error).__name__}: {error}")
    return Found()


def prepared(target: LayerTarget, judged: Sequence[Subject]) -> Iterator[Case]:
    """The prepared instances of every subject, first instances first, with the mutated classes."""
    here = {s.key: s for s in judged}
    for index in range(INSTANCES):
        for key, found in target.cases.items():
            if index < len(found) and accepts(here[key], found[index]):
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


def by_stage(name: str, target: LayerTarget, judged: Sequence[Subject]) -> Found:
    """A stage of verification for every class, up to the first refusal."""
    for result in staged(name, target, judged):
        if not result.passed:
            return Found(name, result.detail)
    return Found()


def staged(name: str, target: LayerTarget, judged: Sequence[Subject]) -> Iterator[StageResult]:
    """A stage's result for every class."""
    for own in dict.fromkeys(s.name for s in judged):
        variants = [s for s in judged if s.name == own]
        here = conformance.shared(target.settings, variants)
        yield run_stage(name, STAGES[name], variants, here)


def accuracy(target: LayerTarget, judged: Sequence[Subject]) -> Found:
    """The errors in units of the last place, against arithmetic of 256 bits."""
    if target.stem not in accuracy_table.SPECS:
        return Found()
    for subject in accuracy_table.judged(judged):
        for format in WORST:
            count, errors = measure(subject, format)
            row = accuracy_table.Row(subject.name, format, bound(count, format), tuple(errors))
            if row.wrong:
                return Found("accuracy", f"{subject.name} in {format} is wrong for {row.wrong}")
    return Found()


def suite(target: LayerTarget, judged: Sequence[Subject]) -> Found:
    """The tests of the layers with the mutated module in the generated one's place."""
    failed = run_tests(target.source.module, judged[0].type.__module__, [s.name for s in judged])
    return Found("tests", failed) if failed else Found()


KILLERS: tuple[Killer, ...] = (
    emitted,
    functools.partial(by_stage, "declared"),
    numeric,
    functools.partial(by_stage, "contracts"),
    functools.partial(by_stage, "lowering"),
    functools.partial(by_stage, "order"),
    functools.partial(by_stage, "gradients"),
    accuracy,
    suite,
)


@functools.lru_cache(maxsize=2)
def open_layer(spec_file: Path) -> LayerTarget:
    """The target of a spec file; a process that judges several parts of it opens it once."""
    return LayerTarget(spec_file)

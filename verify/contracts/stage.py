"""The contracts stages: a layer is a module like any other of torch's.

A contract is a function of an :class:`~verify.contracts.example.Example` that returns or raises.
The same functions judge the layers that come with truestep and a user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from verify.contracts import compilers, life, transforms
from verify.contracts.example import Example
from verify.instances import GRADIENTS
from verify.order import GENERIC
from verify.stage import Record, Settings, cases
from verify.subject import Subject

INSTANCES = 2
# What a contract may need, and what is said where it is missing.
NEEDS = {
    "twin": "no twin in torch.nn was named",
    "samples": "samples see each other",
    "reals": "no input is real",
}


@dataclass(frozen=True)
class Contract:
    """What a module promises.

    Attributes:
        check: Raises if the promise is broken.
        needs: What an example must have for the promise to mean anything: nothing or one of
            :data:`NEEDS`.
    """

    check: Callable[[Example], None]
    needs: str = ""

    def applies(self, example: Example) -> bool:
        """Whether the promise means anything for an example."""
        there = {
            "": True,
            "twin": example.twin is not None,
            "samples": example.independent,
            "reals": any(x.is_floating_point() for x in example.inputs),
        }
        return there[self.needs]


CONTRACTS: Mapping[str, Contract] = {
    "plain state": Contract(life.plain_state),
    "reset": Contract(life.reset),
    "meta device": Contract(life.meta_device),
    "skip_init": Contract(life.skip_init),
    "dtype": Contract(life.dtypes),
    "copies": Contract(life.copies),
    "train and eval": Contract(life.modes),
    "repr": Contract(life.shown),
    "in place after": Contract(life.in_place_after),
    "twin": Contract(life.twin, "twin"),
    "half precision": Contract(transforms.half_precision),
    "autocast": Contract(transforms.autocast),
    "functional": Contract(transforms.functional),
    "forward mode": Contract(transforms.forward_mode),
    "ensemble": Contract(transforms.ensemble),
    "gradient penalty": Contract(transforms.gradient_penalty, "reals"),
    "alone": Contract(transforms.alone),
    "one sample": Contract(transforms.one_sample, "samples"),
    "no sample": Contract(transforms.no_sample, "samples"),
}
COMPILERS: Mapping[str, Contract] = {
    "compile": Contract(compilers.compiles),
    "export": Contract(compilers.exports),
}


def broken(contract: Contract, example: Example) -> str:
    """What is wrong with a module, or ``""``; any exception is a broken contract."""
    try:
        contract.check(example)
    except Exception as error:  # whatever a module raises here, it would raise to its user
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return ""


def judge(
    contracts: Mapping[str, Contract],
    variants: Sequence[Subject],
    settings: Settings,
    record: Record,
    count: int,
) -> None:
    """Every contract that applies, for each choice of optional parameters."""
    held: set[str] = set()
    for subject in (s for s in variants if s.speaks):
        for case in cases(subject, settings, record, kinds=GENERIC, limits=GRADIENTS, count=count):
            example = subject.example(case.instance, case.tolerance)
            example = replace(example, twin=settings.twin)
            for name, contract in contracts.items():
                if not contract.applies(example):
                    continue
                held.add(name)
                reason = broken(contract, example)
                what = f"contract `{name}` is broken"
                record.judge(1.0 if reason else 0.0, 0.0, what, case, reason=reason)
    record.note(f"judged: {', '.join(name for name in contracts if name in held)}")
    for name in contracts:
        if name not in held:
            record.note(f"`{name}` does not apply: {NEEDS[contracts[name].needs]}")


def contracts_stage(variants: Sequence[Subject], settings: Settings, record: Record) -> None:
    """Life, transforms and types."""
    judge(CONTRACTS, variants, settings, record, INSTANCES)


def compilers_stage(variants: Sequence[Subject], settings: Settings, record: Record) -> None:
    """torch.compile and torch.export, at one instance of each choice of optional parameters."""
    judge(COMPILERS, variants, settings, record, 1)

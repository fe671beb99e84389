"""The contracts stages: a layer is a module like any other of torch's.

A contract is a function of an :class:`~verify.contracts.example.Example` that returns or raises.
The same functions judge the layers that come with truestep and a user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from verify.contracts import compilers, life, transforms
from verify.contracts.example import Example
from verify.instances import GRADIENTS
from verify.order import GENERIC
from verify.stage import Case, Record, Settings, cases
from verify.subject import Subject

INSTANCES = 2
Contract = Callable[[Example], None]
CONTRACTS: Mapping[str, Contract] = {
    "plain state": life.plain_state,
    "reset": life.reset,
    "meta device": life.meta_device,
    "skip_init": life.skip_init,
    "dtype": life.dtypes,
    "copies": life.copies,
    "train and eval": life.modes,
    "repr": life.shown,
    "in place after": life.in_place_after,
    "twin": life.twin,
    "half precision": transforms.half_precision,
    "autocast": transforms.autocast,
    "functional": transforms.functional,
    "forward mode": transforms.forward_mode,
    "ensemble": transforms.ensemble,
    "samples": transforms.samples,
    "no samples": transforms.no_samples,
    "gradient penalty": transforms.gradient_penalty,
}
COMPILERS: Mapping[str, Contract] = {
    "compile": compilers.compiles,
    "export": compilers.exports,
}


def broken(contract: Contract, example: Example) -> str:
    """What is wrong with a module, or ``""``; any exception is a broken contract."""
    try:
        contract(example)
    except Exception as error:  # whatever a module raises here, it would raise to its user
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return ""


def example_of(subject: Subject, case: Case, settings: Settings) -> Example | None:
    """The class at a case's sizes; ``None`` where another subject of the class speaks for it."""
    found = subject.example(case.instance)
    if found is None:
        return None
    return replace(found, tolerance=case.tolerance, twin=settings.twin)


def judge(
    contracts: Mapping[str, Contract],
    variants: Sequence[Subject],
    settings: Settings,
    record: Record,
    count: int,
) -> None:
    """Every contract for each choice of optional parameters."""
    for subject in variants:
        for case in cases(subject, settings, record, kinds=GENERIC, limits=GRADIENTS, count=count):
            example = example_of(subject, case, settings)
            if example is None:
                continue
            for name, contract in contracts.items():
                reason = broken(contract, example)
                what = f"contract `{name}` is broken"
                record.judge(1.0 if reason else 0.0, 0.0, what, case, reason=reason)
    record.note(f"contracts held: {', '.join(contracts)}")


def contracts_stage(variants: Sequence[Subject], settings: Settings, record: Record) -> None:
    """Life, transforms and types."""
    judge(CONTRACTS, variants, settings, record, INSTANCES)


def compilers_stage(variants: Sequence[Subject], settings: Settings, record: Record) -> None:
    """torch.compile and torch.export, at one instance of each choice of optional parameters."""
    judge(COMPILERS, variants, settings, record, 1)

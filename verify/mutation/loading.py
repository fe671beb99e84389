"""Generated texts → subjects, within the process that a mutant has for itself anyway."""

from __future__ import annotations

import hashlib
from typing import Any

from codegen import generate
from codegen.gate import check
from verify.load import execute
from verify.sources import subjects
from verify.subject import Subject


def subjects_of(source: Any) -> tuple[Subject, ...]:
    """The subjects of a generated layer, its text judged by the gate and executed here.

    Raises:
        TruestepError: If the text is refused, does not execute or lacks a class.
    """
    check(source.text)
    digest = hashlib.sha256(source.text.encode()).hexdigest()[:16]
    module = execute(source.text, f"truestep_mutated_{source.module}_{digest}")
    return subjects(source, module=module)


def general_of(source: Any) -> dict[tuple[str, str, frozenset[str]], Subject]:
    """The classes of the general lowering by :attr:`Subject.key`."""
    return {s.key: s for s in subjects_of(generate(source.spec, general=True))}

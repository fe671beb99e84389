"""From a generated module's text to the subjects that the stages judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch

from derive.corrections import Correction
from verify.attention import attention_subjects
from verify.load import load_module
from verify.results import VerificationError
from verify.subject import Subject


def subjects(source: Any, *, module: ModuleType | None = None) -> tuple[Subject, ...]:
    """Every class of a generated module with every choice of its optional parameters.

    Args:
        source: A ``codegen.LayerSource``, or anything of its shape.
        module: Its module if it is already loaded; otherwise its text is executed.

    Raises:
        VerificationError: If the text does not define a promised class.
    """
    module = module or load_module(source.text, source.module)
    if hasattr(source, "attention"):
        return tuple(replace(s, text=source.text) for s in attention_subjects(source, module))
    found = []
    for entry in source.classes:
        defined = getattr(module, entry.name, None)
        if not (isinstance(defined, type) and issubclass(defined, torch.nn.Module)):
            raise VerificationError(f"the generated text defines no module {entry.name}")
        corrections: Mapping[frozenset[str], Correction] = entry.corrections
        for absent, correction in corrections.items():
            derivation = source.derivations[absent]
            subject = Subject(entry.name, defined, absent, derivation, correction)
            found.append(replace(subject, text=source.text))
    return tuple(found)

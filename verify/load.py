"""Generated text → module, as an import would do it, with tracebacks that show the text's lines."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import linecache
import sys
from types import ModuleType
from typing import Any

from verify.results import VerificationError


def load_module(text: str, name: str) -> ModuleType:
    """Execute a generated module under a name that nothing else uses.

    Args:
        text: The module's source text; it must pass the allow-list gate of ``codegen.gate``.
        name: A readable part of the name.

    Returns:
        The module, registered in ``sys.modules`` (pickling finds its classes) and ``linecache``
        (tracebacks and ``inspect`` find its text). The same text gives the same module.

    Raises:
        VerificationError: If the gate refuses the text or the text does not execute.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    unique = f"truestep_generated_{name}_{digest}"
    if unique in sys.modules:
        return sys.modules[unique]
    check_gate(text)
    file = f"<generated {unique}>"
    module = ModuleType(unique)
    module.__file__ = file
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    sys.modules[unique] = module
    try:
        exec(compile(text, file, "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[unique]
        raise VerificationError(f"the generated module does not import: {error!r}") from error
    return module


def check_gate(text: str) -> None:
    """Let ``codegen.gate`` judge the text before anything of it runs."""
    gate: Any = importlib.import_module("codegen.gate") if gate_exists() else None
    if gate is not None:
        gate.check(text)


def gate_exists() -> bool:
    """Whether the code generator comes with a gate."""
    return importlib.util.find_spec("codegen.gate") is not None

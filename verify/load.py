"""Generated text → module, as an import would do it, with tracebacks that show the text's lines.

text → gate.check → imported in another process → imported here
"""

from __future__ import annotations

import hashlib
import linecache
import sys
from types import ModuleType

from codegen.gate import check
from verify.isolated import IMPORTER
from verify.results import VerificationError


def load_module(text: str, name: str) -> ModuleType:
    """Execute a generated module under a name that nothing else uses.

    Args:
        text: The module's source text; it must pass the allow-list gate of ``codegen.gate``, and
            then be importable in a process of its own (:mod:`verify.isolated`).
        name: A readable part of the name.

    Returns:
        The module, registered in ``sys.modules`` (pickling finds its classes) and ``linecache``
        (tracebacks and ``inspect`` find its text). The same text gives the same module.

    Raises:
        GateError: If the gate refuses the text.
        VerificationError: If the text does not execute, there or here, or not alike.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    unique = f"truestep_generated_{name}_{digest}"
    if unique in sys.modules:
        return sys.modules[unique]
    check(text)
    promised = {definition.name for definition in IMPORTER.definitions(text, unique)}
    module = execute(text, unique)
    defined = {k for k, v in vars(module).items() if getattr(v, "__module__", "") == unique}
    if not promised <= defined:
        del sys.modules[unique]
        raise VerificationError("the generated module defines other classes than when tried out")
    return module


def execute(text: str, unique: str) -> ModuleType:
    """Execute a text that passed everything before.

    Raises:
        VerificationError: If it raises an error.
    """
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

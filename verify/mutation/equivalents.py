"""Mutants that nothing refuses because they are not wrong, each with the reason.

An entry matches a mutant's ``file:line:column:kind: before → after``. One that no survivor of a
whole campaign needs is stale, and the campaign fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Equivalent:
    """An argument.

    Attributes:
        files: Regular expression of the files that it is about, as ``layers/.*``.
        kind: Regular expression of the kind.
        change: Regular expression of ``before  →  after``, from the start.
        reason: Why such a file is right.
    """

    files: str
    kind: str
    change: str
    reason: str

    def covers(self, verdict: object) -> bool:
        """Whether the argument is about a mutant."""
        file, kind = (str(getattr(verdict, n)) for n in ("file", "identity"))
        kind = kind.split(":", 3)[3].split(" #")[0]
        change = f"{getattr(verdict, 'before', '')}  →  {getattr(verdict, 'after', '')}"
        return (
            re.fullmatch(self.files, file) is not None
            and re.fullmatch(self.kind, kind) is not None
            and re.match(self.change, change) is not None
        )

    def concerns(self, files: Iterable[str]) -> bool:
        """Whether the argument is about any of some files."""
        return any(re.fullmatch(self.files, file) for file in files)


EQUIVALENTS: tuple[Equivalent, ...] = ()

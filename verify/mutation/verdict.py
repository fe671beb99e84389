"""What became of a mutant."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        file: The mutated file.
        digest: Of its text, so that a verdict is not taken for one on another text.
        identity, function, before, after: The mutant.
        killer: What refused it; empty where nothing did.
        detail: What that said.
        seconds: How long it took.
        shared: See :class:`~verify.mutation.mutants.Mutant`.
    """

    file: str
    digest: str
    identity: str
    function: str
    before: str
    after: str
    killer: str
    detail: str
    seconds: float
    shared: str = ""

    @property
    def survived(self) -> bool:
        """Whether nothing refused the mutant."""
        return not self.killer

    def __str__(self) -> str:
        return f"{self.identity}: {self.before}  →  {self.after}"

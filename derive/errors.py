"""The errors of the derivation, each of which names what is wrong and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


class TruestepError(Exception):
    """Base of every error that truestep raises on purpose; a command line shows its text alone."""


@dataclass
class SpecError(TruestepError):
    """A spec that cannot be read: names file, line, offending symbol and remedy.

    Attributes:
        problem: What is wrong, in one sentence.
        symbol: The offending name, index or piece of text.
        remedy: What to write instead.
        file: The file, or ``None`` for a spec built in Python.
        line: The line within the file or within ``forward``; ``None`` if unknown.
    """

    problem: str
    symbol: str = ""
    remedy: str = ""
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = self.file or "<spec>"
        if self.line is not None:
            place += f":{self.line}"
        text = f"{place}: {self.problem}"
        if self.symbol:
            text += f" [{self.symbol}]"
        if self.remedy:
            text += f"\n  remedy: {self.remedy}"
        return text


class DerivationError(TruestepError):
    """A derivation or a proof step that did not go through; nothing may be built on it."""

"""The errors of the derivation, each of which names what is wrong and what to do about it."""

from __future__ import annotations

import re
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
        text = visible(f"{place}: {self.problem}")
        if self.symbol:
            text += f" [{visible(self.symbol, 80)}]"
        if self.remedy:
            text += f"\n  remedy: {visible(self.remedy)}"
        return text


class DerivationError(TruestepError):
    """A derivation or a proof step that did not go through; nothing may be built on it."""


def visible(text: str, length: int = 1000) -> str:
    """Text for a terminal: what is not printable is escaped, and what is too long is cut."""
    shown = text if len(text) <= length else text[:length] + "..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


def find_line(text: str | None, symbol: str, *, key: bool = False) -> int | None:
    """The first line of a file that holds a symbol as a word, counted from 1.

    Args:
        text: The file's content.
        symbol: What to look for.
        key: Whether the symbol must be the key of an entry, as in ``symbol = ...``.
    """
    if not text or not symbol:
        return None
    word = re.escape(symbol)
    if key:
        pattern = re.compile(rf"""^\s*["']?{word}["']?\s*=""")
    else:
        pattern = re.compile(rf"(?<![A-Za-z0-9_]){word}(?![A-Za-z0-9_])")
    for number, line in enumerate(text.splitlines(), start=1):
        if pattern.search(line.split("#", 1)[0]):
            return number
    return None

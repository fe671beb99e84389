"""Where specs come from: the shipped ones by name, a user's own by file. Reads, derives nothing."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

PACKAGE = Path(__file__).parent
LAYERS = PACKAGE / "layers"
"""The generated layers that come with this installation."""
LONGEST = 1_000_000
"""Characters of a file that are looked at."""


class UsageError(Exception):
    """A command line that asks for something that is not there; its text says what to do."""


@dataclass(frozen=True)
class Source:
    """A spec before it is read.

    Attributes:
        name: The shipped name, or the file's stem.
        file: What errors call it.
        text: The TOML text.
        shipped: Whether it comes with truestep.
    """

    name: str
    file: str
    text: str
    shipped: bool

    def summary(self) -> str:
        """The ``summary`` of the spec; empty if there is none to be read."""
        try:
            return str(tomllib.loads(self.text).get("summary", ""))
        except tomllib.TOMLDecodeError:
            return ""


def shipped() -> tuple[Source, ...]:
    """Every shipped spec, by name."""
    found = []
    for entry in resources.files("truestep").joinpath("specs").iterdir():
        if entry.name.endswith(".toml"):
            text = entry.read_text(encoding="utf-8")
            stem = entry.name.removesuffix(".toml")
            found.append(Source(stem, f"truestep/specs/{entry.name}", text, True))
    return tuple(sorted(found, key=lambda source: source.name))


def find(name: str) -> Source:
    """A shipped spec by name (``layer_norm_linear`` or ``LayerNormLinear``), or a spec file.

    Raises:
        UsageError: If there is no such spec; with the nearest names.
    """
    if name.endswith(".toml") or "/" in name or "\\" in name:
        return from_file(name)
    sources = shipped()
    for source in sources:
        if folded(source.name) == folded(name):
            return source
    names = [source.name for source in sources]
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`truestep list` names them all"
    raise UsageError(f"there is no shipped spec `{name}`; {hint}\n  a file's name ends in .toml")


def folded(name: str) -> str:
    """A name without case and underscores."""
    return name.replace("_", "").lower()


def from_file(name: str) -> Source:
    """The spec in a file.

    Raises:
        UsageError: If the file cannot be read.
    """
    path = Path(name)
    try:
        with path.open(encoding="utf-8") as file:
            # A device may have no end; what is longer than this is refused when it is read.
            return Source(path.stem, name, file.read(LONGEST), False)
    except UnicodeDecodeError:
        raise UsageError(
            f"{name}: the file is not UTF-8 text\n  remedy: save it as UTF-8"
        ) from None
    except OSError as error:
        raise UsageError(f"{name}: cannot read the spec: {error.strerror or error}") from None


def in_checkout() -> bool:
    """Whether this is a source tree, in which the shipped layers are kept, not an installation."""
    return (PACKAGE.parent / "pyproject.toml").is_file() and PACKAGE.name == "truestep"

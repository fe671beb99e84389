"""A layer as data: :class:`LayerSpec`, read from TOML or built in Python, and never executed."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from derive.entries import INITS, Hyperparameter, Input, Parameter, Stage, split_letters
from derive.errors import SpecError, find_line
from derive.names import control_character, name_problem
from derive.tables import CORRECTIONS, Tables

__all__ = [
    "CORRECTIONS",
    "INITS",
    "KEYS",
    "LAYOUTS",
    "Hyperparameter",
    "Input",
    "LayerSpec",
    "Parameter",
    "Stage",
    "load_spec",
    "read_spec",
    "split_letters",
]

LAYOUTS = ("attention",)
DOTS = re.compile(r"(?:\.[ \t]*[\w-]+[ \t]*){32}")
"""A key in many parts, each of which is a table in a table; reading them takes their square."""
MAX_FILE = 200_000
MAX_FORWARD = 50_000
MAX_LINES = 100
MAX_TEXT = 2_000


@dataclass(frozen=True)
class LayerSpec:
    """A layer in index notation.

    Args:
        name: The class name's stem, an ASCII identifier.
        forward: One or more lines ``z[n, i] = W[i, j]*x[n, j] + b[i]``; the last is the output.
        site: The letters of the output that enumerate sites, as ``"n p"``.
        unit: The letters of the output that enumerate units; may be empty for a scalar activation.
        parameters: Symbol → ``Parameter`` or a mapping of its fields.
        sizes: Letter, or composed letters ``"(g, o)"`` → constructor argument or computed size.
        hyperparameters: Name → default; integers and tuples of integers may stand in indices, real
            numbers in formulas, and a boolean named like an optional parameter places its flag.
        inputs: Symbol → axes, for inputs that are read at index expressions.
        classes: Correction (``affine-like`` ...) → class name, where the usual one is not wanted.
        stages: Name → ``Stage`` or a mapping of its fields: lines (by the names they define) that
            form a layer of their own, see :func:`derive.stages.stage_spec`.
        layout: The module that the stages are put together to, one of :data:`LAYOUTS`; empty for a
            layer that is one module of its lines.
        summary, source: One sentence, and where the layer comes from.

    Raises:
        SpecError: For anything that the notation does not allow.
    """

    name: str
    forward: str
    site: str
    unit: str
    parameters: Mapping[str, Any]
    sizes: Mapping[str, str] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    stages: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""
    source: str = ""
    layout: str = ""
    file: str | None = field(default=None, compare=False)
    text: str | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Normalise the tables and check every name; the formulas are checked by the parser."""
        for key in ("name", "forward", "site", "unit", "summary", "source", "layout"):
            if not isinstance(getattr(self, key), str):
                raise self.error(f"`{key}` must be a string", key, f'write {key} = "..."')
            self.check_text(key, getattr(self, key))
        self.check_name(self.name, "name")
        if self.layout and self.layout not in LAYOUTS:
            remedy = f"one of {', '.join(LAYOUTS)}, or leave the key out"
            raise self.error(f"unknown layout `{self.layout}`", "layout", remedy)
        self._check_forward()
        tables = Tables(self)
        tables.check_sizes()
        # In this order: an input may name a hyperparameter.
        for key in ("parameters", "hyperparameters", "inputs", "stages"):
            self._freeze(key, dict(getattr(tables, key)()))
        for key in ("sizes", "classes"):
            self._freeze(key, tables.texts(key))
        tables.check_classes()
        tables.check_collisions()

    def _freeze(self, key: str, table: dict[str, Any]) -> None:
        object.__setattr__(self, key, MappingProxyType(table))

    # ------------------------------------------------------------------ checks
    def error(
        self, problem: str, symbol: str = "", remedy: str = "", line: int | None = None
    ) -> SpecError:
        """A :class:`SpecError` placed in this spec's file."""
        if line is None:
            line = find_line(self.text, symbol, key=True) or find_line(self.text, symbol)
        return SpecError(problem, symbol, remedy, self.file, line)

    def check_text(self, key: str, value: str) -> None:
        """Refuse text that is too long or does not show what it holds.

        Raises:
            SpecError: If it is longer than ``MAX_TEXT``, or a character of it is not printable.
        """
        formula = key == "forward"
        if len(value) > (MAX_FORWARD if formula else MAX_TEXT):
            raise self.error(f"`{key[:40]}` is too long", key[:40], "shorten it")
        odd = control_character(value, allowed="\n" if formula else "")
        if odd:
            raise self.error(
                f"`{key}` holds the control character U+{ord(odd):04X}",
                key,
                "remove it; one line of printable text is wanted",
            )

    def _check_forward(self) -> None:
        lines = [line for line in self.forward.split("\n") if line.strip()]
        if not lines:
            raise self.error("`forward` is empty", "forward", "write z[n, i] = ... there")
        if len(lines) > MAX_LINES:
            remedy = "split the layer into smaller ones"
            raise self.error(f"`forward` has more than {MAX_LINES} lines", "forward", remedy)

    def check_name(self, name: Any, where: str) -> None:
        """Refuse a name that is no ASCII identifier, a keyword or reserved."""
        found = name_problem(name, where)
        if found is not None:
            raise self.error(found[0], str(name) or where, found[1])

    # ------------------------------------------------------------------ views
    @property
    def optional(self) -> tuple[str, ...]:
        """The symbols of the optional parameters, in declared order."""
        return tuple(s for s, p in self.parameters.items() if p.optional)

    @property
    def digest(self) -> str:
        """SHA-256 of the content (not of the file's comments or spacing), in hexadecimal."""
        data = {
            "name": self.name,
            "summary": self.summary,
            "source": self.source,
            "forward": [
                " ".join(line.split()) for line in self.forward.strip().splitlines() if line.strip()
            ],
            "site": split_letters(self.site),
            "unit": split_letters(self.unit),
            "parameters": [
                [s, p.torch, p.optional, p.init, p.fan_in, p.axes]
                for s, p in self.parameters.items()
            ],
            "sizes": list(self.sizes.items()),
            "hyperparameters": [[k, v] for k, v in self.hyperparameters.items()],
            "inputs": [[s, i.axes, i.padded_by] for s, i in self.inputs.items()],
            "classes": list(self.classes.items()),
            "stages": [[k, v.lines, v.site, v.unit] for k, v in self.stages.items()],
            **({"layout": self.layout} if self.layout else {}),
        }
        return hashlib.sha256(json.dumps(data, ensure_ascii=True).encode()).hexdigest()

    def with_(self, **changes: Any) -> LayerSpec:
        """A copy with other fields."""
        return replace(self, **changes)


# The fields of a spec that a file may hold, one key each.
KEYS = frozenset(f.name for f in fields(LayerSpec)) - {"file", "text"}


def read_spec(text: str, file: str | None = None) -> LayerSpec:
    """Read a spec from TOML text.

    Args:
        text: The content of a spec file.
        file: The name that errors show.

    Raises:
        SpecError: If the text is too long or not TOML, has unknown or missing keys, or breaks a
            rule.
    """
    if len(text) > MAX_FILE:
        problem = f"the file is longer than {MAX_FILE} characters"
        raise SpecError(problem, "", "split the layer into smaller ones", file)
    dots = DOTS.search(text)
    if dots is not None:
        problem, line = "a key has too many parts", text.count("\n", 0, dots.start()) + 1
        raise SpecError(problem, dots.group()[:40], "write one table a line", file, line)
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Beside its own error tomllib lets ValueError through, e.g. for an integer of 5000 digits.
        match = re.search(r"line (\d+)", str(error))
        raise SpecError(
            f"not valid TOML: {error}",
            "",
            "compare with `truestep new NAME`",
            file,
            int(match.group(1)) if match else None,
        ) from None
    for key in data:
        if key not in KEYS:
            raise SpecError(
                f"unknown key `{key}`",
                key,
                f"allowed: {', '.join(sorted(KEYS))}",
                file,
                find_line(text, key),
            )
    for key in ("name", "forward", "site", "unit", "parameters"):
        if key not in data:
            raise SpecError(f"the key `{key}` is missing", key, "see `truestep new NAME`", file)
    return LayerSpec(**data, file=file, text=text)


def load_spec(path: str | Path) -> LayerSpec:
    """Read a spec file.

    Raises:
        SpecError: If the file cannot be read, is not UTF-8, or is not a spec.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as stream:
            # One more than is allowed: a device may have no end.
            text = stream.read(MAX_FILE + 1)
    except UnicodeDecodeError:
        raise SpecError("the file is not UTF-8 text", "", "save it as UTF-8", str(path)) from None
    except OSError as error:
        raise SpecError(
            f"cannot read the spec: {error.strerror or error}", "", "check the path", str(path)
        ) from None
    return read_spec(text, str(path))

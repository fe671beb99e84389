"""A layer as data: :class:`LayerSpec`, read from TOML or built in Python, and never executed."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from derive.entries import INITS, Input, Parameter, Stage, split_axes, split_letters
from derive.errors import SpecError, find_line
from derive.names import MODULE_ATTRIBUTES, control_character, name_problem

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

Hyperparameter = int | float | bool | tuple[int, ...]

CORRECTIONS = ("affine-like", "norm-like", "unit-gauge", "matrix-gauge")
LARGEST = 10**9
LAYOUTS = ("attention",)


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
            self._check_text(key, getattr(self, key))
        self.check_name(self.name, "name")
        if self.layout and self.layout not in LAYOUTS:
            remedy = f"one of {', '.join(LAYOUTS)}, or leave the key out"
            raise self.error(f"unknown layout `{self.layout}`", "layout", remedy)
        if not self.forward.strip():
            raise self.error("`forward` is empty", "forward", "write z[n, i] = ... there")
        for key in ("parameters", "sizes", "hyperparameters", "inputs", "classes", "stages"):
            if not isinstance(getattr(self, key), Mapping):
                raise self.error(
                    f"`{key}` must be a table", key, f"write [{key}] and one entry a line"
                )
        freeze = object.__setattr__
        freeze(self, "parameters", MappingProxyType(dict(self._parameters())))
        freeze(self, "hyperparameters", MappingProxyType(dict(self._hyperparameters())))
        freeze(self, "inputs", MappingProxyType(dict(self._inputs())))
        freeze(self, "stages", MappingProxyType(dict(self._stages())))
        # A size may be a plain number: k = 3.
        given: Mapping[str, Any] = self.sizes
        sizes = {k: str(v) if type(v) is int else v for k, v in given.items()}
        freeze(self, "sizes", sizes)
        for key in ("sizes", "classes"):
            for name, value in getattr(self, key).items():
                if not isinstance(name, str) or not isinstance(value, str):
                    raise self.error(
                        f"entry of [{key}] must be a string", str(name), 'put it in "quotes"'
                    )
                self._check_text(name, value)
            freeze(self, key, MappingProxyType(dict(getattr(self, key))))
        for kind, name in self.classes.items():
            if kind not in CORRECTIONS:
                known = ", ".join(CORRECTIONS)
                raise self.error(
                    f"unknown correction `{kind}` in [classes]", kind, f"one of {known}"
                )
            self.check_name(name, "classes")
        self._check_collisions()

    # ------------------------------------------------------------------ checks
    def error(
        self, problem: str, symbol: str = "", remedy: str = "", line: int | None = None
    ) -> SpecError:
        """A :class:`SpecError` placed in this spec's file."""
        if line is None:
            line = find_line(self.text, symbol, key=True) or find_line(self.text, symbol)
        return SpecError(problem, symbol, remedy, self.file, line)

    def _check_text(self, key: str, value: str) -> None:
        odd = control_character(value, allowed="\n" if key == "forward" else "")
        if odd:
            raise self.error(
                f"`{key}` holds the control character U+{ord(odd):04X}",
                key,
                "remove it; one line of printable text is wanted",
            )

    def check_name(self, name: Any, where: str) -> None:
        """Refuse a name that is no ASCII identifier, a keyword or reserved."""
        found = name_problem(name, where)
        if found is not None:
            raise self.error(found[0], str(name), found[1])

    def _parameters(self) -> Iterator[tuple[str, Parameter]]:
        if not self.parameters:
            raise self.error(
                "the spec declares no parameter",
                "parameters",
                'write [parameters] and W = { torch = "weight" }',
            )
        for symbol, given in self.parameters.items():
            self.check_name(symbol, "parameters")
            entry = vars(given) if isinstance(given, Parameter) else given
            if not isinstance(entry, Mapping):
                raise self.error(
                    f"parameter `{symbol}` must be a table",
                    symbol,
                    f'write {symbol} = {{ torch = "weight" }}',
                )
            self._check_keys(entry, ("torch", "optional", "init", "fan_in", "axes"), symbol)
            torch_name = entry.get("torch", symbol)
            self.check_name(torch_name, f"parameter `{symbol}`")
            if torch_name in MODULE_ATTRIBUTES or torch_name.startswith("_"):
                raise self.error(
                    f"parameter `{symbol}`: `{torch_name}` is an attribute of torch.nn.Module",
                    torch_name,
                    "choose another name",
                )
            optional = entry.get("optional", False)
            if not isinstance(optional, bool):
                raise self.error(
                    f"parameter `{symbol}`: optional must be true or false",
                    symbol,
                    "optional = true",
                )
            init = entry.get("init", "uniform")
            if init not in INITS:
                raise self.error(
                    f"parameter `{symbol}`: unknown init `{init}`",
                    str(init),
                    f"one of {', '.join(INITS)}",
                )
            fan_in = self._letters(entry.get("fan_in", ()), f"parameter `{symbol}`: fan_in")
            axes = self._axes(entry.get("axes", ()), f"parameter `{symbol}`: axes")
            yield symbol, Parameter(torch_name, optional, init, fan_in, axes)

    def _letters(self, value: Any, where: str) -> tuple[str, ...]:
        """Letters written in one string, or given as a tuple of strings."""
        if isinstance(value, str):
            return split_letters(value)
        if isinstance(value, tuple | list) and all(isinstance(x, str) for x in value):
            return tuple(value)
        raise self.error(f"{where} must be letters in one string", where, 'write "c k"')

    def _axes(self, value: Any, where: str) -> tuple[tuple[str, ...], ...]:
        """Axes written in one string, or given as a tuple of tuples of letters."""
        if isinstance(value, str):
            return split_axes(value)
        if isinstance(value, tuple | list):
            return tuple(self._letters(axis, where) for axis in value)
        raise self.error(f"{where} must be axes in one string", where, 'write "n (g c) l"')

    def _hyperparameters(self) -> Iterator[tuple[str, Hyperparameter]]:
        for name, given in self.hyperparameters.items():
            self.check_name(name, "hyperparameters")
            if name in MODULE_ATTRIBUTES:
                raise self.error(
                    f"hyperparameter `{name}` is an attribute of torch.nn.Module", name, "rename it"
                )
            value = tuple(given) if isinstance(given, list) else given
            whole = isinstance(value, tuple) and value and all(type(v) is int for v in value)
            if not (isinstance(value, int | float) or whole):
                raise self.error(
                    f"hyperparameter `{name}` needs a default: an integer, a list of integers or "
                    "a real number",
                    name,
                    f"write {name} = 1",
                )
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(abs(v) <= LARGEST for v in numbers):
                raise self.error(
                    f"hyperparameter `{name}`: the default must be finite and at most {LARGEST}",
                    name,
                    f"write {name} = 1",
                )
            yield name, value

    def _inputs(self) -> Iterator[tuple[str, Input]]:
        for symbol, given in self.inputs.items():
            self.check_name(symbol, "inputs")
            if isinstance(given, Input):
                yield symbol, given
                continue
            entry = {"axes": given} if isinstance(given, str) else given
            if not isinstance(entry, Mapping) or not isinstance(entry.get("axes"), str):
                raise self.error(
                    f"input `{symbol}` must name its axes", symbol, f'write {symbol} = "n c l"'
                )
            self._check_keys(entry, ("axes", "padded_by"), symbol)
            padded_by = entry.get("padded_by", "")
            if padded_by != "" and (
                not isinstance(padded_by, str) or padded_by not in self.hyperparameters
            ):
                raise self.error(
                    f"input `{symbol}`: padded_by names no hyperparameter",
                    str(padded_by),
                    "declare it",
                )
            yield symbol, Input(split_axes(entry["axes"]), padded_by)

    def _stages(self) -> Iterator[tuple[str, Stage]]:
        for name, entry in self.stages.items():
            self.check_name(name, "stages")
            if isinstance(entry, Stage):
                yield name, entry
                continue
            example = f'write {name} = {{ lines = "q", site = "n t", unit = "d" }}'
            if not isinstance(entry, Mapping):
                raise self.error(f"stage `{name}` must be a table", name, example)
            self._check_keys(entry, ("lines", "site", "unit"), name)
            for key in ("lines", "site", "unit"):
                if not isinstance(entry.get(key), str):
                    raise self.error(f"stage `{name}` needs the string `{key}`", name, example)
                self._check_text(name, entry[key])
            if not entry["lines"].strip():
                raise self.error(f"stage `{name}` has no line", name, example)
            yield name, Stage(*(split_letters(entry[key]) for key in ("lines", "site", "unit")))

    def _check_keys(self, entry: Mapping[str, Any], allowed: tuple[str, ...], symbol: str) -> None:
        for key in entry:
            if key not in allowed:
                raise self.error(
                    f"`{symbol}` has the unknown key `{key}`",
                    str(key),
                    f"allowed: {', '.join(allowed)}",
                )

    def _check_collisions(self) -> None:
        seen: dict[str, str] = {}
        for symbol, parameter in self.parameters.items():
            if parameter.torch in seen:
                raise self.error(
                    f"`{seen[parameter.torch]}` and `{symbol}` are both stored as "
                    f"`{parameter.torch}`",
                    symbol,
                    "give each its own torch name",
                )
            seen[parameter.torch] = symbol
            if symbol in self.hyperparameters:
                raise self.error(
                    f"`{symbol}` is a parameter and a hyperparameter", symbol, "rename one"
                )
            if symbol in self.inputs:
                raise self.error(f"`{symbol}` is a parameter and an input", symbol, "rename one")
            flag = self.hyperparameters.get(parameter.torch)
            if flag is not None and not (isinstance(flag, bool) and parameter.optional):
                raise self.error(
                    f"hyperparameter `{parameter.torch}` hides the parameter of that name",
                    parameter.torch,
                    "rename one, or make the parameter optional and the flag a boolean",
                )
        for name in self.inputs:
            if name in self.hyperparameters:
                raise self.error(f"`{name}` is an input and a hyperparameter", name, "rename one")

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
        SpecError: If the text is not TOML, has unknown or missing keys, or breaks a rule.
    """
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
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpecError("the file is not UTF-8 text", "", "save it as UTF-8", str(path)) from None
    except OSError as error:
        raise SpecError(
            f"cannot read the spec: {error.strerror or error}", "", "check the path", str(path)
        ) from None
    return read_spec(text, str(path))

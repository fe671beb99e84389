"""The tables of a spec, read entry by entry into :mod:`derive.entries`, each refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from derive.entries import (
    INITS,
    Hyperparameter,
    Input,
    Parameter,
    Stage,
    split_axes,
    split_letters,
)

if TYPE_CHECKING:
    from derive.spec import LayerSpec

CORRECTIONS = ("affine-like", "norm-like", "unit-gauge", "matrix-gauge")
LARGEST = 10**9
MAX_ENTRIES = 64
MAX_TUPLE = 16


class Tables:
    """Reads the tables of one spec, which says where an error stands."""

    def __init__(self, spec: LayerSpec) -> None:
        """Keep the spec."""
        self.spec = spec
        self.error = spec.error

    def check_sizes(self) -> None:
        """Refuse tables that are none, or that are longer than any layer needs.

        Raises:
            SpecError: If a table is none, or has too many entries.
        """
        for key in ("parameters", "sizes", "hyperparameters", "inputs", "classes", "stages"):
            table = getattr(self.spec, key)
            if not isinstance(table, Mapping):
                remedy = f"write [{key}] and one entry a line"
                raise self.error(f"`{key}` must be a table", key, remedy)
            if len(table) > MAX_ENTRIES:
                remedy = "split the layer into smaller ones"
                raise self.error(f"[{key}] has more than {MAX_ENTRIES} entries", key, remedy)

    # ------------------------------------------------------------------ parameters
    def parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Symbol → parameter.

        Raises:
            SpecError: If there is none, or an entry breaks a rule.
        """
        example = 'write [parameters] and W = { torch = "weight" }'
        if not self.spec.parameters:
            raise self.error("the spec declares no parameter", "parameters", example)
        for symbol, given in self.spec.parameters.items():
            self.spec.check_name(symbol, "parameters")
            entry = vars(given) if isinstance(given, Parameter) else given
            if not isinstance(entry, Mapping):
                remedy = f'write {symbol} = {{ torch = "weight" }}'
                raise self.error(f"parameter `{symbol}` must be a table", symbol, remedy)
            yield symbol, self.parameter(symbol, entry)

    def parameter(self, symbol: str, entry: Mapping[str, Any]) -> Parameter:
        """One parameter.

        Raises:
            SpecError: If a field breaks a rule.
        """
        self.check_keys(entry, ("torch", "optional", "init", "fan_in", "axes"), symbol)
        where = f"parameter `{symbol}`"
        torch_name = entry.get("torch", symbol)
        self.spec.check_name(torch_name, where)
        optional = entry.get("optional", False)
        if not isinstance(optional, bool):
            problem = f"{where}: optional must be true or false"
            raise self.error(problem, symbol, "optional = true")
        init = entry.get("init", "uniform")
        if init not in INITS:
            raise self.error(
                f"{where}: unknown init `{init}`", str(init), f"one of {', '.join(INITS)}"
            )
        fan_in = self.letters(entry.get("fan_in", ()), f"{where}: fan_in")
        axes = self.axes(entry.get("axes", ()), f"{where}: axes")
        return Parameter(torch_name, optional, init, fan_in, axes)

    def letters(self, value: Any, where: str) -> tuple[str, ...]:
        """Letters written in one string, or given as a tuple of strings.

        Raises:
            SpecError: If they are anything else.
        """
        if isinstance(value, str):
            return split_letters(value)
        if isinstance(value, tuple | list) and all(isinstance(x, str) for x in value):
            return tuple(value)
        raise self.error(f"{where} must be letters in one string", where, 'write "c k"')

    def axes(self, value: Any, where: str) -> tuple[tuple[str, ...], ...]:
        """Axes written in one string, or given as a tuple of tuples of letters.

        Raises:
            SpecError: If they are anything else.
        """
        if isinstance(value, str):
            return split_axes(value)
        if isinstance(value, tuple | list):
            return tuple(self.letters(axis, where) for axis in value)
        raise self.error(f"{where} must be axes in one string", where, 'write "n (g c) l"')

    # ------------------------------------------------------------------ hyperparameters
    def hyperparameters(self) -> Iterator[tuple[str, Hyperparameter]]:
        """Name → default, as Python's own numbers: others, as NumPy's, print differently.

        Raises:
            SpecError: If a name or default breaks a rule.
        """
        for name, given in self.spec.hyperparameters.items():
            self.spec.check_name(name, "hyperparameters")
            yield name, self.default(name, given)

    def default(self, name: str, given: Any) -> Hyperparameter:
        """The default of a hyperparameter.

        Raises:
            SpecError: If it is no number or tuple of integers, or is too large or too long.
        """
        remedy = f"write {name} = 1"
        value = tuple(given) if isinstance(given, list) else given
        numbers = value if isinstance(value, tuple) else (value,)
        whole = isinstance(value, tuple) and value and all(type(v) is int for v in value)
        if not (isinstance(value, int | float) or whole):
            raise self.error(
                f"hyperparameter `{name}` needs a default: an integer, a list of integers or "
                "a real number",
                name,
                remedy,
            )
        if len(numbers) > MAX_TUPLE:
            raise self.error(
                f"hyperparameter `{name}` has more than {MAX_TUPLE} elements", name, remedy
            )
        if not all(abs(v) <= LARGEST for v in numbers):
            raise self.error(
                f"hyperparameter `{name}`: the default must be finite and at most {LARGEST}",
                name,
                remedy,
            )
        if isinstance(value, tuple | bool):
            return value
        return int(value) if isinstance(value, int) else float(value)

    # ------------------------------------------------------------------ inputs
    def inputs(self) -> Iterator[tuple[str, Input]]:
        """Symbol → input.

        Raises:
            SpecError: If a name breaks a rule, or an entry names no axes.
        """
        for symbol, given in self.spec.inputs.items():
            self.spec.check_name(symbol, "inputs")
            entry = vars(given) if isinstance(given, Input) else given
            entry = {"axes": entry} if isinstance(entry, str) else entry
            if not isinstance(entry, Mapping) or not isinstance(entry.get("axes"), str | tuple):
                remedy = f'write {symbol} = "n c l"'
                raise self.error(f"input `{symbol}` must name its axes", symbol, remedy)
            self.check_keys(entry, ("axes", "padded_by"), symbol)
            padded_by = entry.get("padded_by", "")
            known = isinstance(padded_by, str) and padded_by in ("", *self.spec.hyperparameters)
            if not known:
                problem = f"input `{symbol}`: padded_by names no hyperparameter"
                raise self.error(problem, str(padded_by), "declare it")
            yield symbol, Input(self.axes(entry["axes"], f"input `{symbol}`: axes"), padded_by)

    # ------------------------------------------------------------------ stages
    def stages(self) -> Iterator[tuple[str, Stage]]:
        """Name → stage.

        Raises:
            SpecError: If a name breaks a rule, or an entry lacks lines, site or unit.
        """
        for name, given in self.spec.stages.items():
            self.spec.check_name(name, "stages")
            entry = vars(given) if isinstance(given, Stage) else given
            example = f'write {name} = {{ lines = "q", site = "n t", unit = "d" }}'
            if not isinstance(entry, Mapping):
                raise self.error(f"stage `{name}` must be a table", name, example)
            self.check_keys(entry, ("lines", "site", "unit"), name)
            for key in ("lines", "site", "unit"):
                if not isinstance(entry.get(key), str | tuple):
                    raise self.error(f"stage `{name}` needs the string `{key}`", name, example)
            parts = [
                self.letters(entry[key], f"stage `{name}`: {key}")
                for key in ("lines", "site", "unit")
            ]
            if not parts[0]:
                raise self.error(f"stage `{name}` has no line", name, example)
            yield name, Stage(*parts)

    # ------------------------------------------------------------------ sizes and classes
    def texts(self, key: str) -> dict[str, str]:
        """A table of strings; a size may be a plain number: k = 3.

        Raises:
            SpecError: If an entry is no string of printable text.
        """
        table = getattr(self.spec, key)
        found = {k: str(v) if key == "sizes" and type(v) is int else v for k, v in table.items()}
        for name, value in found.items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise self.error(
                    f"entry of [{key}] must be a string", str(name), 'put it in "quotes"'
                )
            self.spec.check_text(name, name)
            self.spec.check_text(name, value)
        return found

    def check_classes(self) -> None:
        """Refuse what is no correction, and names of classes that are none or given twice.

        Raises:
            SpecError: For the first of them.
        """
        seen: set[str] = set()
        for kind, name in self.spec.classes.items():
            if kind not in CORRECTIONS:
                remedy = f"one of {', '.join(CORRECTIONS)}"
                raise self.error(f"unknown correction `{kind}` in [classes]", kind, remedy)
            self.spec.check_name(name, "classes")
            if name in seen:
                raise self.error(f"two classes are called `{name}`", name, "rename one")
            seen.add(name)

    def check_keys(self, entry: Mapping[str, Any], allowed: tuple[str, ...], symbol: str) -> None:
        """Refuse a key that an entry does not have.

        Raises:
            SpecError: For the first of them.
        """
        for key in entry:
            if key not in allowed:
                remedy = f"allowed: {', '.join(allowed)}"
                raise self.error(f"`{symbol}` has the unknown key `{key}`", str(key), remedy)

    # ------------------------------------------------------------------ names that clash
    def check_collisions(self) -> None:
        """Refuse one name for two things.

        Raises:
            SpecError: For the first of them.
        """
        spec = self.spec
        seen: dict[str, str] = {}
        for symbol, parameter in spec.parameters.items():
            if parameter.torch in seen:
                raise self.error(
                    f"`{seen[parameter.torch]}` and `{symbol}` are both stored as "
                    f"`{parameter.torch}`",
                    symbol,
                    "give each its own torch name",
                )
            seen[parameter.torch] = symbol
            for key, what in (("hyperparameters", "a hyperparameter"), ("inputs", "an input")):
                if symbol in getattr(spec, key):
                    raise self.error(f"`{symbol}` is a parameter and {what}", symbol, "rename one")
            flag = spec.hyperparameters.get(parameter.torch)
            if flag is not None and not (isinstance(flag, bool) and parameter.optional):
                raise self.error(
                    f"hyperparameter `{parameter.torch}` hides the parameter of that name",
                    parameter.torch,
                    "rename one, or make the parameter optional and the flag a boolean",
                )
        for name in spec.inputs:
            if name in spec.hyperparameters:
                raise self.error(f"`{name}` is an input and a hyperparameter", name, "rename one")

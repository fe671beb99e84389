"""The file of measurements: JSON, one object a row, written after every case."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.environment import ROOT
from bench.modes import Mode
from bench.timing import Spread

FORMAT = 2
STORED = ROOT / "docs" / "results" / "performance.json"
STORED_GPU = STORED.with_name("gpu.json")
"""What `python -m bench gpu` measures, on a machine of its own."""
LAYERS, MODELS, SCALE, GPU = "layers", "models", "scale", "gpu"


class ResultsError(Exception):
    """A file of measurements that is missing or is none."""


@dataclass(frozen=True)
class Timing:
    """Time of a contender, and its ratio to a reference of the same rounds.

    Args:
        section: Which command measured it.
        case: Layer and shape, or model.
        mode: How it was run.
        contender: What was timed.
        reference: What it is compared with.
        ratio: Time over the reference's time.
        seconds: A call of the contender, median.
    """

    section: str
    case: str
    mode: Mode
    contender: str
    reference: str
    ratio: Spread
    seconds: float

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two rows the same measurement."""
        place = (self.section, self.case, *self.mode.fields.values())
        return (*place, self.contender, self.reference)


@dataclass(frozen=True)
class Kept:
    """What a contender keeps between forward and backward.

    Args:
        case: Layer and shape.
        execution: Eager or compiled.
        contender: What was measured.
        kept: Bytes kept beyond parameters and input.
        output: Bytes of the output.
        tensors: What is kept, largest first, as ``float32 32x64 ×2, float64 32``.
    """

    case: str
    execution: str
    contender: str
    kept: int
    output: int
    tensors: str

    @property
    def ratio(self) -> float:
        """Bytes kept over bytes of the output."""
        return self.kept / self.output

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two rows the same measurement."""
        return self.case, self.execution, self.contender


@dataclass(frozen=True)
class Build:
    """Seconds of one ``truestep build`` of so many specs, cold and with nothing changed."""

    specs: int
    cold: float
    unchanged: float

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two rows the same measurement."""
        return (str(self.specs),)


@dataclass(frozen=True)
class Chip:
    """What a device reaches: a copy in bytes a second, a matrix product in operations a second."""

    device: str
    dtype: str
    copy: float
    product: float

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two rows the same measurement."""
        return self.device, self.dtype


@dataclass(frozen=True)
class Operator:
    """What an operator does in a step beyond what it does in the plain step.

    Args:
        name: What the profiler calls it.
        calls: How much more often it is called.
        share: Seconds of its own more, over those of the plain step.
    """

    name: str
    calls: float
    share: float


@dataclass(frozen=True)
class Floor:
    """What operators that run one by one cannot avoid, beyond those of the plain step.

    Args:
        calls: Calls of operators beyond those of the plain step.
        plain_calls: Calls of operators of the plain step.
        moved: Numbers that operators read and write beyond those of the plain step.
        numbers: Numbers of the input and of the output.
        call: Seconds of the cheapest call of an operator.
    """

    calls: int
    plain_calls: int
    moved: int
    numbers: int
    call: float

    @property
    def calls_seconds(self) -> float:
        """The calls beyond the plain step's, at the cost of the cheapest."""
        return self.calls * self.call

    @property
    def passes(self) -> float:
        """The numbers moved beyond the plain step's, in passes over the input or the output.

        A pass reads and writes a map, so the mean pass moves as many numbers as both maps have.
        """
        return self.moved / self.numbers


@dataclass(frozen=True)
class Profile:
    """Where a step of a corrected layer spends more than the plain one, and what it runs into.

    Args:
        case: Layer and shape.
        execution: Eager or compiled.
        contender: The corrected layer.
        seconds: The plain step, without the profiler.
        ratio: The corrected step over it, without the profiler.
        profiled: What operators take beyond the plain step over that, under the profiler.
        operators: Those that weigh most of it.
        fused: What the compiler's kernels take beyond those of the plain step, like ``profiled``.
        input_pass: Seconds of a product of the input and a factor a site, beyond those of a call.
        output_pass: The same of the output.
        floor: What eager mode cannot avoid; of compiled code, which shows no single operator, none.
    """

    case: str
    execution: str
    contender: str
    seconds: float
    ratio: float
    profiled: float
    operators: tuple[Operator, ...]
    fused: float
    input_pass: float
    output_pass: float
    floor: Floor | None

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two rows the same measurement."""
        return self.case, self.execution, self.contender

    @property
    def mean_pass(self) -> float:
        """Seconds of a pass over the input or the output."""
        return (self.input_pass + self.output_pass) / 2


Row = Timing | Kept | Build | Chip | Profile
"""One measurement."""


@dataclass
class Results:
    """All measurements, by key, so that one made again replaces the former."""

    machine: Mapping[str, str] = field(default_factory=dict)
    timings: dict[tuple[str, ...], Timing] = field(default_factory=dict)
    kept: dict[tuple[str, ...], Kept] = field(default_factory=dict)
    builds: dict[tuple[str, ...], Build] = field(default_factory=dict)
    chips: dict[tuple[str, ...], Chip] = field(default_factory=dict)
    profiles: dict[tuple[str, ...], Profile] = field(default_factory=dict)

    def add(self, rows: Iterable[Row]) -> None:
        """Take rows in."""
        for row in rows:
            match row:
                case Timing():
                    self.timings[row.key] = row
                case Kept():
                    self.kept[row.key] = row
                case Build():
                    self.builds[row.key] = row
                case Chip():
                    self.chips[row.key] = row
                case Profile():
                    self.profiles[row.key] = row

    def timing(
        self, case: str, mode: Mode, contender: str, reference: str, section: str = LAYERS
    ) -> Timing | None:
        """A measurement, or ``None`` if it was not made."""
        key = (section, case, *mode.fields.values(), contender, reference)
        return self.timings.get(key)

    def holds(self, section: str, case: str, mode: Mode) -> bool:
        """Whether a case was measured in a mode."""
        place = (section, case, *mode.fields.values())
        return any(key[: len(place)] == place for key in self.timings)


def save(results: Results, path: Path) -> None:
    """Write a file of measurements, whole or not at all."""
    rows = {
        "timings": [flat(row) for row in results.timings.values()],
        "kept": [asdict(row) for row in results.kept.values()],
        "builds": [asdict(row) for row in results.builds.values()],
        "chips": [asdict(row) for row in results.chips.values()],
        "profiles": [asdict(row) for row in results.profiles.values()],
    }
    sections = [f' "{name}": [{listed(found)}]' for name, found in rows.items()]
    head = [f' "format": {FORMAT}', f' "machine": {json.dumps(dict(results.machine))}']
    part = path.with_name(path.name + ".part")
    part.write_text("{\n" + ",\n".join([*head, *sections]) + "\n}\n", encoding="utf-8")
    os.replace(part, path)


def listed(rows: list[dict[str, Any]]) -> str:
    """Rows, one a line, so that a change of one is a change of one line."""
    return ",".join(f"\n  {json.dumps(row, ensure_ascii=False)}" for row in rows)


def flat(row: Timing) -> dict[str, Any]:
    """A timing without nesting; six digits are more than any measurement has."""
    spread = {name: rounded(value) for name, value in asdict(row.ratio).items()}
    place = {"section": row.section, "case": row.case, **row.mode.fields}
    pair = {"contender": row.contender, "reference": row.reference}
    return {**place, **pair, **spread, "seconds": rounded(row.seconds)}


def rounded(value: float) -> float:
    """Six significant digits."""
    return value if isinstance(value, int) else float(f"{value:.6g}")


def load(path: Path) -> Results:
    """Read a file of measurements.

    Raises:
        ResultsError: If it is missing, of another format, or lacks something.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise ResultsError(f"{path} has format {data['format']}, not {FORMAT}: measure anew")
        results = Results(machine=data["machine"])
        results.add(map(unflat, data["timings"]))
        kinds: dict[str, Callable[..., Row]] = {
            "kept": Kept,
            "builds": Build,
            "chips": Chip,
            "profiles": profile_of,
        }
        for name, kind in kinds.items():  # a file may be older than a kind of measurement
            results.add(kind(**row) for row in data.get(name, ()))
        return results
    except OSError as error:
        raise ResultsError(f"{path} cannot be read ({error.strerror}); --json writes one") from None
    except (ValueError, TypeError, KeyError) as error:
        raise ResultsError(f"{path} is no file of measurements: {error!r}") from None


def unflat(data: Mapping[str, Any]) -> Timing:
    """A timing from its flat form."""
    mode = Mode(**{name: data[name] for name in Mode().fields})
    ratio = Spread(*(data[name] for name in ("median", "low", "high", "rounds")))
    names = ("section", "case", "contender", "reference", "seconds")
    return Timing(mode=mode, ratio=ratio, **{name: data[name] for name in names})


def profile_of(
    operators: Iterable[Mapping[str, Any]], floor: Mapping[str, Any] | None, **row: Any
) -> Profile:
    """A profile from its flat form."""
    return Profile(
        operators=tuple(Operator(**one) for one in operators),
        floor=None if floor is None else Floor(**floor),
        **row,
    )

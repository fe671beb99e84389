"""The file of measurements: JSON, one object a row, written after every case."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bench.environment import ROOT
from bench.modes import Mode
from bench.timing import Spread

FORMAT = 1
STORED = ROOT / "docs" / "results" / "performance.json"
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
    """

    case: str
    execution: str
    contender: str
    kept: int
    output: int

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


Row = TypeVar("Row", Timing, Kept, Build, Chip)


@dataclass
class Results:
    """All measurements, by key, so that one made again replaces the former."""

    machine: Mapping[str, str] = field(default_factory=dict)
    timings: dict[tuple[str, ...], Timing] = field(default_factory=dict)
    kept: dict[tuple[str, ...], Kept] = field(default_factory=dict)
    builds: dict[tuple[str, ...], Build] = field(default_factory=dict)
    chips: dict[tuple[str, ...], Chip] = field(default_factory=dict)

    def add(self, rows: Iterable[Timing | Kept | Build | Chip]) -> None:
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
        kinds: dict[str, Callable[..., Kept | Build | Chip]] = {
            "kept": Kept,
            "builds": Build,
            "chips": Chip,
        }
        for name, kind in kinds.items():
            results.add(kind(**row) for row in data[name])
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

"""The file of measurements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.modes import BFLOAT16, CHANNELS_LAST, COMPILED, EAGER, FORWARD, Mode
from bench.results import Build, Chip, Operator, ResultsError, load, save
from tests.bench.fakes import CASE, kept, profile, results, timing


def test_round_trip(tmp_path: Path) -> None:
    mode = Mode(FORWARD, COMPILED, CHANNELS_LAST, BFLOAT16)
    found = results(timing(1.25), timing(2.5, mode=mode), kept(3, 7))
    found.add([Build(4, 2.5, 0.1), Chip("chip", BFLOAT16, 1e12, 1e15)])
    operators = (Operator("aten::mul", 4.0, 0.1), Operator("Python", 0.0, -0.1))
    found.add(profile(*operators, execution=execution) for execution in (EAGER, COMPILED))
    assert len(found.profiles) == 2
    save(found, tmp_path / "a.json")
    again = load(tmp_path / "a.json")
    assert again == found
    save(again, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_file_may_be_older_than_a_kind_of_measurement(tmp_path: Path) -> None:
    found = results(timing(1.25))
    path = tmp_path / "a.json"
    save(found, path)
    data = json.loads(path.read_text(encoding="utf-8"))
    del data["profiles"]
    path.write_text(json.dumps(data), encoding="utf-8")
    assert load(path) == found
    del data["machine"]
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ResultsError, match="machine"):
        load(path)


def test_a_row_is_a_line(tmp_path: Path) -> None:
    save(results(timing(1.0), timing(1.1, case="other")), tmp_path / "a.json")
    lines = (tmp_path / "a.json").read_text(encoding="utf-8").splitlines()
    assert sum('"section"' in line for line in lines) == 2


def test_measured_again_replaces() -> None:
    found = results(timing(1.0), timing(1.1))
    assert [row.ratio.median for row in found.timings.values()] == [1.1]


def test_holds_what_was_measured_and_nothing_else() -> None:
    found = results(timing(1.0))
    assert found.holds("layers", CASE, Mode())
    assert not found.holds("layers", CASE, Mode(FORWARD))
    assert not found.holds("scale", CASE, Mode())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"none\.json cannot be read .*--json writes one"):
        load(tmp_path / "none.json")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 2}', '{"format": 2, "machine": {}, "timings": [{}]}'],
)
def test_what_is_no_file_of_measurements(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ResultsError, match="is no file of measurements"):
        load(path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"format": 1}), encoding="utf-8")
    with pytest.raises(ResultsError, match="has format 1, not 2"):
        load(path)

"""The command line: help that teaches, bad input that is named, and one small run of everything."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import commands, units
from bench.cases import linear
from bench.cli import EXIT_CODES, MEASURING, main, parser
from bench.measure import Task
from bench.modes import EAGER, Mode
from bench.results import LAYERS, Build, Kept, load, save
from bench.timing import Effort
from tests.bench.fakes import CASE, LAYER, results, timing

COMMANDS = (*MEASURING, "compare", "page")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_exit_codes(command: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert EXIT_CODES.strip() in text


def test_the_help_names_every_command(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(re.search(rf"^ +{command} ", text, re.MULTILINE) for command in COMMANDS)


def test_every_example_parses_and_its_filter_finds_something() -> None:
    choices = parser()._subparsers._group_actions[0].choices
    found = 0
    for name, command in choices.items():
        for line in re.findall(r"^  python -m bench (.*)$", command.description, re.MULTILINE):
            given = parser().parse_args(re.findall(r"'[^']*'|\S+", line))
            found += 1
            if name in units.SECTIONS and name != "gpu":
                assert units.chosen(name, getattr(given, "filter", "").strip("'"))
    assert found >= 20


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["layers", "--filter", "("],
        ["layers", "--resume"],
        ["compare"],
        ["page", "--json", "x"],
        ["memory", "--plot", "x.svg"],
    ],
)
def test_a_bad_command_line(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: python -m bench" in capsys.readouterr().err


def test_a_filter_that_finds_nothing(capsys) -> None:
    assert main(["layers", "--filter", "no such layer"]) == 2
    assert re.search(r"none of \d+ measurements matches 'no such layer'", capsys.readouterr().err)


def test_where_there_is_no_gpu_it_is_said(monkeypatch, capsys) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["gpu", "--filter", "conv"]) == 0
    assert capsys.readouterr().out == "# gpu\n\nNot measured.\n"


def test_a_baseline_is_read_before_anything_is_measured(tmp_path: Path, capsys) -> None:
    assert main(["layers", "--baseline", str(tmp_path / "none.json")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_compare_names_what_has_become_worse(tmp_path: Path, capsys) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    save(results(timing(1.0), timing(1.0, mode=Mode("forward"))), old)
    save(results(timing(1.0), timing(1.3, mode=Mode("forward"))), new)
    assert main(["compare", str(old), "--baseline", str(old)]) == 0
    assert capsys.readouterr().out == "0 of 2 costs have become worse\n"
    assert main(["compare", str(new), "--baseline", str(old)]) == 1
    worse, count = capsys.readouterr().out.splitlines()
    assert worse.startswith(f"worse: {CASE} eager forward float32: time of {LAYER} / plain")
    assert count == "1 of 2 costs have become worse"


TINY = Effort(slice=0.0, budget=0.0, least=2, most=2)


@pytest.fixture
def small(monkeypatch) -> None:
    """Every section that has tables, at a size that takes no time, on a clock that ticks evenly."""

    def even(run: Callable[[], object], calls: int) -> float:
        run()
        return 1.0

    monkeypatch.setattr("bench.measure.timer_of", lambda mode: even)
    case = linear(2, 3, 4)
    tiny = replace(case, name=CASE)

    def of(section: str):
        return lambda: iter([units.timed(Task(tiny, Mode()), section)])

    for section in (LAYERS, "models", "scale"):
        monkeypatch.setitem(units.SECTIONS, section, of(section))
    monkeypatch.setitem(units.SECTIONS, "memory", lambda: iter([units.memory_unit(tiny, EAGER)]))
    profiled = units.profile_unit(tiny, EAGER, [LAYER])
    monkeypatch.setitem(units.SECTIONS, "profile", lambda: iter([profiled]))
    monkeypatch.setattr("bench.profile.processor_seconds", even)
    built = units.Unit("build of 1 specs", lambda _: False, lambda _: [Build(1, 2.0, 0.1)])
    monkeypatch.setitem(units.SECTIONS, "pipeline", lambda: iter([built]))
    monkeypatch.setattr(commands, "QUICK", TINY)


@pytest.mark.usefixtures("small")
def test_a_quick_run_of_everything(tmp_path: Path, capsys) -> None:
    path, picture = tmp_path / "new.json", tmp_path / "new.svg"
    kept = ["--json", str(path), "--plot", str(picture)]
    assert main(["all", "--quick", *kept]) == 0
    out, err = capsys.readouterr()
    assert "# layers" in out
    assert re.search(rf"\| {re.escape(CASE)} +\| {LAYER} +\| 1\.000 ± 0\.000", out)
    assert "not measured" in out
    assert re.search(r"\d+ of \d+ limits are met", out)
    assert f"1/6 {CASE} eager forward+backward float32" in err
    found = load(path)
    assert found.holds(LAYERS, CASE, Mode())
    assert found.builds
    assert found.profiles.keys() == {(CASE, EAGER, LAYER)}
    assert any(isinstance(row, Kept) for row in found.kept.values())
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    before = picture.read_bytes()
    assert main(["scale", "--quick", "--plot", str(picture)]) == 0
    assert picture.read_bytes() != before


@pytest.mark.usefixtures("small")
def test_resume_measures_what_is_missing(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "new.json"
    arguments = ["layers", "--quick", "--json", str(path)]
    assert main(arguments) == 0
    before = path.read_bytes()
    monkeypatch.setattr(units, "measure", None)  # calling it would raise
    assert main([*arguments, "--resume"]) == 0
    assert path.read_bytes() == before
    with pytest.raises(TypeError):
        main(arguments)


@pytest.mark.usefixtures("small")
def test_a_file_of_another_machine_is_not_added_to(tmp_path: Path, capsys) -> None:
    path = tmp_path / "new.json"
    assert main(["layers", "--quick", "--json", str(path)]) == 0
    data = json.loads(path.read_text(encoding="utf-8"))
    data["machine"]["processor"] = "abacus"
    path.write_text(json.dumps(data), encoding="utf-8")
    capsys.readouterr()
    assert main(["layers", "--quick", "--json", str(path)]) == 2
    assert "differs in processor: measure into another file" in capsys.readouterr().err


@pytest.mark.usefixtures("small")
def test_a_baseline_on_the_way(tmp_path: Path, capsys) -> None:
    path = tmp_path / "old.json"
    for before, worse in ((0.9, 1), (1.0, 0)):
        save(results(timing(before, half=0)), path)
        assert main(["layers", "--quick", "--baseline", str(path)]) == worse
        assert f"{worse} of 1 costs have become worse" in capsys.readouterr().out

"""The page on performance is what the stored measurements give, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import page, report
from bench.commands import write_page
from bench.environment import ROOT
from bench.modes import BFLOAT16, COMPILED, CUDA, EAGER, Mode
from bench.results import GPU, STORED, Build, Chip, Kept, Operator, load
from tests.bench.fakes import CASE, LAYER, profile, results, timing

DOCS = ROOT / "docs"
PICTURES = ("performance_layers.svg", "performance_scale.svg")
REMEDY = "run .venv/bin/python -m bench page"
WHY = "Why the missed ones miss"
NUMBER = re.compile(r"-?\d+\.\d+")


def test_the_page_is_what_the_stored_measurements_give() -> None:
    written = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert written == page.text(load(STORED)), REMEDY


def test_the_pictures_are_what_the_stored_measurements_give(tmp_path: Path) -> None:
    write_page(STORED, tmp_path)
    for name in PICTURES:
        drawn, committed = (
            NUMBER.findall((folder / name).read_text(encoding="utf-8"))
            for folder in (tmp_path, DOCS)
        )
        # Rounding differs between machines; a hundredth of a point is not seen.
        assert [float(x) for x in drawn] == pytest.approx(
            [float(x) for x in committed], abs=0.01
        ), REMEDY


def test_another_measurement_gives_another_page() -> None:
    before, after = (page.text(results(timing(ratio))) for ratio in (1.02, 1.07))
    assert "1.020 ± 0.005" in before
    assert "missed by 0.030" in after
    assert "1.020" not in after


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", page.TEXT)
    assert len(targets) == 3
    assert all((DOCS / target).exists() for target in targets)


def test_the_stored_measurements_are_whole() -> None:
    """Every unit of the processor is held, so that no cell of the page is empty by neglect."""
    from bench.units import SECTIONS

    found = load(STORED)
    sections = [units for name, units in SECTIONS.items() if name != GPU]
    assert [u.label for units in sections for u in units() if not u.held(found)] == []


def test_what_was_not_measured_is_said() -> None:
    text = page.text(results(timing(1.0)))
    for title in ("On a GPU", "Training steps", "Kept for backward", "The pipeline itself"):
        assert report.NOT_MEASURED in section(text, title)
    missed = page.text(results(timing(1.07)))
    assert report.NOT_MEASURED in section(missed, WHY)


def section(text: str, title: str) -> str:
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_profiles_are_shown_of_layers_that_miss_alone() -> None:
    """Another layer of the case meets its limit, in compiled mode none counts."""
    met, missed = (profile(contender=name) for name in ("NormLikeLinear", LAYER))
    rows = [timing(1.02, contender="NormLikeLinear"), timing(1.07)]
    shown = section(page.text(results(*rows, met, missed)), WHY)
    assert LAYER in shown
    assert "NormLikeLinear" not in shown
    rows = [timing(1.04), timing(1.07, mode=Mode(execution=COMPILED)), timing(9, case="other")]
    shown = section(page.text(results(*rows, met, missed)), WHY)
    assert report.NONE_MISSES in shown
    assert LAYER not in shown


def test_a_layer_that_misses_and_was_not_profiled_is_named() -> None:
    rows = [timing(1.07, contender=name) for name in ("NormLikeLinear", LAYER)]
    shown = section(page.text(results(*rows, profile())), WHY)
    assert f"Not measured: {CASE} NormLikeLinear." in shown


def test_operators_and_the_others_add_up() -> None:
    operators = [Operator(f"aten::o{n}", n, 0.01 * n) for n in range(9, 0, -1)]
    found = results(timing(1.07), profile(*operators, profiled=0.5))
    whole, short = report.profiles(found), report.missed_profiles(found, 2)
    assert cells(whole, "aten::o") == [f"{n}.0%" for n in range(9, 0, -1)]
    assert cells(whole, "all others") == ["5.0%"]  # 50 % less 45 %
    assert cells(short, "aten::o") == ["9.0%", "8.0%"]
    assert cells(short, "all others") == ["33.0%"]
    assert cells(short, "| all  ") == ["50.0%"]


def cells(text: str, name: str) -> list[str]:
    """The last cells of rows that hold a name, without their sign."""
    return [line.split("|")[-2].strip(" +") for line in text.splitlines() if name in line]


def test_what_a_layer_runs_into() -> None:
    table = report.profiles(results(profile(Operator("aten::mul", 4, 0.1)))).split("\n\n")[-1]
    row = [cell.strip() for cell in table.splitlines()[-1].strip("|").split("|")]
    words = ["100 µs", "12 +5", "1 µs", "+5.0%", "2.0%", "4.0%", "+4.0", "+12.0%", "+17.0%"]
    assert row == [CASE, LAYER, *words, "+25.0%"]


def test_the_table_of_a_gpu() -> None:
    mode = Mode(execution=COMPILED, dtype=BFLOAT16, device=CUDA)
    case = "linear 16384x4096->4096"
    found = results(timing(1.02, case=case, mode=mode, section=GPU))
    assert report.gpu(found) == report.NOT_MEASURED  # nothing to relate it to
    found.add([Chip("Chip 1", BFLOAT16, copy=1e15, product=3.3e15)])
    (row,) = report.gpu(found).splitlines()[2:]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:2] == ["Chip 1", case]
    assert cells[-2:] == ["1.020 ± 0.005", "49%"]


def test_tables_line_up_and_group_by_mode() -> None:
    image = Mode(layout="channels_last")
    rows = [timing(1.1), timing(1.2, case="conv"), timing(1.3, case="conv", mode=image)]
    tables = report.timings(rows).split("\n\n")
    assert len(tables) == 2
    for table in tables:
        assert len({len(line) for line in table.splitlines()}) == 1
    assert "eager channels_last" in tables[1]


def test_summary_names_the_cheapest_rival() -> None:
    rivals = [
        timing(r, contender=c) for r, c in ((1.3, "RMSNorm+Linear"), (1.05, "LayerNorm+Linear"))
    ]
    kept = [Kept(CASE, EAGER, LAYER, 3, 100), Kept(CASE, EAGER, "plain", 2, 100)]
    found = results(timing(1.02), *rivals, *kept)
    row = next(line for line in page.summary(found).splitlines() if f"`{LAYER}`" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [f"`{LAYER}`", CASE, "1.02", "", "LayerNorm+Linear 1.05", "0.01"]


def test_builds() -> None:
    found = results()
    found.add([Build(n, 5 + 2.0 * n, 0.1 + 0.001 * n) for n in (4, 1, 2)])
    text = report.builds(found)
    assert "Cold: 5 s and 2 s a spec" in text
    assert "Unchanged: 100 ms and 1 ms a spec" in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(12.34, "12.3 s"), (0.99999, "1 s"), (0.0123, "12.3 ms"), (0.000123, "123 µs"), (0.0, "0 µs")],
)
def test_durations(seconds: float, words: str) -> None:
    assert report.duration(seconds) == words

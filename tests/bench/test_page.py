"""The page on performance is what the stored measurements give, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import page, report
from bench.commands import write_page
from bench.environment import ROOT
from bench.modes import BFLOAT16, COMPILED, CUDA, EAGER, Mode
from bench.results import GPU, STORED, STORED_GPU, Build, Chip, Operator, load
from tests.bench.fakes import CASE, LAYER, kept, profile, results, timing

DOCS = ROOT / "docs"
PICTURES = ("performance_layers.svg", "performance_scale.svg")
REMEDY = "run .venv/bin/python -m bench page"
WHY = "Why the missed ones miss"
NUMBER = re.compile(r"-?\d+\.\d+")


def test_the_page_is_what_the_stored_measurements_give() -> None:
    written = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert written == page.text(load(STORED), load(STORED_GPU)), REMEDY


def test_the_pictures_are_what_the_stored_measurements_give(tmp_path: Path) -> None:
    write_page(tmp_path)
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
    before, after = (page.text(results(timing(ratio)), results()) for ratio in (1.02, 1.07))
    assert "1.020 ± 0.005" in before
    assert "missed by 0.030" in after
    assert "1.020" not in after


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", page.TEXT)
    assert len(targets) == 4
    assert all((DOCS / target).exists() for target in targets)


def test_the_stored_measurements_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every unit is held, so that no cell of the page is empty by neglect."""
    from bench.units import SECTIONS

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for name, units in SECTIONS.items():
        found = load(STORED_GPU if name == GPU else STORED)
        assert [unit.label for unit in units() if not unit.held(found)] == []


def test_what_was_not_measured_is_said() -> None:
    text = page.text(results(timing(1.0)), results())
    for title in ("On a GPU", "Training steps", "Kept for backward", "The pipeline itself"):
        assert report.NOT_MEASURED in section(text, title)
    missed = page.text(results(timing(1.07)), results())
    assert report.NOT_MEASURED in section(missed, WHY)


def section(text: str, title: str) -> str:
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_profiles_are_shown_of_layers_that_miss_alone() -> None:
    """Another layer of the case meets its limit, and so does this one in the other execution."""
    names = ("NormLikeLinear", LAYER)
    profiles = [profile(contender=n, execution=way) for n in names for way in (EAGER, COMPILED)]
    for missed, met in ((EAGER, COMPILED), (COMPILED, EAGER)):
        late, soon = Mode(execution=missed), Mode(execution=met)
        rows = [timing(1.02, mode=late, contender="NormLikeLinear"), timing(1.07, mode=late)]
        rows += [timing(1.01, mode=soon), timing(9, mode=soon, case="other")]
        found = results(*rows, *profiles)
        shown = report.missed_profiles(found, missed, 2)
        assert LAYER in shown
        assert "NormLikeLinear" not in shown
        assert report.missed_profiles(found, met, 2) == report.NONE_MISSES
        both = section(page.text(found, results()), WHY)
        assert shown.split("\n\n")[-1] in both.partition(f"### {missed.capitalize()}\n")[2]
        assert report.NONE_MISSES in both


def test_a_layer_that_misses_and_was_not_profiled_is_named() -> None:
    rows = [timing(1.07, contender=name) for name in ("NormLikeLinear", LAYER)]
    other = profile(contender="NormLikeLinear", execution=COMPILED)
    shown = section(page.text(results(*rows, profile(), other), results()), WHY)
    assert f"Not measured: {CASE} NormLikeLinear." in shown


def test_operators_and_the_others_add_up() -> None:
    operators = [Operator(f"aten::o{n}", n, 0.01 * n) for n in range(9, 0, -1)]
    found = results(timing(1.07), profile(*operators, profiled=0.5))
    whole, short = report.profiles(found), report.missed_profiles(found, EAGER, 2)
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


def test_what_compiled_code_runs_into() -> None:
    """Its calls and numbers are not counted, and nothing is shown in their place."""
    found = profile(Operator("cpp_fused_mul", 1, 0.1), execution=COMPILED)
    whole = report.profiles(results(found))
    row = [cell.strip() for cell in whole.splitlines()[-1].strip("|").split("|")]
    assert row == [CASE, LAYER, "100 µs", "+15.0%", "2.0%", "4.0%", "+25.0%"]
    assert report.FUSED_WORDS in whole
    assert report.FLOOR_WORDS not in whole


def test_profiles_of_both_executions_have_tables_of_their_own() -> None:
    whole = report.profiles(results(*(profile(execution=way) for way in (EAGER, COMPILED))))
    assert [part for part in whole.split("\n\n") if not part.startswith("|")] == [
        report.FLOOR_WORDS,
        report.FUSED_WORDS,
    ]


def test_a_long_name_is_shortened() -> None:
    name = "cpp_fused_" + "mul_" * 20
    shown = report.profiles(results(profile(Operator(name, 1, 0.1), execution=COMPILED)))
    (row,) = (line for line in shown.splitlines() if "cpp_fused" in line)
    cell = row.split("|")[3].strip()
    assert len(cell) == report.WIDEST
    assert cell == name[: report.WIDEST - 1] + "…"
    assert report.shortened(name[: report.WIDEST]) == name[: report.WIDEST]


def test_what_is_kept_is_shown_of_layers_that_miss_alone() -> None:
    rows = [
        kept(0, contender="plain", tensors=""),
        kept(2, tensors="float64 4096"),  # 0.02 of the output is more than a hundredth
        kept(1, contender="NormLikeLinear", tensors="float32 2048"),
        kept(50, contender="LayerNorm+Linear", tensors="float32 rival"),
    ]
    shown = report.missed_kept(results(*rows))
    (row,) = shown.splitlines()[2:]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [CASE, LAYER, EAGER, "nothing", "float64 4096"]
    assert shown in section(page.text(results(*rows), results()), WHY)
    assert report.missed_kept(results(rows[0], rows[2])) == report.NONE_MISSES
    assert report.missed_kept(results()) == report.NOT_MEASURED


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
    found = results(timing(1.02), *rivals, kept(3), kept(2, contender="plain"))
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

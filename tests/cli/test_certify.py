"""``truestep certify`` writes files that the checker accepts, the same bytes each time."""

from pathlib import Path

from tests.cli.helpers import ROOT, files, python
from truestep.cli import main


def test_files_are_accepted_by_the_checker_alone(folder, capsys):
    assert main(["certify", "linear", "embedding", "--out", "found"]) == 0
    assert "python" in capsys.readouterr().out
    assert "linear.output-gauge.json" in files("found")
    paths = sorted(str(p) for p in Path("found").glob("*.json"))
    checked = python("-I", str(ROOT / "verify" / "checker.py"), *paths)
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count("accepted") == len(paths)


def test_the_same_bytes_in_every_process(folder):
    for seed in ("1", "2"):
        run = python("-m", "truestep", "certify", "scale", "--out", seed, PYTHONHASHSEED=seed)
        assert run.returncode == 0, run.stderr
    assert files("1") == files("2")
    for name in files("1"):
        assert Path("1", name).read_bytes() == Path("2", name).read_bytes()


def test_a_folder_that_cannot_be_written(folder, capsys):
    Path("taken").write_text("a file", encoding="utf-8")
    assert main(["certify", "scale", "--out", "taken"]) == 2
    assert "taken" in capsys.readouterr().err

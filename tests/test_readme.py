"""The README is run: its commands, its snippets, its tables, its links."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e "
COMMANDS = {
    "build": INSTALL + ". && .venv/bin/truestep build",
    "test": INSTALL + "'.[test]' && .venv/bin/pytest -n 2",
}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fences(language: str) -> list[str]:
    return [body for name, body in FENCE.findall(README) if name == language]


def printed_by(place: int) -> str | None:
    """The ``text`` block right behind the ``python`` block that ends at a place."""
    following = re.match(r"\n+```text\n(.*?)^```$", README[place:], re.MULTILINE | re.DOTALL)
    return following.group(1) if following else None


def test_one_line_commands() -> None:
    for name, command in COMMANDS.items():
        found = re.findall(rf"^<!-- command: {name} -->\n```sh\n(.*?)\n```$", README, re.MULTILINE)
        assert found == [command]


PYTHON = [match for match in FENCE.finditer(README) if match.group(1) == "python"]


@pytest.mark.parametrize("snippet", PYTHON, ids=[str(k) for k in range(len(PYTHON))])
def test_python_snippet(
    snippet: re.Match[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(snippet.group(2), "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out == (printed_by(snippet.end()) or "")


def test_some_snippet_shows_what_it_prints() -> None:
    assert any(printed_by(snippet.end()) for snippet in PYTHON)


def test_shell_snippets(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    lines = [x for body in fences("sh") for x in body.splitlines() if x not in COMMANDS.values()]
    assert lines
    for line in lines:
        program, *arguments = line.split()
        assert program == ".venv/bin/truestep"
        run = subprocess.run(
            [sys.executable, "-c", RUN, str(ROOT), *arguments],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout + run.stderr
    assert (tmp_path / "my_layers" / "fusion.py").is_file()


RUN = """\
import sys
sys.path.insert(0, sys.argv.pop(1))
from truestep.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_spec_shown_is_the_example() -> None:
    assert fences("toml") == [(ROOT / "examples" / "own_layer.toml").read_text(encoding="utf-8")]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["layers", "normalisers", "failure", "costs"])
def test_block_is_what_the_generator_writes(name: str) -> None:
    generate = generator()
    assert name in generate.blocks(README)
    start, end = generate.block(README, name)
    assert README[start:end] == generate.BLOCKS[name]() + "\n", (
        "run .venv/bin/python docs/generate.py and commit the README"
    )


def test_every_class_is_in_the_table() -> None:
    import truestep

    start, end = generator().block(README, "layers")
    missing = [n for n in truestep.__all__ if n[0].isupper() and f"`{n}`" not in README[start:end]]
    assert not missing


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "TRUST.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"`[^`\n]*`", "", (ROOT / page).read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    assert targets
    assert [t for t in targets if "://" not in t and not (ROOT / t).exists()] == []


def test_picture_is_well_formed() -> None:
    picture = ET.parse(ROOT / "docs" / "overview.svg").getroot()
    assert picture.tag.endswith("svg")


def test_picture_is_what_the_generator_draws(tmp_path: Path) -> None:
    generator().overview(tmp_path / "overview.svg")
    drawn, committed = (
        path.read_text(encoding="utf-8")
        for path in (tmp_path / "overview.svg", ROOT / "docs" / "overview.svg")
    )
    number = re.compile(r"-?\d+\.\d+")
    found, wanted = ([float(x) for x in number.findall(text)] for text in (drawn, committed))
    # Rounding differs between machines; a hundredth of a point is not seen.
    assert found == pytest.approx(wanted, abs=0.01), "run .venv/bin/python docs/generate.py"


def test_spec_keys_are_all_explained() -> None:
    from derive.spec import INITS, KEYS

    missing = [key for key in (*KEYS, *INITS) if not re.search(rf"\b{re.escape(key)}\b", README)]
    assert not missing


def test_functions_are_all_explained() -> None:
    from derive.functions import FUNCTIONS

    assert [name for name in FUNCTIONS if not re.search(rf"\b{name}\b", README)] == []

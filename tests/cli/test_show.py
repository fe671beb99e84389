"""The commands that show, what they say to bad input, and the package itself."""

import json
import re

import pytest

import truestep
from tests.cli.helpers import files, python
from truestep import shipped
from truestep.cli import main, parser

COMMANDS = ("build", "derive", "verify", "check", "audit", "report", "new", "list")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_exit_codes(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert "exit codes:" in text
    assert command == "list" or f"truestep {command}" in text.split("example", 1)[1]


def test_the_help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(re.search(rf"^ +{command} ", text, re.M) for command in COMMANDS)


def test_every_example_of_the_help_parses():
    found = 0
    for command in parser()._subparsers._group_actions[0].choices.values():
        lines = re.findall(r"^  truestep (.*?)(?:  +.*| [>&].*)?$", command.description, re.M)
        for line in lines:
            parser().parse_args(line.split())
            found += 1
    assert found >= 12


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"truestep {truestep.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["build", "--jobs", "0"],
        ["build", "--instances", "x"],
        ["build", "--seed", "-1"],
        ["derive"],
        ["derive", "linear", "--json", "--latex"],
    ],
)
def test_bad_arguments_are_told_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "truestep" in capsys.readouterr().err


def test_python_m_truestep():
    done = python("-m", "truestep", "list", "--json")
    assert {entry["name"] for entry in json.loads(done.stdout)} >= {"linear", "conv2d"}


def test_derive_shows_text_latex_and_json(capsys):
    assert main(["derive", "linear"]) == 0
    assert "Linear" in capsys.readouterr().out
    assert main(["derive", "linear", "--without", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert main(["derive", "linear", "--latex"]) == 0
    assert "\\section*{Linear}" in capsys.readouterr().out
    assert main(["derive", "linear", "--without", "W"]) == 2
    assert "not an optional parameter: b" in capsys.readouterr().err


def test_derive_shows_one_stage(capsys):
    assert main(["derive", "multihead_attention", "--stage", "score"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("MultiheadAttentionScore\n")
    assert "frozen: the gauge depends on the parameters" in text
    assert main(["derive", "multihead_attention", "--stage", "nonsense"]) == 2
    assert "there is no stage `nonsense`" in capsys.readouterr().err
    assert main(["derive", "linear", "--stage", "score"]) == 2
    assert "known: none" in capsys.readouterr().err


def test_audit_of_one(capsys):
    assert main(["audit", "rms_norm_linear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "RMSNormLinear"
    assert main(["audit", "rms_norm_linear", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("| layer |")


def test_which_shipped_layers_are_normalisers():
    from truestep.commands_show import normalisers

    names = {source.name for source in normalisers(shipped.shipped())}
    assert {"layer_norm_linear", "batch_norm_linear", "dyt_linear"} <= names
    assert not names & {"linear", "low_rank", "gated_linear", "multihead_attention"}


def test_a_starter_spec_builds(folder, quick, capsys):
    assert main(["new", "my_layer"]) == 0
    assert main(["build", "my_layer.toml", "--out", "out"]) == 0
    assert "AffineLikeMyLayer" in capsys.readouterr().out
    before = (folder / "my_layer.toml").read_text()
    assert main(["new", "my_layer"]) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert (folder / "my_layer.toml").read_text() == before


@pytest.mark.parametrize("name", ["../x", "1x", "a b", "class", "", "é"])
def test_new_refuses_bad_names(name, folder):
    assert main(["new", name]) in (0, 2)
    assert all(re.fullmatch(r"\w+\.toml", file, re.A) for file in files(folder))


def test_importing_truestep_stays_light():
    code = (
        "import sys, truestep; from truestep import AffineLikeLinear; AffineLikeLinear(2, 3)\n"
        "print(sorted({'torch', 'sympy', 'jinja2'} & set(sys.modules)))"
    )
    done = python("-c", code)
    assert done.stdout == "['torch']\n", done.stderr


def test_truestep_exports_every_generated_class():
    from truestep import layers

    wanted = {"__version__", *layers.__all__}
    assert set(truestep.__all__) == wanted, "name each class in truestep/__init__.py, twice"
    assert len(truestep.__all__) == len(wanted)
    assert all(hasattr(truestep, name) for name in truestep.__all__)
    assert not hasattr(truestep, "Nonsense")


def test_the_command_line_does_without_layers():
    code = (
        "import sys; sys.modules['truestep.layers'] = None\n"
        "from truestep.cli import main; sys.exit(main(['list']))"
    )
    assert python("-c", code).returncode == 0

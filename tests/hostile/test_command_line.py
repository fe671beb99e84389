"""Whatever a spec file is, the command line says in a sentence what is wrong and writes nothing."""

import os

import pytest

from truestep.cli import main

GOOD = """\
name = "Small"
forward = "z[n, i] = W[i, j]*x[n, j] + b[i]"
site = "n"
unit = "i"

[parameters]
W = { torch = "weight" }
b = { torch = "bias" }

[sizes]
j = "in_features"
i = "out_features"
"""
SLOW = GOOD.replace("W[i, j]*x[n, j] + b[i]", "(A)/(1 + (A)/(1 + (A)/(1 + (A)**2)))").replace(
    "A)", "W[i, j]*x[n, j] + b[i])"
)
FILES = {
    "empty": b"",
    "binary": bytes(range(256)),
    "zeros": b"\0" * 5000,
    "mark": "\ufeff".encode(),
    "surrogate": b"\xed\xa0\x80",
    "endless line": b"#" * 300_000,
    "endless text": (GOOD + "# " + "x" * 300_000).encode(),
    "brackets": b"x = " + b"[" * 100_000,
    "dots": b"a" + b".a" * 50_000 + b" = 1",
    "digits": b"x = " + b"9" * 100_000,
    "many lines": GOOD.replace('forward = "', 'forward = """' + "h = 1\\n" * 200).encode(),
    "many parameters": (GOOD + "".join(f"p{k} = 'a{k}'\n" for k in range(100))).encode(),
    "huge size": GOOD.replace('"in_features"', "1000000000").encode(),
    "huge exponent": GOOD.replace("x[n, j]", "x[n, j]**1000000000").encode(),
    "tower": GOOD.replace("x[n, j]", "x[n, j]**9**9**9").encode(),
    "deep": GOOD.replace("b[i]", "gelu(" * 90 + "b[i]" + ")" * 90).encode(),
    "deeper": GOOD.replace("b[i]", "-" * 5000 + "b[i]").encode(),
    "long name": GOOD.replace("Small", "S" * 5000).encode(),
    "path": GOOD.replace("Small", "../small").encode(),
    "terminal": GOOD.replace("Small", "\\u001b[2J").encode(),
    "hides torch": GOOD.replace("Small", "Torch").encode(),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory that is empty, and a cache that is."""
    monkeypatch.setenv("TRUESTEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def told(capsys):
    """What is shown; each line can be shown on a terminal."""
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert all(line.isprintable() for line in shown.splitlines())
    assert len(shown) < 2000
    return shown


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_with_2(folder, capsys, name):
    (folder / "bad.toml").write_bytes(FILES[name])
    assert main(["build", "bad.toml", "--out", "out"]) == 2
    assert told(capsys).startswith(("bad.toml", "truestep: bad.toml"))
    assert not (folder / "out").exists()


@pytest.mark.parametrize("kind", ["directory", "dangling", "loop", "endless", "missing"])
def test_what_is_no_file_is_refused_with_2(folder, capsys, kind):
    path = folder / "bad.toml"
    if kind == "directory":
        path.mkdir()
    elif kind != "missing":
        targets = {"dangling": "nowhere", "loop": "bad.toml", "endless": "/dev/zero"}
        path.symlink_to(targets[kind])
    assert main(["build", "bad.toml", "--out", "out"]) == 2
    assert "bad.toml" in told(capsys)


def test_a_slow_spec_ends_in_time_with_2(folder, capsys):
    (folder / "slow.toml").write_text(SLOW)
    assert main(["build", "slow.toml", "--out", "out", "--time-limit", "1"]) == 2
    shown = told(capsys)
    assert "slow.toml: the spec takes longer than 1 seconds" in shown
    assert "--time-limit" in shown
    assert not (folder / "out").exists()


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "soon"])
def test_a_time_limit_is_a_whole_number(folder, capsys, limit):
    with pytest.raises(SystemExit) as caught:
        main(["build", "linear", "--time-limit", limit])
    assert caught.value.code == 2
    assert "--time-limit" in capsys.readouterr().err


def test_an_interruption_leaves_nothing(folder, capsys, monkeypatch):
    import codegen.write
    from truestep import building

    def interrupted(*_):
        raise KeyboardInterrupt

    (folder / "small.toml").write_text(GOOD)
    monkeypatch.setattr(building, "produce", building.regenerate)
    with monkeypatch.context() as patch:
        patch.setattr(codegen.write, "put", interrupted)
        assert main(["build", "small.toml", "--out", "out", "--no-cache"]) == 130
    assert told(capsys) == "truestep: interrupted\n"
    assert not (folder / "out").exists()
    assert main(["build", "small.toml", "--out", "out", "--no-cache"]) == 0
    assert [p.name for p in (folder / "out").iterdir()] == ["small.py"]

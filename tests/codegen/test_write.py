"""Files are written all or not at all, and never over what somebody else wrote."""

import os
from pathlib import Path

import pytest

import codegen.write
from codegen.header import MARK, sealed
from codegen.write import STAGE, WriteError, interrupted, write_all

A, B, C = Path("a.py"), Path("b.py"), Path("c.py")


def text(body):
    """A generated file."""
    return sealed(f"{MARK}, generator 1.\n# content: sha256 {'0' * 64}\n{body}\n")


def state(out):
    """Every file of a directory."""
    return {p.relative_to(out): p.read_text() for p in sorted(out.rglob("*")) if p.is_file()}


OLD = {A: text("a = 1"), B: text("b = 1")}
NEW = {A: text("a = 2"), B: text("b = 2"), C: text("c = 2")}


@pytest.fixture
def out(tmp_path):
    """A directory that holds the old files."""
    write_all(OLD, tmp_path / "out")
    return tmp_path / "out"


def test_writes_and_tells(tmp_path):
    out = tmp_path / "deep" / "out"
    assert write_all(OLD, out).changed == (A, B)
    assert state(out) == OLD
    again = write_all(NEW | {B: OLD[B]}, out)
    assert (again.changed, again.unchanged, again.removed) == ((A, C), (B,), ())
    assert state(out) == NEW | {B: OLD[B]}


def test_an_unchanged_file_is_not_touched(out):
    before = (out / A).stat().st_ino
    assert write_all(OLD, out).changed == ()
    assert (out / A).stat().st_ino == before


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("print(1)\n", "not generated"),
        (OLD[B] + "# a change\n", "edited by hand"),
        (OLD[B].replace("b = 1", "b = 3"), "edited by hand"),
        ("", "not generated"),
    ],
)
def test_refuses_to_overwrite(out, content, match):
    (out / B).write_text(content)
    with pytest.raises(WriteError, match=rf"(?s)b\.py.*{match}.*remedy: .*--force"):
        write_all(NEW, out)
    assert state(out) == OLD | {B: content}
    write_all(NEW, out, force=True)
    assert state(out) == NEW


def test_what_is_not_text_is_not_overwritten(out):
    (out / B).write_bytes(b"\xff\xfe")
    with pytest.raises(WriteError, match="not generated"):
        write_all(NEW, out)


def test_removes_stale_files_only_if_asked(out):
    (out / "mine.py").write_text("mine = 1\n")
    (out / "edited.py").write_text(text("x = 1") + "# mine\n")
    assert write_all({A: OLD[A]}, out).removed == ()
    assert write_all({A: OLD[A]}, out, prune=True).removed == (B,)
    assert set(state(out)) == {A, Path("mine.py"), Path("edited.py")}


def test_refuses_odd_directories(tmp_path, out):
    (tmp_path / "link").symlink_to(out)
    (tmp_path / "file").write_text("")
    for name, match in (("link", "symbolic link"), ("file", "not a directory")):
        with pytest.raises(WriteError, match=match):
            write_all(NEW, tmp_path / name)
    (out / B).unlink()
    (out / B).symlink_to(out / A)
    with pytest.raises(WriteError, match="not a plain file"):
        write_all(NEW, out)
    assert (out / A).read_text() == OLD[A]


@pytest.mark.parametrize("path", ["../a.py", "/a.py", ".", f"{STAGE}/a.py"])
def test_refuses_paths_outside(tmp_path, path):
    with pytest.raises(WriteError, match="not a path within"):
        write_all({Path(path): "x"}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_directory_is_named(out, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(WriteError, match="read-only"):
        write_all(NEW, out)
    assert state(out) == OLD


def fail_at_second_move(monkeypatch):
    """Let the second file of the next transaction fail to move."""
    real, calls = os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) == 3:  # the journal, the first file, the second
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)


def test_an_interrupted_build_is_carried_out(out, monkeypatch):
    with monkeypatch.context() as patch:
        fail_at_second_move(patch)
        with pytest.raises(WriteError, match="Input/output error"):
            write_all(NEW, out)
    assert interrupted(out)
    write_all(NEW, out)
    assert state(out) == NEW


def test_recovery_does_not_lose_a_later_edit(out, monkeypatch):
    with monkeypatch.context() as patch:
        fail_at_second_move(patch)
        with pytest.raises(WriteError):
            write_all(NEW, out)
    (out / C).write_text("mine = 1\n")
    with pytest.raises(WriteError, match=r"c\.py was changed after an interrupted build"):
        write_all(NEW, out)
    assert (out / C).read_text() == "mine = 1\n"


def test_a_damaged_journal_is_named(out):
    (out / STAGE).mkdir()
    (out / STAGE / "journal.json").write_text("{")
    with pytest.raises(WriteError, match="journal"):
        write_all(NEW, out)


def test_waits_for_another_build(out, monkeypatch):
    monkeypatch.setattr(codegen.write, "PATIENCE", 0.1)
    with codegen.write.locked(out), pytest.raises(WriteError, match="another build"):
        write_all(NEW, out)
    assert state(out) == OLD

"""Folders that are not there, not ours, not writable or full: nothing is lost or half written."""

import contextlib
import errno
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import codegen.write
from codegen.write import STAGE, WriteError, interrupted, opened, recover, write_all
from tests.hostile.killing import NEW, OLD, state, text

ROOT = Path(codegen.write.__file__).parent.parent
NAMES = ("replace", "fsync", "unlink", "mkdir", "rmdir", "open")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def out(tmp_path):
    """A directory that holds the old files."""
    write_all(OLD, tmp_path / "out")
    return tmp_path / "out"


def refused(out, match, files=NEW, **options):
    """One sentence that says what is wrong, and a remedy."""
    with pytest.raises(WriteError, match=match) as caught:
        write_all(files, out, **options)
    problem, remedy = str(caught.value).split("\n")
    assert remedy.startswith("  remedy: ")
    return problem


# ------------------------------------------------------------------ what the folder is
def test_links_are_not_followed(tmp_path, out):
    for name, target in (("directory", out), ("dangling", tmp_path / "no"), ("loop", "loop")):
        (tmp_path / name).symlink_to(target)
        refused(tmp_path / name, "symbolic link")
    refused(tmp_path / "loop" / "deep", "cannot write")
    assert not (tmp_path / "no").exists()
    assert state(out) == OLD


def test_a_link_within_leads_nowhere(tmp_path, out):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (out / "sub").symlink_to(elsewhere)
    refused(out, "not a plain directory", {Path("sub/layer.py"): text("a")})
    (out / "layer9.py").symlink_to(tmp_path / "dangling")
    refused(out, "not a plain file", {Path("layer9.py"): text("a")})
    assert list(elsewhere.iterdir()) == []
    assert not (tmp_path / "dangling").exists()


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_what_stands_where_a_build_works(tmp_path, out, kind):
    stage, mine = out / STAGE, tmp_path / "mine"
    mine.mkdir()
    (mine / "notes").write_text("mine")
    if kind == "file":
        stage.write_text("mine")
    elif kind == "link":
        stage.symlink_to(mine)
    else:
        stage.mkdir()
        (stage / "journal.json").mkdir()
    refused(out, "not what a build leaves|cannot write")
    assert (mine / "notes").read_text() == "mine"
    assert {k: v for k, v in state(out).items() if k.parts[0] != STAGE} == OLD


@pytest.mark.parametrize(
    "journal",
    [
        "{",
        "1",
        '[{"path": 1, "before": "", "after": ""}]',
        '[{"path": "layer0.py"}]',
        '[{"path": "layer0.py", "before": "", "after": "", "more": ""}]',
        '[{"path": "layer9.py", "before": "", "after": "0"}]',
    ],
)
def test_a_journal_that_cannot_be_carried_out(out, journal):
    (out / STAGE).mkdir()
    (out / STAGE / "journal.json").write_text(journal)
    refused(out, "cannot be carried out")
    shutil.rmtree(out / STAGE)
    assert state(out) == OLD


def test_a_journal_reaches_nothing_outside(tmp_path, out):
    (tmp_path / "mine").write_text("mine")
    (out / STAGE).mkdir()
    (out / STAGE / "journal.json").write_text('[{"path": "../mine", "before": "", "after": ""}]')
    with pytest.raises(WriteError, match="not a path within"):
        write_all(NEW, out, force=True)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_file_that_was_staged_and_is_damaged_is_not_used(out):
    with contextlib.suppress(WriteError), failing("replace", 2):
        write_all(NEW, out)
    staged = next((out / STAGE / "new").iterdir())
    staged.write_text("torn")
    refused(out, "not as it was staged")
    assert all(found in (OLD.get(k), NEW.get(k)) for k, found in files(out).items())


def test_odd_names_beside_ours_stay(out):
    odd = os.fsdecode(b"caf\xe9\xff.py")
    (out / odd).write_bytes(b"\xff\xfe")
    (out / "new\nline.py").write_text("mine")
    write_all(NEW, out, prune=True)
    left = {k: v for k, v in files(out).items() if k in NEW}
    assert left == NEW
    assert (out / odd).read_bytes() == b"\xff\xfe"
    assert (out / "new\nline.py").read_text() == "mine"


def test_a_folder_of_an_odd_name(tmp_path):
    out = tmp_path / os.fsdecode(b"caf\xe9\xff") / "a\nb"
    write_all(OLD, out)
    assert state(out) == OLD


def files(out):
    """The files beside the staging directory."""
    found = (p for p in out.iterdir() if p.is_file() and p.name.isprintable())
    return {Path(p.name): p.read_text(errors="replace") for p in found}


# ------------------------------------------------------------------ when the disk fails
@contextlib.contextmanager
def failing(names, number, *, forever=False, code=errno.ENOSPC):
    """The ``number``-th call that changes the disk fails, or all calls from that on."""
    calls = []

    def wrap(function):
        def call(*arguments, **keywords):
            calls.append(function)
            if len(calls) == number or (forever and len(calls) > number):
                raise OSError(code, os.strerror(code))
            return function(*arguments, **keywords)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in (names,) if isinstance(names, str) else names:
            patch.setattr(os, name, wrap(getattr(os, name)))
        if not isinstance(names, str):
            patch.setattr(io, "open", wrap(io.open))
        yield calls


@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_every_call_may_fail(tmp_path, forever, code):
    for number in range(1, 200):
        out = tmp_path / str(number)
        write_all(OLD, out)
        problem = ""
        with failing(NAMES, number, forever=forever, code=code) as calls:
            try:
                write_all(NEW, out, prune=True)
            except WriteError as error:
                problem = str(error)
        if len(calls) < number:
            assert (problem, state(out)) == ("", NEW)
            return
        if not problem:  # a directory that need not be made, as it is there
            assert state(out) == NEW
            continue
        assert os.strerror(code) in problem
        if not interrupted(out):
            assert state(out) in (OLD, NEW)
        with opened(out):
            recover(out)
        assert state(out) in (OLD, NEW)
        assert not interrupted(out)
    pytest.fail("no build came to its end")


FULL = """
import resource, sys
from pathlib import Path
from codegen.write import WriteError, write_all
from tests.hostile.killing import NEW
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
for folder in sys.argv[1:]:
    try:
        write_all(NEW, Path(folder))
    except WriteError as error:
        print(error)
"""


def test_a_file_that_does_not_fit_leaves_nothing(tmp_path, out):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(out), str(tmp_path / "new" / "deep")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.count("File too large\n  remedy: ") == 2
    assert state(out) == OLD
    assert not (tmp_path / "new").exists()


def test_a_folder_that_vanishes(out, monkeypatch):
    put = codegen.write.put

    def vanishing(path, content):
        put(path, content)
        shutil.rmtree(out)

    with monkeypatch.context() as patch:
        patch.setattr(codegen.write, "put", vanishing)
        refused(out, "cannot write to .*: No such file or directory")
    assert not out.exists()
    write_all(NEW, out)
    assert state(out) == NEW


def test_nothing_leaves_the_folders_own_disk(out, monkeypatch):
    """Files are moved within the folder only: a temporary directory may be on another disk."""
    moved = []
    replace = os.replace

    def noted(source, target):
        moved.append((Path(source), Path(target)))
        replace(source, target)

    monkeypatch.setattr(os, "replace", noted)
    write_all(NEW, out)
    assert moved
    assert all(out in source.parents and out in target.parents for source, target in moved)


# ------------------------------------------------------------------ killed
def test_a_killed_build_leaves_old_or_new(tmp_path):
    """Killed at every call and at random times, once and again; and many builds at once."""
    script = Path(__file__).with_name("killing.py")
    done = subprocess.run(
        [sys.executable, script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.strip() == "whole", done.stderr

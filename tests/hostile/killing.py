"""Kills builds: a script without torch, so that forking is cheap. ``python killing.py DIR``.

Every scenario starts from the old files, kills a process that writes the new ones, lets the next
build settle what it left, and asserts that there are all old or all new files and nothing else.
"""

import io
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from codegen import write
from codegen.header import CONTENT, MARK, sealed

COUNT = 4
MANY = 24
CALLS = ("replace", "fsync", "unlink", "mkdir", "rmdir", "open")


def text(body):
    """A generated file of several blocks, so that a torn one would show."""
    return sealed(f"{MARK}, generator 1.\n{CONTENT}{'0' * 64}\n{body}\n" + f"# {body}\n" * 500)


def batch(count):
    """Old files, and new ones: two go, two come, the others change."""
    old = {Path(f"layer{k}.py"): text(f"a = {k}") for k in range(count)}
    return old, {Path(f"layer{k}.py"): text(f"b = {k}") for k in range(2, count + 2)}


OLD, NEW = batch(COUNT)


def state(out):
    """Every file of a directory."""
    return {p.relative_to(out): p.read_text() for p in sorted(out.rglob("*")) if p.is_file()}


def folder(base, name):
    """A directory that holds the old files."""
    write.write_all(OLD, base / name)
    return base / name


def forked(act):
    """A child that does something and ends."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return child


def ended(child):
    """The status of a child when it has ended."""
    return os.waitpid(child, 0)[1]


def settled(out):
    """What is there once the next build has begun."""
    with write.opened(out):
        write.recover(out)
    assert not (out / write.STAGE).exists()
    return state(out)


def die_at(number):
    """Kill this process at its ``number``-th call that changes the disk."""
    count = 0

    def wrap(function):
        def call(*arguments, **keywords):
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **keywords)

        return call

    for name in CALLS:
        setattr(os, name, wrap(getattr(os, name)))
    io.open = wrap(io.open)


def at_every_call(base):
    """Killed at every call, one after the other, until a build comes to its end.

    Returns:
        The calls after which the new files come.
    """
    seen = Counter()
    for number in range(1, 500):
        out = folder(base, f"call{number}")

        def act(out=out, number=number):
            die_at(number)
            write.write_all(NEW, out, prune=True)

        status = ended(forked(act))
        found = settled(out)
        assert found in (OLD, NEW), (number, sorted(found))
        seen["new" if found == NEW else "old"] += 1
        if status == 0:
            assert found == NEW
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    else:
        raise AssertionError("no build came to its end")
    assert min(seen["old"], seen["new"]) > COUNT, seen
    return seen["old"]


def at_every_call_of_recovery(base, committed):
    """The build that settles what a killed one left is killed too, at every call."""
    for number in range(1, 500):
        out = folder(base, f"again{number}")

        def first(out=out):
            die_at(committed + COUNT // 2)  # some files are new by then, some are not
            write.write_all(NEW, out, prune=True)

        def second(out=out, number=number):
            die_at(number)
            settled(out)

        assert os.WIFSIGNALED(ended(forked(first)))
        mixed = state(out)
        assert mixed not in (OLD, NEW)
        status = ended(forked(second))
        assert settled(out) == NEW, number
        if status == 0:
            return
    raise AssertionError("no recovery came to its end")


def at_random_times(base, times):
    """A true signal from outside, while a reader looks at the files all the time."""
    old, new = batch(MANY)
    out, stop = base / "times", base / "stop"
    write.write_all(old, out)
    reader = forked(lambda: read_until(out, stop, old, new))
    span = 0.05
    for _ in range(times):
        write.write_all(old, out, prune=True)
        before = time.monotonic()
        child = forked(lambda: write.write_all(new, out, prune=True))
        time.sleep(random.uniform(0, span))
        os.kill(child, signal.SIGKILL)
        if ended(child) == 0:
            span = time.monotonic() - before
        found = settled(out)
        assert found in (old, new), sorted(found)
    stop.touch()
    assert ended(reader) == 0, "a reader saw a torn file"


def read_until(out, stop, old, new):
    """Read every file again and again; each must be whole, old or new."""
    while not stop.exists():
        time.sleep(0.001)
        for path in {*old, *new}:
            try:
                found = (out / path).read_text()
            except FileNotFoundError:
                continue
            assert found in (old.get(path), new.get(path))


def side_by_side(base):
    """Builds at once into one directory, one of which is killed while it holds the lock."""
    out = folder(base, "both")

    def hold(out=out):
        with write.opened(out):
            os.kill(os.getpid(), signal.SIGKILL)

    def repeat(files):
        for _ in range(5):
            write.write_all(files, out, prune=True)

    children = [forked(lambda files=f: repeat(files)) for f in (OLD, NEW) * 3]
    assert os.WIFSIGNALED(ended(forked(hold)))
    assert all(ended(child) == 0 for child in children)
    assert state(out) in (OLD, NEW)


def main():
    """Run every scenario."""
    base = Path(sys.argv[1])
    os.fsync = lambda handle: None  # a killed process takes nothing with it that it has written
    committed = at_every_call(base)
    at_every_call_of_recovery(base, committed)
    at_random_times(base, 30)
    side_by_side(base)
    print("whole")


if __name__ == "__main__":
    main()

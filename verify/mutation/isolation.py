"""Mutants run in a forked process: they may loop, exhaust memory, or change what others share.

A forked process starts within milliseconds with everything imported. It judges one mutant after
another and sends a line for each; one that dies or does not answer in time is replaced. Time
is that of the processor, so that a busy machine is no verdict.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from derive.errors import TruestepError

T = TypeVar("T")
MEMORY = 4 << 30
"""Bytes that a process may take beyond what it holds when it is forked."""
LOOK = 0.5
"""Seconds between two looks at what a process has used."""
PATIENCE = 10
"""A process that waits, or is kept waiting, may take so many times its seconds."""


class IsolationError(TruestepError):
    """The harness itself failed, which is no verdict on a mutant."""


@dataclass
class Child:
    """A forked process that answers.

    Attributes:
        process: Its number.
        handle: Where its lines come from.
        text: What came and is not yet a whole line.
    """

    process: int
    handle: int
    text: bytes = b""

    def line(self, seconds: float) -> bytes:
        """The next line; empty if the process died or used up its seconds of the processor."""
        start, spent = time.monotonic(), self.spent()
        while b"\n" not in self.text:
            ready, _, _ = select.select([self.handle], [], [], min(seconds, LOOK))
            part = os.read(self.handle, 1 << 16) if ready else b""
            late = time.monotonic() - start > PATIENCE * seconds
            if (ready and not part) or late or self.spent() - spent > seconds:
                return b""
            self.text += part
        line, self.text = self.text.split(b"\n", 1)
        return line

    def spent(self) -> float:
        """Seconds of the processor that the process has used."""
        try:
            with open(f"/proc/{self.process}/stat", encoding="ascii") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Stop the process."""
        os.close(self.handle)
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


def judged(
    function: Callable[[T], Any], items: Sequence[T], seconds: float, *, alone: bool = False
) -> Iterator[Any]:
    """What a function says of each item, computed in forked processes; must be JSON.

    Args:
        function: Anything; what it changes stays in its process.
        items: What it is called with.
        seconds: How much of the processor one call may take.
        alone: Whether every item has a process of its own.

    Yields:
        A value an item, in order; ``None`` where there was no answer.

    Raises:
        IsolationError: If processes cannot be forked here or the function raised.
    """
    if not hasattr(os, "fork"):
        raise IsolationError("mutants run in forked processes, which this system does not have")
    child: Child | None = None
    try:
        for place, item in enumerate(items):
            if child is None:
                child = fork(function, [item] if alone else items[place:])
            line = child.line(seconds)
            if alone or not line:
                child.end()
                child = None
            yield value(line)
    finally:
        if child is not None:
            child.end()


def value(line: bytes) -> Any:
    """What a line says.

    Raises:
        IsolationError: If it is an error.
    """
    if not line:
        return None
    found = json.loads(line)
    if "error" in found:
        raise IsolationError(f"the harness failed:\n{found['error']}")
    return found["value"]


def fork(function: Callable[[T], Any], items: Sequence[T]) -> Child:
    """Start a process that answers for every item."""
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return Child(process, reading)
    os.close(reading)
    try:
        limit_memory()
        mute()
        for item in items:
            send(writing, {"value": function(item)})
    except MemoryError:
        os._exit(1)
    except BaseException:
        send(writing, {"error": traceback.format_exc()})
    os._exit(0)


def send(writing: int, found: dict[str, Any]) -> None:
    """One line."""
    data = json.dumps(found).encode() + b"\n"
    while data:
        data = data[os.write(writing, data) :]


def mute() -> None:
    """Nothing that a mutant prints is of interest."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def limit_memory() -> None:
    """Let allocations fail before the machine is short of memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))

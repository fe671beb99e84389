"""Imports generated text where nothing can be lost; :mod:`verify.isolated` runs it as a script.

The process has imported torch once. It reads a request a line, ``{"name", "text", "seconds"}``, and
answers with a line ``{"classes": {name: [base, constructor, forward]}}`` or ``{"error"}``. A text
is executed in a forked child that may write no file, open none, start no process and use little
time and memory: what crashes, hangs or exits there is an answer about that text and hits no other.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import select
import signal
import sys
import time
from types import ModuleType
from typing import Any, TextIO

MEMORY = 1 << 30
"""Bytes that a text may take beyond what the process with torch has."""
STATUS = "/proc/self/statm"


def definitions(name: str, text: str) -> dict[str, list[str]]:
    """Execute a text and say which modules it defines: name → base and signatures."""
    import torch  # noqa: PLC0415 - `main` says so if it is missing

    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(text, f"<generated {name}>", "exec"), module.__dict__)
    return {
        key: [
            value.__bases__[0].__name__,
            *(str(inspect.signature(getattr(value, m))) for m in SHOWN),
        ]
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, torch.nn.Module) and is_own(value, name)
    }


SHOWN = ("__init__", "forward")


def is_own(value: type, name: str) -> bool:
    """Whether a class was defined by the text itself."""
    return value.__module__ == name


def answer_to(request: dict[str, Any]) -> dict[str, Any]:
    """The answer of a child."""
    try:
        return {"classes": definitions(request["name"], request["text"])}
    except BaseException as error:  # a text that raises SystemExit has not been imported either
        return {"error": f"{type(error).__name__}: {error}"[:1000]}


def confine(sink: int, seconds: int) -> None:
    """Give up what executing a module does not need; ``sink`` is where the answer goes."""
    import resource  # noqa: PLC0415 - there is none but on POSIX, where there is a fork

    os.setpgid(0, 0)
    os.closerange(3, sink)
    limits = [
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ]
    if os.path.exists(STATUS):
        with open(STATUS, encoding="ascii") as file:
            pages = int(file.read().split()[0])
        limits += [(resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY)]
    for what, most in [*limits, (resource.RLIMIT_NOFILE, 0)]:
        resource.setrlimit(what, (most, most))


def in_child(request: dict[str, Any]) -> dict[str, Any]:
    """Execute a request in a forked child and read its answer."""
    seconds = int(request["seconds"])
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            confine(sink, seconds)
            os.write(sink, json.dumps(answer_to(request)).encode())
        os._exit(0)
    os.close(sink)
    try:
        data = read_all(source, time.monotonic() + seconds)
    finally:
        os.close(source)
        for kill in (os.kill, os.killpg):
            with contextlib.suppress(ProcessLookupError):
                kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if data is None:
        return {"error": f"it took longer than {seconds} seconds"}
    try:
        found: dict[str, Any] = json.loads(data)
    except ValueError:
        return {"error": f"its process ended without an answer (status {status})"}
    return found


def read_all(source: int, end: float) -> bytes | None:
    """Everything that a pipe gives until it is closed, or ``None`` if that takes too long."""
    data = b""
    while True:
        ready, _, _ = select.select([source], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return None
        part = os.read(source, 1 << 16)
        if not part:
            return data
        data += part


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""

    def tell(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        import torch  # noqa: PLC0415 - whoever asks is told if it is missing

        torch.set_num_threads(1)
    except Exception as error:
        tell({"error": f"torch does not import: {error}"})
        return
    tell({"ready": True})
    for line in requests:
        request = json.loads(line)
        tell(in_child(request) if hasattr(os, "fork") else answer_to(request))


def main() -> None:
    """Serve on standard input and output, and leave the directory empty behind."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    with contextlib.suppress(BrokenPipeError):
        serve(requests, answers)
    place = os.getcwd()
    os.chdir(os.path.dirname(place))
    os.rmdir(place)


if __name__ == "__main__":
    main()

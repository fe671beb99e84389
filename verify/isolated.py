"""The first import of generated text: in another process, before any of it runs in this one.

One process a worker has torch imported already (:mod:`verify.zygote`) and executes each text in a
forked child of its own, in an empty directory, without the caller's environment, limited in time,
memory and files. A text that cannot be imported there, or a process that cannot be started, is an
error: nothing is imported here then.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verify.results import VerificationError

SCRIPT = Path(__file__).with_name("zygote.py")
START_SECONDS = 180.0
GRACE = 30.0
"""Seconds to start, and beyond a text's own limit to answer: the machine may be busy."""
# What finding shared libraries needs; nothing else of the caller's environment is handed on.
KEPT = ("DYLD_LIBRARY_PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")


@dataclass(frozen=True)
class Definition:
    """A module class that a text defines, as another process saw it.

    Attributes:
        name: Its name.
        base: The name of its base.
        constructor, forward: Their signatures.
    """

    name: str
    base: str
    constructor: str
    forward: str


class Importer:
    """Asks a process of its own to import texts; it is started when it is first needed."""

    def __init__(
        self, command: tuple[str, ...] = (sys.executable, "-I", str(SCRIPT)), seconds: int = 20
    ) -> None:
        """Keep the command and the time of a text.

        ``-I`` ignores the environment, the directory and the user's own packages.
        """
        self.command = command
        self.seconds = seconds
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None
        self.place = ""
        self.owner = 0
        self.ready = False

    def start(self) -> None:
        """Start the process, if it does not run, without waiting for it.

        Raises:
            VerificationError: If it cannot be started.
        """
        # A forked copy of this process must not read its parent's answers.
        if self.process is not None and self.owner == os.getpid() and self.process.poll() is None:
            return
        place = self.place = tempfile.mkdtemp(prefix="truestep-")
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        try:
            self.process = subprocess.Popen(
                self.command,
                cwd=place,
                env={**kept, "HOME": place, "PATH": os.defpath, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                start_new_session=True,  # an interruption of the build is not for it
            )
        except OSError as error:
            os.rmdir(place)
            raise refusal(error.strerror or str(error)) from None
        self.owner, self.ready = os.getpid(), False

    def definitions(self, text: str, name: str) -> tuple[Definition, ...]:
        """What a text defines.

        Args:
            text: The source of a module; it must have passed the gate.
            name: What the module is called there.

        Raises:
            VerificationError: If the process cannot be started or asked, or the text does not
                import there.
        """
        with self.lock:
            try:
                answer = self.exchange(text, name)
            except BaseException:
                # An answer that was not read must not be taken for the next one's.
                self.close(patience=0.0)
                raise
        if "error" in answer:
            raise VerificationError(f"the generated module does not import: {answer['error']}")
        try:
            return tuple(Definition(k, *entry) for k, entry in answer["classes"].items())
        except (KeyError, TypeError, AttributeError):
            raise refusal("its answer is none") from None

    def exchange(self, text: str, name: str) -> dict[str, Any]:
        """Ask about a text.

        Raises:
            VerificationError: If the process cannot be started or asked.
        """
        self.start()
        if not self.ready:
            greeting = self.answer(START_SECONDS)
            if "ready" not in greeting:
                raise refusal(str(greeting.get("error")))
            self.ready = True
        self.send({"name": name, "text": text, "seconds": self.seconds})
        return self.answer(self.seconds + GRACE)

    def send(self, request: dict[str, Any]) -> None:
        """Write one request.

        Raises:
            VerificationError: If the process reads no more.
        """
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise refusal("it ended") from None

    def answer(self, seconds: float) -> dict[str, Any]:
        """Read one answer.

        Raises:
            VerificationError: If none comes in time.
        """
        assert self.process is not None
        assert self.process.stdout is not None
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise refusal("it ended, or did not answer in time")
        return found

    def close(self, patience: float = 5.0) -> None:
        """End the process, if it is this one's, and remove its directory."""
        process, self.process = self.process, None
        if process is None or self.owner != os.getpid():
            return
        if patience == 0.0:
            process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            process.wait(timeout=patience or None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(OSError):  # the process does that too, if it is let
            os.rmdir(self.place)


def refusal(reason: str) -> VerificationError:
    """An error of the process and not of a text."""
    return VerificationError(
        f"the process for first imports failed: {reason}\n"
        "  remedy: `python -I -c 'import torch'` must work, in a directory for temporary files"
    )


IMPORTER = Importer()
"""The importer of this process."""
atexit.register(IMPORTER.close)

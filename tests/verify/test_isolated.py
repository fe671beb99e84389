"""Generated text is first imported where nothing can be lost, and without that not at all."""

import os
import sys
import time

import pytest

from codegen.gate import GateError
from derive.budget import BudgetError, Limits, within
from verify import isolated
from verify.isolated import Definition, Importer
from verify.load import load_module
from verify.results import VerificationError

GOOD = """\
from __future__ import annotations

import torch
from torch import Tensor, nn


class Good(nn.Module):
    weight: nn.Parameter

    def __init__(self, size: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight
"""
FOUND = Definition(
    "Good",
    "Module",
    "(self, size: 'int', bias: 'bool' = True) -> 'None'",
    "(self, x: 'Tensor') -> 'Tensor'",
)


@pytest.fixture(scope="module")
def importer():
    made = Importer(seconds=1)
    yield made
    made.close()


def test_tells_what_a_text_defines(importer):
    assert importer.definitions(GOOD, "good") == (FOUND,)


# The gate refuses each of these; here it is as if it had not.
HOSTILE = {
    "error": ("1/0", "ZeroDivisionError"),
    "no Python": ("def", "SyntaxError"),
    "exit": ("raise SystemExit", "SystemExit"),
    "abrupt exit": ("import os; os._exit(0)", "without an answer"),
    "crash": ("import os; os.kill(os.getpid(), 11)", "without an answer"),
    "endless": ("while True: pass", "longer than 1 seconds|without an answer"),
    "memory": ("x = 'a' * 10**10", "MemoryError"),
    "recursion": ("def f(): f()\nf()", "RecursionError"),
    "reads a file": ("open('/etc/hostname')", "OSError"),
    "writes a file": ("open('{file}', 'w').write('mine')", "OSError"),
    "starts a process": ("import subprocess; subprocess.run(['true'])", "Error"),
    "its own error": ("raise type('\\n{{', (BaseException,), {{}})", "does not import"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_goes_wrong_is_told_and_hits_no_other(importer, tmp_path, name):
    text, match = HOSTILE[name]
    file = tmp_path / "file"
    with pytest.raises(VerificationError, match=match):
        importer.definitions(text.format(file=file), "hostile")
    assert not file.exists()
    assert importer.definitions(GOOD, "good") == (FOUND,)


def test_the_requests_and_answers_of_others_are_out_of_reach(importer):
    text = "import sys, os\nsys.stdin.read()\nprint('{}')\nos.write(1, b'{}')\n"
    assert importer.definitions(text, "speaks") == ()
    assert importer.definitions(GOOD, "good") == (FOUND,)


def test_the_environment_is_not_handed_on(monkeypatch):
    monkeypatch.setenv("SECRET", "mine")
    made = Importer()
    text = "import os\nif 'SECRET' in os.environ: raise ValueError(os.getcwd())"
    assert made.definitions(text, "curious") == ()
    with pytest.raises(VerificationError) as caught:
        made.definitions("import os\nraise ValueError(os.getcwd())", "curious")
    made.close()
    place = str(caught.value).rsplit(": ", 1)[1]
    assert "truestep-" in place
    assert not os.path.exists(place)


@pytest.mark.parametrize(
    "command",
    [
        ("/nowhere/python",),
        (sys.executable, "-c", "pass"),
        (sys.executable, "-c", "print('[]')"),
        (sys.executable, "-c", "print('{}')"),
        (sys.executable, "-c", """print('{"error": "torch does not import"}')"""),
        (sys.executable, "-c", """print('{"ready": true}\\\\n{}'); input()"""),
    ],
)
def test_without_the_process_nothing_is_imported(monkeypatch, command):
    broken = Importer(command)
    monkeypatch.setattr("verify.load.IMPORTER", broken)
    before = set(sys.modules)
    with pytest.raises(VerificationError, match=r"first imports failed: .*\n  remedy: "):
        load_module(GOOD + f"\n# {command}\n", "closed")
    assert not {name for name in set(sys.modules) - before if "generated" in name}
    broken.close()


def test_a_process_that_does_not_answer_is_ended(monkeypatch):
    monkeypatch.setattr(isolated, "START_SECONDS", 0.2)
    silent = Importer((sys.executable, "-c", "import time; time.sleep(60)"))
    before = time.monotonic()
    with pytest.raises(VerificationError, match="did not answer in time"):
        silent.definitions(GOOD, "good")
    assert time.monotonic() - before < 20
    assert silent.process is None


def test_an_interrupted_question_leaves_no_answer_behind(importer):
    with pytest.raises(BudgetError), within(Limits(seconds=0.3), interrupt=True):
        importer.definitions("while True: pass", "slow")
    assert importer.definitions(GOOD, "good") == (FOUND,)


def test_the_gate_comes_first(monkeypatch):
    asked = []
    monkeypatch.setattr("verify.load.IMPORTER.definitions", lambda *a: asked.append(a) or ())
    with pytest.raises(GateError):
        load_module("import os\n", "refused")
    assert asked == []


def test_what_was_tried_out_is_what_is_imported(monkeypatch):
    monkeypatch.setattr("verify.load.IMPORTER.definitions", lambda *_: (FOUND,))
    other = GOOD.replace("Good", "Other")
    with pytest.raises(VerificationError, match="other classes"):
        load_module(other, "other")
    assert load_module(GOOD, "good").Good(3).weight.shape == (3,)

"""The gate lets generated code through and nothing else."""

from importlib import resources

import pytest

from codegen import NothingToGenerate, generate
from codegen.gate import GateError, check
from derive import read_spec

SPECS = sorted(
    (entry for entry in resources.files("truestep").joinpath("specs").iterdir()),
    key=lambda entry: entry.name,
)
GOOD = """\
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Layer"]


class Layer(nn.Module):
    \"\"\"A layer.\"\"\"

    weight: nn.Parameter

    def __init__(self, features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty((features,)))
        nn.init.uniform_(self.weight, -math.sqrt(3), 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight).square().sum(-1)
"""


def in_forward(line):
    """The good text with another line in ``forward``."""
    return GOOD.replace("        return F", f"        {line}\n        return F")


@pytest.mark.parametrize("entry", SPECS, ids=lambda entry: entry.name)
def test_accepts_what_is_generated(entry):
    spec = read_spec(entry.read_text(encoding="utf-8"), entry.name)
    try:
        text = generate(spec).text
    except NothingToGenerate:
        text = GOOD
    check(text)


def test_accepts_plain_pytorch():
    check(GOOD)


def test_accepts_sums_of_any_length():
    check(in_forward(f"x = ({' + '.join(['x'] * 1000)}).mT"))


@pytest.mark.parametrize(
    "line",
    [
        "eval('1')",
        "exec('1')",
        "open('file')",
        "__import__('os')",
        "getattr(x, 'data')",
        "import os",
        "x.__class__",
        "x.__dict__['a']",
        "super().__getattribute__('a')",
        "super().forward(x)",
        "super(Layer, self).__init__()",
        "(x + x).weight",
        "self.other(x).mT.weight",
        "torch.load('file')",
        "torch.hub.load('a', 'b')",
        "torch.ops.aten",
        "torch.linalg.os",
        "torch.utils.cpp_extension.load('a')",
        "F.importlib.import_module('os')",
        "F.warnings",
        "nn.modules.module",
        "nn.init.math",
        "math.os",
        "module = torch",
        "module = [torch.linalg]",
        "torch = x",
        "self.weight.numpy().tofile('file')",
        "'{0.__class__}'.format(x)",
        "(lambda: 1)()",
        "global x",
        "del x",
        "x = (yield)",
        "print(x)",
        "globals()",
        "vars(x)",
        "y = (x := 1)",
        "while True: pass",
        "assert x",
    ],
)
def test_refuses_in_code(line):
    with pytest.raises(GateError, match=r"refused|not valid"):
        check(in_forward(line))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import math", "import os"),
        ("import math", "from math import sqrt"),
        ("import math", "import torch as math"),
        ("import math", "torch.set_num_threads(1)"),
        ('["Layer"]', "[torch.empty(1)]"),
        ("(nn.Module)", "(nn.Linear)"),
        ("(nn.Module)", "(nn.Module, metaclass=type)"),
        ("class Layer", "@torch.no_grad\nclass Layer"),
        ("    def forward", "    @property\n    def forward"),
        ("bias: bool = True", "bias: bool = torch.empty(1)"),
        ("x: Tensor", "x: 'torch.load(1)'"),
        ("x: Tensor", "x: torch.empty(1)"),
        ("weight: nn.Parameter", "weight: nn.Parameter = torch.empty(1)"),
        ("def forward", "def __call__"),
        ("def forward", "async def forward"),
        ("class Layer(nn.Module):", "class Layer(nn.Module)"),
        ("import math", "import math\x00"),
    ],
)
def test_refuses_in_the_module(before, after):
    assert before in GOOD
    with pytest.raises(GateError):
        check(GOOD.replace(before, after, 1))


def test_names_the_line():
    with pytest.raises(GateError, match=r"line 23: .*`eval`"):
        check(in_forward("eval('1')"))


def test_refuses_what_is_too_long():
    with pytest.raises(GateError, match="longer"):
        check("#" * 2_000_000)

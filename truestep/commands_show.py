"""``truestep derive``, ``audit``, ``list`` and ``new``: what shows, and what starts a spec."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

from truestep.shipped import Source, UsageError, find, shipped

STARTER = """\
# A layer in index notation. `truestep build {file} --out DIR` derives how one gradient step
# moves its activations, solves for the corrections, generates a module for each, verifies it and
# only then writes it.
name    = "{name}"
summary = "Linear layer of two inputs."

# An index that the left side lacks is summed: W[i, j]*x[n, j] is W x. There may be several lines
# (in \"\"\"three quotes\"\"\"): each defines an intermediate for the next, the last is the output.
# Functions: sqrt exp log tanh sigmoid relu gelu silu erf max, softmax[u](..), sum[j](..),
# mean[j](..), size(j).
forward = "z[n, i] = W[i, j]*x[n, j] + V[i, k]*y[n, k] + b[i]"

# Sites enumerate activation vectors (here samples n), units their entries (here features i).
site    = "n"
unit    = "i"

# Symbol = the attribute's name in the module. What is no parameter and no intermediate is an input.
# init: uniform (torch's own for affine layers, the default), zeros, ones or normal.
[parameters]
W = {{ torch = "weight" }}
V = {{ torch = "weight2" }}
b = {{ torch = "bias", optional = true }}

# Axis = constructor argument, in the constructor's order; other sizes are read off the inputs.
[sizes]
j = "in1_features"
k = "in2_features"
i = "out_features"

# Integers for indices, or real numbers for formulas, with defaults; they follow the sizes.
# [hyperparameters]
# stride = 1
"""


def derive(arguments: argparse.Namespace) -> int:
    """Show a derivation.

    Raises:
        UsageError: If a symbol to leave out is no optional parameter.
    """
    from derive import derive as derived
    from derive import read_spec
    from derive.stages import stage_spec

    source = find(arguments.spec)
    spec = read_spec(source.text, source.file)
    if arguments.stage is not None:
        spec = stage_spec(spec, arguments.stage)
    absent = frozenset(re.findall(r"[^\s,]+", " ".join(arguments.without)))
    unknown = sorted(absent - set(spec.optional))
    if unknown:
        choices = ", ".join(spec.optional) or "this layer has none"
        raise UsageError(f"`{unknown[0]}` is not an optional parameter: {choices}")
    derivation = derived(spec, absent)
    if arguments.json:
        print(json.dumps(derivation.to_json(), ensure_ascii=False, indent=2))
    else:
        print(derivation.to_latex() if arguments.latex else derivation.to_text())
    return 0


def audit(arguments: argparse.Namespace) -> int:
    """Show what normalisers do to the self-divergence of the layer behind them."""
    from derive import audit as audits
    from derive import read_spec

    sources = [find(name) for name in arguments.specs] or normalisers(shipped())
    rows = audits.audit(read_spec(source.text, source.file) for source in sources)
    if arguments.json:
        print(json.dumps(audits.to_json(rows), ensure_ascii=False, indent=2))
    else:
        print(audits.to_markdown(rows) if arguments.markdown else audits.to_text(rows), end="")
    return 0


def normalisers(sources: Sequence[Source]) -> list[Source]:
    """The layers whose last line alone holds parameters: something fixed, then an affine layer."""
    from derive import TruestepError, read_spec
    from derive.certificate_layer import is_normaliser
    from derive.resolve import resolve

    found = []
    for source in sources:
        try:
            program = resolve(read_spec(source.text, source.file))
        except TruestepError:
            continue  # the caller has told what is wrong with it
        if is_normaliser(program):
            found.append(source)
    return found


def listed(arguments: argparse.Namespace) -> int:
    """Name the shipped specs."""
    sources = shipped()
    if arguments.json:
        data = [{"name": source.name, "summary": source.summary()} for source in sources]
        print(json.dumps(data, ensure_ascii=False, indent=2))
    else:
        width = max(len(source.name) for source in sources)
        for source in sources:
            print(f"{source.name:{width}s}  {source.summary()}")
    return 0


def new(arguments: argparse.Namespace) -> int:
    """Write a starter spec.

    Raises:
        UsageError: If there is such a file already.
    """
    from derive import read_spec

    name = "".join(part[:1].upper() + part[1:] for part in arguments.name.split("_"))
    path = Path(f"{arguments.name}.toml")
    text = STARTER.format(name=name, file=path)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", arguments.name):
        raise UsageError(
            f"`{arguments.name}` is no name for a layer: use letters, digits and _, a letter first"
        )
    read_spec(text, str(path))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists already and is not overwritten") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None
    print(f"wrote {path}; next: truestep build {path} --out DIR")
    return 0

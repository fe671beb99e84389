"""``truestep mutate``: break files on purpose and count what refuses them."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from truestep.shipped import UsageError

if TYPE_CHECKING:
    from verify.mutation.campaign import Result
    from verify.mutation.verdict import Verdict

TEXT = """\
Breaks generated layers, and the solver and the lowering that make them, in one place at a time, and
counts what refuses the broken file: the gate, the exact reading of the text, the stages of
verification, the tests. A generated file's difference from what is generated counts for nothing.
A mutant that nothing refuses is a hole in the checks, unless verify/mutation/equivalents.py argues
that it is right; an argument that nothing needs is an error too. Needs a checkout.

examples:
  truestep mutate --layers linear --sample 10             every tenth mutant of one layer
  truestep mutate --layers --resume layers.jsonl          all generated layers; goes on where it was
  truestep mutate --rooms derive/update codegen           a file of the solver, and the lowering
  truestep mutate --jobs 2 --resume all.jsonl             everything
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What ``truestep mutate`` takes, beside ``--jobs`` and ``--json``."""
    command.add_argument(
        "--layers", metavar="NAME", nargs="*", help="shipped layers; without a name: all"
    )
    command.add_argument(
        "--rooms", metavar="ROOM", nargs="*", help="derive, codegen or a file; without a name: both"
    )
    command.add_argument(
        "--sample", metavar="K", type=int, default=1, help="every K-th mutant (default: all)"
    )
    command.add_argument(
        "--resume", metavar="FILE", type=Path, help="keep verdicts there and go on from them"
    )


def mutate(arguments: argparse.Namespace) -> int:
    """Judge mutants; 1 if one survives that nothing argues for.

    Raises:
        UsageError: If there is no such layer or room, or the sample is no whole number.
    """
    from verify.mutation.campaign import Plan, run
    from verify.mutation.targets import open_target, target_keys

    if arguments.sample < 1:
        raise UsageError("--sample must be at least 1: it takes every K-th mutant")
    try:
        keys = target_keys(arguments.layers, arguments.rooms)
    except KeyError as error:
        raise UsageError(str(error.args[0])) from None
    plan = Plan(open_target, keys, arguments.sample, arguments.resume)
    result = run(plan, n_jobs=arguments.jobs, progress=None if arguments.json else show)
    if arguments.json:
        print(json.dumps([asdict(v) for v in result.verdicts], ensure_ascii=False, indent=1))
    else:
        print(summary(result))
    return 0 if result.passed else 1


def show(verdict: Verdict, place: int, files: int) -> None:
    """A line a mutant on standard error; survivors on standard output."""
    if verdict.survived:
        print(f"survived  {verdict}", flush=True)
    else:
        print(f"{place}/{files}  {verdict.killer:12s}  {verdict.identity}", file=sys.stderr)


def summary(result: Result) -> str:
    """The table, and what decides the exit code."""
    from verify.mutation.report import markdown

    lines = [markdown(result), ""]
    lines += [f"survived, not argued: {v}" for v in result.survivors]
    lines += [f"stale argument: {e.where} {e.kind} {e.change}" for e in result.stale]
    return "\n".join(lines)

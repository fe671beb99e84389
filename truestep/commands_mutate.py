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
    from verify.mutation.campaign import Result, Verdict


def mutate(arguments: argparse.Namespace) -> int:
    """Judge mutants; 1 if one survives that nothing argues for."""
    from verify.mutation.campaign import Plan, run
    from verify.mutation.targets import open_target, target_keys

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


def show(verdict: Verdict, count: int, total: int) -> None:
    """A line a survivor, and how far the campaign is."""
    if verdict.survived:
        print(f"survived  {verdict}")
    if count == total or not count % 200:
        print(f"{count} of {total}", file=sys.stderr, flush=True)


def summary(result: Result) -> str:
    """The table, and what decides the exit code."""
    from verify.mutation.report import markdown

    lines = [markdown(result), ""]
    lines += [f"survived, not argued: {v}" for v in result.survivors]
    lines += [f"stale argument: {e.files} {e.kind} {e.change}" for e in result.stale]
    return "\n".join(lines)


def options(command: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    command.add_argument(
        "--layers", metavar="NAME", nargs="*", help="shipped layers, as linear; without any: all"
    )
    command.add_argument(
        "--rooms",
        metavar="ROOM",
        nargs="*",
        help="derive, codegen, or one file as derive/update; without any: both",
    )
    command.add_argument(
        "--sample", metavar="K", type=int, default=1, help="every K-th mutant (default: all)"
    )
    command.add_argument(
        "--resume", metavar="FILE", type=Path, help="keep verdicts there and go on from them"
    )

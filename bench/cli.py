"""The command line: ``python -m bench COMMAND``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

EXAMPLES = """\
examples:
  python -m bench layers --filter 'linear.*eager'   some rows, about a second each
  python -m bench layers --json new.json            all layers; the file is written as it goes
  python -m bench memory                            what layers keep for backward
"""


def parser() -> argparse.ArgumentParser:
    """The argument parser, with one subcommand a kind of measurement."""
    top = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in ("layers", "memory"):
        command = commands.add_parser(name)
        command.add_argument("--filter", metavar="REGEX", default="")
        command.add_argument("--quick", action="store_true")
        command.add_argument("--json", metavar="FILE", type=Path)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    given = parser().parse_args(argv)
    import torch

    from bench import report
    from bench.cases import CASES
    from bench.environment import machine
    from bench.measure import measure, tasks
    from bench.memory import measure_kept
    from bench.results import Results, save
    from bench.timing import QUICK, THOROUGH

    torch.set_num_threads(1)
    results = Results(machine())
    if given.command == "layers":
        for task in tasks(CASES, given.filter, "cpu"):
            print(task.label, file=sys.stderr)
            results.add(measure(task, QUICK if given.quick else THOROUGH))
            if given.json:
                save(results, given.json)
        print(report.timings(results.timings.values()))
    if given.command == "memory":
        for case in CASES:
            for execution in ("eager", "compiled"):
                if re.search(given.filter, f"{case.name} {execution}"):
                    print(case.name, execution, file=sys.stderr)
                    results.add(measure_kept(case, execution))
        print(report.kept(results))
    print(report.limits(results, measured_only=True))
    return 0

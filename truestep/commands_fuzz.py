"""``truestep fuzz``: random specs against an oracle that shares no code with the derivation."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

TEXT = """\
Draws random legal specs of the whole notation and judges each against an oracle of its own: the
kernel is measured by automatic differentiation of a separate reading of the spec; its class, the
corrections that exist, their exactness and what the generated module computes follow from the
measurement. Beside each legal spec a broken one must be refused with an error that names file and
symbol. Failures shrink to a smallest spec. Number K of seed S is the same spec everywhere; --rare
puts into it what random formulas do not hold: constant indices, a letter twice in one tensor or
window, shifted reads, lines that are numbers, sizes that are quotients.

examples:
  truestep fuzz                                    100 specs, about a minute
  truestep fuzz --specs 10000 --seed 7 --jobs 2    a long run
  truestep fuzz --specs 1 --seed 7 --start 1234    one spec of that run again
  truestep fuzz --specs 500 --rare                 with what seldom occurs
  truestep fuzz --specs 500 --save found           keep the smallest failing specs as TOML
  truestep fuzz --specs 10000 --resume fuzz.jsonl  interrupt it and run it again: it goes on
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What ``truestep fuzz`` takes, beside ``--jobs``."""
    for name, default, what in (
        ("--specs", 100, "how many (default: %(default)s)"),
        ("--seed", 0, "where they are drawn from (default: %(default)s)"),
        ("--start", 0, "the number of the first (default: %(default)s)"),
    ):
        command.add_argument(name, metavar="N", type=int, default=default, help=what)
    command.add_argument("--rare", action="store_true", help="put something rare into each spec")
    command.add_argument("--save", metavar="DIR", help="write the smallest failing specs there")
    command.add_argument("--resume", metavar="FILE", help="keep results there and go on from them")
    command.add_argument(
        "--limit",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="of the processor; a spec that takes longer is a finding (default: %(default)s)",
    )


def fuzz(arguments: argparse.Namespace) -> int:
    """Fuzz, report progress on standard error, and print the summary; 1 if anything was found."""
    from verify.fuzz.results import Settings, Tally
    from verify.fuzz.run import fuzz as run
    from verify.fuzz.run import summary

    settings = Settings(
        arguments.specs,
        arguments.seed,
        arguments.start,
        arguments.jobs,
        Path(arguments.save) if arguments.save else None,
        arguments.limit,
        Path(arguments.resume) if arguments.resume else None,
        arguments.rare,
    )

    def progress(tally: Tally) -> None:
        if tally.fresh % 100 == 0 or tally.specs == settings.specs:
            print(
                f"{tally.specs} of {settings.specs} specs, {len(tally.failures)} findings, "
                f"{tally.seconds:.0f} s ({tally.seconds / tally.fresh:.2f} s each)",
                file=sys.stderr,
                flush=True,
            )

    tally = run(settings, progress)
    print(summary(tally, settings))
    return 1 if tally.failures else 0

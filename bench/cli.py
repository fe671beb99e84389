"""The command line: ``python -m bench COMMAND``.

Only what a command needs is imported, when it needs it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

MEASURING = {
    "layers": "time of every layer and shape, beside the plain layer and its rivals",
    "memory": "bytes that layers keep between forward and backward",
    "profile": "where the time beyond the plain layer goes, and what it runs into",
    "models": "training steps of whole models",
    "scale": "cost against width, batch, tokens and image size",
    "pipeline": "what `truestep build` costs against the number of specs",
    "gpu": "large layers on a GPU, beside what it reaches on its own",
    "all": "all of these, one after another (about 35 minutes)",
}
MAIN = """\
start here:
  python -m bench layers --quick --filter 'linear.*eager'    a look at some rows, in a minute
  python -m bench all --json new.json                        everything, kept as it goes
  python -m bench compare new.json                           what has become worse

Whose layers are measured: PYTHONPATH=DIR python -m bench ... takes `truestep` from DIR.
"""
EXIT_CODES = """\
exit codes:
  0  done
  1  something has become worse than in the baseline
  2  bad input: command line, pattern, or a file that holds no measurements
130  interrupted
"""
MEASURE = """\
{summary}.

All contenders run in one process and in the same rounds; a ratio is formed within a round. Tables
go to standard output, progress to standard error. What --filter is matched with is what progress
shows: layer, shape, execution (eager, compiled), direction (forward, forward+backward), format.

examples:
  python -m bench {name}
  python -m bench {name} --quick --filter '{example}'
  python -m bench {name} --json new.json --resume
  python -m bench {name} --baseline docs/results/performance.json
"""
EXAMPLES = {
    "layers": "linear 256.*eager",
    "memory": "conv.*compiled",
    "profile": "conv 32x64.*k1",
    "models": "MLP eager",
    "scale": "attention",
    "pipeline": "build of [12] ",
    "gpu": "linear",
    "all": "linear 256",
}
PLOTTED = ("layers", "scale", "all")
COMPARE = """\
Names every cost of a corrected layer that has grown by more than the spreads of both measurements.

examples:
  python -m bench compare new.json
  python -m bench compare new.json --baseline old.json
"""
PAGE = """\
Writes docs/performance.md and its pictures from docs/results/performance.json and gpu.json.
"""


def parser() -> argparse.ArgumentParser:
    """The argument parser, with one subcommand a kind of measurement."""
    top = argparse.ArgumentParser(
        prog="python -m bench",
        description="What the corrected layers cost in time and memory.",
        epilog=MAIN + "\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, summary: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=text,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    for name, summary in MEASURING.items():
        text = MEASURE.format(
            summary=summary[0].upper() + summary[1:], name=name, example=EXAMPLES[name]
        )
        measuring = command(name, summary, text)
        measuring_options(measuring)
        if name in PLOTTED:
            plot_option(measuring)
    compare = command("compare", "what has become worse than in a baseline", COMPARE)
    compare.add_argument("new", metavar="NEW", type=Path, help="a file that --json wrote")
    baseline_option(compare)
    command("page", "write docs/performance.md", PAGE)
    return top


def measuring_options(command: argparse.ArgumentParser) -> None:
    """What every measuring command takes."""
    command.add_argument(
        "--filter", metavar="REGEX", type=pattern, default="", help="only what it finds"
    )
    command.add_argument("--quick", action="store_true", help="few rounds: a look, not a record")
    command.add_argument(
        "--json", metavar="FILE", type=Path, help="keep measurements in FILE, beside what it holds"
    )
    command.add_argument(
        "--resume", action="store_true", help="measure only what FILE does not hold yet"
    )
    command.set_defaults(plot=None)
    baseline_option(command)


def plot_option(command: argparse.ArgumentParser) -> None:
    """``--plot``."""
    command.add_argument("--plot", metavar="FILE", type=Path, help="draw the ratios as SVG")


def baseline_option(command: argparse.ArgumentParser) -> None:
    """``--baseline``."""
    command.add_argument(
        "--baseline", metavar="FILE", type=Path, help="measurements to compare with"
    )


def pattern(text: str) -> str:
    """A regular expression, as argparse reads it."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None
    return text


def run(given: argparse.Namespace) -> int:
    """Carry out a command."""
    from bench import commands
    from bench.results import STORED

    if given.command == "page":
        return commands.write_page()
    if given.command == "compare":
        return commands.compare_files(given.baseline or STORED, given.new)
    sections = commands.everything() if given.command == "all" else (given.command,)
    return commands.measure(
        commands.Wanted(
            sections=sections,
            pattern=given.filter,
            quick=given.quick,
            resume=given.resume,
            json=given.json,
            plot=given.plot,
            baseline=given.baseline,
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; default: those of this process.

    Returns:
        The exit code, see :data:`EXIT_CODES`.
    """
    top = parser()
    given = top.parse_args(argv)
    if getattr(given, "resume", False) and given.json is None:
        top.error("--resume needs --json FILE, the file to go on with")
    from bench.results import ResultsError

    try:
        return run(given)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    except ResultsError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2

"""The command line: ``truestep COMMAND``, also as ``python -m truestep COMMAND``.

Only what a command needs is imported, when it needs it.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

from truestep import commands_accuracy, commands_certify, commands_fuzz, commands_mutate
from truestep._version import __version__
from truestep.shipped import UsageError

EXIT_CODES = """\
exit codes:
  0  done
  1  a layer was not verified, or `check` found files that differ from what is generated
  2  bad input: command line, spec, a file that must not be overwritten, a hand edit
  3  a spec of yours gives nothing to generate; the reasons are shown
 70  a defect of truestep (TRUESTEP_DEBUG=1 shows the traceback)
130  interrupted
"""
BUILD = """\
Derives, generates, verifies, and only then writes: all files or none. Without SPEC, every shipped
spec into truestep/layers; with SPEC, each into DIR/<module>.py. What did not change since an
earlier build comes from the cache.

examples:
  truestep build                                  rebuild the shipped layers
  truestep build my_layer.toml --out my_project   build a layer of your own
  truestep build linear --out . --json            one shipped layer, result as JSON
"""
DERIVE = """\
Shows every step from the layer to its corrections.

examples:
  truestep derive linear
  truestep derive linear --without b
  truestep derive multihead_attention --stage score
  truestep derive my_layer.toml --latex > my_layer.tex
"""
VERIFY = """\
Runs every stage of verification. Shipped layers are verified as they are on disk: each file must be
what its spec generates. Spec files are generated in memory and verified; nothing is written.

examples:
  truestep verify
  truestep verify linear conv2d --instances 32
  truestep verify my_layer.toml --json
"""
CHECK = """\
Generates every shipped layer in memory and compares it with the files. Missing files and files that
no spec generates any more count as differences. Fails with 1 on a difference, 2 on a hand edit.

examples:
  truestep check
  truestep check --out DIR
"""
AUDIT = """\
What known normalisers do to the self-divergence of the affine layer behind them: κ with ε, κ at
ε = 0, whether it is constant, what the layer can no longer tell apart, what a gain and shift add.

examples:
  truestep audit
  truestep audit my_norm.toml --markdown
"""
REPORT = """\
Verifies (from the cache where nothing changed) and writes one HTML page of derivations, verdicts
and pictures that opens from disk.

examples:
  truestep report
  truestep report my_layer.toml --out my_layer.html
"""
NEW = """\
Writes a commented starter spec NAME.toml that builds as it stands.

example:
  truestep new MyLayer && truestep build MyLayer.toml --out .
"""


def parser() -> argparse.ArgumentParser:
    """The argument parser, with one subcommand a verb."""
    top = argparse.ArgumentParser(
        prog="truestep",
        description="PyTorch layers whose activations take the true gradient step:\n"
        "derived, generated and verified from a few lines of index notation.",
        epilog="start here:\n"
        "  truestep list                 the shipped layers\n"
        "  truestep derive linear        how a correction comes about\n"
        "  truestep new MyLayer          a spec of your own\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"truestep {__version__}")
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

    build = command("build", "derive, generate, verify and write layers", BUILD)
    specs_argument(build)
    build.add_argument("--out", metavar="DIR", help="where to write (with SPEC: default .)")
    build.add_argument("--force", action="store_true", help="overwrite files edited by hand")
    build.add_argument("--report", metavar="FILE", help="also write the HTML report")
    verify_options(build, cached=True)
    json_option(build)

    derive = command("derive", "show a derivation", DERIVE)
    derive.add_argument("spec", metavar="NAME|FILE", help="a shipped spec, or a .toml file")
    form = derive.add_mutually_exclusive_group()
    form.add_argument("--latex", action="store_true", help="as LaTeX")
    json_option(form)
    derive.add_argument(
        "--without",
        metavar="SYMBOL",
        action="append",
        default=[],
        help="leave out an optional parameter, as b",
    )
    derive.add_argument(
        "--stage",
        metavar="STAGE",
        help="one stage of a layer that has [stages], as a layer of its own",
    )

    verify = command("verify", "verify the shipped layers or a spec", VERIFY)
    specs_argument(verify)
    verify_options(verify, cached=False)
    json_option(verify)

    check = command("check", "compare the shipped layers with their specs", CHECK)
    check.add_argument("--out", metavar="DIR", help="compare this directory instead")
    check.set_defaults(instances=1, seed=0)
    jobs_option(check)
    time_option(check)
    json_option(check)

    audit = command("audit", "audit known normalisers", AUDIT)
    specs_argument(audit)
    form = audit.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as a Markdown table")
    json_option(form)

    report = command("report", "write the HTML report", REPORT)
    specs_argument(report)
    report.add_argument("--out", metavar="FILE", default="report.html", help="default: report.html")
    verify_options(report, cached=True)

    new = command("new", "write a starter spec", NEW)
    new.add_argument("name", metavar="NAME", help="a name for the layer, as MyLayer")

    json_option(command("list", "name the shipped layers", "Names the shipped layers."))
    certify = command("certify", "write claims as checkable files", commands_certify.TEXT)
    specs_argument(certify)
    commands_certify.add_arguments(certify)
    campaigns(command)
    return top


def campaigns(command: Callable[[str, str, str], argparse.ArgumentParser]) -> None:
    """The commands that put many cases before the rest and count."""
    fuzz = command("fuzz", "random specs against an independent oracle", commands_fuzz.TEXT)
    commands_fuzz.add_arguments(fuzz)
    jobs_option(fuzz)
    accuracy = command("accuracy", "measure rounding errors in 256 bits", commands_accuracy.TEXT)
    commands_accuracy.add_arguments(accuracy)
    jobs_option(accuracy)
    mutate = command("mutate", "break files and count what refuses them", commands_mutate.TEXT)
    commands_mutate.add_arguments(mutate)
    jobs_option(mutate)
    json_option(mutate)


def specs_argument(command: argparse.ArgumentParser) -> None:
    """Any number of specs."""
    command.add_argument(
        "specs",
        metavar="SPEC",
        nargs="*",
        help="a .toml file or a shipped name; without any: everything shipped",
    )


def json_option(group: argparse._ActionsContainer) -> None:
    """``--json``."""
    group.add_argument("--json", action="store_true", help="as JSON on standard output")


def jobs_option(command: argparse.ArgumentParser) -> None:
    """``--jobs``."""
    command.add_argument(
        "--jobs",
        metavar="N",
        type=whole(1),
        default=min(2, os.cpu_count() or 1),
        help="processes (default: %(default)s)",
    )


def time_option(command: argparse.ArgumentParser) -> None:
    """``--time-limit``."""
    command.add_argument(
        "--time-limit",
        metavar="SECONDS",
        type=whole(1),
        default=300,
        help="what one spec may take (default: %(default)s)",
    )


def verify_options(command: argparse.ArgumentParser, *, cached: bool) -> None:
    """How to verify."""
    command.add_argument(
        "--instances",
        metavar="N",
        type=whole(1),
        default=8,
        help="random instances a class (default: %(default)s)",
    )
    command.add_argument(
        "--seed",
        metavar="S",
        type=whole(0),
        default=0,
        help="where they are drawn from (default: %(default)s)",
    )
    jobs_option(command)
    time_option(command)
    if cached:
        command.add_argument("--no-cache", action="store_true", help="verify everything anew")


def whole(least: int) -> Callable[[str], int]:
    """A whole number from ``least`` on, as argparse reads it."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return value

    number.__name__ = "number"
    return number


def run(arguments: argparse.Namespace) -> int:
    """Carry out a command."""
    if arguments.command in ("build", "verify", "check", "report"):
        from truestep import commands_build

        long: dict[str, Callable[[argparse.Namespace], int]] = {
            "build": commands_build.build,
            "verify": commands_build.verify,
            "check": commands_build.check,
            "report": commands_build.report,
        }
        return long[arguments.command](arguments)
    if arguments.command == "fuzz":
        return commands_fuzz.fuzz(arguments)
    if arguments.command == "certify":
        return commands_certify.certify(arguments)
    if arguments.command == "accuracy":
        return commands_accuracy.accuracy(arguments)
    if arguments.command == "mutate":
        return commands_mutate.mutate(arguments)
    from truestep import commands_show

    short: dict[str, Callable[[argparse.Namespace], int]] = {
        "derive": commands_show.derive,
        "audit": commands_show.audit,
        "list": commands_show.listed,
        "new": commands_show.new,
    }
    return short[arguments.command](arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; default: those of this process.

    Returns:
        The exit code, see :data:`EXIT_CODES`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks λ shows \u03bb
            stream.reconfigure(errors="backslashreplace")
    arguments = parser().parse_args(argv)
    try:
        code = run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("truestep: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("TRUESTEP_DEBUG"):
            raise
        if isinstance(error, UsageError) or is_truesteps(error):
            print(f"truestep: {error}", file=sys.stderr)
            return 2
        print(
            f"truestep: {type(error).__name__}: {error}\n"
            "  this is a defect of truestep; TRUESTEP_DEBUG=1 shows where",
            file=sys.stderr,
        )
        return 70


def is_truesteps(error: Exception) -> bool:
    """Whether an error is one that truestep raises on purpose; SymPy is not imported to know."""
    errors = sys.modules.get("derive.errors")
    return errors is not None and isinstance(error, errors.TruestepError)


if __name__ == "__main__":
    sys.exit(main())

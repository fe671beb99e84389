"""``truestep accuracy``: generated layers against arithmetic of 256 bits."""

from __future__ import annotations

import argparse

from truestep.shipped import UsageError, find

TEXT = """\
Measures how many units in the last place each generated class is off, against its formula in 256
bits, at inputs from the least to the largest number of each format and at zeros, equal entries,
mixed sizes and cancelling biases. Prints a Markdown table; `verify/accuracy.py` defines its
columns.

examples:
  truestep accuracy                                         every layer, about a minute
  truestep accuracy --classes linear --formats float32      one of them in one format
"""
FORMATS = ("float64", "float32", "bfloat16", "float16")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What ``truestep accuracy`` takes, beside ``--jobs``."""
    command.add_argument(
        "--classes", metavar="SPEC", nargs="+", help="shipped names or .toml files; default: all"
    )
    command.add_argument(
        "--formats", nargs="+", choices=FORMATS, default=FORMATS, help="default: all four"
    )


def accuracy(arguments: argparse.Namespace) -> int:
    """Print the table.

    Raises:
        UsageError: If a layer's formula is not made of sums of products.
    """
    from joblib import parallel_config

    from derive import read_spec
    from derive.errors import DerivationError
    from verify.accuracy_table import SPECS, table
    from verify.accuracy_table import accuracy as measured

    sources = [find(name) for name in arguments.classes or SPECS]
    specs = [read_spec(source.text, source.file) for source in sources]
    try:
        with parallel_config(n_jobs=arguments.jobs):
            print(table(measured(specs, arguments.formats)))
    except DerivationError as error:
        raise UsageError(f"accuracy is measured for sums of products only: {error}") from None
    return 0

"""``truestep certify``: every claim of a derivation as a file that a small checker accepts."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from truestep.shipped import UsageError, find, shipped

TEXT = """\
Writes every claim as a certificate, one JSON file each: the kernel K(s,s'), the self-kernel, each
correction with its rate and class, each constancy of the audit. A certificate holds the layer, the
claim and what it takes for granted, and nothing that has to be believed: the checker, one file of
the standard library alone, differentiates the layer itself and compares modulo a random prime.
The files are the same bytes everywhere.

examples:
  truestep certify                          every shipped spec into ./certificates
  truestep certify linear --out DIR         one of them
  truestep certify my_layer.toml            a layer of your own
then, with Python alone:
  python verify/checker.py DIR/*.json       one line a certificate; fails if one is refused
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What ``truestep certify`` takes, beside the specs."""
    command.add_argument(
        "--out", metavar="DIR", default="certificates", help="where to write (default: %(default)s)"
    )


def certify(arguments: argparse.Namespace) -> int:
    """Write certificates, and say how to check them.

    Raises:
        UsageError: If a file cannot be written.
    """
    from derive import read_spec
    from derive.certificate_layer import spec_certificates

    folder = Path(arguments.out)
    sources = [find(name) for name in arguments.specs] or shipped()
    count = 0
    for source in sources:
        spec = read_spec(source.text, source.file)
        texts = {f"{source.name}.{k}.json": c.to_json() for k, c in spec_certificates(spec)}
        write(folder, texts)
        count += len(texts)
        print(f"{source.name}: {len(texts)} certificates")
    print(
        f"{count} certificates in {folder}; check them with\n  python {checker()} {folder}/*.json"
    )
    return 0


def write(folder: Path, texts: dict[str, str]) -> None:
    """Write the files of one spec.

    Raises:
        UsageError: If the folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror or error}") from None


def checker() -> str:
    """Where the checker is; the package that it lies in is not imported for that."""
    found = importlib.util.find_spec("verify")
    folders = found.submodule_search_locations if found is not None else None
    path = Path(next(iter(folders or ["verify"]))) / "checker.py"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)

"""``truestep build`` and ``truestep check``: what writes layers and what compares them."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from truestep import building, cache
from truestep.building import Outcome, Settings
from truestep.shipped import LAYERS, Source, UsageError, find, in_checkout, shipped

OK, FAILED, BAD_INPUT, NOTHING = 0, 1, 2, 3


def settings(arguments: argparse.Namespace) -> Settings:
    """How to verify, from the command line."""
    return Settings(arguments.instances, arguments.seed, arguments.jobs, arguments.time_limit)


def opened_cache(arguments: argparse.Namespace) -> cache.Cache:
    """The cache, unless it is switched off."""
    return cache.Cache(None if arguments.no_cache else cache.directory())


def report_problems(outcomes: Sequence[Outcome]) -> None:
    """Write on standard error what is wrong, spec by spec."""
    for outcome in outcomes:
        if outcome.status in ("error", "failed"):
            print(outcome.message, file=sys.stderr)


def status_code(outcomes: Sequence[Outcome], *, nothing: int) -> int:
    """The exit code: a bad spec before a failed verification before nothing to generate."""
    codes = {"error": BAD_INPUT, "failed": FAILED, "nothing": nothing, "layer": OK}
    found = {codes[outcome.status] for outcome in outcomes}
    return next((code for code in (BAD_INPUT, FAILED, NOTHING) if code in found), OK)


# ------------------------------------------------------------------ build
def build(arguments: argparse.Namespace) -> int:
    """Derive, generate, verify and only then write."""
    everything = not arguments.specs
    sources = shipped() if everything else tuple(find(name) for name in arguments.specs)
    out = target(arguments.out, everything)
    store = opened_cache(arguments)
    outcomes = building.produce_all(sources, settings(arguments), store)
    code = status_code(outcomes, nothing=OK if everything else NOTHING)
    if code == OK:
        refuse_collisions(outcomes)
    written: dict[str, list[str]] = {}
    if code == OK:
        files = (
            building.package(outcomes, store) if everything else {o.file: o.text for o in outcomes}
        )
        written = write(files, out, arguments.force, prune=everything and out == LAYERS)
    if arguments.report is not None and code in (OK, FAILED):
        write_report(sources, outcomes, arguments.report)
    if arguments.json:
        layers = [outcome.to_json() for outcome in outcomes]
        data = {"exit": code, "out": str(out), "layers": layers, **written}
        print(json.dumps(data, ensure_ascii=False, indent=2))
    else:
        show(outcomes, written, out, everything)
    if code != OK:
        report_problems(outcomes)
        print("nothing was written", file=sys.stderr)
    return code


def target(out: str | None, everything: bool) -> Path:
    """The output directory.

    Raises:
        UsageError: If an installed truestep is asked to rebuild itself.
    """
    if out is not None:
        path = Path(os.path.abspath(out))
        return LAYERS if path == LAYERS else path
    if not everything:
        return Path.cwd()
    if not in_checkout():
        raise UsageError(
            "the shipped layers of an installation are not rebuilt in place\n"
            "  remedy: truestep build --out DIR"
        )
    return LAYERS


def refuse_collisions(outcomes: Sequence[Outcome]) -> None:
    """Raise if two specs would give one file or one class.

    Raises:
        UsageError: If two specs generate the same module or class.
    """
    names = [o.module.lower() for o in outcomes if o.status == "layer"]
    names += [name for o in outcomes for name in o.classes]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(f"two specs generate `{twice[0]}`; give them different names")


def write(files: dict[Path, str], out: Path, force: bool, *, prune: bool) -> dict[str, list[str]]:
    """Write what differs; nothing is imported where nothing does."""
    if building.up_to_date(files, out, prune=prune):
        return {"changed": [], "unchanged": sorted(map(str, files)), "removed": []}
    from codegen.gate import check, check_package
    from codegen.write import write_all

    for path, text in files.items():
        (check_package if path == building.INIT else check)(text)
    written = write_all(files, out, force, prune=prune)
    return {
        "changed": sorted(map(str, written.changed)),
        "unchanged": sorted(map(str, written.unchanged)),
        "removed": sorted(map(str, written.removed)),
    }


def show(
    outcomes: Sequence[Outcome], written: Mapping[str, list[str]], out: Path, everything: bool
) -> None:
    """What became of each spec, and of the directory."""
    width = max(len(outcome.source) for outcome in outcomes)
    for outcome in outcomes:
        if outcome.status == "layer":
            print(f"{outcome.source:{width}s}  verified  {', '.join(outcome.classes)}")
        elif outcome.status == "nothing" and everything:
            reason = outcome.message.splitlines()[0]
            print(f"{outcome.source:{width}s}  derivation only  {reason}")
        elif outcome.status == "nothing":
            print(f"{outcome.source:{width}s}  nothing to generate\n{outcome.message}")
        else:
            print(f"{outcome.source:{width}s}  FAILED")
    counts = Counter(outcome.status for outcome in outcomes)
    classes = sum(len(outcome.classes) for outcome in outcomes if outcome.status == "layer")
    parts = [f"{counts['layer']} verified ({classes} classes)"]
    parts += [f"{counts['nothing']} with nothing to generate"] if counts["nothing"] else []
    bad = counts["failed"] + counts["error"]
    parts += [f"{bad} failed"] if bad else []
    print(f"{len(outcomes)} specs: {', '.join(parts)}")
    if written:
        changes = ", ".join(f"{len(names)} {what}" for what, names in written.items() if names)
        print(f"{shown(out)}: {changes or 'no files'}")


def shown(path: Path) -> str:
    """A path relative to the working directory where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


# ------------------------------------------------------------------ report
def write_report(sources: Sequence[Source], outcomes: Sequence[Outcome], file: str) -> None:
    """Write the HTML report of outcomes.

    Raises:
        UsageError: If the file cannot be written.
    """
    from derive import derive_variants, read_spec
    from derive.audit import audit
    from truestep.commands_show import normalisers
    from verify import Report
    from verify.report import Uncorrected
    from verify.report import write_report as write_page

    path = Path(file)
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise UsageError(f"{file}: its folder does not exist, or it is a folder itself")
    entries: list[tuple[Any, Report | None]] = []
    for source, outcome in zip(sources, outcomes, strict=True):
        if outcome.report:
            layer = building.generated(source)[1]
            entries.append((layer, Report.from_json(outcome.report)))
        elif outcome.status == "nothing":
            spec = read_spec(source.text, source.file)
            entries.append((Uncorrected(spec, derive_variants(spec)), None))
    specs = [read_spec(s.text, s.file) for s in normalisers(sources)]
    part = path.with_name(f".{path.name}.part")
    try:
        write_page(entries, part, audit=audit(specs))
        os.replace(part, path)
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


def report(arguments: argparse.Namespace) -> int:
    """Verify what is asked for, from the cache where possible, and write the HTML report."""
    sources = tuple(find(name) for name in arguments.specs) if arguments.specs else shipped()
    outcomes = building.produce_all(sources, settings(arguments), opened_cache(arguments))
    code = status_code(outcomes, nothing=OK)
    report_problems(outcomes)
    if code == BAD_INPUT:
        return code
    write_report(sources, outcomes, arguments.out)
    print(f"{arguments.out}: {len(outcomes)} layers")
    return code


# ------------------------------------------------------------------ verify
def verify(arguments: argparse.Namespace) -> int:
    """Verify the shipped files as they are on disk, or what a spec file gives."""
    sources = tuple(find(name) for name in arguments.specs) if arguments.specs else shipped()
    found: dict[str, Outcome] = {}
    for source, outcome in building.run(
        building.produce, sources, settings(arguments), "verifying"
    ):
        found[source.file] = same_on_disk(source, outcome)
    outcomes = [found[source.file] for source in sources]
    if arguments.json:
        print(json.dumps([o.to_json() for o in outcomes], ensure_ascii=False, indent=2))
    else:
        from verify import Report

        for outcome in outcomes:
            if outcome.report:
                print(Report.from_json(outcome.report).summary())
            elif outcome.status == "nothing":
                print(f"{outcome.source}: nothing to verify\n  {outcome.message}")
    report_problems(outcomes)
    users = any(not source.shipped for source in sources)
    return status_code(outcomes, nothing=NOTHING if users else OK)


def same_on_disk(source: Source, outcome: Outcome) -> Outcome:
    """The outcome itself, or a failure if the shipped file is not the verified text."""
    if not source.shipped or outcome.status != "layer":
        return outcome
    file = LAYERS / outcome.file
    if file.is_file() and file.read_bytes() == outcome.text.encode():
        return outcome
    what = "differs from what its spec generates" if file.exists() else "is missing"
    message = (
        f"truestep/layers/{outcome.file} {what}\n  remedy: truestep check, then truestep build"
    )
    return Outcome(**{**vars(outcome), "status": "failed", "message": message})


# ------------------------------------------------------------------ check
def check(arguments: argparse.Namespace) -> int:
    """Compare a directory with what the shipped specs generate; nothing is verified or written."""
    out = LAYERS if arguments.out is None else target(arguments.out, True)
    sources = shipped()
    found = dict(building.run(building.regenerate, sources, settings(arguments), "generating"))
    outcomes = [found[source] for source in sources]
    report_problems(outcomes)
    code = status_code(outcomes, nothing=OK)
    if code != OK:
        return code
    problems = compare(building.package(outcomes, cache.Cache(None)), out)
    if arguments.json:
        data = [{"file": f, "problem": p, "diff": d} for f, p, d in problems]
        print(json.dumps(data, ensure_ascii=False, indent=2))
    else:
        for file, problem, diff in problems:
            print(f"{file}: {problem}\n{diff}", end="" if diff else "\n")
        if not problems:
            print(f"{shown(out)}: as generated")
    if any(problem == EDITED for _, problem, _ in problems):
        print("put hand edits into the spec, then: truestep build --force", file=sys.stderr)
        return BAD_INPUT
    if problems:
        print("the files are not what the specs generate; run: truestep build", file=sys.stderr)
    return FAILED if problems else OK


EDITED = "edited by hand, or not generated"


def compare(files: Mapping[Path, str], out: Path) -> list[tuple[str, str, str]]:
    """What is wrong in a directory: file, problem, unified diff from the disk to the generated."""
    from codegen.header import is_edited
    from codegen.write import interrupted

    problems = []
    if interrupted(out):
        problems.append((".", "a build was interrupted", ""))
    on_disk = {path.relative_to(out) for path in out.glob("*.py")}
    for path in sorted(on_disk | set(files)):
        wanted = files.get(path)
        if path not in on_disk:
            problems.append((str(path), "missing", ""))
            continue
        try:
            text = (out / path).read_bytes().decode("utf-8", errors="replace")
        except OSError as error:
            problems.append((str(path), f"cannot be read: {error.strerror or error}", ""))
            continue
        if text == wanted:
            continue
        edited = is_edited(text)
        if wanted is None:
            problems.append((str(path), EDITED if edited else "no spec generates it any more", ""))
            continue
        lines = difflib.unified_diff(
            text.splitlines(keepends=True),
            wanted.splitlines(keepends=True),
            f"{path} (on disk)",
            f"{path} (generated)",
        )
        problems.append((str(path), EDITED if edited else "differs", "".join(lines)))
    return problems

"""Write what README.md and TRUST.md take from derivations and measurements: tables and a picture.

    python docs/generate.py

rewrites docs/overview.svg and, in both pages, the blocks between ``<!-- generated: NAME -->`` and
``<!-- end: NAME -->``. No number in a table is written by hand: it is derived here, or read from
docs/results, where the command that a table names has written it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sympy import Add, Mul

from bench.page import summary
from bench.results import STORED, load
from codegen import NothingToGenerate, generate
from codegen.attention import AttentionSource
from derive import Correction, Derivation, LayerSpec, derive, load_spec
from derive.formula import formula
from derive.nodes import Delta
from truestep.cli import main
from verify.figures import overview

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TRUST = ROOT / "TRUST.md"
CLAIMS = ROOT / "docs" / "trust.toml"
RESULTS = ROOT / "docs" / "results"
ACCURACY = ROOT / "docs" / "accuracy.md"
EXAMPLE = ROOT / "examples" / "test_own_layer.py"
CHECKER = ROOT / "verify" / "checker.py"
SPECS = ROOT / "truestep" / "specs"
MISTAKES = {
    "wrong files": "accepts wrong files",
    "wrong claims": "accepts wrong claims",
    "right": "refuses right layers",
}
COLUMNS = ("class", "formula", "exactness", "c", "not corrected")


def specs() -> list[LayerSpec]:
    """Every shipped spec, the shortest formula first."""
    found = [load_spec(path) for path in sorted(SPECS.glob("*.toml"))]
    return sorted(found, key=lambda spec: len(spec.forward))


# ------------------------------------------------------------------ the layers
def layers() -> str:
    """One row a correction; classes with the same one, and 1d, 2d, 3d of one family, share it."""
    table: dict[str, list[tuple[str, ...]]] = {}
    for row in (row for spec in specs() for row in spec_rows(spec)):
        family = re.sub(r"[123]d`$", "", row[0])
        table.setdefault(family if family != row[0] else " ".join(row[1:]), []).append(row)
    return markdown(
        COLUMNS, (("<br>".join(row[0] for row in rows), *rows[0][1:]) for rows in table.values())
    )


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def spec_rows(spec: LayerSpec) -> Iterator[tuple[str, ...]]:
    """The rows of one spec; one that says so where nothing is generated."""
    try:
        source = generate(spec)
    except NothingToGenerate:
        derivation = derive(spec)
        reason = "nothing to correct" if derivation.nothing_to_correct else "no correction applies"
        yield f"none for `{spec.name}`", reason, "", "", f"steps of other {others(derivation)}"
        return
    if isinstance(source, AttentionSource):
        names = "<br>".join(f"`{written.name}`" for written in source.classes)
        for (stage, has_bias), found in source.attention.stages.items():
            if has_bias:
                yield correction_row(f"{names}<br>{stage}", found.derivation, found.correction)
        return
    for written in source.classes:
        full = frozenset[str]()
        title = f"`{written.name}`"
        yield correction_row(title, source.derivations[full], written.corrections[full])


def correction_row(title: str, derivation: Derivation, correction: Correction) -> tuple[str, ...]:
    """One correction of the layer with all its optional parameters."""
    program = derivation.program
    z, gauge = program.output.target, formula(correction.gauge, program, unicode=True)
    inputs = ", ".join(t.name for t in program.inputs if t.kind == "input")
    text = {
        "output gauge": f"`λ {z}`, `λ = {gauge}`",
        "unit gauge": f"`λ {z}` with one λ a unit, `λ = {gauge}`",
        "input map": f"`{z}` at `μ ({inputs})`, `μ = {gauge}`",
        "matrix gauge": f"`L⁻¹ {z}`, `L Lᵀ = {gauge}`",
    }[correction.ansatz]
    rest = f"steps of other {others(derivation)}"
    if correction.frozen:
        rest += "; drift of the gauge"
    rate = formula(correction.rate, program, unicode=True)
    return title, text, correction.exactness, f"`{rate}`", rest


def others(derivation: Derivation) -> str:
    """The site letters along which K(s,s') is not 0 away from s: where interference comes from."""
    terms = Add.make_args(derivation.update.kernel)
    factors = [set(Mul.make_args(term)) for term in terms]
    site = derivation.program.site
    apart = [x for x in site if all(Delta(x - x.primed) in found for found in factors)]
    return ", ".join(f"`{x.name}`" for x in site if x not in apart)


# ------------------------------------------------------------------ the normalisers
def normalisers() -> str:
    """What ``truestep audit --markdown`` prints."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        if main(["audit", "--markdown"]) != 0:
            raise SystemExit("truestep audit failed")
    return text.getvalue().rstrip()


# ------------------------------------------------------------------ a failure
def failure() -> str:
    """What examples/test_own_layer.py prints."""
    shown = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    return f"```text\n{shown.stdout.rstrip()}\n```"


# ------------------------------------------------------------------ what is claimed
def claims() -> str:
    """One row a claim: how far it holds, by what, and the tests that carry it."""
    rows = (
        (c["claim"], c["how"], c["by"], "<br>".join(f"`{test}`" for test in c["tests"]))
        for c in read_claims()
    )
    return markdown(("claim", "how", "by", "carried by"), rows)


def read_claims() -> list[dict[str, Any]]:
    """The claims of docs/trust.toml, in order."""
    found: list[dict[str, Any]] = tomllib.loads(CLAIMS.read_text(encoding="utf-8"))["claims"]
    return found


# ------------------------------------------------------------------ what was measured
def checker() -> str:
    """How long the program is that everything rests on."""
    lines = CHECKER.read_text(encoding="utf-8").splitlines()
    code = [x for x in lines if x.strip() and not x.lstrip().startswith("#")]
    names = sorted(set(re.findall(r"^(?:import|from) (\w+)", "\n".join(lines), re.MULTILINE)))
    return (
        f"`verify/checker.py` has {len(lines)} lines, {len(code)} of them neither empty nor a "
        f"comment, and imports {', '.join(f'`{n}`' for n in names if n != '__future__')}."
    )


def read_result(name: str) -> dict[str, Any]:
    """A file in docs/results.

    Raises:
        SystemExit: If it is missing or holds no names, with the remedy.
    """
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        raise SystemExit(f"{path.relative_to(ROOT)} is missing; TRUST.md names what writes it")
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise SystemExit(f"{path.relative_to(ROOT)} is not one object of names and values")
    return data


def measured(name: str) -> str:
    """The entries of a flat file in docs/results as a table.

    Raises:
        SystemExit: If the file is missing or not flat, with the remedy.
    """
    data = read_result(name)
    nested = [key for key, value in data.items() if isinstance(value, dict | list)]
    if nested:
        raise SystemExit(f"docs/results/{name}.json: {nested[0]!r} is not one number or text")
    return markdown((name, ""), ((key, shown(value)) for key, value in data.items()))


def shown(value: Any) -> str:
    """A number or text of a table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def mutation() -> str:
    """How many mutants there were, and what became of them."""
    data = read_result("power")
    titles = {"layers": "generated layers", "rooms": "solver and lowering"}
    columns = ("sample", "mutants", "argued", "survived")
    rows = ((title, *(str(count(data[key][k])) for k in columns)) for key, title in titles.items())
    heads = ("broken", "one mutant in", "mutants", "right after all, argued", "survived")
    return markdown(heads, rows)


def count(value: Any) -> int:
    """A number, or how many a list names."""
    return len(value) if isinstance(value, list) else int(value)


def power() -> str:
    """How often each stage alone accepts what is wrong, and refuses what is right."""
    stages = read_result("power")["stages"]
    rows = (
        (stage, *(f"{row[s]['wrong']} of {row[s]['judged']}" for s in MISTAKES))
        for stage, row in stages.items()
    )
    return markdown(("stage alone", *MISTAKES.values()), rows)


def accuracy() -> str:
    """What comes nearest to its bound in each format of docs/accuracy.md.

    Raises:
        SystemExit: If the page is missing.
    """
    if not ACCURACY.is_file():
        raise SystemExit("docs/accuracy.md is missing; TRUST.md names what writes it")
    rows = read_table(ACCURACY.read_text(encoding="utf-8"))
    found = []
    for kind in dict.fromkeys(row["format"] for row in rows):
        here = [row for row in rows if row["format"] == kind]
        worst = max(here, key=lambda row: float(row["units"]) / float(row["bound"]))
        found.append((kind, str(len(here)), worst["class"], worst["units"], worst["bound"]))
    return markdown(("format", "maps", "nearest to its bound", "units", "bound"), found)


def read_table(text: str) -> list[dict[str, str]]:
    """The rows of the one Markdown table in a text."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    names, _, *rows = ([cell.strip() for cell in line] for line in lines)
    return [dict(zip(names, row, strict=True)) for row in rows]


# ------------------------------------------------------------------ what layers cost
def costs() -> str:
    """Times and bytes of the corrected layers, as docs/performance.md has them in full."""
    return summary(load(STORED))


# ------------------------------------------------------------------ the pages
BLOCKS: Mapping[str, Callable[[], str]] = {
    "layers": layers,
    "normalisers": normalisers,
    "failure": failure,
    "claims": claims,
    "checker": checker,
    "stages": lambda: measured("stages"),
    "certificates": lambda: measured("certificates"),
    "fuzz": lambda: measured("fuzz"),
    "mutation": mutation,
    "power": power,
    "accuracy": accuracy,
    "costs": costs,
}
PAGES = (README, TRUST)


def blocks(text: str) -> list[str]:
    """The names of a page's blocks, in order."""
    return re.findall(r"^<!-- generated: (\w+) -->$", text, re.MULTILINE)


def block(text: str, name: str) -> tuple[int, int]:
    """Where a block's content begins and ends."""
    begin, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->"
    start = text.index(begin) + len(begin)
    return start, text.index(end, start)


def filled(text: str) -> str:
    """A page's text with its blocks written anew."""
    for name in blocks(text):
        start, end = block(text, name)
        text = f"{text[:start]}{BLOCKS[name]()}\n{text[end:]}"
    return text


if __name__ == "__main__":
    argparse.ArgumentParser(
        description="Rewrites docs/overview.svg and the generated tables of README.md and TRUST.md."
    ).parse_args()
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    overview(ROOT / "docs" / "overview.svg")

"""Write what the README takes from the derivations: its tables and its picture.

    python docs/generate.py

rewrites docs/overview.svg and, in README.md, the blocks between ``<!-- generated: NAME -->`` and
``<!-- end: NAME -->``. No entry of a table is written by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sympy import Add, Mul

from codegen import NothingToGenerate, generate
from codegen.attention import AttentionSource
from derive import Correction, Derivation, LayerSpec, derive, load_spec
from derive.formula import formula
from derive.nodes import Delta
from truestep.cli import main
from verify.figures import overview

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
SPECS = ROOT / "truestep" / "specs"
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
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    for rows in table.values():
        names = "<br>".join(row[0] for row in rows)
        lines.append("| " + " | ".join((names, *rows[0][1:])) + " |")
    return "\n".join(lines)


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


# ------------------------------------------------------------------ the README
BLOCKS: Mapping[str, Callable[[], str]] = {"layers": layers, "normalisers": normalisers}


def block(text: str, name: str) -> tuple[int, int]:
    """Where a block's content begins and ends."""
    begin, end = f"<!-- generated: {name} -->\n", f"\n<!-- end: {name} -->"
    start = text.index(begin) + len(begin)
    return start, text.index(end, start)


def filled(text: str) -> str:
    """The README's text with every block written anew."""
    for name, content in BLOCKS.items():
        start, end = block(text, name)
        text = text[:start] + content() + text[end:]
    return text


if __name__ == "__main__":
    argparse.ArgumentParser(
        description="Rewrites docs/overview.svg and the generated tables of README.md."
    ).parse_args()
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
    overview(ROOT / "docs" / "overview.svg")

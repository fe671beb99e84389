"""The matrix gauge as lines of a certificate: Λ = D^(-1/2) L⁻¹, where K(s,s) = L D Lᵀ.

Rows and columns of K are numbered through, over all letters of the unit. ``E[k, a, b]`` are the
matrices K and I side by side after k steps of elimination,

    E[k, a, b] = E[k-1, a, b] - E[k-1, a, k-1] E[k-1, k-1, b] / E[k-1, k-1, k-1],

where ``E[0]`` is what they are before; row a is done after a steps: the pivot D_a, and beyond the
columns of K row a of L⁻¹.
"""

from __future__ import annotations

from typing import Any

from derive.certificate_terms import Json, TermWriter, total
from derive.program import Program

OUTPUT = "z̃"
KERNEL, ELIMINATION, MATRIX = "K(s,s)", "E", "Λ"
STEP, ROW, COLUMN = "k.", "a.", "b."


def matrix_gauge(
    program: Program, writer: TermWriter, kernel: Json, frozen: bool
) -> tuple[dict[str, Any], dict[str, Any], Json]:
    """The neutral gauge, the corrected map z̃ = Λ z with its lines, and c = 1."""
    site, unit = writer.letters(program.site), writer.letters(program.unit)
    primed = {f"{x}'": size for x, size in unit.items()}
    sizes = list(unit.values())
    size = sizes[0] if len(sizes) == 1 else ["*", *sizes]
    square = site | {ROW: size, COLUMN: size}
    gauge = ["read", MATRIX, *site, numbered(unit), numbered(primed)]
    z = program.output
    other = ["read", z.target, *(f"{x}'" if x in unit else x for x in writer.letters(z.letters))]
    same = [equal(ROW, numbered(unit)), equal(COLUMN, numbered(primed))]
    lines = {
        KERNEL: {
            "letters": square,
            "value": total(unit | primed, ["*", *same, kernel]),
        },
        ELIMINATION: {
            "letters": site | {STEP: size, ROW: size, COLUMN: ["*", 2, size]},
            "value": elimination(list(site), size),
        },
        MATRIX: {"letters": square, "value": rows(list(site), size)},
        OUTPUT: {
            "letters": writer.letters(z.letters),
            "value": total(primed, ["*", ["held", gauge] if frozen else gauge, other]),
        },
    }
    return {MATRIX: {"letters": square, "value": equal(ROW, COLUMN)}}, lines, 1


def numbered(letters: dict[str, Json]) -> Json:
    """The number of a position among all, the first letter slowest."""
    found: Json = None
    for x, size in letters.items():
        found = x if found is None else ["+", ["*", found, size], x]
    return found


def equal(a: Json, b: Json) -> Json:
    """[a = b]."""
    return ["is 0", ["+", a, ["*", -1, b]]]


def elimination(site: list[str], size: Json) -> Json:
    """E[k, a, b]; for k = 0 what has k - 1 steps is out of range, and 0."""
    last = ["+", STEP, -1]

    def before(row: Json, column: Json) -> Json:
        return ["read", ELIMINATION, *site, last, row, column]

    identity = equal(COLUMN, ["+", ROW, size])
    start = ["*", ["is 0", STEP], ["+", ["read", KERNEL, *site, ROW, ["+", COLUMN]], identity]]
    inverse = ["root", -1, before(last, last)]
    return [
        "+",
        start,
        before(ROW, COLUMN),
        ["*", -1, before(ROW, last), before(last, COLUMN), inverse],
    ]


def rows(site: list[str], size: Json) -> Json:
    """Λ[a, b]."""
    done = ["read", ELIMINATION, *site, ROW]
    return ["*", ["root", -2, [*done, ROW, ["+", ROW]]], [*done, ROW, ["+", size, COLUMN]]]

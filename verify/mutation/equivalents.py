"""Mutants that nothing refuses because they are not wrong, each with the reason.

An entry matches a mutant's ``file:line:column:kind: before → after``. One that no survivor of a
whole campaign needs is stale, and the campaign fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from verify.mutation.verdict import Verdict


@dataclass(frozen=True)
class Equivalent:
    """An argument.

    Attributes:
        where: Regular expression of ``file function``, as ``layers/.* _energy``.
        kind: Regular expression of the kind.
        change: Regular expression of ``before  →  after``, from the start.
        reason: Why such a file is right.
    """

    where: str
    kind: str
    change: str
    reason: str

    def covers(self, verdict: Verdict) -> bool:
        """Whether the argument is about a mutant."""
        kind = verdict.identity.split(":", 3)[3].split(" #")[0]
        return (
            re.fullmatch(self.where, f"{verdict.file} {verdict.function}") is not None
            and re.fullmatch(self.kind, kind) is not None
            and re.match(self.change, f"{verdict.before}  →  {verdict.after}") is not None
        )

    def concerns(self, places: Iterable[str]) -> bool:
        """Whether the argument is about any of some places, each ``file function``."""
        return any(re.fullmatch(self.where, place) for place in places)


WIDE, ENERGY, TIMES, ROOT = (
    f"layers/.* {name}" for name in ("_wide_dtype", "_energy", "_times", "_inverse_root")
)
DIVISOR = "the divisor drops out of the value and of every derivative; any of its size will do"
WIDER = "computed in a wider type, and rounded to the same one"

EQUIVALENTS: tuple[Equivalent, ...] = (
    Equivalent(
        WIDE,
        "operand dropped|another word",
        r".*→  x\.dtype == torch\.float16$|'mps'",
        "seen only on a device without float64, where torch refuses the type by itself",
    ),
    Equivalent(WIDE, "operand dropped|Or to And", r".*x\.device\.type == 'mps'$", WIDER),
    Equivalent(
        f"{ENERGY}|{TIMES}",
        "items swapped",
        r"\(torch\.float16, torch\.b?float\d\d\)",
        "the order of what a number's type is looked up in means nothing",
    ),
    Equivalent(ENERGY, "88 to 8[79]|66 to 6[57]", "", DIVISOR),
    Equivalent(ENERGY, "detach dropped", r"x\.detach\(\)  →  x$", DIVISOR),
    Equivalent(ENERGY, "detached", "norm = ", DIVISOR),
    Equivalent(
        ENERGY,
        "condition negated|Eq to NotEq|USub dropped|1 to [02]",
        "if dim == -1|dim == -1|-1  →  1$|1  →  [02]$",
        DIVISOR,
    ),
    Equivalent(f"{ENERGY}|{TIMES}", "float to double", r"(x|scale)\.float\(\)", WIDER),
    Equivalent(
        TIMES, "float dropped", r"scale\.float\(\)  →  scale$", "a product has the wider type"
    ),
    Equivalent(
        "layers/.*__init__",
        "operand dropped",
        r"(\w+) < 1 or \w+ % \1  →  \w+ % \1$",
        "where several sizes are divided by one number, the first division refuses what is below 1",
    ),
    Equivalent(
        "(derive|codegen)/.*",
        "statement deleted",
        r"check_(time|terms)\(.*\)  →  pass$",
        "decides when a derivation is given up, and nothing of what comes out of it",
    ),
    Equivalent(
        "(derive|codegen)/.* ",
        "items swapped|item dropped|argument dropped|another word",
        r"\(str, tuple\[|tuple\[|\(Value, bool\)|'tuple\[",
        "an alias of types, which only the type checker reads",
    ),
    Equivalent(
        "derive/.*",
        "Integer dropped",
        r"Integer\((\w+)\)  →  \1$",
        "SymPy reads a whole number as its own where it stands in an expression",
    ),
    Equivalent(
        "(derive|codegen)/.*",
        "keyword dropped",
        r"zip\((.*), strict=True\)  →  zip\(\1\)$",
        "both are as long as each other by construction; `strict` states it",
    ),
    Equivalent(
        "derive/structure ",
        r"60 to \d+|12 to \d+",
        "60|12",
        "how long an expression may be to be tried in a simpler form, of which any is right",
    ),
    Equivalent(
        "derive/normal _multiplies_out",
        "operand dropped",
        r".*  →  factor\.is_Pow and factor\.base\.is_Add$",
        "SymPy is asked to expand more often; where nothing multiplies out, nothing changes",
    ),
    Equivalent(
        "codegen/axes ",
        "another word",
        r"'(F\.bilinear\(|torch\.linalg\.)'",
        "which calls get an annotation, which only the type checker reads",
    ),
    Equivalent(
        "codegen/windows size_fits",
        "Random dropped|40 to .*",
        r"random\.Random\(0\)  →  random$|40",
        "any source of random sizes, and about as many of them, decide alike",
    ),
    Equivalent(
        "codegen/windows complete_sizes",
        "1 to 2",
        "1  →  2$",
        "as many passes as there are sizes find them all; one more finds nothing",
    ),
    Equivalent(
        ROOT, "2 to 3", "2  →  3$", "x ** (-1 / 2) by pow and by rsqrt differ by rounding alone"
    ),
)

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


EQUIVALENTS: tuple[Equivalent, ...] = (
    Equivalent(
        "layers/.* (_energy|_times|_times_plus|_single)",
        "items swapped",
        r"\(torch\.b?float\d\d, torch\.b?float\d\d\)",
        "the order of what a number's type is looked up in means nothing",
    ),
    Equivalent(
        "layers/.*",
        "arguments swapped",
        r"(torch\.addcmul\(.+, |h\.addcmul_\()([^,]+), ([^,]+)(, .+)?\)  →  \1\3, \2(, .+)?\)$",
        "two factors of a product in the other order",
    ),
    Equivalent(
        "layers/.* _energy",
        "detached",
        "(norm|energy|norm: Tensor) = ",
        "it runs only while no gradient is recorded",
    ),
    Equivalent(
        "layers/gated_linear .*forward",
        "detached",
        "(sigmoid|energy|scale) = ",
        "a part of a gauge that is detached as a whole",
    ),
    Equivalent(
        "layers/batch_norm(_eval)?_linear .*forward",
        "USub dropped",
        "-1  →  1$",
        "an input of two axes and no more, as its docstring says: the last one is number 1",
    ),
    Equivalent(
        "layers/.*__init__",
        "operand dropped",
        r"(\w+) < 1 or \w+ % \1  →  \w+ % \1$",
        "where several sizes are divided by one number, the first division refuses what is below 1",
    ),
    Equivalent(
        r"derive/certify Certifier\.(expressed|must_be)",
        "arguments swapped",
        r"self\.equal\((\w+), (\w+)\)  →  self\.equal\(\2, \1\)$",
        "two expressions agree or not, whichever is named first: their difference changes its sign",
    ),
    Equivalent(
        r"derive/certify Certifier\.smooth_at_zero",
        "items swapped",
        r"\(sympy\.zoo, sympy\.nan, sympy\.oo\)  →  ",
        "an expression is asked whether it has any of them, in whatever order",
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
        r"derive/update Differentiator\.of_read",
        "arguments swapped",
        r"zip\(e\.indices, self\.element, strict=True\)  →  zip\(self\.element, e\.indices, ",
        "δ(m - i) is δ(i - m): a bracket gives its difference the one sign of the two",
    ),
    Equivalent(
        r"derive/input_map InputMapSolver\.input_map",
        "arguments swapped",
        r"coefficients\.pop\(0, Integer\(0\)\)  →  ",
        "Python's 0 and SymPy's are equal, as a key of a dictionary and as a number in a sum",
    ),
    Equivalent(
        "codegen/windows size_fits",
        "40 to .*",
        "40",
        "any source of random sizes, and about as many of them, decide alike",
    ),
    Equivalent(
        "codegen/windows complete_sizes",
        "1 to 2",
        "1  →  2$",
        "as many passes as there are sizes find them all; one more finds nothing",
    ),
)

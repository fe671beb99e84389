"""The accuracy of the shipped layers as a table.

Each row is a class in a format at every pattern of input that the format holds. What a row gives as
*wrong for* are the patterns at which an error exceeds the bound of :mod:`verify.accuracy`, a number
or a gradient is not finite that should be; the errors are the largest at the other patterns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from joblib import Parallel, delayed

from codegen import generate
from derive.spec import LayerSpec
from verify.accuracy import Error, bound, measure
from verify.sources import subjects
from verify.subject import Subject

SPECS = (
    "linear",
    "residual_linear",
    "bilinear",
    "scale",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "depthwise_conv1d",
    "locally_connected1d",
    "multihead_attention",
)
"""The shipped layers whose formula is sums of products; the others put such a layer behind one."""
LEFT_OUT = ("score",)
"""The stages that are not such a formula of the layer's input."""
INTRODUCTION = """\
# Rounding errors of the generated layers

`truestep accuracy` prints this table: each class in each format against its formula in 256 bits, at
normal inputs of sizes 1e-44 to 1e38 (as far as the format goes), at zeros, equal entries, one huge
or one tiny entry among ordinary ones, and with a bias that cancels the rest. `verify/accuracy.py`
defines every column and derives the bound.

- *units*: the largest error, in units in the last place of the largest term, |W||x| + |b|, times
  the gauge. It must not exceed *bound*.
- *raw*: the same in units in the last place of the result itself, which is small where terms
  cancel; without the cancelling biases.
- *right for sizes*: the least and the largest size of input at which the layer is right: errors
  within the bound, and no number or gradient that is not finite where the true one is.
- *wrong for*: the inputs at which it is not.

What the layers do at the ends of the range:

- Sums of squares along an axis are right for every float32, bfloat16 and float16. In float64 they
  are those of float64 itself: right for norms from 1e-150 to 1e150.
- A sliding window sums squares in float32 (float64 for float64): a wider window is slow, and
  unknown to some runtimes. Where a patch's norm is beyond 1e19 its gauge is 0; where it is below
  1e-19 a singular gauge loses digits, and is 0 below 1e-23. A gauge with a bias is right there.
  Without a sum over channels (depthwise) the gradient of a singular gauge ends at norms of 1e-12.
- Where a singular gauge exceeds the largest number of the format (of float32 for half types) it
  stays at that number: such an input, of a norm below 3e-39 in float32, gives an output that
  shrinks to 0 with it. At x = 0 the gauge is 0.
- Where a sum inside the plain layer overflows, so does its corrected form: at 1e38 the W x of a
  bilinear layer and the mixed tokens of attention do before z does.
- float16 hands on the gradient of z, which is λ times the output's: beyond 65504 it is infinite.
  On a device without float64 the squares are those of float32.
"""
COLUMNS = ("class", "format", "units", "bound", "raw", "right for sizes", "wrong for")


@dataclass(frozen=True)
class Row:
    """A class in a format.

    Attributes:
        name: The class, its stage and its absent parameters.
        format: The format.
        bound: The largest error in units that is right.
        errors: One a pattern.
    """

    name: str
    format: str
    bound: float
    errors: tuple[Error, ...]

    def right(self, error: Error) -> bool:
        """Whether the layer is right at a pattern."""
        return error.units <= self.bound and error.broken == 0 and error.gradients

    @property
    def wrong(self) -> tuple[str, ...]:
        """The patterns at which the layer is wrong."""
        return tuple(e.pattern.name for e in self.errors if not self.right(e))

    @property
    def kept(self) -> list[Error]:
        """The patterns at which it is right, and has something to be right about."""
        return [e for e in self.errors if self.right(e) and e.judged]

    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of :data:`COLUMNS`."""
        sizes = [e.pattern for e in self.kept if e.pattern.exponent is not None]
        return (
            f"`{self.name}`",
            self.format,
            f"{max((e.units for e in self.kept), default=0.0):.2f}",
            f"{self.bound:.0f}",
            f"{max((e.raw for e in self.kept if not e.pattern.cancel), default=0.0):.3g}",
            f"{sizes[0].name} to {sizes[-1].name}" if sizes else "none",
            ", ".join(self.wrong) or "—",
        )


def title(subject: Subject) -> str:
    """A subject's name."""
    part = f" ({subject.part})" if subject.part else ""
    return f"{subject.name}{part}{' without bias' if subject.absent else ''}"


def judged(every: Iterable[Subject]) -> list[Subject]:
    """Subjects without the stages left out, and a stage that several classes share once."""
    found: dict[tuple[str, frozenset[str]], Subject] = {}
    for subject in every:
        if subject.part not in LEFT_OUT:
            found.setdefault((subject.part or subject.name, subject.absent), subject)
    return list(found.values())


def rows(spec: LayerSpec, formats: Sequence[str]) -> list[Row]:
    """Every class of a layer in some formats."""
    found = []
    for subject in judged(subjects(generate(spec))):
        for format in formats:
            count, errors = measure(subject, format)
            found.append(Row(title(subject), format, bound(count, format), tuple(errors)))
    return found


def accuracy(specs: Sequence[LayerSpec], formats: Sequence[str]) -> list[Row]:
    """Every class of some layers in some formats; the executor is joblib's."""
    found = Parallel()(delayed(rows)(spec, formats) for spec in specs)
    return [row for part in found for row in part]


def table(found: Iterable[Row]) -> str:
    """Rows as a Markdown table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in found]
    return "\n".join(lines)


def document(found: Iterable[Row]) -> str:
    """The text of docs/accuracy.md."""
    return f"{INTRODUCTION}\n{table(found)}\n"

"""How many units in the last place a generated layer is off, against arithmetic of 256 bits.

z̃ is the solved formula, evaluated in 256 bits at the inputs and parameters that the layer holds,
which are rounded to its format F first. With ulp(t) the spacing of F at |t| (2^(e-p+1) for
2^e <= |t| < 2^(e+1), at least F's least subnormal number), three errors are reported:

- **raw**: |found - z̃| / ulp(z̃). Where terms cancel it grows without bound for any layer, plain ones
  included: z̃ is then small beside what was rounded.
- **units**: |found - z̃| / u with u = max(ulp(M̃), λ ulp(M)), where M is the formula of z with every
  term's absolute value, |W||x| + |b| for an affine layer, and M̃ is λ times it (where the gauge
  takes different powers in different parts of z, each part by itself). This is the error that the
  layer answers for: u is what rounding the largest term costs; its second entry is what the plain
  layer loses below F's normal range.
- whether anything is **not finite** where z̃ and every term are finite numbers of F.

A bound on *units* for a sum of n products, in F = float32 or float64 with roundoff ε/2: the plain
layer is off by at most (n + 2) roundoffs of M (n additions, two multiplications), the sum of
squares by n + 5 of its own (scaling and squaring, n additions), of which the root takes half, and
root, cast, product and a bias by one each: 2(n + 5) roundoffs in all, each at most one unit. A half
type is computed in float32 and rounded once for z, once for the product and once for a bias:
3 units and a remainder below 2^-12 (n + 5) of them.

The first input takes the patterns, every other one is ordinary. A site is judged where its gauge is
a number of F (of float32 for half types) and M one of F. Beyond that the documented policy holds:
the gauge saturates, and the plain layer's own terms overflow. Gradients are judged where λ times
the output's gradient, which is the gradient of z, and its product with z are numbers of F at every
site: autograd hands on both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from derive.evaluate import Evaluator, run_program
from verify.accuracy_field import CONTEXT, Bits256
from verify.accuracy_inputs import FORMATS, Pattern, patterns, rounded, shaped
from verify.instances import Instance, sample
from verify.layout import output_tensor, to_logical
from verify.routes import ROUTES
from verify.subject import Subject

Array = np.ndarray[Any, Any]
HALVES = ("bfloat16", "float16")
FIELD = Bits256()


@dataclass(frozen=True)
class Truth:
    """What 256 bits give, over the output's logical letters.

    Attributes:
        output: z̃.
        gauge: λ or μ; 0 where it is singular.
        parts: Pairs of λ or its power, and M of the part of z that it multiplies.
    """

    output: Array
    gauge: Array
    parts: tuple[tuple[Array, Array], ...]

    @property
    def terms(self) -> Array:
        """M."""
        return np.asarray(sum(size for _, size in self.parts))

    @property
    def scaled(self) -> Array:
        """M̃."""
        return np.asarray(sum(factor * size for factor, size in self.parts))

    @property
    def factor(self) -> Array:
        """The largest power of the gauge that multiplies a part."""
        return np.asarray(np.maximum.reduce([factor for factor, _ in self.parts]))

    def unit(self, format: str) -> Array:
        """The unit u."""
        below = [factor * spacing(size, format) for factor, size in self.parts]
        return np.asarray(np.maximum.reduce([spacing(self.scaled, format), *below]))


@dataclass(frozen=True)
class Error:
    """A layer at one pattern of input.

    Attributes:
        pattern: The input.
        raw, units: The largest errors; 0 if no site is judged.
        judged: How many elements are judged.
        broken: How many of them are not finite.
        gradients: Whether every gradient is finite that is judged.
    """

    pattern: Pattern
    raw: float
    units: float
    judged: int
    broken: int
    gradients: bool


# ------------------------------------------------------------------ the truth
def evaluated(
    subject: Subject, instance: Instance, tensors: Mapping[str, Array]
) -> dict[str, Array]:
    """Each part of z by the power of the gauge that it takes, and the gauge."""
    program, correction = subject.program, subject.correction
    symbols = {**instance.symbols, "radius": instance.radius}
    evaluator = Evaluator(instance.sizes, tensors, symbols, FIELD)
    lines = run_program(program, evaluator)
    evaluator = replace(evaluator, tensors={**tensors, **lines})
    letters = program.output.letters
    found = {"1": lines[program.output.target]}
    if correction.ansatz == "input map":
        found = {str(d): evaluator.array(part, letters) for d, part in correction.terms}
    gauge = evaluator.array(correction.gauge, letters)
    found["gauge"] = np.where(np.frompyfunc(CONTEXT.isfinite, 1, 1)(gauge).astype(bool), gauge, 0)
    return found


def truth(subject: Subject, instance: Instance) -> Truth:
    """z̃ and what it is measured in."""
    exact = {k: FIELD.exactly(v) for k, v in instance.tensors.items()}
    value = evaluated(subject, instance, exact)
    size = evaluated(subject, instance, {k: abs(v) for k, v in exact.items()})
    gauge = value.pop("gauge")
    factors = {d: gauge ** int(d) for d in value}
    output = np.asarray(sum(factors[d] * part for d, part in value.items()))
    return Truth(output, gauge, tuple((factors[d], size[d]) for d in value))


def terms(subject: Subject, instance: Instance) -> int:
    """n: how many products a sum has at most, that is z where every number is 1."""
    ones = {k: FIELD.exactly(np.ones_like(v)) for k, v in instance.tensors.items()}
    found = evaluated(subject, instance, ones)
    del found["gauge"]
    return int(max(abs(part).max() for part in found.values()))


def bound(count: int, format: str) -> float:
    """The largest error in units that the analysis above allows."""
    return 3 + 2.0**-12 * (count + 5) if format in HALVES else 2.0 * (count + 5)


# ------------------------------------------------------------------ the layer
def spacing(values: Array, format: str) -> Array:
    """ulp(t) of a format."""
    info = torch.finfo(FORMATS[format])
    least = CONTEXT.mpf(info.smallest_normal)

    def one(t: Any) -> Any:
        if not CONTEXT.isfinite(t):
            return CONTEXT.inf
        exponent = CONTEXT.frexp(max(abs(t), least))[1] - 1
        return CONTEXT.ldexp(info.eps, exponent)

    return np.asarray(np.frompyfunc(one, 1, 1)(values), dtype=object)


def module(subject: Subject, instance: Instance, format: str) -> torch.nn.Module:
    """The layer in a format."""
    built = subject.build(instance)
    for held in getattr(built, "held", ()):
        held.to(FORMATS[format])
    return built.to(FORMATS[format])


def inputs(subject: Subject, instance: Instance, format: str) -> list[torch.Tensor]:
    """What the layer is called with, in a format."""
    return [
        x.to(FORMATS[format]).requires_grad_() if x.is_floating_point() else x
        for x in subject.inputs(instance)
    ]


def gradients(layer: torch.nn.Module, given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Of the sum of the outputs, by every input and parameter."""
    leaves = [x for x in (*given, *layer.parameters()) if x.requires_grad]
    return list(torch.autograd.grad(layer(*given).sum(), leaves, materialize_grads=True))


def finite_gradients(subject: Subject, instance: Instance, format: str) -> bool:
    """Whether gradients are finite wherever float64 says that they are numbers of the format."""
    largest = float(torch.finfo(FORMATS[format]).max) / 8
    found, wide = (
        gradients(module(subject, instance, f), inputs(subject, instance, f))
        for f in (format, "float64")
    )
    return all(
        bool((g.isfinite() | ~(w.abs() <= largest)).all()) for g, w in zip(found, wide, strict=True)
    )


# ------------------------------------------------------------------ measuring
def instances(subject: Subject, format: str, base: Instance) -> Iterator[tuple[Pattern, Instance]]:
    """One instance a pattern of the first input, in numbers of the format."""
    ordinary = {name: rounded(value, format) for name, value in base.tensors.items()}
    first = subject.program.inputs[0].name
    for pattern in patterns(format):
        values = shaped(pattern, base.tensors[first], format)
        instance = replace(base, tensors={**ordinary, first: values})
        if not pattern.cancel:
            yield pattern, instance
        elif cancelled := cancelling(subject, instance, format):
            yield pattern, cancelled


def cancelling(subject: Subject, instance: Instance, format: str) -> Instance | None:
    """The bias is minus what it is added to at the first site; ``None`` without a bias."""
    letters = subject.program.output.letters
    for tensor in subject.program.parameters:
        if tensor.letters == subject.program.unit:
            bias = instance.tensors[tensor.name]
            without = {**instance.tensors, tensor.name: np.zeros_like(bias)}
            rest = replace(instance, tensors=without)
            z = summand(subject, rest)
            first = tuple(slice(None) if x in subject.program.unit else 0 for x in letters)
            value = rounded(-np.asarray(z[first], dtype=np.float64), format)
            return replace(instance, tensors={**without, tensor.name: value})
    return None


def summand(subject: Subject, instance: Instance) -> Array:
    """What a bias of 0 is added to: z, or z̃ where the gauge leaves the bias alone."""
    if subject.correction.ansatz == "input map":
        return truth(subject, instance).output
    parts = evaluated(subject, instance, {k: FIELD.exactly(v) for k, v in instance.tensors.items()})
    return parts["1"]


def error(subject: Subject, pattern: Pattern, instance: Instance, format: str) -> Error:
    """A layer at one instance, by the route that is further off."""
    found = [error_by(run, subject, pattern, instance, format) for run in ROUTES]
    return replace(
        found[0],
        raw=max(e.raw for e in found),
        units=max(e.units for e in found),
        broken=max(e.broken for e in found),
    )


def error_by(
    run: Callable[..., torch.Tensor],
    subject: Subject,
    pattern: Pattern,
    instance: Instance,
    format: str,
) -> Error:
    """A layer at one instance, run in one way."""
    wanted = truth(subject, instance)
    largest = CONTEXT.mpf(torch.finfo(FORMATS[format]).max)
    wide = CONTEXT.mpf(torch.finfo(FORMATS["float32" if format in HALVES else format]).max)
    with torch.no_grad():
        out = run(module(subject, instance, format), inputs(subject, instance, format))
    tensor = output_tensor(subject.program)
    found = to_logical(out.double().numpy(), tensor, instance.sizes)
    judged = (wanted.factor <= wide) & (wanted.terms <= largest) & (wanted.scaled <= largest)
    judged = np.asarray(judged, dtype=bool)
    kept = judged & np.isfinite(found)
    off = abs(FIELD.exactly(np.where(kept, found, 0.0)) - wanted.output)
    return Error(
        pattern,
        largest_of(off / spacing(wanted.output, format), kept),
        largest_of(off / wanted.unit(format), kept),
        int(judged.sum()),
        int((judged & ~kept).sum()),
        not differentiable(subject, wanted, format) or finite_gradients(subject, instance, format),
    )


def differentiable(subject: Subject, wanted: Truth, format: str) -> bool:
    """Whether what autograd hands on is within the format's numbers at every site."""
    largest = CONTEXT.mpf(torch.finfo(FORMATS[format]).max) / 8
    axes = tuple(subject.program.output.letters.index(x) for x in subject.program.unit)
    return bool(wanted.factor.max() <= largest and wanted.terms.sum(axis=axes).max() <= largest)


def largest_of(values: Array, kept: Array) -> float:
    """The largest value among those kept; 0 if there is none."""
    return float(max(values[kept], default=0.0))


def measure(subject: Subject, format: str, seed: int = 0) -> tuple[int, list[Error]]:
    """A layer in a format at every pattern.

    Args:
        subject: A class whose formula is sums of products.
        format: A key of :data:`verify.accuracy_inputs.FORMATS`.
        seed: What the numbers are drawn from.

    Returns:
        n of the analysis above, and one error a pattern.
    """
    base = sample(subject.derivation, 1, seed, kinds=("many sites",))[0]
    found = [error(subject, p, i, format) for p, i in instances(subject, format, base)]
    return terms(subject, base), found

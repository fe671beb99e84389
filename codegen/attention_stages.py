"""The stages of an attention layer, derived one by one, and the gauges that its module needs.

Letters: t query token, u key token, h head, d head feature, j input feature. Each stage is a layer
of its own: the four projections, the score of the *corrected* queries and keys, and the mix of the
values. The mix takes the weights as an input, because masks, dropout and extra tokens change them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import sympy
from sympy import Expr, Integer, Mul, Pow

from derive.corrections import Correction, solve_corrections
from derive.derivation import Derivation, derive
from derive.errors import DerivationError
from derive.fractions import cancel
from derive.nodes import Contraction, Letter, Read, Softmax, reads
from derive.normal import normal
from derive.program import Program
from derive.resolve import resolve
from derive.spec import Input, LayerSpec, Parameter, Stage, split_letters
from derive.stages import stage_spec
from derive.structure import classify
from derive.update import derive_update

PROJECTIONS = ("query", "key", "value", "output")
WANTED = (*PROJECTIONS, "score", "mix")
GAUGE = "output gauge"
EXTRA_WEIGHT, EXTRA_VALUE = "extra_weight", "extra_value"


class AttentionError(DerivationError):
    """A spec with the layout ``attention`` whose lines are not those of an attention."""


@dataclass(frozen=True)
class DerivedStage:
    """One stage, for one choice of its optional parameters.

    Attributes:
        name: ``query``, ``key``, ``value``, ``output``, ``score`` or ``mix``.
        has_bias: Whether the projections that it is made of add a bias.
        derivation: Its derivation.
    """

    name: str
    has_bias: bool
    derivation: Derivation

    @property
    def program(self) -> Program:
        """The stage's lines."""
        return self.derivation.program

    @property
    def correction(self) -> Correction:
        """Its output gauge."""
        return self.derivation.correction(GAUGE)


@dataclass(frozen=True)
class Coefficients:
    """What multiplies the parameters in a value, κ(mix) = Σ_r (Σ_u w r_u)².

    Attributes:
        features: What multiplies the weight, in the letters of the value stage, one of them free.
        bias: What multiplies the bias; 0 without bias.
        extra: What multiplies the value of the extra token.
    """

    features: Expr
    bias: Expr
    extra: Expr


@dataclass(frozen=True)
class Attention:
    """An attention layer, derived.

    Attributes:
        spec: Where it comes from.
        stages: (stage, whether with bias) → its derivation.
        coefficients: Whether with bias → what the mix gauge is the norm of.
        scale: The factor of q·k in the score, in ``size(d)``.
        head: The letter that q·k is summed over.
    """

    spec: LayerSpec
    stages: Mapping[tuple[str, bool], DerivedStage]
    coefficients: Mapping[bool, Coefficients]
    scale: Expr
    head: Letter


def derive_attention(spec: LayerSpec) -> Attention:
    """Derive every stage of an attention layer, with and without biases.

    Raises:
        SpecError: If the spec is wrong or lacks a stage.
        AttentionError: If the stages' lines are not those of an attention.
    """
    for name in WANTED:
        if name not in spec.stages:
            raise spec.error(
                f"the layout attention needs the stage `{name}`", "stages", f"write {name} = ..."
            )
    found: dict[tuple[str, bool], DerivedStage] = {}
    for has_bias in (True, False):
        for name in PROJECTIONS:
            found[name, has_bias] = projection(spec, name, has_bias)
        found["score", has_bias] = score(spec, found, has_bias)
        found["mix", has_bias] = mix(spec, has_bias)
    line = found["score", True].program.output
    last = {name: stage.lines[-1] for name, stage in spec.stages.items()}
    scale, head = product_of(spec, line.value, {last["query"], last["key"]})
    mixed = resolve(stage_spec(spec, "mix")).output.value
    factor, _ = product_of(spec, mixed, {weights_of(spec), last["value"]})
    if factor != 1:
        raise AttentionError(
            f"{spec.name}: the mix must be the sum of weight*value and nothing else"
        )
    check_softmax(spec)
    coefficients = {b: coefficients_of(found["mix", b], found["value", b]) for b in (True, False)}
    return Attention(spec, MappingProxyType(found), MappingProxyType(coefficients), scale, head)


# ---------------------------------------------------------------------- projections
def projection(spec: LayerSpec, name: str, has_bias: bool) -> DerivedStage:
    """W x + b over all heads: one unit axis in place of head and head feature.

    Raises:
        AttentionError: If a bias is asked for and the stage has none.
    """
    stage = merged(stage_spec(spec, name))
    bias = bias_of(stage)
    if bias is None and has_bias:
        raise AttentionError(f"{spec.name}: the stage {name} has no bias")
    absent = frozenset() if has_bias or bias is None else frozenset([bias])
    return DerivedStage(name, has_bias, derive(stage, absent))


def bias_of(spec: LayerSpec) -> str | None:
    """The symbol of the optional parameter of a projection."""
    return next(iter(spec.optional), None)


def merged(spec: LayerSpec) -> LayerSpec:
    """A projection with the letters of its composed axis as one letter, and an optional bias.

    Raises:
        AttentionError: If the projection has other than one composed axis and two parameters.
    """
    groups = [split_letters(k) for k in spec.sizes if len(split_letters(k)) > 1]
    if len(groups) != 1 or len(spec.parameters) != 2:
        raise AttentionError(
            f"{spec.name}: a projection has a weight, a bias and one composed axis"
        )
    group = groups[0]
    letter = next(x for x in "fabcdeghij" if not re.search(rf"\b{x}\b", spec.forward))
    joined = r"\s*,\s*".join(map(re.escape, group))
    text = re.sub(rf"\(\s*{joined}\s*\)|\b{joined}\b", letter, spec.forward)

    def renamed(letters: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(letter if x in group else x for x in letters))

    site = tuple(x for x in split_letters(spec.site) if x not in group)
    unit = renamed(split_letters(spec.unit))
    sizes = {
        letter if split_letters(k) == group else k: v
        for k, v in spec.sizes.items()
        if k not in group
    }
    inputs = {
        k: Input(tuple((x,) for x in renamed(tuple(y for axis in i.axes for y in axis))))
        for k, i in spec.inputs.items()
    }
    return with_optional_biases(spec).with_(
        forward=text,
        site=" ".join(site),
        unit=" ".join(unit),
        sizes=sizes,
        inputs=inputs,
    )


def with_optional_biases(spec: LayerSpec) -> LayerSpec:
    """A stage whose biases, the parameters with one storage axis, may be left out."""
    biases = {t.name for t in resolve(spec).parameters if len(t.axes) == 1}
    parameters = {s: replace(p, optional=s in biases) for s, p in spec.parameters.items()}
    return spec.with_(parameters=parameters)


# ---------------------------------------------------------------------- score
def resized(expression: Expr, program: Program) -> Expr:
    """The expression of another stage, with the letters that this program gives the same names."""
    letters = program.letters
    return expression.xreplace(
        {
            x: Letter(x.name, letters[x.name].size, x.mark)
            for x in expression.atoms(Letter)
            if x.name in letters
        }
    )


def score(
    spec: LayerSpec, found: Mapping[tuple[str, bool], DerivedStage], has_bias: bool
) -> DerivedStage:
    """The score with the corrected queries and keys in place of the plain ones.

    Their lines become λ q and λ k with the solved gauges, and the result is derived like any layer.

    Raises:
        AttentionError: If the query or key stage has no gauge.
    """
    stage = with_optional_biases(stage_spec(spec, "score"))
    plain = resolve(stage, frozenset() if has_bias else frozenset(stage.optional))
    lines = []
    for line in plain.lines:
        value = line.value
        for name in ("query", "key"):
            if line.target == spec.stages[name].lines[-1]:
                gauge = found[name, has_bias].correction.gauge
                if gauge is None:
                    raise AttentionError(f"{spec.name}: the stage {name} has no gauge")
                value = resized(gauge, plain) * value
        lines.append(replace(line, value=value))
    corrected = replace(plain, lines=tuple(lines))
    update = derive_update(corrected)
    structure = classify(update)
    solved = solve_corrections(update, structure)
    return DerivedStage("score", has_bias, Derivation(corrected, update, structure, solved))


def product_of(spec: LayerSpec, value: Expr, names: set[str]) -> tuple[Expr, Letter]:
    """The factor c and the letter d of c Σ_d q k, where a value is just that.

    Raises:
        AttentionError: If it is something else.
    """
    factors = list(Mul.make_args(value))
    sums = [f for f in factors if isinstance(f, Contraction)]
    if len(sums) == 1 and len(sums[0].letters) == 1:
        factors.remove(sums[0])
        factors += Mul.make_args(sums[0].body)
        read = [f.tensor for f in factors if isinstance(f, Read)]
        numbers = [f for f in factors if not reads(f)]
        if sorted(read) == sorted(names) and len(read) + len(numbers) == len(factors):
            return Mul(*numbers), sums[0].letters[0]
    raise AttentionError(
        f"{spec.name}: {value} is no multiple of a sum of {' * '.join(sorted(names))}"
    )


def weights_of(spec: LayerSpec) -> str:
    """The line that holds the attention weights: the one of the mix that has no parameter.

    Raises:
        AttentionError: If the mix does not have exactly two lines besides those of the value.
    """
    own = [x for x in spec.stages["mix"].lines if x not in spec.stages["value"].lines]
    if len(own) != 2:
        raise AttentionError(
            f"{spec.name}: the stage mix has the lines of value, the weights and the mix"
        )
    return str(own[0])


def check_softmax(spec: LayerSpec) -> None:
    """The weights are the softmax of the score over the key tokens.

    Raises:
        AttentionError: If the weights are not the softmax of the score.
    """
    program = resolve(stage_spec(spec, "mix"))
    line = program.line(weights_of(spec))
    score_name = spec.stages["score"].lines[-1]
    value = None if line is None else line.value
    if not (
        isinstance(value, Softmax)
        and isinstance(value.body, Read)
        and value.body.tensor == score_name
    ):
        raise AttentionError(f"{spec.name}: the weights must be softmax[u]({score_name}[...])")


# ---------------------------------------------------------------------- mix
def mix(spec: LayerSpec, has_bias: bool) -> DerivedStage:
    """The mix of the values by given weights, with an extra token whose value is a parameter."""
    weights = weights_of(spec)
    own = spec.stages["mix"]
    lines = tuple(x for x in own.lines if x != weights)
    base = spec.with_(stages={**spec.stages, "mix": Stage(lines, own.site, own.unit)})
    stage = with_optional_biases(stage_spec(base, "mix"))
    absent = frozenset() if has_bias else frozenset(stage.optional)
    *head, last = stage.forward.strip().splitlines()
    site = ", ".join(stage.site.split())
    unit = ", ".join(stage.unit.split())
    composed = next(k for k in spec.sizes if set(split_letters(unit)) < set(split_letters(k)))
    last += f" + {EXTRA_WEIGHT}[{site}]*{EXTRA_VALUE}[{composed}]"
    extra = {EXTRA_VALUE: Parameter("bias_v", optional=True)}
    stage = stage.with_(forward="\n".join([*head, last]), parameters={**stage.parameters, **extra})
    return DerivedStage("mix", has_bias, derive(stage, absent))


def coefficients_of(stage: DerivedStage, value: DerivedStage) -> Coefficients:
    """κ of the mix taken apart into squares of mixes, each a coefficient of one parameter.

    Raises:
        AttentionError: If κ is no such sum.
    """
    kappa = stage.derivation.structure.kappa
    weights = [t.name for t in stage.program.inputs if t.name not in read_by(value)]
    parts: dict[str, Expr] = {}
    rebuilt: Expr = Integer(0)
    for term in sympy.Add.make_args(sympy.expand(kappa)):
        number, rest = term.as_coeff_Mul()
        root, square = root_of(rest)
        rebuilt += number * square
        factor = Mul(*(f for f in Mul.make_args(root) if not is_weight(f, weights)))
        if is_weight(root, [EXTRA_WEIGHT]):
            kind = "extra"
        else:
            kind = "features" if reads(factor) else "bias"
        if kind in parts:
            raise AttentionError(f"the mix has two coefficients of {kind}: {kappa}")
        parts[kind] = sympy.sqrt(number) * resized(factor, value.program)
    if "features" not in parts or cancel(normal(rebuilt - kappa)) != 0:
        raise AttentionError(f"κ of the mix is no sum of squares of mixes: {kappa}")
    zero = Integer(0)
    return Coefficients(parts["features"], parts.get("bias", zero), parts.get("extra", zero))


def read_by(value: DerivedStage) -> set[str]:
    """The inputs of a stage."""
    return {t.name for t in value.program.inputs}


def is_weight(factor: Expr, weights: list[str]) -> bool:
    """Whether a factor is an attention weight."""
    return isinstance(factor, Read) and factor.tensor in weights


def root_of(square: Expr) -> tuple[Expr, Expr]:
    """The summand f of (Σ_u f)² or of Σ_j (Σ_u f)², and that square written out.

    Raises:
        AttentionError: If the expression is no sum of squares.
    """
    if isinstance(square, Pow) and square.exp == 2:
        base = square.base
        return (base.body if isinstance(base, Contraction) else base), square
    if isinstance(square, Contraction):
        factors = Mul.make_args(square.body)
        for first in square.letters:
            for second in square.letters:
                if first == second or first.size != second.size:
                    continue
                one = Mul(*(f for f in factors if first in f.free_symbols))
                two = Mul(*(f for f in factors if second in f.free_symbols))
                if one * two == square.body and two.xreplace({second: first}) == one:
                    return one.xreplace(
                        {x: Letter(x.name, x.size) for x in one.atoms(Letter)}
                    ), square
    raise AttentionError(f"{square} is no sum of squares")

"""What normalisers do to the self-divergence of the affine layer behind them.

Every entry comes out of the derivation: κ of the layer with its ε, κ at ε = 0, whether that is
constant, what the layer can no longer tell apart, and what a learnable gain and shift add.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import sympy
from sympy import Expr, Integer, Mul, Symbol

from derive.errors import DerivationError
from derive.evaluate import Array, Evaluator, run_program
from derive.formula import formula
from derive.fractions import cancel
from derive.nodes import Letter, reads, size_symbol
from derive.normal import inline, normal
from derive.points import complete_sizes, random_sizes, random_tensors
from derive.program import Program, Tensor
from derive.rank import unchanged_by_scale
from derive.resolve import resolve
from derive.spec import LayerSpec, Parameter
from derive.structure import (
    Structure,
    classify,
    constant_mean,
    is_diagonal,
    named,
    on_diagonal,
    shortest,
)
from derive.update import Update, definitions, depends_on_parameters, derive_update

EPSILON = "eps"
STEP = 1e-5
RANK_TOLERANCE = 1e-6
EXACTLY, ON_AVERAGE, NOT_AT_ALL = "exactly", "on average", "not at all"


@dataclass(frozen=True)
class GainTerm:
    """What one more parameter in front of the affine map adds to the kernel.

    Attributes:
        symbol: ``gain`` or ``shift``.
        kernel: Its share of K(s,s').
        kind: ``isotropic``, ``diagonal`` or ``anisotropic``, for s' = s.
        parameter_dependent: Whether it depends on the parameters.
    """

    symbol: str
    kernel: Expr
    kind: str
    parameter_dependent: bool


@dataclass(frozen=True)
class AuditRow:
    """One normaliser.

    Attributes:
        name, summary, source: From the spec.
        program: The derived layer; gives the formulas their names.
        kappa: κ(s) in terms of the layer's own statistics.
        kappa_at_zero: κ(s) at ε = 0, written out.
        constant: ``exactly``, ``on average`` or ``not at all``, at ε = 0.
        value: The constant, or the mean that is constant.
        over: The site letters over which the mean is taken.
        scale_invariant: Whether x → t·x leaves z as it is, at ε = 0.
        freedom_lost: The number of directions in x that z does not see, at ε = 0.
        gain: What a gain and a shift add to the kernel.
        gained_kind: What kind the whole self-kernel then has.
    """

    name: str
    summary: str
    source: str
    program: Program
    kappa: Expr
    kappa_at_zero: Expr
    constant: str
    value: Expr | None
    over: tuple[Letter, ...]
    scale_invariant: bool
    freedom_lost: Expr
    gain: tuple[GainTerm, ...]
    gained_kind: str


def audit(specs: Iterable[LayerSpec]) -> tuple[AuditRow, ...]:
    """Audit normalisers, each written as a layer whose last line is affine in its parameters.

    Args:
        specs: Such layers; a real hyperparameter ``eps`` is their ε.

    Returns:
        One row a spec, in order.

    Raises:
        SpecError: If a spec is wrong.
        DerivationError: If a layer's self-kernel is not isotropic.
    """
    return tuple(audit_row(spec) for spec in specs)


def audit_row(spec: LayerSpec) -> AuditRow:
    """Audit one normaliser; see :func:`audit`.

    Raises:
        DerivationError: If the self-kernel is not isotropic, so that there is no one κ.
    """
    program = resolve(spec)
    update = derive_update(program)
    structure = classify(update)
    if structure.kind != "isotropic":
        raise DerivationError(
            f"the self-kernel of {spec.name} is {structure.kind}: it has no one κ"
        )
    at_zero = without_epsilon(structure.full)
    constant, value, over = constancy(program, at_zero)
    kappa = shortest(named(program, structure.full), in_statistics(program, structure))
    shown_at_zero = shortest(at_zero, without_epsilon(kappa), at_epsilon_zero(kappa))
    gained = with_gain(program)
    gained_update = derive_update(gained)
    return AuditRow(
        name=spec.name,
        summary=spec.summary,
        source=spec.source,
        program=program,
        kappa=kappa,
        kappa_at_zero=value if constant == EXACTLY and value is not None else shown_at_zero,
        constant=constant,
        value=value,
        over=over,
        scale_invariant=scale_invariant(program),
        freedom_lost=freedom_lost(program),
        gain=tuple(gain_term(gained_update, t.name) for t in new_parameters(program, gained)),
        gained_kind=classify(gained_update).kind,
    )


def in_statistics(program: Program, structure: Structure) -> Expr:
    """κ with the normalised tensor written out, and the statistics that it is made of as reads."""
    written = {k: v for k, v in definitions(program).items() if k == fed(program).name}
    return normal(inline(structure.kappa, written))


# ---------------------------------------------------------------------- ε = 0
def at_epsilon_zero(expression: Expr) -> Expr:
    """The expression at ε = 0."""
    return expression.xreplace({Symbol(EPSILON, real=True): Integer(0)})


def without_epsilon(expression: Expr) -> Expr:
    """The normal form at ε = 0."""
    return cancel(normal(at_epsilon_zero(expression)))


def constancy(program: Program, kappa: Expr) -> tuple[str, Expr | None, tuple[Letter, ...]]:
    """Whether κ is constant, exactly or on average, with the value and what the mean is over."""
    if not reads(kappa):
        return EXACTLY, sympy.expand(kappa), ()
    mean = constant_mean(program, kappa)
    if mean is None:
        return NOT_AT_ALL, None, ()
    return ON_AVERAGE, mean[1], mean[0]


def scale_invariant(program: Program) -> bool:
    """Whether x → t·x leaves the output at ε = 0 as it is, for the first input."""
    value = inline(program.output.value, definitions(program))
    value = at_epsilon_zero(value)
    return unchanged_by_scale(program, value, (program.inputs[0].name,))


# ---------------------------------------------------------------------- degrees of freedom
def freedom_lost(program: Program, instances: int = 6) -> Expr:
    """How many directions of x the output does not see at ε = 0, as a formula in the sizes.

    The rank of ∂z/∂x is measured at random points with more units than features; the formula is the
    multiple of a product of sizes of x's axes that agrees with every measurement.

    Raises:
        DerivationError: If no such formula agrees.
    """
    rng = np.random.default_rng(20251222)
    letters = program.inputs[0].letters
    measured = [_measure(program, rng) for _ in range(instances)]
    found: list[tuple[int, int, tuple[Letter, ...]]] = []
    for count in range(len(letters) + 1):
        for chosen in itertools.combinations(letters, count):
            ratios = {lost / math.prod(s[x.size] for x in chosen) for s, lost in measured}
            if len(ratios) == 1 and (ratio := ratios.pop()) == int(ratio):
                found.append((int(ratio), count, chosen))
    if not found:
        raise DerivationError(
            f"no formula for the freedom that {program.spec.name} loses: {measured}"
        )
    # Sizes that happen to agree in every instance hide in the factor, so the smallest is right.
    ratio, _, chosen = min(found, key=lambda entry: entry[:2])
    return Integer(ratio) * Mul(*(size_symbol(x.size) for x in chosen))


def _measure(program: Program, rng: np.random.Generator) -> tuple[dict[str, int], int]:
    """Sizes, and the number of input directions that move no output there."""
    x = program.inputs[0]
    # Two values, centred and normalised, are 1 and -1 always: three are the least to tell.
    for _ in range(200):
        sizes, symbols = random_sizes(program, rng, 3, 5)
        if all(sizes[letter.size] >= 3 for letter in x.letters):
            break
    features = math.prod(sizes[letter.size] for letter in x.letters if letter not in program.site)
    for letter in program.unit:
        name = program.size_name(letter.size)
        if name in symbols:
            symbols[name] = features
    sizes = {k: v for k, v in sizes.items() if program.sizes[k] is None}
    if not complete_sizes(program, sizes, symbols):
        raise DerivationError("the sizes do not fit together")
    tensors = random_tensors(program, sizes, rng)
    # Given statistics may be variances, which are positive.
    tensors |= {t.name: np.abs(tensors[t.name]) + 1 for t in program.inputs[1:]}
    symbols |= {EPSILON: 0.0}

    def output(value: Array) -> Array:
        evaluator = Evaluator(sizes, {**tensors, x.name: value}, symbols)
        return run_program(program, evaluator)[program.output.target].ravel()

    jacobian = central_differences(output, tensors[x.name])
    spectrum = np.linalg.svd(jacobian, compute_uv=False)
    rank = int((spectrum > RANK_TOLERANCE * spectrum[0]).sum())
    return sizes, jacobian.shape[1] - rank


def central_differences(function: Callable[[Array], Array], point: Array) -> Array:
    """∂function/∂point as a matrix, with an error of the order of ``STEP`` squared."""
    columns = []
    for k in range(point.size):
        shift = np.zeros(point.size)
        shift[k] = STEP
        shift = shift.reshape(point.shape)
        columns.append((function(point + shift) - function(point - shift)) / (2 * STEP))
    return np.stack(columns, axis=1)


# ---------------------------------------------------------------------- a learnable gain
def fed(program: Program) -> Tensor:
    """The one tensor that the last line's parameters multiply.

    Raises:
        DerivationError: If the last line does not read exactly one tensor besides its parameters.
    """
    names = {t.name for t in program.parameters}
    found = {r.tensor for r in reads(program.output.value)} - names
    if len(found) != 1:
        raise DerivationError(f"{program.spec.name}: the last line must read one normalised tensor")
    return program.tensors[found.pop()]


def with_gain(program: Program) -> Program:
    """The layer with h → gain·h + shift in front of its affine map."""
    spec = program.spec
    tensor = fed(program)
    name = tensor.name
    own = ", ".join(x.name for x in tensor.letters if x not in program.site)
    axes = ", ".join(
        f"({', '.join(y.name for y in x)})" if len(x) > 1 else x[0].name for x in tensor.axes
    )
    taken = {*program.tensors, *program.letters, *spec.hyperparameters}
    gain, shift, scaled = (_free(word, taken) for word in ("gain", "shift", "gained"))
    lines = [line for line in spec.forward.split("\n") if line.strip()]
    left, right = lines[-1].split("=", 1)
    last = left + "=" + re.sub(rf"(?<!\w){name}(?=\[)", scaled, right)
    added = f"{scaled}[{axes}] = {gain}[{own}]*{name}[{axes}] + {shift}[{own}]"
    parameters = {**spec.parameters, gain: Parameter(gain), shift: Parameter(shift)}
    forward = "\n".join([*lines[:-1], added, last])
    return resolve(spec.with_(forward=forward, parameters=parameters, text=None, file=None))


def _free(word: str, taken: set[str]) -> str:
    while word in taken:
        word += "0"
    return word


def new_parameters(before: Program, after: Program) -> tuple[Tensor, ...]:
    """The parameters that only the second program has."""
    return tuple(t for t in after.parameters if t.name not in before.tensors)


def gain_term(update: Update, name: str) -> GainTerm:
    """One parameter's share of the kernel, classified."""
    program = update.program
    part = update.self_parts[name]
    if not is_diagonal(part, program.unit):
        kind = "anisotropic"
    else:
        here = on_diagonal(part, program.unit)
        kind = "diagonal" if set(program.unit) & here.free_symbols else "isotropic"
    return GainTerm(name, update.parts[name], kind, depends_on_parameters(program, part))


# ---------------------------------------------------------------------- rendering
def cells(row: AuditRow, *, unicode: bool = True) -> dict[str, str]:
    """A row as texts, one a column."""

    def write(expression: Expr) -> str:
        return formula(expression, row.program, unicode=unicode)

    verdict = row.constant
    if row.value is not None:
        over = f" over {', '.join(x.name for x in row.over)}" if row.over else ""
        verdict = f"{row.constant}{over}: {write(row.value)}"
    return {
        "layer": row.name,
        "κ": write(row.kappa),
        "κ at ε = 0": write(row.kappa_at_zero),
        "constant at ε = 0": verdict,
        "scale-invariant": "yes" if row.scale_invariant else "no",
        "freedom lost": write(row.freedom_lost),
        "K with gain and shift": ", ".join(
            f"+ {write(term.kernel)} ({_nature(term)})" for term in row.gain
        ),
    }


def _nature(term: GainTerm) -> str:
    return f"{term.kind}, depends on the parameters" if term.parameter_dependent else term.kind


def to_text(rows: Iterable[AuditRow]) -> str:
    """The audit as a plain text table."""
    table = [cells(row) for row in rows]
    if not table:
        return ""
    columns = list(table[0])
    widths = {c: max(len(c), *(len(entry[c]) for entry in table)) for c in columns}
    lines = ["  ".join(c.ljust(widths[c]) for c in columns).rstrip()]
    lines.append("  ".join("-" * widths[c] for c in columns))
    lines += ["  ".join(e[c].ljust(widths[c]) for c in columns).rstrip() for e in table]
    return "\n".join(lines) + "\n"


def to_markdown(rows: Iterable[AuditRow]) -> str:
    """The audit as a Markdown table."""
    table = [cells(row) for row in rows]
    if not table:
        return ""
    columns = list(table[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for entry in table:
        lines.append("| " + " | ".join(entry[c].replace("|", "\\|") for c in columns) + " |")
    return "\n".join(lines) + "\n"


def to_json(rows: Iterable[AuditRow]) -> list[dict[str, object]]:
    """The audit as JSON-ready data; formulas as ASCII text."""
    return [
        {
            "name": row.name,
            "summary": row.summary,
            "source": row.source,
            "kappa": formula(row.kappa, row.program),
            "kappa_at_zero": formula(row.kappa_at_zero, row.program),
            "constant": row.constant,
            "value": None if row.value is None else formula(row.value, row.program),
            "over": [x.name for x in row.over],
            "scale_invariant": row.scale_invariant,
            "freedom_lost": formula(row.freedom_lost, row.program),
            "gain": [
                {
                    "symbol": term.symbol,
                    "kernel": formula(term.kernel, row.program),
                    "kind": term.kind,
                    "parameter_dependent": term.parameter_dependent,
                }
                for term in row.gain
            ],
            "gained_kind": row.gained_kind,
        }
        for row in rows
    ]

"""Certificates: every claim of a derivation as data that a small checker can accept.

A certificate holds the layer's forward map, one claim, and for a correction the corrected map with
its gauges as lines of their own; ``verify/checker.py`` says what its acceptance means, and
:mod:`derive.certificate_terms` in which language the formulas are. What a certificate takes for
granted it says in ``assumptions``:

- one step of plain gradient descent, and one site's own gradient: interference is K(s,s'), s ≠ s',
- entries are real, radicands positive, and nothing is divided by 0,
- tanh, exp, sigmoid, log and erf have their known derivatives; other functions are written in them,
- a frozen gauge is held fixed during the step; a matrix gauge needs pivots other than 0,
- integers are at least what ``integers`` says (a stride is 1 or more).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sympy import Add, Expr, Integer, Symbol

from derive.audit import AuditRow
from derive.certificate_terms import SizeWriter, TermWriter
from derive.correction import LAMBDA, MU, NU, RADIUS, Correction
from derive.derivation import Derivation
from derive.errors import DerivationError
from derive.nodes import Letter, Read, reads
from derive.normal import inline, normal
from derive.program import Program
from derive.structure import unit_delta
from derive.update import Update, definitions

FORMAT = "truestep certificate 1"
OUTPUT = "z̃"
PLAIN = (
    "one step of plain gradient descent, by the gradient of the site itself",
    "entries are real, radicands are positive, nothing is divided by 0",
)
FUNCTIONS = "exp, log, tanh, sigmoid and erf have their known derivatives"
MAXIMUM = "a maximum over letters is any number: it depends on no parameter"
HELD = "the gauge depends on the parameters and is held fixed during the step"
PIVOTS = "elimination on K(s,s) meets no pivot 0"
AT_ZERO = "eps = 0"


@dataclass(frozen=True)
class Certificate:
    """One claim, ready to be checked.

    Attributes:
        name: What it is about in a word, as ``kernel`` or ``output-gauge``.
        data: The certificate, JSON-ready.
    """

    name: str
    data: Mapping[str, Any]

    def to_json(self) -> str:
        """The same bytes on every machine."""
        return json.dumps(self.data, ensure_ascii=False, indent=1) + "\n"


@dataclass(frozen=True)
class Claim:
    """What a certificate is to hold besides the layer.

    Attributes:
        name: As in :class:`Certificate`.
        statement: The claim in words.
        kind: ``kernel``, ``self-kernel``, ``matrix gauge`` or ``correction``.
        value: What K has to be.
        rate: For a correction; a matrix gauge has the rate 1.
        exactness: For the last two kinds.
        gauges: For a correction: gauge → its letters and its value, ``None`` for a free one.
        corrected: For a correction: z̃.
    """

    name: str
    statement: str
    kind: str
    value: Expr | None = None
    rate: Expr | None = None
    exactness: str = ""
    gauges: Mapping[str, tuple[tuple[Letter, ...], Expr | None]] | None = None
    corrected: Expr | None = None

    @property
    def expressions(self) -> list[Expr]:
        """Every expression in it."""
        values = [self.value, self.rate, self.corrected]
        values += [value for _, value in (self.gauges or {}).values()]
        return [e for e in values if e is not None]


def certificates(derivation: Derivation) -> tuple[Certificate, ...]:
    """The certificates of a derivation: its kernels, and every correction that applies.

    Raises:
        DerivationError: If certificates have no word for a formula.
    """
    program = derivation.program
    found = [certificate(program, claim) for claim in kernel_claims(derivation)]
    for correction in derivation.applied:
        found += correction_certificates(derivation, correction)
    return tuple(found)


def correction_certificates(
    derivation: Derivation, correction: Correction
) -> tuple[Certificate, ...]:
    """The certificates of one correction: two where a free radius makes two classes of it."""
    claims = correction_claims(derivation, correction)
    return tuple(certificate(derivation.program, claim) for claim in claims)


def kernel_claims(derivation: Derivation) -> Iterator[Claim]:
    """K(s,s'), K(s,s) and κ, each once."""
    update, structure = derivation.update, derivation.structure
    yield Claim("kernel", "K(s,s') is this", "kernel", update.kernel)
    yield Claim("self-kernel", "K(s,s) is this", "self-kernel", update.self_kernel)
    if structure.kind != "anisotropic":
        delta = unit_delta(derivation.program.unit)
        words = f"K(s,s) is {structure.kind}, κ times the identity"
        forms = dict.fromkeys((structure.kappa, structure.full))
        for k, kappa in enumerate(forms):
            name = "kappa" if k == 0 else "kappa-written-out"
            yield Claim(name, words, "self-kernel", delta * kappa)


def correction_claims(derivation: Derivation, correction: Correction) -> Iterator[Claim]:
    """What a correction claims."""
    gauge, rate = correction.gauge, correction.rate
    assert gauge is not None, "an applied correction has a gauge"
    assert rate is not None, "an applied correction has a rate"
    name, exactness = correction.ansatz.replace(" ", "-"), correction.exactness
    words = f"the {correction.ansatz} gives K̃(s,s) = c·I: {exactness}"
    if correction.ansatz == "matrix gauge":
        yield Claim(name, words, "matrix gauge", gauge, None, exactness)
        return
    gauges, corrected = corrected_map(derivation, correction)
    radius = Symbol(RADIUS, positive=True)
    claim = Claim(name, words, "correction", None, rate, exactness, gauges, corrected)
    if exactness != "exact" or rate == 1:
        yield claim
        return
    # `exact` holds for the radius 1; any other one scales the rate.
    one = {radius: Integer(1)}
    fixed = {k: (letters, value.subs(one)) for k, (letters, value) in gauges.items() if value}
    yield Claim(
        name,
        f"{words}, at radius 1",
        "correction",
        None,
        rate.subs(one),
        exactness,
        fixed,
        corrected,
    )
    words = f"the {correction.ansatz} gives K̃(s,s) = c·I: constant-rate"
    yield Claim(
        f"{name}-any-radius", words, "correction", None, rate, "constant-rate", gauges, corrected
    )


def corrected_map(
    derivation: Derivation, correction: Correction
) -> tuple[dict[str, tuple[tuple[Letter, ...], Expr | None]], Expr]:
    """The gauges and z̃ as an expression that reads them."""
    program, gauge = derivation.program, correction.gauge
    assert gauge is not None, "an applied correction has a gauge"
    letters = program.output.letters
    if correction.ansatz == "split gauge":
        varying, constant = split(derivation.update)
        family = gauge.xreplace({Symbol(NU, positive=True): Read(Symbol(NU), *program.site)})
        lam, nu = (Read(Symbol(x), *program.site) for x in (LAMBDA, NU))
        gauges = {NU: (program.site, None), LAMBDA: (program.site, family)}
        return gauges, lam * varying + nu * constant
    name = MU if correction.ansatz == "input map" else LAMBDA
    used = tuple(x for x in letters if x in gauge.free_symbols)
    factor = Read(Symbol(name), *used)
    corrected = Add(*(factor**degree * term for degree, term in correction.terms))
    return {name: (used, gauge)}, corrected


def split(update: Update) -> tuple[Expr, Expr]:
    """The output's terms by whether their parameters' own kernels vary with the input.

    Raises:
        DerivationError: If a term holds parameters of both sorts.
    """
    program = update.program
    known = definitions(program)
    varies = {k: bool(reads(inline(part, known))) for k, part in update.self_parts.items()}
    inner = {k: v for k, v in known.items() if k in program.dependent}
    parts: dict[bool, list[Expr]] = {True: [], False: []}
    for term in Add.make_args(normal(inline(program.output.value, inner))):
        kinds = {varies[r.tensor] for r in reads(term) if r.tensor in varies}
        if len(kinds) > 1:
            raise DerivationError("a term holds parameters of varying and of constant kernel")
        parts[kinds.pop() if kinds else False].append(term)
    return Add(*parts[True]), Add(*parts[False])


def audit_certificate(row: AuditRow) -> Certificate:
    """κ of a normaliser at ε = 0, and that it is constant where the audit says ``exactly``."""
    words = f"K(s,s) is κ times the identity at eps = 0, and κ is constant: {row.constant}"
    value = unit_delta(row.program.unit) * row.kappa_at_zero
    claim = Claim("audit", words, "self-kernel", value)
    return certificate(row.program, claim, {Symbol("eps", real=True): Integer(0)})


# ---------------------------------------------------------------------- the data
def certificate(
    program: Program, claim: Claim, at: Mapping[Expr, Expr] | None = None
) -> Certificate:
    """A claim about a layer as data.

    Args:
        program: The layer.
        claim: What is claimed.
        at: Values of hyperparameters, as ε = 0.

    Raises:
        DerivationError: If certificates have no word for a formula.
    """
    at = dict(at or {})
    values = {line.target: line.value.xreplace(at) for line in program.lines}
    free = {k: x for k, (x, value) in (claim.gauges or {}).items() if value is None}
    writer = TermWriter(program, [*values.values(), *claim.expressions], free)
    sizes = SizeWriter(program)
    axes = sizes.axes()
    lines = [
        line_data(line.target, line.letters, writer.write(values[line.target]))
        for line in program.lines
    ]
    corrected = corrected_lines(program, claim, writer)
    stated = claim_data(claim, writer)
    tensors = tensor_data(program)
    tensors |= {k: {"kind": "input", "axes": [x.size for x in v]} for k, v in free.items()}
    opaque = {name: [x.size for x in letters] for name, letters in writer.opaque.values()}
    tensors |= {name: {"kind": "input", "axes": entry} for name, entry in opaque.items()}
    for name in writer.integers:
        sizes.integer(name)
    data = {
        "format": FORMAT,
        "about": {
            "layer": program.spec.name,
            "spec": program.spec.digest,
            "without": sorted(program.absent),
            "claim": claim.statement,
        },
        "assumptions": assumptions(claim, json.dumps(lines + corrected), bool(opaque), bool(at)),
        "integers": dict(sorted(sizes.integers.items())),
        "reals": sorted(writer.reals),
        "axes": axes,
        "tensors": tensors,
        "lines": lines,
        "corrected": corrected,
        "site": [writer.letter(x, {}) for x in program.site],
        "unit": [writer.letter(x, {}) for x in program.unit],
        "claim": stated,
    }
    return Certificate(claim.name, data)


def line_data(name: str, letters: tuple[Letter, ...], value: Any) -> dict[str, Any]:
    """A line."""
    return {"name": name, "letters": {f"{x.name}{x.mark}": x.size for x in letters}, "value": value}


def corrected_lines(program: Program, claim: Claim, writer: TermWriter) -> list[dict[str, Any]]:
    """The gauges that are not free, and z̃."""
    if claim.corrected is None:
        return []
    gauges = [
        line_data(name, letters, writer.write(value))
        for name, (letters, value) in (claim.gauges or {}).items()
        if value is not None
    ]
    writer.held = set(claim.gauges or {}) if claim.exactness == "frozen" else set()
    return [*gauges, line_data(OUTPUT, program.output.letters, writer.write(claim.corrected))]


def claim_data(claim: Claim, writer: TermWriter) -> dict[str, Any]:
    """The claim."""
    data: dict[str, Any] = {"kind": claim.kind}
    if claim.value is not None:
        constant = claim.kind == "self-kernel" and not reads(claim.value)
        data |= {"value": writer.write(claim.value), "constant": constant}
    if claim.gauges is not None:
        data["gauges"] = list(claim.gauges)
    if claim.rate is not None:
        data["rate"] = writer.write(claim.rate)
    if claim.exactness:
        data["class"] = claim.exactness
    return data


def tensor_data(program: Program) -> dict[str, Any]:
    """Inputs and parameters; a token lies below the size of the axis that it indexes."""
    found: dict[str, Any] = {}
    for tensor in (*program.inputs, *program.parameters):
        entry: dict[str, Any] = {"kind": tensor.kind, "axes": [x.size for x in tensor.letters]}
        if tensor.kind == "token":
            entry["below"] = indexed_axis(program, tensor.name)
        found[tensor.name] = entry
    return found


def indexed_axis(program: Program, token: str) -> str:
    """The axis that a token is an index of.

    Raises:
        DerivationError: If it indexes axes of two sizes, or none.
    """
    sizes = {
        axis.size
        for line in program.lines
        for read in reads(line.value)
        for axis, index in zip(program.tensors[read.tensor].letters, read.indices, strict=True)
        if any(isinstance(r, Read) and r.tensor == token for r in index.atoms(Read))
    }
    if len(sizes) != 1:
        raise DerivationError(f"the token {token} indexes axes of {len(sizes)} sizes")
    return str(sizes.pop())


def assumptions(claim: Claim, text: str, opaque: bool, at_zero: bool) -> list[str]:
    """What a certificate takes for granted."""
    found = list(PLAIN)
    found += [FUNCTIONS] * ('"call"' in text) + [MAXIMUM] * opaque + [AT_ZERO] * at_zero
    found += [HELD] * (claim.exactness == "frozen") + [PIVOTS] * (claim.kind == "matrix gauge")
    return found

"""Certificates: every claim of a derivation as data that a small checker can accept.

A certificate holds the layer's forward map, one claim, and for a correction the corrected map, its
gauges as lines of their own and what they are where they are neutral; ``verify/checker.py`` says
what its acceptance means, and :mod:`derive.certificate_terms` in which language the formulas are.
What a certificate takes for granted it says in ``assumptions``:

- one step of plain gradient descent, and one site's own gradient: interference is K(s,s'), s ≠ s',
- entries are real, radicands positive, and nothing is divided by 0,
- tanh, exp, sigmoid, log and erf have their known derivatives; other functions are written in them,
- a frozen gauge is held fixed during the step; a matrix gauge needs pivots other than 0,
- sizes are at least what ``sizes`` says (a stride is 1 or more).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sympy import Add, Expr, Integer, Symbol

from derive.audit import AuditRow
from derive.certificate_matrix import KERNEL, OUTPUT, matrix_gauge
from derive.certificate_terms import TermWriter
from derive.correction import LAMBDA, MU, NU, RADIUS, Correction
from derive.derivation import Derivation
from derive.errors import DerivationError
from derive.nodes import Letter, Read, reads
from derive.normal import inline, normal
from derive.program import Program
from derive.structure import unit_delta
from derive.update import Update, definitions

FORMAT = "truestep certificate 2"
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
        kind: ``kernel``, ``self-kernel``, ``constant`` or the exactness class of a correction.
        value: What K has to be; for the last two kinds the c of c·I, or what a matrix gauge is of.
        gauges: For a correction: gauge → its letters and its value, ``None`` for a free one.
        corrected: For a correction: z̃; a matrix gauge has none.
    """

    name: str
    statement: str
    kind: str
    value: Expr
    gauges: Mapping[str, tuple[tuple[Letter, ...], Expr | None]] | None = None
    corrected: Expr | None = None

    @property
    def expressions(self) -> list[Expr]:
        """Every expression in it."""
        values = [self.value, self.corrected]
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
        words = f"K(s,s) is {structure.kind}, κ times the identity"
        forms = dict.fromkeys((structure.kappa, structure.full))
        for k, kappa in enumerate(forms):
            name = "kappa" if k == 0 else "kappa-written-out"
            yield multiple(name, words, derivation.program, kappa)


def multiple(name: str, words: str, program: Program, kappa: Expr) -> Claim:
    """K(s,s) is κ times the identity, with a constant κ if it holds no reads and letters."""
    if reads(kappa) or kappa.atoms(Letter):
        return Claim(name, words, "self-kernel", unit_delta(program.unit) * kappa)
    return Claim(name, words, "constant", kappa)


def correction_claims(derivation: Derivation, correction: Correction) -> Iterator[Claim]:
    """What a correction claims."""
    gauge, rate = correction.gauge, correction.rate
    assert gauge is not None, "an applied correction has a gauge"
    assert rate is not None, "an applied correction has a rate"
    name, exactness = correction.ansatz.replace(" ", "-"), correction.exactness
    words = f"the {correction.ansatz} gives K̃(s,s) = c·I: {exactness}"
    if correction.ansatz == "matrix gauge":
        yield Claim(name, words, exactness, gauge)
        return
    gauges, corrected = corrected_map(derivation, correction)
    radius = Symbol(RADIUS, positive=True)
    claim = Claim(name, words, exactness, rate, gauges, corrected)
    if exactness != "exact" or rate == 1:
        yield claim
        return
    # `exact` holds for the radius 1; any other one scales the rate.
    one = {radius: Integer(1)}
    fixed = {k: (letters, value.subs(one)) for k, (letters, value) in gauges.items() if value}
    yield Claim(name, f"{words}, at radius 1", exactness, rate.subs(one), fixed, corrected)
    words = f"the {correction.ansatz} gives K̃(s,s) = c·I: constant-rate"
    yield Claim(f"{name}-any-radius", words, "constant-rate", rate, gauges, corrected)


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
    claim = multiple("audit", words, row.program, row.kappa_at_zero)
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
    layer = {
        line.target: line_data(writer, line.letters, writer.write(values[line.target]))
        for line in program.lines
    }
    gauges, corrected, value = corrected_data(program, claim, writer)
    tensors = tensor_data(program, writer)
    inputs = [*((f"any {k}", x) for k, x in free.items()), *writer.opaque.values()]
    tensors |= {k: {"letters": writer.letters(x), "kind": "input"} for k, x in inputs}
    data = {
        "format": FORMAT,
        "about": {
            "layer": program.spec.name,
            "spec": program.spec.digest,
            "without": sorted(program.absent),
            "claim": claim.statement,
        },
        "assumptions": assumptions(claim, json.dumps([layer, corrected]), writer, bool(at)),
        "sizes": size_data(program, writer),
        "reals": sorted(writer.reals),
        "tensors": tensors,
        "layer": layer,
        "corrected": corrected,
        "gauges": gauges,
        "unit": [writer.letter(x, {}) for x in program.unit],
        "claim": {"kind": claim.kind, "value": value},
    }
    return Certificate(claim.name, data)


def line_data(writer: TermWriter, letters: tuple[Letter, ...], value: Any) -> dict[str, Any]:
    """A line."""
    return {"letters": writer.letters(letters), "value": value}


def corrected_data(program: Program, claim: Claim, writer: TermWriter) -> tuple[Any, Any, Any]:
    """The gauges where they are neutral; their lines and z̃; what is claimed of K."""
    frozen = claim.kind == "frozen"
    if claim.gauges is None:
        matrix = claim.kind not in ("kernel", "self-kernel", "constant")
        value = writer.write(claim.value)
        return matrix_gauge(program, writer, value, frozen) if matrix else ({}, {}, value)
    lines = {}
    for name, (letters, value) in claim.gauges.items():
        free = ["read", f"any {name}", *writer.letters(letters)]
        lines[name] = line_data(writer, letters, free if value is None else writer.write(value))
    writer.held = set(claim.gauges) if frozen else set()
    lines[OUTPUT] = line_data(writer, program.output.letters, writer.write(claim.corrected))
    gauges = {name: line_data(writer, x, 1) for name, (x, _) in claim.gauges.items()}
    return gauges, lines, writer.write(claim.value)


def tensor_data(program: Program, writer: TermWriter) -> dict[str, Any]:
    """Inputs and parameters; a token lies below the size of the axis that it indexes."""
    found: dict[str, Any] = {}
    for tensor in (*program.inputs, *program.parameters):
        entry: dict[str, Any] = {"letters": writer.letters(tensor.letters), "kind": tensor.kind}
        if tensor.kind == "token":
            entry["below"] = writer.sizes[indexed_axis(program, tensor.name)]
        found[tensor.name] = entry
    return found


def size_data(program: Program, writer: TermWriter) -> dict[str, int]:
    """Size or integer hyperparameter → its least value: 0 where its default is, else 1."""
    found = dict.fromkeys(writer.sizes.values(), 1)
    for name in writer.integers:
        value = program.spec.hyperparameters[name.partition("[")[0]]
        default = value[int(name[:-1].rpartition("[")[2])] if isinstance(value, tuple) else value
        found[name] = min(1, int(default))
    return dict(sorted(found.items()))


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


def assumptions(claim: Claim, text: str, writer: TermWriter, at_zero: bool) -> list[str]:
    """What a certificate takes for granted."""
    found = list(PLAIN)
    found += [FUNCTIONS] * ('"call"' in text) + [MAXIMUM] * bool(writer.opaque)
    found += [AT_ZERO] * at_zero + [HELD] * (claim.kind == "frozen")
    return found + [PIVOTS] * (KERNEL in text)

"""The strings of an attention file: gauges, projections and factors, lowered from the stages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import sympy
from sympy import Expr, Pow, Symbol

from codegen.attention_docs import (
    affine_doc,
    mix_doc,
    mix_gauge_doc,
    projection_doc,
    score_doc,
)
from codegen.attention_stages import (
    PROJECTIONS,
    Attention,
    AttentionError,
    DerivedStage,
)
from codegen.backward import write_backward
from codegen.backward_text import OWN, Derived
from codegen.docs import literal
from codegen.forward import Forward, ForwardWriter
from codegen.header import header
from codegen.helpers import helper_code
from codegen.sizes import SizeCode
from codegen.values import BATCH, Axis, Level, Value
from codegen.variants import merge_variants
from derive.corrections import Correction
from derive.derivation import Derivation
from derive.nodes import Contraction, Letter, Read, size_symbol
from derive.program import Tensor

NAME_X = re.compile(r"\bx\b")
NO_BIAS = frozenset(["bias"])
"""The absent parameters of a class without biases: all of them together, as in torch."""


@dataclass(frozen=True)
class Function:
    """A module-level function of the generated file."""

    name: str
    arguments: str
    doc: str
    body: tuple[str, ...]


def plain_names(stage: DerivedStage, source: str) -> tuple[Derivation, Correction]:
    """A projection whose input is called x and whose parameters weight and bias."""
    program, correction = stage.program, stage.correction
    name = {Symbol(source): Symbol("x")}
    tensors = {
        ("x" if t.name == source else t.name): replace(t, name="x") if t.name == source else t
        for t in program.tensors.values()
    }
    lines = tuple(replace(x, value=x.value.xreplace(name)) for x in program.lines)
    vectors = {t.name for t in program.parameters if len(t.axes) == 1}
    parameters = {
        s: replace(p, torch="bias" if s in vectors or p.optional else "weight")
        for s, p in program.spec.parameters.items()
    }
    renamed = replace(
        program,
        spec=program.spec.with_(parameters=parameters),
        tensors=MappingProxyType(tensors),
        lines=lines,
    )
    solved = replace(
        correction,
        gauge=None if correction.gauge is None else correction.gauge.xreplace(name),
        terms=tuple((d, e.xreplace(name)) for d, e in correction.terms),
    )
    return replace(stage.derivation, program=renamed), solved


@dataclass
class AttentionClass:
    """The strings that the template lays out for one class."""

    name: str
    doc: str
    project: list[str] = field(default_factory=list)
    coefficients: list[str] = field(default_factory=list)
    bias: str = ""
    extra: str = ""


def number(value: Expr) -> str:
    """A number as a float literal.

    Raises:
        AttentionError: If it is not a plain number.
    """
    if not value.is_number:
        raise AttentionError(f"{value} is no plain number")
    return repr(float(value))


class AttentionWriter:
    """Writes the strings of an attention file."""

    def __init__(self, attention: Attention, general: bool) -> None:
        """Lower every stage."""
        self.attention = attention
        self.general = general
        self.helpers: set[str] = {"_times"}
        self.gauge_bodies = {name: self.gauge_body(name) for name in PROJECTIONS}
        self.bodies = {name: self.projection_body(name) for name in PROJECTIONS}
        self.derived: dict[str, Derived] = {}
        for name in PROJECTIONS:
            found = self.derive_backward(name) if self.stem(name) not in self.derived else None
            if found is not None:
                self.derived[self.stem(name)] = found
                self.helpers |= found.helpers
        self.packed = self.stem("query") == self.stem("key") == self.stem("value")
        wish = attention.spec.classes
        stem = attention.spec.name
        self.affine = AttentionClass(
            wish.get("affine-like", f"AffineLike{stem}"), literal(affine_doc(attention))
        )
        self.mix = AttentionClass(
            wish.get("value-mix", f"ValueMix{stem}"),
            literal(mix_doc(attention, self.affine.name)),
        )
        self.affine.project = self.project_lines(("query", "key", "value"))
        self.mix.project = self.project_lines(("query", "key"))

    # -------------------------------------------------------------- lowering
    def writer(self, stage: DerivedStage, values: Mapping[str, Value]) -> ForwardWriter:
        """A writer for one stage, with other names for its tensors."""
        program = stage.program
        attributes = {n: f"self.{n}" for n in program.arguments}
        writer = ForwardWriter(
            stage.derivation, stage.correction, attributes, general=self.general, fused={}
        )
        for name, value in values.items():
            axes = writer.lowering.values[name].axes if not value.axes else value.axes
            writer.lowering.values[name] = Value(value.code, axes)
        writer.lowering.names |= {v.code for v in values.values()}
        return writer

    def forward(self, writer: ForwardWriter, result: Value) -> Forward:
        """What a writer has written, with a result."""
        low = writer.lowering
        self.helpers |= low.helpers
        lines, helpers = tuple(low.statements), frozenset(low.helpers)
        return Forward(lines, result.code, helpers, {}, writer.singular, 0, None)

    def scale(self, writer: ForwardWriter, gauge: Expr | None, axes: tuple[Axis, ...]) -> Forward:
        """A gauge as a tensor with the given axes.

        Raises:
            AttentionError: If the gauge is missing, or is one number.
        """
        if gauge is None:
            raise AttentionError("a gauge is missing")
        value = writer.gauge(gauge)
        if value.scalar:
            raise AttentionError(f"the gauge {gauge} is one number, which no layout is written for")
        return self.forward(writer, writer.lowering.arranged(value, axes))

    def merged(self, forwards: Mapping[bool, Forward], condition: str) -> tuple[str, ...]:
        """The variants with and without bias as one body."""
        variants = {frozenset(): forwards[True], NO_BIAS: forwards[False]}
        return tuple(merge_variants(variants, {NO_BIAS: condition, frozenset(): ""}))

    def gauge_body(self, name: str) -> tuple[str, ...]:
        """λ(x), shape (...), of a projection."""
        forwards = {}
        for has_bias in (True, False):
            stage = self.attention.stages[name, has_bias]
            source = self.input_of(stage)
            writer = self.writer(stage, {source: Value("x")})
            found = self.scale(writer, stage.correction.gauge, (BATCH,))
            *lines, last = found.statements
            target, value = last.split(" = ", 1)
            if target == found.result:
                found = replace(found, statements=tuple(lines), result=value)
            forwards[has_bias] = found
        return self.merged(forwards, "not has_bias")

    def input_of(self, stage: DerivedStage) -> str:
        """The input of a projection.

        Raises:
            AttentionError: If the projection does not read exactly one tensor.
        """
        inputs = stage.program.inputs
        if len(inputs) != 1:
            raise AttentionError(f"the stage {stage.name} reads {len(inputs)} tensors, not one")
        return inputs[0].name

    def projection_body(self, name: str) -> tuple[str, ...]:
        """The plain W x + b of a projection in the names x, weight and bias."""
        x, weight, bias = "x", "weight", "bias"
        forwards = {}
        fused: Mapping[str, str] = {}
        for has_bias in (True, False):
            stage = self.attention.stages[name, has_bias]
            values = {self.input_of(stage): Value(x)}
            for tensor in stage.program.parameters:
                code = bias if len(tensor.axes) == 1 else weight
                values[tensor.name] = Value(code)
            writer = self.writer(stage, values)
            low = writer.lowering
            low.absent_fused = fused
            line = stage.program.output
            unit = stage.program.unit
            result = low.arranged(low.of(line.value), (BATCH, *((i,) for i in unit)))
            fused = {w: b for w, b in low.fused.items() if b == bias}
            forwards[has_bias] = self.forward(writer, result)
        return self.merged(forwards, f"{bias} is None")

    def plain_call(self, name: str) -> str:
        """The plain projection as one expression."""
        body = self.bodies[name]
        if len(body) == 1:
            return body[0].removeprefix("return ")
        return f"_plain_{self.first_like(name)}(x, weight, bias)"

    def first_like(self, name: str) -> str:
        """The first projection that is computed as this one is."""
        return next(n for n in PROJECTIONS if self.bodies[n] == self.bodies[name])

    def stem(self, name: str) -> str:
        """What the functions of a projection are named after; equal projections share them."""
        kinds = [(self.gauge_bodies[n], self.bodies[n]) for n in PROJECTIONS]
        if all(k == kinds[0] for k in kinds):
            return "affine"
        return PROJECTIONS[kinds.index((self.gauge_bodies[name], self.bodies[name]))]

    def corrected_body(self, name: str) -> tuple[str, ...]:
        """The corrected projection."""
        stem = self.stem(name)
        call = f"_{stem}_gauge(x, bias is not None)"
        lines = [f"z = {self.plain_call(name)}", f"return _times(z, {call}.unsqueeze(-1))"]
        derived = self.derived.get(stem)
        if derived is None:
            return tuple(lines)
        test = f"if {derived.test}:"
        call = OWN.sub(r"\1", derived.call)
        return (test, f"    corrected: Tensor = {call}", "    return corrected", *lines)

    def derive_backward(self, name: str) -> Derived | None:
        """The derived backward pass of a projection, where it pays."""
        if self.general:
            return None
        stem = self.stem(name)
        variants, writers = {}, {}
        handed: Mapping[str, str] = {}
        for has_bias in (True, False):
            stage = self.attention.stages[name, has_bias]
            derivation, correction = plain_names(stage, self.input_of(stage))
            variants[derivation.absent] = derivation, correction
            fused: Mapping[str, str] = {} if has_bias else handed
            writers[derivation.absent] = ForwardWriter(
                derivation, correction, {}, general=False, fused=fused
            )
            probe = ForwardWriter(derivation, correction, {}, general=False, fused=fused)
            handed = probe.write().fused
        types = {"bias": "Tensor | None"}
        gauge = f"_{stem}_gauge(x, bias is not None)"
        return write_backward(f"{stem.capitalize()}Projection", variants, writers, types, gauge)

    def project_lines(self, names: tuple[str, ...]) -> list[str]:
        """The statements that give the corrected projections of some inputs."""
        targets = ", ".join(n[0] for n in names)
        if self.packed:
            return [f"{targets} = self._project_corrected(({', '.join(names)}))"]
        return [
            f"{n[0]} = _{self.stem(n)}_projection({n}, *self._in_proj({k}))"
            for k, n in enumerate(names)
        ]

    def value_lines(self) -> list[str]:
        """The statements that give the plain values."""
        call = self.plain_call("value")
        if call.startswith("_plain_"):
            return [f"v = {call.split('(')[0]}(value, *self._in_proj(2))"]
        return ["weight, bias = self._in_proj(2)", f"v = {re.sub(NAME_X, 'value', call)}"]

    # -------------------------------------------------------------- score and mix
    def score_gauge(self) -> tuple[str, ...]:
        """λ(q, k) of the score of corrected queries and keys, shape (..., t, u).

        Raises:
            AttentionError: If the gauge depends on the biases of the projections.
        """
        bodies = {b: self.score_body(self.attention.stages["score", b]) for b in (True, False)}
        if bodies[True] != bodies[False]:
            raise AttentionError("the score gauge of corrected projections depends on their biases")
        return bodies[True]

    def score_body(self, stage: DerivedStage) -> tuple[str, ...]:
        """The score gauge of one variant."""
        names = {
            x: self.attention.spec.stages[s].lines[-1] for x, s in (("q", "query"), ("k", "key"))
        }
        token = {x: self.token_of(stage, name) for x, name in names.items()}
        head = self.attention.head
        values = {name: Value(x, (BATCH, (token[x],), (head,))) for x, name in names.items()}
        program = stage.program
        writer = ForwardWriter(
            replace(stage.derivation, program=self.open_head(stage)),
            # The frozen gauge's arguments are detached: so its graph is not even built.
            replace(stage.correction, exactness="exact"),
            {},
            general=self.general,
            fused={},
        )
        low = writer.lowering
        low.values.update(values)
        low.names |= {"q", "k"}
        low.source = "q"
        low.batch = tuple(x for x in program.site if x not in token.values())
        low.sizes = SizeCode(
            self.open_head(stage), {}, {head.size: Value("q.size(-1)", scalar=True)}
        )
        axes = (BATCH, (token["q"],), (token["k"],))
        found = self.scale(writer, stage.correction.gauge, axes)
        lines = [*found.statements, f"return {found.result}"]
        frozen = ["q, k = q.detach(), k.detach()"] if stage.correction.frozen else []
        return (*frozen, *lines)

    def token_of(self, stage: DerivedStage, name: str) -> Letter:
        """The letter of a line that the score has beside sample and head.

        Raises:
            AttentionError: If the line does not have exactly one letter of its own.
        """
        line = stage.program.line(name)
        other = {
            x
            for n in self.attention.spec.stages[stage.name].lines[:2]
            if n != name
            for x in getattr(stage.program.line(n), "letters", ())
        }
        found: list[Letter] = [x for x in getattr(line, "letters", ()) if x not in other]
        if len(found) != 1:
            raise AttentionError(
                f"{name} has {len(found)} letters of its own, not one token letter"
            )
        return found[0]

    def open_head(self, stage: DerivedStage) -> Any:
        """The program with the size of a head read off the tensors."""
        program = stage.program
        sizes = {**program.sizes, self.attention.head.size: None}
        return replace(program, sizes=MappingProxyType(sizes))

    def score_scale(self) -> str:
        """The factor of q·k in the module's terms."""
        stage = self.attention.stages["score", True]
        shapes = {self.attention.head.size: Value("self.head_dim", scalar=True)}
        scale = SizeCode(self.open_head(stage), {}, shapes).number(self.attention.scale)
        return scale.at(Level.UNARY)

    def mix_gauge(self) -> tuple[str, ...]:
        """λ(r̄), shape (..., t, 1), with κ = ||r̄||².

        Raises:
            AttentionError: If the gauge is missing, or is no power of κ.
        """
        stage = self.attention.stages["mix", True]
        kappa, gauge = stage.derivation.structure.kappa, stage.correction.gauge
        if gauge is None:
            raise AttentionError("the mix gauge is missing")
        feature = Letter("f", "coefficients")
        token = self.token_of_mix(stage)
        norm = Contraction(Read(Symbol("r_bar"), token, feature) ** 2, feature)
        found = [
            p for p in sympy.preorder_traversal(gauge) if isinstance(p, Pow) and p.base == kappa
        ]
        if not found:
            raise AttentionError(f"the mix gauge {gauge} is no power of κ = {kappa}")
        tensors = {
            **stage.program.tensors,
            "r_bar": Tensor("r_bar", "intermediate", ((token,), (feature,))),
        }
        program = replace(stage.program, tensors=MappingProxyType(tensors))
        derivation = replace(stage.derivation, program=program)
        writer = self.writer(replace(stage, derivation=derivation), {})
        low = writer.lowering
        low.source = "r_bar"
        low.values["r_bar"] = Value("r_bar", (BATCH, (token,), (feature,)))
        low.batch = tuple(x for x in stage.program.site if x != token)
        forward = self.scale(
            writer, gauge.xreplace({p: norm**p.exp for p in found}), (BATCH, (token,))
        )
        return (*forward.statements, f"return {forward.result}.unsqueeze(-1)")

    def token_of_mix(self, stage: DerivedStage) -> Letter:
        """The query token's letter in the mix."""
        query = self.attention.stages["query", True].program.site
        return next(x for x in stage.program.site if x.name == query[-1].name)

    def coefficients(self) -> None:
        """What multiplies the parameters in each value, as the tokens that are mixed along.

        Raises:
            AttentionError: If a bias changes more of the mix than its own coefficient.
        """
        full, bare = self.attention.coefficients[True], self.attention.coefficients[False]
        if full.features != bare.features or full.extra != bare.extra or bare.bias != 0:
            raise AttentionError("a bias changes more of the mix than its own coefficient")
        stage = self.attention.stages["value", True]
        writer = self.writer(stage, {self.input_of(stage): Value("value")})
        value = writer.lowering.of(full.features)
        forward = self.forward(writer, value)
        lines = list(forward.statements)
        if value.code != "value":
            lines.append(f"value = {value.code}")
        self.mix.coefficients = lines
        self.mix.bias, self.mix.extra = number(full.bias), number(full.extra)

    # -------------------------------------------------------------- everything
    def functions(self) -> list[Function | Derived]:
        """The gauges, and each kind of corrected projection behind its autograd function."""
        found: list[Function | Derived] = []
        optional = "x: Tensor, weight: Tensor, bias: Tensor | None"
        bodies, seen = set(), set()
        for name in PROJECTIONS:
            like, stem = self.first_like(name), self.stem(name)
            if len(self.bodies[name]) > 1 and like not in bodies:
                bodies.add(like)
                doc = f"Return the plain {name} projection."
                found.append(Function(f"_plain_{like}", optional, doc, self.bodies[name]))
            if stem in seen:
                continue
            seen.add(stem)
            doc = projection_doc(self.attention, name, stem == "affine")
            arguments = "x: Tensor, has_bias: bool"
            found.append(Function(f"_{stem}_gauge", arguments, doc, self.gauge_bodies[name]))
            if stem in self.derived:
                found.append(self.derived[stem])
            doc = f"Return the corrected {'' if stem == 'affine' else f'{name} '}projection of x."
            found.append(Function(f"_{stem}_projection", optional, doc, self.corrected_body(name)))
        doc = mix_gauge_doc(self.attention)
        found.append(Function("_value_mix_gauge", "r_bar: Tensor", doc, self.mix_gauge()))
        doc = score_doc(self.attention)
        found.append(Function("_score_gauge", "q: Tensor, k: Tensor", doc, self.score_gauge()))
        return [replace(f, doc=literal(f.doc)) if isinstance(f, Function) else f for f in found]

    def data(self) -> dict[str, Any]:
        """What the template asks for."""
        self.coefficients()
        functions = self.functions()
        scale = self.score_scale()
        helpers = helper_code(self.helpers)
        usual = self.attention.scale == 1 / sympy.sqrt(size_symbol(self.attention.head.size))
        return {
            "header": header(self.attention.spec),
            "module_doc": f"Corrected forms of {self.attention.spec.name}.",
            "derived": bool(self.derived),
            "packed": f"_{self.stem('query')}_projection" if self.packed else "",
            "helpers": helpers,
            "forward_mode": "forward_ad." in "".join(helpers),
            "functions": functions,
            "affine": self.affine,
            "mix": self.mix,
            "value": self.value_lines(),
            "output": f"_{self.stem('output')}_projection",
            "score_query": "q" if self.attention.scale == 1 else f"(q * {scale})",
            "score_scale": "" if usual else scale,
        }

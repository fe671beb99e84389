"""The strings of an attention file: gauges, projections and factors, lowered from the stages."""

from __future__ import annotations

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
from codegen.docs import literal
from codegen.forward import Forward, ForwardWriter
from codegen.header import header
from codegen.helpers import helper_code
from codegen.sizes import SizeCode
from codegen.values import BATCH, Axis, Level, Value
from codegen.variants import merge_variants
from derive.nodes import Contraction, Letter, Read, size_symbol
from derive.program import Tensor

NO_BIAS = frozenset(["bias"])
"""The absent parameters of a class without biases: all of them together, as in torch."""


@dataclass(frozen=True)
class Function:
    """A module-level function of the generated file."""

    name: str
    arguments: str
    doc: str
    body: tuple[str, ...]


@dataclass
class AttentionClass:
    """The strings that the template lays out for one class."""

    name: str
    doc: str
    gauges: list[str] = field(default_factory=list)
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
        first = self.gauge_bodies["query"]
        self.shared = all(body == first for body in self.gauge_bodies.values())
        wish = attention.spec.classes
        stem = attention.spec.name
        self.affine = AttentionClass(
            wish.get("affine-like", f"AffineLike{stem}"), literal(affine_doc(attention))
        )
        self.mix = AttentionClass(
            wish.get("value-mix", f"ValueMix{stem}"),
            literal(mix_doc(attention, self.affine.name)),
        )
        self.affine.gauges = self.gauge_lines(("query", "key", "value"))
        self.mix.gauges = self.gauge_lines(("query", "key"))

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
        return Forward(
            tuple(low.statements), result.code, frozenset(low.helpers), {}, writer.singular
        )

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
        """λ(x), shape (..., 1), of a projection."""
        forwards = {}
        for has_bias in (True, False):
            stage = self.attention.stages[name, has_bias]
            source = self.input_of(stage)
            writer = self.writer(stage, {source: Value("x")})
            found = self.scale(writer, stage.correction.gauge, (BATCH,))
            forwards[has_bias] = replace(found, result=f"{found.result}.unsqueeze(-1)")
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

    def projection_body(
        self, name: str, x: str = "x", weight: str = "weight", bias: str = "bias"
    ) -> tuple[str, ...]:
        """The plain W x + b of a projection in these names."""
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

    def projection_call(self, name: str, x: str, weight: str, bias: str) -> str:
        """The plain projection as one expression."""
        body = self.projection_body(name, x, weight, bias)
        if len(body) == 1:
            return body[0].removeprefix("return ")
        return f"{self.projection_name(name)}({x}, {weight}, {bias})"

    def projection_name(self, name: str) -> str:
        """The function of a projection; equal ones share one."""
        first = next(n for n in PROJECTIONS if self.bodies[n] == self.bodies[name])
        return f"_{first}_projection"

    def gauge_name(self, name: str) -> str:
        """The function of a projection's gauge."""
        return "_affine_gauge" if self.shared else f"_{name}_gauge"

    def gauge_lines(self, names: tuple[str, ...]) -> list[str]:
        """The statements that compute the gauges of some projections."""
        targets = [f"s_{n[0]}" for n in names]
        if self.shared:
            call = f"_shared_gauges(({', '.join(names)}), self.in_proj_bias is not None)"
            return [f"{', '.join(targets)} = {call}"]
        calls = [
            f"{t} = {self.gauge_name(n)}({n}, has_bias)"
            for t, n in zip(targets, names, strict=True)
        ]
        return ["has_bias = self.in_proj_bias is not None", *calls]

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
        writer.example = "q"
        low.batch = tuple(x for x in program.site if x not in token.values())
        low.sizes = SizeCode(self.open_head(stage), {}, {head.size: "q.size(-1)"})
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
        shapes = {self.attention.head.size: "self.head_dim"}
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
        writer.example = "r_bar"
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
    def functions(self) -> list[Function]:
        """The gauges, and the projections that are more than one expression."""
        found = []
        for name in PROJECTIONS[:1] if self.shared else PROJECTIONS:
            doc = projection_doc(self.attention, name, self.shared)
            arguments = "x: Tensor, has_bias: bool"
            body = self.gauge_bodies[name]
            found.append(Function(self.gauge_name(name), arguments, doc, body))
        seen = set()
        for name in PROJECTIONS:
            target = self.projection_name(name)
            if len(self.bodies[name]) > 1 and target not in seen:
                seen.add(target)
                arguments = "x: Tensor, weight: Tensor, bias: Tensor | None"
                doc = f"Return the plain {name} projection."
                found.append(Function(target, arguments, doc, self.bodies[name]))
        doc = mix_gauge_doc(self.attention)
        found.append(Function("_value_mix_gauge", "r_bar: Tensor", doc, self.mix_gauge()))
        doc = score_doc(self.attention)
        found.append(Function("_score_gauge", "q: Tensor, k: Tensor", doc, self.score_gauge()))
        return [replace(f, doc=literal(f.doc)) for f in found]

    def data(self) -> dict[str, Any]:
        """What the template asks for."""
        self.coefficients()
        functions = self.functions()
        scale = self.score_scale()
        packed = self.bodies["query"] == self.bodies["key"] == self.bodies["value"]
        usual = self.attention.scale == 1 / sympy.sqrt(size_symbol(self.attention.head.size))
        calls = {
            f"{n}_call": self.projection_call(n, n, f"w_{n[0]}", f"b_{n[0]}")
            for n in PROJECTIONS[:3]
        }
        return {
            "header": header(self.attention.spec),
            "module_doc": f"Corrected forms of {self.attention.spec.name}.",
            "shared": self.gauge_name("query") if self.shared else "",
            "helpers": helper_code(self.helpers),
            "functions": functions,
            "affine": self.affine,
            "mix": self.mix,
            **calls,
            "packed_call": self.projection_call("query", "query", "self.in_proj_weight", "bias")
            if packed
            else "",
            "output_call": self.projection_call("output", "x", "self.weight", "self.bias"),
            "output_gauge": self.gauge_name("output"),
            "score_query": "q" if self.attention.scale == 1 else f"(q * {scale})",
            "score_scale": "" if usual else scale,
        }

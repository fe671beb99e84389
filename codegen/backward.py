"""The derived backward pass of one class as a ``torch.autograd.Function`` beside its module.

It is written where it pays: where one tensor carries the gradient on and every sum of the backward
pass is a product that torch has a function for. Else, and wherever plain operations are asked for
(see the helper ``_takes_derived``), torch differentiates the plain forward pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from sympy import Add, Expr, Mul

from codegen.backward_forms import BACKWARD_RECOGNISERS
from codegen.docs import literal, wrapped
from codegen.forms import RECOGNISERS
from codegen.forward import Forward, ForwardWriter, input_value
from codegen.lower import Lowering
from codegen.values import Level, Value, insert_axes
from codegen.variants import merge_variants, variant_conditions
from derive.corrections import Correction
from derive.derivation import Derivation
from derive.errors import DerivationError
from derive.formula import formula
from derive.gradients import SCALE, UPSTREAM, Gradients, Step, derive_gradients
from derive.nodes import Read
from derive.program import Program, Tensor

Variants = Mapping[frozenset[str], tuple[Derivation, Correction]]
SLOW = re.compile(r"torch\.einsum\(|_gather\(|_take\(")
OWN = re.compile(r"\bself\.(\w+)")
ASSIGNED = re.compile(r"(\w+)(?:: \w+)? = ")


@dataclass(frozen=True)
class Derived:
    """The strings of a derived backward pass.

    Attributes:
        gauge: Name of the function that computes the scale of the output.
        gauge_call: Its call in the module's forward pass.
        gauge_arguments, gauge_doc, gauge_body: What it is made of.
        name: Name of the autograd function.
        doc, arguments, forward, backward: What that is made of.
        test: Whether it is to be called, for an input at hand.
        call: The call.
        helpers: The helper functions that all this calls.
    """

    gauge: str
    gauge_call: str
    gauge_arguments: str
    gauge_doc: str
    gauge_body: tuple[str, ...]
    name: str
    doc: str
    arguments: tuple[str, ...]
    forward: tuple[str, ...]
    backward: tuple[str, ...]
    test: str
    call: str
    helpers: frozenset[str]


@dataclass(frozen=True)
class Pass:
    """Both passes of one variant.

    Attributes:
        forward: The forward pass.
        gradients: What is derived.
        shared: The statements that every gradient needs.
        source: The statements that the gradient of the source needs, the last of which gives it.
        parameters: Parameter → the code of its gradient.
        helpers: The helper functions that both call.
    """

    forward: Forward
    gradients: Gradients
    shared: tuple[str, ...]
    source: tuple[str, ...]
    parameters: Mapping[str, str]
    helpers: frozenset[str]


def write_backward(
    name: str,
    variants: Variants,
    forwards: Mapping[frozenset[str], ForwardWriter],
    types: Mapping[str, str],
    gauge: str = "",
) -> Derived | None:
    """The derived backward pass of a class, or ``None`` where it does not pay.

    Args:
        name: The class.
        variants: Absent optional parameters → derivation and correction.
        forwards: Absent optional parameters → a fresh writer of the forward pass.
        types: Attribute of the module → its type.
        gauge: A call that gives the gauge, in the names of source and parameters; else the gauge
            gets a function of its own.
    """
    try:
        passes = {
            absent: BackwardWriter(*variants[absent], writer).write()
            for absent, writer in forwards.items()
        }
        if not all(pays(p) and apart(p, variants[a][0].program) for a, p in passes.items()):
            return None
        return DerivedWriter(name, variants, passes, types, gauge).write()
    except DerivationError:
        return None


def pays(found: Pass) -> bool:
    """Whether a variant's backward pass keeps less than torch's would, at no more than its cost."""
    code = "\n".join((*found.shared, *found.source, *found.parameters.values()))
    return found.forward.gauge is not None and not SLOW.search(code)


def apart(found: Pass, program: Program) -> bool:
    """Whether the names of a spec, which become arguments, are apart from those of both passes."""
    spec = program.spec
    held = {*program.arguments, *spec.hyperparameters, *(p.torch for p in spec.parameters.values())}
    given = {*found.gradients.sources, *held}
    lines = (*found.forward.statements[found.forward.lines :], *found.shared, *found.source)
    own = {m[1] for x in lines if (m := ASSIGNED.match(x))}
    usual = (found.gradients.scale.name, found.gradients.upstream.tensor) == (SCALE, UPSTREAM)
    distinct = not held & set(found.gradients.sources)
    return usual and distinct and not given & {*own, SCALE, UPSTREAM, "ctx"}


class BackwardWriter:
    """Lowers the gradients of one variant."""

    def __init__(
        self, derivation: Derivation, correction: Correction, writer: ForwardWriter
    ) -> None:
        """Derive the gradients and write the forward pass.

        Raises:
            DerivationError: If the corrected map is of no form that gradients are derived for, or
                its gauge is frozen, so that there is nothing to derive.
        """
        if correction.frozen:
            raise DerivationError("a frozen gauge is a constant of the backward pass")
        self.program = derivation.program
        self.gradients = derive_gradients(self.program, correction)
        if len(self.gradients.sources) != 1 or self.gradients.kept is not None:
            raise DerivationError("more than one tensor carries the gradient on, or z is kept")
        (source,) = self.gradients.sources
        writer.example = source
        self.forward = writer.write()
        if writer.scale is None or writer.lowering.values[source].code != source:
            raise DerivationError("the gauge is one number, or the source has another name")
        self.scale = writer.scale
        self.writer = writer
        self.low = self.lowering(writer.lowering)

    def lowering(self, forward: Lowering) -> Lowering:
        """A lowering that knows the tensors of the forward pass and of the backward pass."""
        g = self.gradients
        output = self.program.tensors[self.program.output.target]
        own = {
            g.upstream.tensor: Tensor(g.upstream.tensor, "intermediate", output.axes),
            **{s.name: named(s) for s in (g.scale, *g.steps)},
        }
        tensors = MappingProxyType({**self.program.tensors, **own})
        low = Lowering(
            replace(self.program, tensors=tensors),
            forward.batch,
            forward.values,
            forward.sizes,
            forward.device,
            general=forward.general,
            recognisers=(*BACKWARD_RECOGNISERS, *RECOGNISERS),
        )
        low.values[g.upstream.tensor] = Value(
            g.upstream.tensor, input_value(output, forward.batch).axes
        )
        low.values[g.scale.name] = Value(g.scale.name, self.scale.axes)
        low.names = {*forward.names, *own} - {s.name for s in g.steps}
        return low

    def write(self) -> Pass:
        """Both passes as code."""
        g, low = self.gradients, self.low
        self.step(g.steps[0])
        shared = tuple(low.statements)
        low.statements.clear()
        for step in g.steps[1:]:
            self.step(step)
        for name in g.sources:
            low.statements.append(f"d{name} = {self.source(name).code}")
        source = tuple(low.statements)
        low.statements.clear()
        parameters = {name: self.parameter(name).code for name in g.parameters}
        if low.statements:
            raise DerivationError("the gradient of a parameter takes more than an expression")
        helpers = frozenset(low.helpers) | self.forward.helpers
        return Pass(self.forward, g, shared, source, parameters, helpers)

    def step(self, step: Step) -> None:
        """One named value of the backward pass."""
        low = self.low
        if step is self.gradients.steps[0]:
            grad, scale = (low.of(r) for r in (self.gradients.upstream, self.gradients.scale.read))
            (left, right), axes = low.aligned([grad, scale])
            value = Value(f"{low.helper('_times')}({left.code}, {right.code})", axes)
        else:
            value = low.of(step.value)
        low.values[step.name] = low.assign(step.name, value)

    def parameter(self, name: str) -> Value:
        """The gradient of a parameter in its own layout."""
        low = self.low
        return low.arranged(low.of(self.gradients.of[name].value), low.values[name].axes)

    def source(self, name: str) -> Value:
        """The gradient of the source in its dtype, as one fused operation where it is one."""
        low, own = self.low, self.low.values[name]
        value = self.fused(self.gradients.of[name].value) or low.of(self.gradients.of[name].value)
        value = low.arranged(value, own.axes)
        return value.with_code(f"{value.at(Level.ATOM)}.to({own.code}.dtype)")

    def fused(self, e: Expr) -> Value | None:
        """T ± c[s] x[s, j] as ``torch.addcmul``."""
        low = self.low
        terms = Add.make_args(e)
        alone = [t for t in terms if isinstance(t, Read)]
        if len(terms) != 2 or len(alone) != 1:
            return None
        rest = next(t for t in terms if t is not alone[0])
        sign = "-1" if rest.could_extract_minus_sign() else "1"
        factors = Mul.make_args(-rest if sign == "-1" else rest)
        base = low.of(alone[0])
        full = [f for f in factors if isinstance(f, Read) and low.of(f).axes == base.axes]
        if len(full) != 1:
            return None
        factor = low.of(Mul(*(f for f in factors if f is not full[0])))
        if factor.scalar or not set(factor.axes) <= set(base.axes):
            return None
        factor = low.permuted(factor, [a for a in base.axes if a in factor.axes])
        spread = insert_axes(factor, base.axes).code
        ending = "" if sign == "1" else f", value={sign}"
        code = f"torch.addcmul({base.code}, {low.of(full[0]).code}, {spread}{ending})"
        return Value(code, base.axes)


def named(step: Step) -> Tensor:
    """A step as a tensor that other steps read."""
    return Tensor(step.name, "intermediate", tuple((x,) for x in step.letters))


class DerivedWriter:
    """Puts the variants of both passes together as text."""

    def __init__(
        self,
        name: str,
        variants: Variants,
        passes: Mapping[frozenset[str], Pass],
        types: Mapping[str, str],
        gauge: str,
    ) -> None:
        """Name everything."""
        self.variants, self.passes, self.types = variants, passes, types
        self.given = gauge
        self.full = passes[frozenset()]
        self.program: Program = variants[frozenset()][0].program
        stem = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
        self.gauge, self.name = f"_{stem}_gauge", f"_{name}Function"
        self.source = self.full.gradients.sources[0]
        spec = self.program.spec
        self.torch_names = {s: spec.parameters[s].torch for s in self.full.gradients.parameters}
        self.tensors = (self.source, *self.torch_names.values())

    def write(self) -> Derived:
        """All strings."""
        gauge = self.gauge_body()
        arguments = [n for n in (*self.tensors, *self.settings(gauge)) if mentions(gauge, n)]
        self.gauge_call = f"{self.gauge}({', '.join(arguments)})"
        held = [n if n in self.tensors else f"self.{n}" for n in arguments]
        self.gauge_own = f"{self.gauge}({', '.join(held)})"
        if self.given:
            self.gauge_call = self.gauge_own = self.given
        forward, backward = self.forward(), self.backward()
        settings = self.settings((*gauge, *forward, *backward))
        kept = [f"ctx.{n} = {n}" for n in settings if mentions(backward, f"self.{n}")]
        everything = (*self.tensors, *settings)
        return Derived(
            self.gauge,
            f"{self.gauge}({self.outside(tuple(arguments))})",
            ", ".join(f"{n}: {self.type_of(n)}" for n in arguments),
            self.gauge_doc(),
            plain(gauge),
            self.name,
            self.doc(),
            tuple(f"{n}: {self.type_of(n)}" for n in everything),
            (*kept, *plain(forward)),
            tuple(OWN.sub(r"ctx.\1", x) for x in self.unpacked(backward, settings)),
            f"_takes_derived({self.source})",
            f"{self.name}.apply({self.outside(everything)})",
            frozenset({"_takes_derived"}).union(*(p.helpers for p in self.passes.values())),
        )

    def outside(self, names: tuple[str, ...]) -> str:
        """The arguments of a call in the module's forward pass."""
        return ", ".join(n if n == self.source else f"self.{n}" for n in names)

    def settings(self, lines: tuple[str, ...]) -> list[str]:
        """The attributes that some lines read, besides the parameters."""
        found = dict.fromkeys(n for line in lines for n in OWN.findall(line))
        return [n for n in found if n not in self.tensors]

    def type_of(self, name: str) -> str:
        """The type of an argument."""
        return self.types.get(name, "Tensor")

    def merged(self, parts: Mapping[frozenset[str], Forward]) -> tuple[str, ...]:
        """The variants as one body."""
        return tuple(merge_variants(parts, variant_conditions(self.program.spec, parts)))

    # ------------------------------------------------------------------ the gauge
    def gauge_body(self) -> tuple[str, ...]:
        """The statements of the gauge, the last as what is returned."""
        parts = {}
        for absent, found in self.passes.items():
            start, end = gauge_of(found.forward)
            *lines, last = found.forward.statements[start:end]
            parts[absent] = replace(
                found.forward, statements=tuple(lines), result=last.split(" = ", 1)[1]
            )
        return self.merged(parts)

    def gauge_doc(self) -> str:
        """What the gauge is."""
        scale = formula(self.full.gradients.scale.value, self.program)
        lines = wrapped(f"{self.full.gradients.scale.name} = {scale}", "        ", "            ")
        return literal("\n".join(["The scale of the output, a number a site.", "", *lines]))

    # ------------------------------------------------------------------ the passes
    def forward(self) -> tuple[str, ...]:
        """The forward pass, which keeps what the backward pass reads."""
        parts = {}
        for absent, found in self.passes.items():
            start, end = gauge_of(found.forward)
            statements = found.forward.statements
            keep = f"ctx.save_for_backward({', '.join(self.kept())})"
            lines = (
                f"{self.full.gradients.scale.name} = {self.gauge_call}",
                keep,
                *statements[found.forward.lines : start],
                *statements[end:],
            )
            parts[absent] = replace(found.forward, statements=lines)
        return self.merged(parts)

    def backward(self) -> tuple[str, ...]:
        """The backward pass."""
        g = self.full.gradients
        names = [f"d{n}" for n in (self.source, *self.torch_names.values())]
        parts = {
            a: replace(p.forward, statements=p.source, result=names[0])
            for a, p in self.passes.items()
        }
        *source, _ = self.merged(parts)
        lines = [
            "if torch.is_grad_enabled():  # a second derivative is asked for",
            f"    {g.scale.name} = {self.gauge_own}",
            *self.full.shared,
            f"{' = '.join(names)} = None",
        ]
        # Sums over what was just written come first, while it is in the cache.
        blocks = self.parameter_blocks()
        vectors = {s for s in blocks if len(self.program.tensors[s].axes) == 1}
        for symbol, block in blocks.items():
            lines += block if symbol in vectors else []
        lines += ["if ctx.needs_input_grad[0]:", *(f"    {x}" for x in source)]
        for symbol, block in blocks.items():
            lines += block if symbol not in vectors else []
        return (*lines, f"return {', '.join(names)}")

    def kept(self) -> tuple[str, ...]:
        """What the backward pass reads of the forward pass."""
        lines = self.backward()
        read = [n for n in self.tensors if mentions(lines, n)]
        return (*read, self.full.gradients.scale.name)

    def parameter_blocks(self) -> dict[str, list[str]]:
        """Parameter → the statements of its gradient, for all variants that have it."""
        blocks = {}
        for place, (symbol, name) in enumerate(self.torch_names.items()):
            code = {p.parameters[symbol] for p in self.passes.values() if symbol in p.parameters}
            if len(code) != 1:
                raise DerivationError(f"the gradient of {name} depends on what is absent")
            blocks[symbol] = [
                f"if ctx.needs_input_grad[{place + 1}]:",
                f"    d{name} = {code.pop()}",
            ]
        return blocks

    def unpacked(self, lines: tuple[str, ...], settings: list[str]) -> tuple[str, ...]:
        """The backward pass with what it reads taken from the context."""
        head = f"{', '.join(self.kept())} = ctx.saved_tensors"
        *body, last = lines
        parameters = [f"self.{n}" for n in self.tensors]
        body = [strip(x, parameters) for x in body]
        return (head, *body, last + ", None" * len(settings))

    def doc(self) -> str:
        """The formulas of the backward pass."""
        g = self.full.gradients
        lines = ["The same map, with the gradient as derived, which keeps the scale alone.", ""]
        for step in (*g.steps, *g.of.values()):
            text = f"{formula(step.read, self.program)} = {formula(step.value, self.program)}"
            lines += wrapped(text, "        ", "            ")
        return literal("\n".join(lines))


def gauge_of(forward: Forward) -> tuple[int, int]:
    """Where the gauge's statements are."""
    assert forward.gauge is not None, "a pass pays only where the gauge varies"
    return forward.gauge


def mentions(lines: tuple[str, ...], name: str) -> bool:
    """Whether some lines read a name."""
    word = re.compile(rf"(?<![\w.]){re.escape(name)}\b|\bself\.{re.escape(name)}\b")
    return any(word.search(x) for x in lines)


def plain(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Lines in which the module's attributes are arguments."""
    return tuple(OWN.sub(r"\1", x) for x in lines)


def strip(line: str, names: list[str]) -> str:
    """A line in which some attributes are names."""
    return OWN.sub(lambda m: m[1] if m[0] in names else m[0], line)

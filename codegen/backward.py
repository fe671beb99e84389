"""The derived backward pass of one class as a ``torch.autograd.Function`` beside its module.

It is written where it pays: where one tensor carries the gradient on and every sum of the backward
pass is a product that torch has a function for. Else, and wherever plain operations are asked for
(see the helper ``_takes_derived``), torch differentiates the plain forward pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from sympy import Expr, Mul

from codegen.backward_forms import BACKWARD_RECOGNISERS
from codegen.backward_text import Derived, DerivedWriter, Pass, Variants
from codegen.backward_windows import WINDOW_RECOGNISERS, joint_of
from codegen.forms import RECOGNISERS
from codegen.forward import ForwardWriter, input_value
from codegen.lower import Lowering
from codegen.values import BATCH, Level, Value, insert_axes
from derive.corrections import Correction
from derive.derivation import Derivation
from derive.errors import DerivationError
from derive.gradients import LOCAL, SCALE, UPSTREAM, Step, derive_gradients
from derive.nodes import Read
from derive.program import Program, Tensor

SLOW = re.compile(r"torch\.einsum\(|_gather\(|_take\(")
ASSIGNED = re.compile(r"(\w+)(?:: \w+)? = ")


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
    return not SLOW.search(code)


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
        if len(self.gradients.sources) != 1:
            raise DerivationError("more than one tensor carries the gradient on")
        (source,) = self.gradients.sources
        writer.lowering.source, writer.taken_apart = source, True
        self.forward = writer.write()
        image = writer.lowering.values[source]
        if writer.scale is None or image.code != source:
            raise DerivationError("the gauge is a matrix, or the source has another name")
        if writer.lowering.slid and BATCH not in image.axes:
            raise DerivationError("a window without a leading axis")
        self.rank = len(image.axes) if writer.lowering.slid else None
        self.scale = writer.scale
        self.writer = writer
        self.low = self.lowering(writer.lowering)

    def lowering(self, forward: Lowering) -> Lowering:
        """A lowering that knows the tensors of the forward pass and of the backward pass."""
        g = self.gradients
        output = self.program.tensors[self.program.output.target]
        own = {
            g.upstream.tensor: Tensor(g.upstream.tensor, "intermediate", output.axes),
            g.scale.name: named(g.scale),
            **{s.name: named(s) for s in g.steps},
        }
        tensors = MappingProxyType({**self.program.tensors, **own})
        low = Lowering(
            replace(self.program, tensors=tensors),
            forward.batch,
            forward.values,
            forward.sizes,
            forward.device,
            general=forward.general,
            recognisers=(*WINDOW_RECOGNISERS, *BACKWARD_RECOGNISERS, *RECOGNISERS),
        )
        low.slid, low.source, low.reversing = forward.slid, forward.source, True
        if g.kept is not None:
            assert self.writer.scaled is not None
            low.values[g.kept.name] = self.writer.scaled
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
        first, *rest = source
        name, _, code = first.partition(" = ")
        joint = joint_of(low, code, parameters, g.of) if name == LOCAL else None
        if joint is not None:
            source = tuple(rest)
        return Pass(self.forward, g, shared, source, parameters, helpers, self.rank, joint)

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
        fused = self.fused(self.gradients.of[name].value)
        if fused is not None:
            return low.arranged(fused, own.axes)
        value = low.arranged(low.of(self.gradients.of[name].value), own.axes)
        return value.with_code(f"{value.at(Level.ATOM)}.to({own.code}.dtype)")

    def fused(self, e: Expr) -> Value | None:
        """T ± c[s] x[s, j] in x's dtype, written over T, which nothing else reads any more."""
        low, local = self.low, self.gradients.steps[1].read
        rest = e - local
        sign = "-1" if rest.could_extract_minus_sign() else "1"
        factors = Mul.make_args(-rest if sign == "-1" else rest)
        base = low.of(local)
        full = [f for f in factors if isinstance(f, Read) and low.of(f).axes == base.axes]
        if len(full) != 1:
            return None
        (image,) = full
        factor = low.of(Mul(*(f for f in factors if f is not image)))
        left, right = low.split(base), low.split(low.of(image))
        if not set(factor.axes) <= set(left.axes):
            return None
        factor = low.permuted(factor, [a for a in left.axes if a in factor.axes])
        spread = insert_axes(factor, left.axes).code
        add = low.helper("_add_product")
        return left.with_code(f"{add}({left.code}, {right.code}, {spread}, {sign})")


def named(step: Step) -> Tensor:
    """A step as a tensor that other steps read."""
    return Tensor(step.name, "intermediate", tuple((x,) for x in step.letters))

"""One corrected forward map as statements: the layer's lines, the gauge, and their product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sympy
from sympy import Expr, Mul, Pow, Symbol

from codegen.forms import RECOGNISERS
from codegen.lower import Lowering
from codegen.signs import positive
from codegen.sizes import SizeCode
from codegen.values import BATCH, Axis, Level, Value, insert_axes
from derive.corrections import Correction
from derive.derivation import Derivation
from derive.nodes import BINDERS, Delta, Letter, Read, reads
from derive.program import Program, Tensor
from derive.structure import is_positive_sum

KINDS = {
    "output gauge": "affine-like",
    "input map": "norm-like",
    "unit gauge": "unit-gauge",
    "matrix gauge": "matrix-gauge",
}


@dataclass(frozen=True)
class Forward:
    """A forward pass.

    Attributes:
        statements: Its lines.
        result: What it returns.
        helpers: The helper functions that it calls.
        fused: Weight's code → the bias handed to the same call.
        singular: Whether the gauge is infinite at some input (there it is set to 0).
        lines: How many statements come before those of the layer's last line.
        gauge: Where the statements of the gauge start and end; nowhere if it is one number.
    """

    statements: tuple[str, ...]
    result: str
    helpers: frozenset[str]
    fused: Mapping[str, str]
    singular: bool
    lines: int
    gauge: tuple[int, int] | None


def batch_letters(program: Program) -> tuple[Letter, ...]:
    """The leading letters that the layer only passes through: they may be any number of axes.

    Such a letter leads every input that has it and the output, is never summed, and stands in
    indices only by itself and in its own place.
    """
    output = program.tensors[program.output.target]
    inputs = [t for t in program.inputs if t.letters]
    found: list[Letter] = []
    for place, axis in enumerate(output.axes):
        holders = [t for t in inputs if t.axes[place : place + 1] == (axis,)]
        if len(axis) > 1 or len(holders) < len(inputs):
            break
        (letter,) = axis
        if any(letter in t.letters for t in program.parameters) or not _passes_through(
            program, letter
        ):
            break
        found.append(letter)
    return tuple(found)


def _passes_through(program: Program, letter: Letter) -> bool:
    for line in program.lines:
        for node in sympy.preorder_traversal(line.value):
            if isinstance(node, BINDERS) and letter in node.letters:
                return False
            if isinstance(node, Symbol) and node.name == f"size({letter.size})":
                return False
            if isinstance(node, Delta) and letter in node.free_symbols:
                return False
        for read in reads(line.value):
            own = program.tensors[read.tensor].letters
            for index, axis in zip(read.indices, own, strict=True):
                if (axis.size == letter.size and index != letter) or (
                    letter in index.free_symbols and axis != letter
                ):
                    return False
    return True


def input_value(tensor: Tensor, batch: tuple[Letter, ...]) -> Value:
    """An input as it is handed to ``forward``."""
    axes: list[Axis] = []
    for axis in tensor.axes:
        if set(axis) <= set(batch):
            axes += [BATCH] if BATCH not in axes else []
        else:
            axes.append(axis)
    return Value(tensor.name, tuple(axes))


def shape_codes(
    program: Program, given: Sequence[Value], attributes: Mapping[str, str]
) -> dict[str, Value]:
    """Size class → code that reads it off a tensor that is given.

    Of a composed axis, one letter may be left to find: the axis over the other letters.
    """
    found: dict[str, Value] = {}
    axes = [(value, a) for value in given for a in value.axes if isinstance(a, tuple)]
    for value, axis in sorted(axes, key=lambda pair: len(pair[1])):
        unknown = [x for x in axis if program.sizes[x.size] is None and x.size not in found]
        if len(unknown) != 1:
            continue
        (letter,) = unknown
        shape = f"{value.code}.shape[{value.position(axis)}]"
        code = SizeCode(program, attributes, found)
        known = code.product([code.letter(x) for x in axis if x != letter])
        found[letter.size] = code.quotient(Value(shape, scalar=True), known)
    return found


class ForwardWriter:
    """Writes the forward pass of one variant of one class."""

    def __init__(
        self,
        derivation: Derivation,
        correction: Correction,
        attributes: Mapping[str, str],
        *,
        general: bool,
        fused: Mapping[str, str],
    ) -> None:
        """Set up the lowering of the layer's tensors."""
        program = derivation.program
        self.program = program
        self.correction = correction
        self.batch = batch_letters(program)
        values = {t.name: input_value(t, self.batch) for t in program.inputs}
        shapes = shape_codes(program, [*values.values()], attributes)
        for tensor in program.parameters:
            name = program.spec.parameters[tensor.name].torch
            values[tensor.name] = Value(f"self.{name}", tuple(tensor.axes))
        first, *_ = values.values()
        self.lowering = Lowering(
            program,
            self.batch,
            values,
            SizeCode(program, attributes, shapes),
            f"{first.code}.device",
            general=general,
            recognisers=RECOGNISERS,
            fused=fused,
        )
        inputs = (t.name for t in program.inputs)
        self.lowering.names = {*inputs, "self", "torch", "F", "nn", "math"}
        self.singular = False
        self.scale: Value | None = None  # what gauge() has written
        self.scaled: Value | None = None  # what it scales
        self.place: tuple[int, int] | None = None  # and where
        self.taken_apart = False  # whether z's composed axes are, where a gauge has parts of them

    def write(self) -> Forward:
        """The statements and the result."""
        low = self.lowering
        for line in self.program.lines[:-1]:
            value = low.of(line.value)
            value = low.assign(line.target, value)
            low.values[line.target] = value
        lines = len(low.statements)
        if low.source:
            self.leave_inputs()
        if self.correction.ansatz == "matrix gauge":
            result = self.matrix_gauge()
        elif self.correction.ansatz == "input map":
            result = self.input_map()
        else:
            result = self.output_gauge()
        storage = input_value(self.program.tensors[self.program.output.target], self.batch).axes
        result = low.arranged(result, storage)
        return Forward(
            tuple(low.statements),
            result.code,
            frozenset(low.helpers),
            dict(low.fused),
            self.singular,
            lines,
            self.place,
        )

    def leave_inputs(self) -> None:
        """What comes stands in a function of its own, which reads all sizes off the source."""
        low = self.lowering
        given = low.values[low.source]
        low.sizes.shapes = shape_codes(self.program, [given], low.sizes.attributes)
        low.device = f"{given.code}.device"

    def output(self) -> Value:
        """Z by its own name."""
        low = self.lowering
        low.outermost = self.program.output.value
        z = low.assign(self.program.output.target, low.of(self.program.output.value))
        for bias in low.deferred:
            value = low.total([z, bias])
            low.statements.append(f"{z.code} = {value.code}")
            z = Value(z.code, value.axes)
        self.scaled = z
        return z

    # -------------------------------------------------------------- gauges
    def output_gauge(self) -> Value:
        """λ z."""
        z = self.output()
        gauge = self.correction.gauge
        assert gauge is not None
        if gauge == 1:
            # A parameter itself would change with whatever its user does to the output in place.
            return z.with_code(f"{z.code}.clone()") if self.is_parameter() else z
        return self.times(z, self.gauge(gauge))

    def is_parameter(self) -> bool:
        """Whether the layer gives a parameter as it is."""
        value = self.program.output.value
        names = {t.name for t in self.program.parameters}
        plain = isinstance(value, Read) and all(isinstance(i, Letter) for i in value.indices)
        return plain and value.tensor in names

    def times(self, z: Value, scale: Value, power: int = 1) -> Value:
        """Z times a gauge, in z's dtype; composed axes are kept whole where the gauge allows it."""
        if scale.scalar:
            return self.lowering.product([scale, z])
        low = self.lowering
        (left, right), axes = self.beside(z, scale)
        if power != 1:
            right = self.finite(right.with_code(f"{right.at(Level.ATOM)}.pow({power})"))
        return Value(f"{low.helper('_times')}({left.code}, {right.code})", axes)

    def beside(
        self, z: Value, scale: Value, *others: Value
    ) -> tuple[list[Value], tuple[Axis, ...]]:
        """All of them lined up, with the same composed axes or with none.

        A gauge for each group is repeated for the group's units: a compiler that takes sizes as
        unknown follows that, but not an output that was taken apart. Where nothing is compiled,
        taking z apart costs less.
        """
        low = self.lowering
        for axis in [a for a in z.axes if isinstance(a, tuple) and len(a) > 1]:
            if self.taken_apart or [x for x in axis if (x,) in scale.axes] != [axis[0]]:
                return low.aligned([low.split(z), scale, *others])
            count = low.sizes.product([low.sizes.letter(x) for x in axis[1:]]).code
            place = scale.position((axis[0],))
            scale = scale.with_code(
                f"{scale.at(Level.ATOM)}.repeat_interleave({count}, {place})",
                [axis if a == (axis[0],) else a for a in scale.axes],
            )
        values = [z, scale, *others]
        if any(not set(v.axes) <= set(z.axes) for v in values):
            return low.aligned(values)
        ordered = [low.permuted(v, [a for a in z.axes if a in v.axes]) for v in values]
        return [insert_axes(v, z.axes) for v in ordered], z.axes

    def times_plus(self, z: Value, scale: Value, added: Value) -> Value:
        """Z times a gauge and what is added to that, in z's dtype and one pass."""
        low = self.lowering
        (left, right, last), axes = self.beside(z, scale, added)
        return Value(f"{low.helper('_times_plus')}({left.code}, {right.code}, {last.code})", axes)

    def gauge(self, gauge: Expr, wanted: str = "scale") -> Value:
        """The solved gauge in the wide dtype, frozen if it depends on the parameters."""
        low = self.lowering
        start = len(low.statements)
        low.wide = True
        low.cache.clear()
        low.share([gauge, gauge])
        value = self.finite(self.inverse_powers(gauge))
        low.wide = False
        low.cache.clear()
        if value.scalar:
            return value
        if self.correction.frozen:
            value = value.with_code(f"{value.at(Level.ATOM)}.detach()")
        self.scale = low.assign(wanted, value)
        self.place = (start, len(low.statements))
        return self.scale

    def finite(self, scale: Value) -> Value:
        """A gauge that may exceed what the layer's dtype holds, no larger than that."""
        if not self.singular or scale.scalar:
            return scale
        low = self.lowering
        return scale.with_code(f"{low.helper('_finite')}({scale.code}, {low.example()})")

    def inverse_powers(self, gauge: Expr) -> Value:
        """A product of powers; an inverse root of what may be zero is 0 there."""
        low = self.lowering
        parts: list[Value] = []
        powers: list[Expr] = []
        for factor in sorted(Mul.make_args(gauge), key=lambda f: (bool(reads(f)), str(f))):
            negative = (
                isinstance(factor, Pow)
                and factor.exp.is_Rational
                and factor.exp < 0
                and (reads(factor) or factor.has(Delta))
            )
            if not negative:
                parts.append(low.of(factor))
                continue
            base = low.of(factor.base)
            if positive(factor.base):
                parts.append(self.plain_power(base, factor.exp))
                continue
            self.singular = True
            if factor.exp.is_Integer and not is_positive_sum(factor.base):
                # b⁻ⁿ = sign(b)ⁿ |b|⁻ⁿ, as b may be negative.
                if factor.exp.is_odd:
                    parts.append(base.with_code(f"torch.sign({base.code})"))
                base = base.with_code(f"torch.abs({base.code})")
            degree = -1 / factor.exp
            shown = str(int(degree)) if degree.is_Integer else repr(float(degree))
            parts.append(base.with_code(f"{low.helper('_inverse_root')}({base.code}, {shown})"))
            powers.append(-factor.exp)
        value = low.product(parts)
        # The least number to the power -1 is ∞: all but one may be, together, where that one is 0.
        infinite = sum(sorted(powers)[1:]) >= 1
        return value.with_code(f"{value.at(Level.ATOM)}.nan_to_num()") if infinite else value

    def plain_power(self, base: Value, exponent: Expr) -> Value:
        """``base ** exponent`` where the base is positive."""
        if exponent == sympy.Rational(-1, 2):
            return base.with_code(f"torch.rsqrt({base.code})")
        if exponent == -1:
            return base.with_code(f"{base.at(Level.ATOM)}.reciprocal()")
        return base.with_code(f"{base.at(Level.ATOM)}.pow({float(exponent)!r})")

    # -------------------------------------------------------------- input map
    def input_map(self) -> Value:
        """Σ_d μ^d part_d: the factor is applied to the output's terms and not to the input."""
        low = self.lowering
        gauge = self.correction.gauge
        assert gauge is not None
        parts = [(d, part) for d, part in self.correction.terms if part != 0]
        scaled = [(d, p) for d, p in parts if d > 0]
        fixed = [p for d, p in parts if d == 0]
        target = self.program.output.target
        first = low.assign(target, low.of(scaled[0][1]))
        self.scaled = first
        others = [low.of(p) for _, p in scaled[1:]]
        if len(scaled) == 1:
            # One degree d only: its power of the gauge is simpler than the gauge.
            gauge = gauge ** scaled[0][0]
            scaled = [(1, scaled[0][1])]
        scale = self.gauge(gauge)
        added = [v for p in fixed if not (v := low.of(p)).scalar]
        if len(scaled) == len(fixed) == len(added) == 1 and not scale.scalar:
            return self.times_plus(first, scale, added[0])
        result = self.times(first, scale, scaled[0][0])
        for (degree, _), value in zip(scaled[1:], others, strict=True):
            result = low.total([result, self.times(value, scale, degree)])
        for part in fixed:
            value = low.of(part)
            if not value.scalar:
                value = value.with_code(f"{value.at(Level.ATOM)}.to({target}.dtype)")
            result = low.total([result, value])
        return result

    # -------------------------------------------------------------- matrix gauge
    def matrix_gauge(self) -> Value:
        """L⁻¹ z with K(s,s) = L Lᵀ."""
        low = self.lowering
        z = self.output()
        kernel = self.correction.gauge
        assert kernel is not None
        unit = self.program.unit
        low.wide = True
        low.cache.clear()
        low.share([kernel])
        value = low.split(low.of(kernel))
        low.wide = False
        low.cache.clear()
        site = [a for a in low.axes_of(self.program.site) if a in low.split(z).axes]
        rows, columns = tuple(unit), tuple(x.primed for x in unit)
        value = low.arranged(value, (*[a for a in site if a in value.axes], rows, columns))
        if self.correction.frozen:
            value = value.with_code(f"{value.at(Level.ATOM)}.detach()")
        kernel_value = low.assign("kernel", value)
        self.singular = True
        z = low.arranged(z, (*site, rows))
        matrix = insert_axes(kernel_value, (*site, rows, columns)).code
        whitened = f"{low.helper('_whiten')}({matrix}, {z.code})"
        result = low.assign("corrected", z.with_code(whitened))
        if len(rows) > 1:
            result = low.split(result)
        return result

"""State of a lowering: names, statements, and tensors with named axes lined up with each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from sympy import Expr

from codegen.sizes import SizeCode
from codegen.values import BATCH, Axis, Level, Value, insert_axes, merge_order, single
from derive.errors import DerivationError
from derive.nodes import Letter
from derive.program import Program

if TYPE_CHECKING:
    from codegen.backward_windows import Adjoint
    from codegen.windows import Slid

UNTYPED = "F.bilinear("  # torch's own stubs give it no type
Recogniser = Callable[..., "tuple[Value, bool] | None"]


class Axes(ABC):
    """Names, statements and axes of one lowering.

    Args:
        program: The layer.
        batch: The leading letters that stand for any number of axes.
        values: Tensor name → how it stands in the code.
        sizes: Sizes as code.
        device: An expression of the device to build index tensors on.
        general: Whether to leave the recognised forms out.
        recognisers: The recognised forms.
        fused: Weight's code → the bias that the full layer hands to the same call.
    """

    def __init__(
        self,
        program: Program,
        batch: tuple[Letter, ...],
        values: Mapping[str, Value],
        sizes: SizeCode,
        device: str,
        *,
        general: bool = False,
        recognisers: Sequence[Recogniser] = (),
        fused: Mapping[str, str] | None = None,
    ) -> None:
        """Start with no statements."""
        self.program = program
        self.batch = batch
        self.values = dict(values)
        self.sizes = sizes
        self.device = device
        self.general = general
        self.recognisers = () if general else tuple(recognisers)
        self.fused: dict[str, str] = dict(fused or {})
        self.absent_fused: Mapping[str, str] = dict(fused or {})
        self.statements: list[str] = []
        self.helpers: set[str] = set()
        self.wide = False  # inside a gauge
        self.windowed = False  # inside a window's sum
        self.bounded = False  # inside a gauge's sum that cannot vanish
        self.reversing = False  # inside a backward pass
        self.source = ""  # what a function of its own is given besides parameters
        self.names: set[str] = set()
        self.cache: dict[Expr, Value] = {}
        self.shared: set[Expr] = set()
        self.outermost: Expr | None = None
        self.deferred: list[Value] = []
        self.transposed: list[dict[str, str]] = []  # window axes of a transposed convolution
        self.slid: list[Slid] = []  # the sums that became windows
        self.adjoints: dict[str, Adjoint] = {}  # the codes of their gradients

    @abstractmethod
    def of(self, e: Expr) -> Value:
        """The value of an expression."""

    # -------------------------------------------------------------- names and statements
    def name(self, wanted: str) -> str:
        """A local name that is not taken."""
        candidate, count = wanted, 2
        while candidate in self.names:
            candidate, count = f"{wanted}{count}", count + 1
        self.names.add(candidate)
        return candidate

    def assign(self, wanted: str, value: Value) -> Value:
        """A statement ``name = value`` of a tensor."""
        name = self.name(wanted)
        kind = ": Tensor" if UNTYPED in value.code else ""
        self.statements.append(f"{name}{kind} = {value.code}")
        return Value(name, value.axes)

    def helper(self, name: str) -> str:
        """Note that the file needs a helper function."""
        self.helpers.add(name)
        return name

    # -------------------------------------------------------------- axes
    def axes_of(self, letters: Iterable[Letter]) -> tuple[Axis, ...]:
        """Letters as single axes, leading ones as BATCH."""
        result: list[Axis] = []
        for letter in letters:
            if letter in self.batch:
                if BATCH not in result:
                    result.append(BATCH)
            else:
                result.append(single(letter))
        return tuple(result)

    def split(self, value: Value) -> Value:
        """Every composed axis taken apart."""
        for axis in value.axes:
            if isinstance(axis, tuple) and len(axis) > 1:
                sizes = [self.sizes.letter(x).code for x in axis]
                position = value.position(axis)
                place = value.axes.index(axis)
                axes = (*value.axes[:place], *((x,) for x in axis), *value.axes[place + 1 :])
                call = self.helper("_unflatten") if self.reversing else "torch.unflatten"
                code = f"{call}({value.code}, {position}, ({', '.join(sizes)}))"
                value = value.with_code(code, axes)
        return value

    def arranged(self, value: Value, axes: Sequence[Axis]) -> Value:
        """The value with exactly these axes, in this order: split, permute, expand, merge."""
        if value.axes == tuple(axes):
            return value
        value = self.split(value)
        target = [
            a
            for axis in axes
            for a in ([axis] if not isinstance(axis, tuple) else [(x,) for x in axis])
        ]
        value = self.permuted(value, [a for a in target if a in value.axes])
        if len(target) > len(value.axes):
            value = self.expanded(value, target)
        for axis in axes:
            if isinstance(axis, tuple) and len(axis) > 1:
                start = value.axes.index((axis[0],))
                left, right = start - len(value.axes), start - len(value.axes) + len(axis) - 1
                code = f"{value.at(Level.ATOM)}.flatten({left}, {right})"
                if self.reversing:
                    code = f"{self.helper('_flatten')}({value.code}, {left}, {right})"
                value = value.with_code(
                    code, (*value.axes[:start], axis, *value.axes[start + len(axis) :])
                )
        return value

    def expanded(self, value: Value, target: Sequence[Axis]) -> Value:
        """Broadcast to axes that the value lacks.

        Raises:
            DerivationError: If ``target`` has the leading axes and the value lacks them.
        """
        if BATCH in target and BATCH not in value.axes:
            raise DerivationError("a value without the leading axes cannot be the output")
        value = insert_axes(value, target)
        letters = [x for a in target if isinstance(a, tuple) for x in a]
        sizes = [self.sizes.letter(x).code for x in letters]
        if BATCH in target:
            if not value.code.isidentifier():
                value = self.assign("value", value)
            sizes = [f"*{value.code}.shape[: {-len(letters)}]", *sizes]
        return value.with_code(f"{value.at(Level.ATOM)}.expand({', '.join(sizes)})", target)

    def permuted(self, value: Value, axes: Sequence[Axis]) -> Value:
        """The same axes in another order."""
        if list(value.axes) == list(axes):
            return value
        moved = [k for k, (a, b) in enumerate(zip(value.axes, axes, strict=True)) if a != b]
        count = len(axes)
        if len(moved) == 2:
            a, b = (k - count for k in moved)
            if (a, b) == (-2, -1):
                return value.with_code(f"{value.at(Level.ATOM)}.mT", axes)
            return value.with_code(f"{value.at(Level.ATOM)}.transpose({a}, {b})", axes)
        source = tuple(value.position(axis) for axis in axes if axis is not BATCH)
        goal = tuple(range(-len(source), 0))
        return value.with_code(f"{value.at(Level.ATOM)}.movedim({source}, {goal})", axes)

    def aligned(self, values: Sequence[Value]) -> tuple[list[Value], tuple[Axis, ...]]:
        """Values that broadcast against each other, and the axes of the result."""
        if len({v.axes for v in values if not v.scalar}) > 1:
            values = [self.split(v) for v in values]
        axes = merge_order([v.axes for v in values])
        ordered = (self.permuted(v, [a for a in axes if a in v.axes]) for v in values)
        return [insert_axes(v, axes) for v in ordered], axes

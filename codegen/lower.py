"""Index expressions → torch operations: the general path, right for every legal spec.

Reads become tensors with named axes, products of sums become ``einsum``, reads at index expressions
become gathers with zeros outside the range, and the rest is elementwise with broadcasting. The
recognised forms of :mod:`codegen.forms` are tried first unless ``general`` is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import sympy
from sympy import Add, Expr, Function, Mul, Pow

from codegen.sizes import SizeCode
from codegen.values import BATCH, Axis, Level, Value, insert_axes, merge_order, single
from derive.errors import DerivationError
from derive.nodes import (
    Contraction,
    Delta,
    Letter,
    MaxOver,
    Read,
    Softmax,
    TokenRead,
    reads,
    size_symbol,
    substitute,
)
from derive.program import Program
from derive.structure import is_positive_sum

FUNCTION_CODE = {
    "exp": "torch.exp",
    "log": "torch.log",
    "tanh": "torch.tanh",
    "erf": "torch.erf",
    "sigmoid": "torch.sigmoid",
    "relu": "F.relu",
    "silu": "F.silu",
    "gelu": "F.gelu",
    "Abs": "torch.abs",
    "sign": "torch.sign",
}
UNTYPED = ("F.bilinear(", "torch.linalg.")  # torch's own stubs give these no type
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
Recogniser = Callable[["Lowering", Contraction, "Value | None"], "tuple[Value, bool] | None"]


class Lowering:
    """Turns expressions of one program into statements and values.

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
        self.wide = False
        self.names: set[str] = set()
        self.cache: dict[Expr, Value] = {}
        self.shared: set[Expr] = set()
        self.outermost: Expr | None = None
        self.deferred: list[Value] = []

    # -------------------------------------------------------------- names and statements
    def name(self, wanted: str) -> str:
        """A local name that is not taken."""
        candidate, count = wanted, 2
        while candidate in self.names:
            candidate, count = f"{wanted}{count}", count + 1
        self.names.add(candidate)
        return candidate

    def assign(self, wanted: str, value: Value) -> Value:
        """A statement ``name = value``."""
        name = self.name(wanted)
        untyped = any(f in value.code for f in UNTYPED)
        self.statements.append(f"{name}{': Tensor' if untyped else ''} = {value.code}")
        return Value(name, value.axes, Level.ATOM, value.scalar)

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
                value = value.with_code(f"torch.unflatten({value.code}, {position}, ({', '.join(sizes)}))", axes)
                return self.split(value)
        return value

    def arranged(self, value: Value, axes: Sequence[Axis]) -> Value:
        """The value with exactly these axes, in this order: split, permute, expand, merge."""
        if value.axes == tuple(axes):
            return value
        value = self.split(value)
        target = [a for axis in axes for a in ([axis] if not isinstance(axis, tuple) else [(x,) for x in axis])]
        value = self.permuted(value, [a for a in target if a in value.axes])
        missing = [a for a in target if a not in value.axes]
        if missing:
            value = self.expanded(value, target)
        for place, axis in enumerate(axes):
            if isinstance(axis, tuple) and len(axis) > 1:
                start = value.axes.index((axis[0],))
                left, right = start - len(value.axes), start - len(value.axes) + len(axis) - 1
                code = f"{value.at(Level.ATOM)}.flatten({left}, {right})"
                value = value.with_code(code, (*value.axes[:start], axis, *value.axes[start + len(axis) :]))
            del place
        return value

    def expanded(self, value: Value, target: Sequence[Axis]) -> Value:
        """Broadcast to axes that the value lacks."""
        if BATCH in target and BATCH not in value.axes:
            raise DerivationError("a value without the leading axes cannot be the output")
        value = insert_axes(value, target)
        sizes = ["-1" if not isinstance(a, tuple) else self.sizes.letter(a[0]).code for a in target]
        if BATCH in target:
            sizes = [f"*{value.code}.shape[: {1 - len(target)}]", *sizes[1:]] if len(target) > 1 else sizes
            value = value if value.level == Level.ATOM and value.code.isidentifier() else self.assign("value", value)
            sizes[0] = f"*{value.code}.shape[: {1 - len(target)}]"
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
        source = [value.position(axis) for axis in axes if axis is not BATCH]
        goal = list(range(-len(source), 0))
        keep = [(s, t) for s, t in zip(source, goal, strict=True)]
        code = f"{value.at(Level.ATOM)}.movedim({tuple(s for s, _ in keep)}, {tuple(t for _, t in keep)})"
        return value.with_code(code, axes)

    # -------------------------------------------------------------- expressions
    def of(self, e: Expr) -> Value:
        """The value of an expression."""
        if e in self.cache:
            return self.cache[e]
        value = self._of(e)
        if e in self.shared and not value.scalar and value.axes:
            value = self.assign(self.label(e), value)
            self.cache[e] = value
        return value

    def label(self, e: Expr) -> str:
        """A name for a shared subexpression."""
        if isinstance(e, Contraction):
            return "energy" if self.wide else "total"
        if isinstance(e, Function):
            return e.func.__name__.lower()
        return "factor"

    def share(self, expressions: Iterable[Expr]) -> None:
        """Mark sums and functions that occur more than once, so that they are computed once."""
        seen: dict[Expr, int] = {}
        for expression in expressions:
            for node in sympy.preorder_traversal(expression):
                if isinstance(node, Contraction | Function | Softmax | MaxOver):
                    bound = {x for x in node.free_symbols if isinstance(x, Letter) and "~" in x.mark}
                    if not bound:
                        seen[node] = seen.get(node, 0) + 1
        self.shared |= {node for node, count in seen.items() if count > 1}

    def _of(self, e: Expr) -> Value:
        if not any(isinstance(n, Read | Delta | Contraction) for n in sympy.preorder_traversal(e)):
            return self.sizes.number(e)
        if isinstance(e, Read):
            return self.read(e)
        if isinstance(e, Contraction):
            return self.contraction(e, None)[0]
        if isinstance(e, Delta):
            return self.delta(e)
        if isinstance(e, Softmax):
            return self.softmax(e)
        if isinstance(e, MaxOver):
            return self.maximum_over(e)
        if isinstance(e, Add):
            return self.add(e)
        if isinstance(e, Mul):
            return self.multiply(e)
        if isinstance(e, Pow):
            return self.power(e)
        if isinstance(e, Function):
            return self.function(e)
        raise DerivationError(f"no code for {type(e).__name__}")

    # -------------------------------------------------------------- elementwise
    def aligned(self, values: Sequence[Value]) -> tuple[list[Value], tuple[Axis, ...]]:
        """Values that broadcast against each other, and the axes of the result."""
        tensors = [v for v in values if not v.scalar]
        if len({v.axes for v in tensors}) > 1 or any(len(set(v.axes)) < len(v.axes) for v in tensors):
            values = [v if v.scalar else self.split(v) for v in values]
        axes = merge_order([v.axes for v in values if not v.scalar])
        arranged = []
        for value in values:
            if value.scalar:
                arranged.append(value)
                continue
            own = [a for a in axes if a in value.axes]
            arranged.append(insert_axes(self.permuted(value, own), axes))
        return arranged, axes

    def add(self, e: Add) -> Value:
        """A sum; a parameter added to a recognised product is handed to it as its bias."""
        terms = sorted(e.args, key=self.term_order)
        values: list[Value] = []
        rest = list(terms)
        for term in terms:
            if term not in rest or not isinstance(term, Contraction):
                continue
            for other in [t for t in rest if self.is_bias(t)]:
                found = self.contraction(term, self.of(other))
                if found[1]:
                    rest.remove(other)
                    rest.remove(term)
                    values.append(found[0])
                    break
        if e == self.outermost and values + [t for t in rest if not self.is_bias(t)]:
            # Added by a statement of its own, which the layer without this bias simply lacks.
            self.deferred = [self.of(t) for t in rest if self.is_bias(t)]
            rest = [t for t in rest if not self.is_bias(t)]
        negative = [t for t in rest if t.could_extract_minus_sign()]
        positive = [t for t in rest if t not in negative]
        values += [self.of(t) for t in positive]
        minus = [self.of(-t) for t in negative]
        if not values:
            values, minus = [self.negated(minus[0])], minus[1:]
        return self.total(values, minus)

    def negated(self, value: Value) -> Value:
        """-value."""
        return Value(f"-{value.at(Level.PRODUCT)}", value.axes, Level.UNARY, value.scalar)

    def total(self, plus: Sequence[Value], minus: Sequence[Value] = ()) -> Value:
        """a + b - c with broadcasting."""
        everything, axes = self.aligned([*plus, *minus])
        if len(everything) == 1:
            return everything[0]
        code = everything[0].code
        for value in everything[1 : len(plus)]:
            code += f" + {value.code}" if not value.code.startswith("-") else f" - {value.code[1:]}"
        for value in everything[len(plus) :]:
            code += f" - {value.at(Level.PRODUCT)}"
        return Value(code, axes, Level.SUM, all(v.scalar for v in everything))

    def term_order(self, term: Expr) -> tuple[bool, bool, int, str]:
        """Numbers first, then what depends on inputs, largest first; biases last."""
        return (bool(reads(term)), self.is_bias(term), -len(reads(term)), str(term))

    def is_bias(self, term: Expr) -> bool:
        """A parameter times a number."""
        _, rest = term.as_coeff_Mul()
        return isinstance(rest, Read) and rest.tensor in {t.name for t in self.program.parameters}

    def multiply(self, e: Mul) -> Value:
        """A product, with divisions written as such."""
        top: list[Value] = []
        bottom: list[Value] = []
        coefficient, factors = e.as_coeff_mul()
        mean, factors = self.mean(list(factors))
        if mean is not None:
            top.append(mean)
        sign = coefficient < 0
        coefficient = abs(coefficient)
        if coefficient.p != 1:
            top.append(self.sizes.number(sympy.Integer(coefficient.p)))
        if coefficient.q != 1:
            bottom.append(self.sizes.number(sympy.Integer(coefficient.q)))
        for factor in sorted(factors, key=lambda f: (bool(reads(f)), not self.is_bias(f), str(f))):
            if isinstance(factor, Pow) and factor.exp == -1:
                bottom.append(self.of(factor.base))
            else:
                top.append(self.of(factor))
        value = self.product(top) if top else Value("1", scalar=True)
        if bottom:
            under = self.product(bottom)
            (over, below), axes = self.aligned([value, under])
            code = f"{over.at(Level.PRODUCT)} / {below.at(Level.UNARY)}"
            value = Value(code, axes, Level.PRODUCT, over.scalar and below.scalar)
        return self.negated(value) if sign else value

    def mean(self, factors: list[Expr]) -> tuple[Value | None, list[Expr]]:
        """Σ_j f / size(j) as a mean, where the sum is a plain one."""
        for factor in factors:
            if not isinstance(factor, Contraction):
                continue
            counts = [1 / size_symbol(x.size) for x in factor.letters]
            rest = [f for f in factors if f is not factor]
            if self.general or any(c not in rest for c in counts) or len(set(counts)) < len(counts):
                continue
            before = len(self.statements), set(self.names), dict(self.cache), set(self.helpers)
            body = self.split(self.of(factor.body))
            if all((x,) in body.axes for x in factor.letters):
                return self.reduced(body, factor.letters, "mean"), [f for f in rest if f not in counts]
            del self.statements[before[0] :]
            self.names, self.cache, self.helpers = before[1:]
        return None, factors

    def product(self, values: Sequence[Value]) -> Value:
        """A * b with broadcasting."""
        scalars = [v for v in values if v.scalar]
        tensors = [v for v in values if not v.scalar]
        if not tensors:
            return self.sizes.product(list(scalars))
        aligned, axes = self.aligned([*([self.sizes.product(scalars)] if scalars else []), *tensors])
        kept = [v for v in aligned if v.code != "1"]
        if len(kept) == 1:
            return kept[0]
        code = " * ".join(v.at(Level.PRODUCT) for v in kept)
        return Value(code, axes, Level.PRODUCT)

    def power(self, e: Pow) -> Value:
        """Squares, roots and reciprocals by their torch names."""
        exponent = e.exp
        if not exponent.is_Rational:
            raise DerivationError(f"no code for the power {exponent}")
        base = self.of(e.base)
        if base.scalar:
            return self.sizes.number(e)
        code = base.at(Level.ATOM)
        if exponent == 2:
            return base.with_code(f"{code}.square()")
        if exponent == sympy.Rational(1, 2):
            return base.with_code(f"{code}.sqrt()")
        if exponent == sympy.Rational(-1, 2):
            return base.with_code(f"torch.rsqrt({base.code})")
        if exponent == -1:
            return base.with_code(f"{code}.reciprocal()")
        shown = str(int(exponent)) if exponent.is_Integer else repr(float(exponent))
        return base.with_code(f"{code}.pow({shown})")

    def function(self, e: Function) -> Value:
        """A function of the notation."""
        name = e.func.__name__
        if name == "maximum":
            return self.maximum(e)
        inner = self.of(e.args[0])
        if name == "Step":
            return inner.with_code(f"({inner.code} > 0).to({inner.at(Level.ATOM)}.dtype)")
        if name not in FUNCTION_CODE:
            raise DerivationError(f"no code for the function {name}")
        return inner.with_code(f"{FUNCTION_CODE[name]}({inner.code})")

    def maximum(self, e: Function) -> Value:
        """max(a, b); with a number it is a clamp."""
        values = [self.of(a) for a in e.args]
        tensors = [v for v in values if not v.scalar]
        if len(tensors) == 1:
            number = next(v for v in values if v.scalar)
            return tensors[0].with_code(f"{tensors[0].at(Level.ATOM)}.clamp(min={number.code})")
        aligned, axes = self.aligned(values)
        return Value(f"torch.maximum({aligned[0].code}, {aligned[1].code})", axes)

    def softmax(self, e: Softmax) -> Value:
        """torch.softmax over the axis of its letter."""
        at = e.args[2]
        if not isinstance(at, Letter) or at.size != e.letters[0].size:
            return self.of(e.expanded())
        inner = self.split(self.of(substitute(e.body, {e.letters[0]: at})))
        return inner.with_code(f"torch.softmax({inner.code}, dim={inner.position((at,))})")

    def maximum_over(self, e: MaxOver) -> Value:
        """amax over axes."""
        inner = self.split(self.of(e.body))
        return self.reduced(inner, e.letters, "amax")

    def reduced(self, value: Value, letters: Sequence[Letter], method: str) -> Value:
        """Sum or maximum over the axes of some letters."""
        dims = sorted(value.position((x,)) for x in letters)
        shown = str(dims[0]) if len(dims) == 1 else f"({', '.join(map(str, dims))})"
        axes = [a for a in value.axes if not (isinstance(a, tuple) and a[0] in letters)]
        return value.with_code(f"{value.at(Level.ATOM)}.{method}({shown})", axes)

    # -------------------------------------------------------------- reads
    def read(self, e: Read) -> Value:
        """A tensor; reads at index expressions become gathers."""
        source = self.values[e.tensor]
        if not e.indices:
            return self.widened(source)
        tensor = self.program.tensors.get(e.tensor)
        own = tensor.letters if tensor is not None else tuple(x for x in source.letters)
        plain = all(isinstance(i, Letter) and i.size == x.size for i, x in zip(e.indices, own, strict=True))
        distinct = len(set(e.indices)) == len(e.indices)
        renamed = dict(zip(own, e.indices, strict=True))
        if plain:
            axes = tuple(a if not isinstance(a, tuple) else tuple(renamed[x] for x in a) for a in source.axes)
            value = self.widened(Value(source.code, axes, source.level))
            return value if distinct else self.diagonal(value)
        return self.gather(source, e, own)

    def widened(self, value: Value) -> Value:
        """At least float32, inside a gauge."""
        if not self.wide or value.scalar or value.code.startswith("_widen("):
            return value
        self.helper("_widen")
        return value.with_code(f"_widen({value.code})")

    def diagonal(self, value: Value) -> Value:
        """A read such as W[j, j]."""
        value = self.split(value)
        names: dict[Axis, str] = {}
        for axis in value.axes:
            names.setdefault(axis, "..." if axis is BATCH else LETTERS[len(names)])
        code = "".join(names[a] for a in value.axes)
        kept = "".join(names.values())
        return value.with_code(f'torch.einsum("{code}->{kept}", {value.code})', tuple(names))

    def gather(self, source: Value, e: Read, own: Sequence[Letter]) -> Value:
        """x[..., index] with zeros outside the range."""
        batched = [k for k, (i, x) in enumerate(zip(e.indices, own, strict=True)) if i in self.batch and i == x]
        value = self.widened(source)
        tokens = [i for i in e.indices if isinstance(i, TokenRead)]
        if tokens:
            return self.lookup(value, e, own)
        value = self.split(value)
        indices = [i for k, i in enumerate(e.indices) if k not in batched]
        holders = [{x for x in i.free_symbols if isinstance(x, Letter)} for i in indices]
        shared = any(a & b for k, a in enumerate(holders) for b in holders[k + 1 :])
        tail = [a for a in value.axes if a is not BATCH]
        if shared:
            letters = tuple(dict.fromkeys(x for h in holders for x in sorted(h, key=lambda x: x.name)))
            codes = ", ".join(self.index(i, letters) for i in indices)
            axes = (*((BATCH,) if BATCH in value.axes else ()), *((x,) for x in letters))
            return Value(f"{self.helper('_gather')}({value.code}, ({codes},))", axes)
        for axis, index in zip(tail, indices, strict=True):
            position = value.position(axis)
            place = value.axes.index(axis)
            assert isinstance(axis, tuple)
            if isinstance(index, Letter) and index.size == axis[0].size:
                value = Value(value.code, (*value.axes[:place], (index,), *value.axes[place + 1 :]), value.level)
                continue
            letters = tuple(sorted((x for x in index.free_symbols if isinstance(x, Letter)), key=self.letter_order))
            code = f"{self.helper('_take')}({value.code}, {position}, {self.index(index, letters)})"
            value = Value(code, (*value.axes[:place], *((x,) for x in letters), *value.axes[place + 1 :]))
        return value

    def lookup(self, value: Value, e: Read, own: Sequence[Letter]) -> Value:
        """Rows picked by an integer input."""
        place = next(k for k, i in enumerate(e.indices) if isinstance(i, TokenRead))
        rest = [i for k, i in enumerate(e.indices) if k != place]
        if any(not isinstance(i, Letter) for i in rest) or value.axes != tuple((x,) for x in own):
            raise DerivationError("a token may index one plain axis of a tensor with plain axes")
        wide, self.wide = self.wide, False
        token = self.of(e.indices[place])
        self.wide = wide
        axes = (*token.axes, *((x,) for x in rest))
        if place == 0 and len(own) == 2 and not self.general:
            return Value(f"F.embedding({token.code}, {value.code})", axes)
        moved = value.code if place == 0 else f"{value.code}.movedim({place}, 0)"
        return Value(f"{moved}[{token.code}]", axes)

    def letter_order(self, letter: Letter) -> tuple[int, str, str]:
        """Output letters first, in the output's order."""
        outer = list(self.program.output.letters)
        return (outer.index(letter) if letter in outer else len(outer), letter.name, letter.mark)

    def positions(self, letter: Letter) -> str:
        """0, 1, ... along a letter's axis, as a tensor."""
        key = sympy.Symbol(f"positions of {letter.name}{letter.mark}{letter.size}")
        if key not in self.cache:
            size = self.sizes.letter(letter).code
            value = Value(f"torch.arange({size}, device={self.device})", ((letter,),))
            self.cache[key] = self.assign(f"{letter.name}_index", value)
        return self.cache[key].code

    def index(self, e: Expr, letters: Sequence[Letter]) -> str:
        """An index expression as an integer tensor whose axes are ``letters``."""
        if not letters:
            return f"torch.tensor({self.sizes.number(e).code}, device={self.device})"
        parts: list[str] = []
        constant = e
        for letter in letters:
            factor = sympy.expand(e).coeff(letter)
            constant = constant - factor * letter
            if factor == 0:
                continue
            place = letters.index(letter)
            shape = f"[{', '.join([':'] + ['None'] * (len(letters) - 1 - place))}]" if place < len(letters) - 1 else ""
            code = f"{self.positions(letter)}{shape}"
            if factor != 1:
                code = f"{self.sizes.number(factor).at(Level.PRODUCT)} * {code}"
            parts.append(code)
        constant = sympy.expand(constant)
        if constant != 0:
            shown = self.sizes.number(constant)
            parts.append(shown.code)
        text = parts[0]
        for part in parts[1:]:
            text += f" - {part[1:]}" if part.startswith("-") and "+" not in part and " - " not in part else f" + {part}"
        missing = len(letters) > 1 and not e.coeff(letters[0]) != 0
        return f"({text}).expand({', '.join(self.sizes.letter(x).code for x in letters)})" if missing else text

    def delta(self, e: Delta) -> Value:
        """[e = 0] as a tensor of zeros and ones."""
        letters = tuple(sorted((x for x in e.args[0].free_symbols if isinstance(x, Letter)), key=self.letter_order))
        if len(letters) == 2 and letters[0].size == letters[1].size and e == Delta(letters[0] - letters[1]):
            axes = tuple((x,) for x in letters)
            size = self.sizes.letter(letters[0]).code
            return Value(f"torch.eye({size}, dtype={self.dtype()}, device={self.device})", axes)
        index = self.index(sympy.expand(e.args[0]), letters)
        dtype = self.dtype()
        return Value(f"({index} == 0).to({dtype})", tuple((x,) for x in letters))

    def dtype(self) -> str:
        """The dtype of the layer's tensors, at least float32 inside a gauge."""
        real = [t.name for t in self.program.inputs if t.kind == "input"] + [t.name for t in self.program.parameters]
        code = self.values[real[0]].code
        if self.wide:
            code = f"{self.helper('_widen')}({code})"
        return f"{code}.dtype"

    # -------------------------------------------------------------- sums
    def contraction(self, e: Contraction, bias: Value | None) -> tuple[Value, bool]:
        """A sum over letters; the flag says whether the bias went into it."""
        for recogniser in self.recognisers:
            before = len(self.statements), set(self.names), dict(self.cache), set(self.helpers)
            found = recogniser(self, e, bias)
            if found is not None:
                return found
            # A form that did not fit leaves nothing behind.
            del self.statements[before[0] :]
            self.names, self.cache, self.helpers = before[1:]
        factors = [f for f in Mul.make_args(e.body)]
        numbers = [f for f in factors if not reads(f) and not f.has(Delta)]
        values = [self.of(f) for f in factors if f not in numbers]
        scale = [self.sizes.number(Mul(*numbers))] if numbers else []
        repeats = [x for x in e.letters if not any(x in v.letters for v in values)]
        scale += [self.sizes.letter(x) for x in repeats]
        letters = [x for x in e.letters if x not in repeats]
        value = self.summed(values, letters)
        return (self.product([*scale, value]) if scale else value), False

    def summed(self, values: Sequence[Value], letters: Sequence[Letter]) -> Value:
        """Σ of a product: an elementwise product and ``sum`` if all axes agree, else ``einsum``."""
        values = [self.split(v) for v in values]
        axes = {frozenset(v.axes) for v in values}
        if len(axes) == 1 or len(values) == 1:
            return self.reduced(self.product(values), letters, "sum")
        names: dict[Axis, str] = {}
        order = merge_order([v.axes for v in values])
        for axis in order:
            names[axis] = "..." if axis is BATCH else LETTERS[len(names)]
        self.readable(names)
        inputs = ",".join("".join(names[a] for a in v.axes) for v in values)
        bound = {(x,) for x in letters}
        result = [a for a in order if a not in bound]
        result.sort(key=lambda a: (-1, "", "") if not isinstance(a, tuple) else self.letter_order(a[0]))
        spec = f"{inputs}->{''.join(names[a] for a in result)}"
        return Value(f'torch.einsum("{spec}", {", ".join(v.code for v in values)})', tuple(result))

    def readable(self, names: dict[Axis, str]) -> None:
        """Use the spec's own letters in an einsum where they are single and distinct."""
        wanted = {a: a[0].name for a in names if isinstance(a, tuple)}
        if len(set(wanted.values())) == len(wanted) and all(len(x) == 1 for x in wanted.values()):
            names.update(wanted)
            return
        taken = {x for x in wanted.values() if len(x) == 1}
        spare = iter(x for x in LETTERS if x not in taken)
        used: set[str] = set()
        for axis, name in wanted.items():
            names[axis] = name if len(name) == 1 and name not in used else next(spare)
            used.add(names[axis])


def positive(expression: Expr) -> bool:
    """Whether a radicand cannot be zero: a positive constant plus what is ≥ 0."""
    terms = Add.make_args(expression)
    constants = [t for t in terms if not reads(t) and not t.free_symbols - _sizes(t)]
    return any(t.is_positive for t in constants) and all(is_positive_sum(t) for t in terms if t not in constants)


def _sizes(expression: Expr) -> set[Expr]:
    return {s for s in expression.free_symbols if str(s).startswith("size(")}

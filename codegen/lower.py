"""Index expressions → torch operations: the general path, right for every legal spec.

Reads become tensors with named axes, products of sums become ``einsum``, reads at index expressions
become gathers with zeros outside the range, and the rest is elementwise with broadcasting. The
recognised forms of :mod:`codegen.forms` are tried first unless ``general`` is set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sympy
from sympy import Add, Expr, Function, Mul, Pow

from codegen.reading import Reading
from codegen.signs import bounded
from codegen.values import LETTERS, Axis, Value, merge_order
from derive.errors import DerivationError
from derive.nodes import Contraction, Delta, Letter, MaxOver, Read, Softmax, reads


class Lowering(Reading):
    """Turns expressions of one program into statements and values."""

    def of(self, e: Expr) -> Value:
        """The value of an expression."""
        if e in self.cache:
            return self.cache[e]
        value = self._of(e)
        if e in self.shared and value.axes:
            if not value.code.isidentifier():
                value = self.assign(self.label(e), value)
            self.cache[e] = value
        return value

    def label(self, e: Expr) -> str:
        """A name for a shared subexpression."""
        if isinstance(e, Contraction):
            return "energy" if e.body.is_nonnegative else "total"
        if isinstance(e, sympy.Abs):
            return "magnitude"
        if isinstance(e, Function):
            return str(e.func.__name__).lower()
        return "factor"

    def share(self, expressions: Iterable[Expr]) -> None:
        """Mark sums and functions that occur more than once, so that they are computed once."""
        seen: dict[Expr, int] = {}
        for expression in expressions:
            for node in sympy.preorder_traversal(expression):
                if isinstance(node, Contraction | Function | Softmax | MaxOver):
                    bound = {
                        x for x in node.free_symbols if isinstance(x, Letter) and "~" in x.mark
                    }
                    if not bound:
                        seen[node] = seen.get(node, 0) + 1
        self.shared |= {node for node, count in seen.items() if count > 1}

    def _of(self, e: Expr) -> Value:
        if not any(isinstance(n, Read | Delta) for n in sympy.preorder_traversal(e)):
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
            outer, self.bounded = self.bounded, self.wide and bounded(e)
            value = self.add(e)
            self.bounded = outer
            return value
        if isinstance(e, Mul):
            return self.multiply(e)
        if isinstance(e, Pow):
            return self.power(e)
        if isinstance(e, Function):
            return self.function(e)
        raise DerivationError(f"no code for {type(e).__name__}")

    # -------------------------------------------------------------- sums
    def contraction(self, e: Contraction, bias: Value | None) -> tuple[Value, bool]:
        """A sum over letters; the flag says whether the bias went into it.

        Raises:
            DerivationError: If it runs over leading axes in no recognised form.
        """
        for recogniser in self.recognisers:
            before = len(self.statements), set(self.names), dict(self.cache), set(self.helpers)
            found = recogniser(self, e, bias)
            if found is not None:
                return found
            # A form that did not fit leaves nothing behind.
            del self.statements[before[0] :]
            self.names, self.cache, self.helpers = before[1:]
        energy = self.energy(e)
        if energy is not None:
            return energy, False
        factors = Mul.make_args(e.body)
        numbers = [f for f in factors if not reads(f) and not f.has(Delta)]
        values = [self.of(f) for f in factors if f not in numbers]
        if set(e.letters) - {x for v in values for x in v.letters}:
            raise DerivationError("the leading axes are summed in recognised forms alone")
        parts = [self.sizes.number(Mul(*numbers))]
        parts.append(self.summed(values, e.letters))
        return self.product(parts), False

    def energy(self, e: Contraction) -> Value | None:
        """Σ x² of a tensor inside a gauge, over axes of its own."""
        if not self.wide or self.windowed or not isinstance(e.body, Pow) or e.body.exp != 2:
            return None
        if not isinstance(e.body.base, Read):
            return None
        value = self.split(self.narrow(e.body.base))
        if any((x,) not in value.axes for x in e.letters):
            return None
        return self.sum_of_squares(value, e.letters)

    def summed(self, values: Sequence[Value], letters: Sequence[Letter]) -> Value:
        """Σ of a product: an elementwise product and ``sum`` if all axes agree, else ``einsum``."""
        values = [self.split(v) for v in values]
        if len({frozenset(v.axes) for v in values}) == 1:
            return self.reduced(self.product(values), letters, "sum")
        order = merge_order([v.axes for v in values])
        names = einsum_names(order)
        inputs = ",".join("".join(names[a] for a in v.axes) for v in values)
        bound = {(x,) for x in letters}
        result = [a for a in order if a not in bound]
        # Leading axes first: nothing comes before ().
        result.sort(key=lambda a: self.letter_order(*a) if isinstance(a, tuple) else ())
        spec = f"{inputs}->{''.join(names[a] for a in result)}"
        codes = ", ".join(v.code for v in values)
        return Value(f'torch.einsum("{spec}", {codes})', tuple(result))


def einsum_names(axes: Iterable[Axis]) -> dict[Axis, str]:
    """How an einsum calls axes: by the spec's own letters where they are single and distinct."""
    own = [x.name for axis in axes if isinstance(axis, tuple) for x in axis]
    spare = iter(x for x in LETTERS if x not in own)
    names: dict[Axis, str] = {}
    for axis in axes:
        name = "..."
        if isinstance(axis, tuple):
            (letter,) = axis
            free = len(letter.name) == 1 and letter.name not in names.values()
            name = letter.name if free else next(spare)
        names[axis] = name
    return names

"""Reads of tensors: plain ones, gathers at index expressions, rows picked by tokens, and deltas."""

from __future__ import annotations

from collections.abc import Sequence

import sympy
from sympy import Expr

from codegen.elementwise import Elementwise
from codegen.values import BATCH, LETTERS, Axis, Level, Value
from derive.errors import DerivationError
from derive.nodes import Delta, Letter, Read, TokenRead


class Reading(Elementwise):
    """Code of reads."""

    def read(self, e: Read) -> Value:
        """A tensor; reads at index expressions become gathers."""
        source = self.values[e.tensor]
        if not e.indices:
            return self.widened(source)
        tensor = self.program.tensors.get(e.tensor)
        own = tensor.letters if tensor is not None else tuple(x for x in source.letters)
        plain = all(
            isinstance(i, Letter) and i.size == x.size for i, x in zip(e.indices, own, strict=True)
        )
        distinct = len(set(e.indices)) == len(e.indices)
        renamed = dict(zip(own, e.indices, strict=True))
        if plain:
            axes = tuple(
                a if not isinstance(a, tuple) else tuple(renamed[x] for x in a) for a in source.axes
            )
            value = self.widened(Value(source.code, axes, source.level))
            return value if distinct else self.diagonal(value)
        return self.gather(source, e, own)

    def widened(self, value: Value) -> Value:
        """In the wide dtype, inside a gauge; a window has no more than float32 of narrow inputs."""
        name = "_single" if self.windowed else "_wide"
        if not self.wide or value.scalar or value.code.startswith(f"{name}("):
            return value
        if not self.windowed and any(value.code == x.target for x in self.program.lines[:-1]):
            # Autocast may have narrowed an intermediate, so that its own type tells nothing.
            return value.with_code(f"{value.code}.to({self.dtype()})")
        return value.with_code(f"{self.helper(name)}({value.code})")

    def narrow(self, e: Expr) -> Value:
        """A value that its user widens."""
        wide, self.wide = self.wide, False
        value = self.of(e)
        self.wide = wide
        return value

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
        batched = [
            k
            for k, (i, x) in enumerate(zip(e.indices, own, strict=True))
            if i in self.batch and i == x
        ]
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
            letters = tuple(
                dict.fromkeys(x for h in holders for x in sorted(h, key=lambda x: x.name))
            )
            codes = ", ".join(self.index(i, letters) for i in indices)
            axes = (*((BATCH,) if BATCH in value.axes else ()), *((x,) for x in letters))
            return Value(f"{self.helper('_gather')}({value.code}, ({codes},))", axes)
        if len(tail) != len(indices):
            raise DerivationError("a gather at an index that runs over the leading axes")
        for axis, index in zip(tail, indices, strict=True):
            position = value.position(axis)
            place = value.axes.index(axis)
            assert isinstance(axis, tuple)
            if isinstance(index, Letter) and index.size == axis[0].size:
                value = Value(
                    value.code,
                    (*value.axes[:place], (index,), *value.axes[place + 1 :]),
                    value.level,
                )
                continue
            letters = tuple(
                sorted(
                    (x for x in index.free_symbols if isinstance(x, Letter)), key=self.letter_order
                )
            )
            code = f"{self.helper('_take')}({value.code}, {position}, {self.index(index, letters)})"
            value = Value(
                code, (*value.axes[:place], *((x,) for x in letters), *value.axes[place + 1 :])
            )
        return value

    def lookup(self, value: Value, e: Read, own: Sequence[Letter]) -> Value:
        """Rows picked by an integer input.

        Raises:
            DerivationError: If the tensor has a composed axis, or an index besides the token is no
                plain letter.
        """
        place = next(k for k, i in enumerate(e.indices) if isinstance(i, TokenRead))
        rest = [i for k, i in enumerate(e.indices) if k != place]
        if any(not isinstance(i, Letter) for i in rest) or value.axes != tuple((x,) for x in own):
            raise DerivationError("a token may index one plain axis of a tensor with plain axes")
        token = self.narrow(e.indices[place])
        axes = (*token.axes, *((x,) for x in rest))
        if place == 0 and len(own) == 2 and not self.general:
            rows = Value(f"F.embedding({token.code}, {value.code})", axes)
        else:
            moved = value.code if place == 0 else f"{value.code}.movedim({place}, 0)"
            rows = Value(f"{moved}[{token.code}]", axes)
        return rows if len(set(axes)) == len(axes) else self.diagonal(rows)

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
            shape = (
                f"[{', '.join([':'] + ['None'] * (len(letters) - 1 - place))}]"
                if place < len(letters) - 1
                else ""
            )
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
            text += (
                f" - {part[1:]}"
                if part.startswith("-") and "+" not in part and " - " not in part
                else f" + {part}"
            )
        missing = len(letters) > 1 and e.coeff(letters[0]) == 0
        return (
            f"({text}).expand({', '.join(self.sizes.letter(x).code for x in letters)})"
            if missing
            else text
        )

    def delta(self, e: Delta) -> Value:
        """[e = 0] as a tensor of zeros and ones."""
        letters = tuple(
            sorted(
                (x for x in e.args[0].free_symbols if isinstance(x, Letter)), key=self.letter_order
            )
        )
        if (
            len(letters) == 2
            and letters[0].size == letters[1].size
            and e == Delta(letters[0] - letters[1])
        ):
            axes = tuple((x,) for x in letters)
            size = self.sizes.letter(letters[0]).code
            return Value(f"torch.eye({size}, dtype={self.dtype()}, device={self.device})", axes)
        index = self.index(sympy.expand(e.args[0]), letters)
        dtype = self.dtype()
        return Value(f"({index} == 0).to({dtype})", tuple((x,) for x in letters))

    def example(self) -> str:
        """A tensor of the layer's dtype."""
        real = [t.name for t in self.program.inputs if t.kind == "input"] + [
            t.name for t in self.program.parameters
        ]
        return self.source or self.values[real[0]].code

    def dtype(self) -> str:
        """The dtype of the layer's tensors, the wide one inside a gauge."""
        code = self.example()
        return f"{self.helper('_wide_dtype')}({code})" if self.wide else f"{code}.dtype"

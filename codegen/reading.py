"""Reads of tensors: plain ones, gathers at index expressions, rows picked by tokens, and deltas."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import sympy
from sympy import Expr

from codegen.elementwise import Elementwise
from codegen.values import BATCH, LETTERS, Axis, Level, Value
from derive.errors import DerivationError
from derive.nodes import Delta, Letter, Read, TokenRead, letters_in


class Reading(Elementwise):
    """Code of reads."""

    def read(self, e: Read) -> Value:
        """A tensor; reads at index expressions become gathers."""
        source = self.values[e.tensor]
        if not e.indices:
            return self.widened(source)
        own = self.program.tensors[e.tensor].letters
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
        if not self.windowed and any(value.code == x.target for x in self.program.lines):
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
        value = self.widened(source)
        if any(isinstance(i, TokenRead) for i in e.indices):
            return self.lookup(value, e, own)
        value = self.split(value)
        batch: list[Axis] = [a for a in value.axes if a is BATCH]
        # A leading letter in its own place stands for any number of axes, which stay as they are.
        places = [
            (x, i) for x, i in zip(own, e.indices, strict=True) if x not in self.batch or x != i
        ]
        if len(batch) + len(places) != len(value.axes):
            raise DerivationError("a gather at an index that runs over the leading axes")
        holders = [letters_in([i]) for _, i in places]
        if any(a & b for a, b in itertools.combinations(holders, 2)):
            letters = tuple(
                dict.fromkeys(x for h in holders for x in sorted(h, key=Letter.sort_key))
            )
            codes = ", ".join(self.index(i, letters) for _, i in places)
            code = f"{self.helper('_gather')}({value.code}, ({codes},))"
            return Value(code, (*batch, *((x,) for x in letters)))
        code, axes = value.code, batch
        # The axes behind are still the tensor's own, so each is found by its distance to the end.
        for position, (letter, index) in enumerate(places, -len(places)):
            if isinstance(index, Letter) and index.size == letter.size:
                axes.append((index,))
                continue
            letters = self.letters_of(index)
            at = self.index(index, letters)
            # What is taken has the axes of the index, and one where that has none.
            at, drop = (at, "") if letters else (f"{at}[None]", f".squeeze({position})")
            code = f"{self.helper('_take')}({code}, {position}, {at}){drop}"
            axes += [(x,) for x in letters]
        return Value(code, tuple(axes))

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

    def letters_of(self, e: Expr) -> tuple[Letter, ...]:
        """The free letters of an expression in order."""
        return tuple(sorted(letters_in([e]), key=self.letter_order))

    def positions(self, letter: Letter) -> str:
        """0, 1, ... along a letter's axis, as a tensor."""
        key = sympy.Symbol(f"positions of {letter.name}{letter.mark}{letter.size}")
        if key not in self.cache:
            size = self.sizes.letter(letter).code
            value = Value(f"torch.arange({size}, device={self.device})", ((letter,),))
            self.cache[key] = self.assign(f"{letter.name}_index", value)
        return self.cache[key].code

    def index(self, e: Expr, letters: Sequence[Letter]) -> str:
        """An index expression as an integer tensor that broadcasts over the axes ``letters``."""
        constant = sympy.expand(e)
        parts: list[Value] = []
        for place, letter in enumerate(letters, 1):
            factor = constant.coeff(letter)
            if factor == 0:
                continue
            constant = sympy.expand(constant - factor * letter)
            behind = ", None" * (len(letters) - place)
            code = self.positions(letter) + (f"[:{behind}]" if behind else "")
            if factor != 1:
                code = f"{self.sizes.number(factor).at(Level.PRODUCT)} * {code}"
            parts.append(Value(code, level=Level.PRODUCT))
        if not parts:
            return f"torch.tensor({self.sizes.number(constant).code}, device={self.device})"
        if constant != 0:
            parts.append(self.sizes.number(constant))
        return self.sizes.total(parts).code

    def delta(self, e: Delta) -> Value:
        """[e = 0] as a tensor of zeros and ones."""
        (difference,) = e.args
        letters = self.letters_of(difference)
        axes = tuple((x,) for x in letters)
        if len(letters) == 2:
            row, column = letters
            if row.size == column.size and e == Delta(row - column):
                size = self.sizes.letter(row).code
                return Value(f"torch.eye({size}, dtype={self.dtype()}, device={self.device})", axes)
        return Value(f"({self.index(difference, letters)} == 0).to({self.dtype()})", axes)

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

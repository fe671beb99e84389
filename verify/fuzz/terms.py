"""Random formulas: terms, factors, weights, functions of them, and what makes a line complete."""

from __future__ import annotations

from verify.fuzz.parts import REAL, Workshop
from verify.fuzz.sums import (
    explicit,
    summed_letters,
)
from verify.fuzz.tree import (
    Const,
    Div,
    Ein,
    Fun,
    Mul,
    Node,
    Pow,
    Read,
    Reduce,
    SizeOf,
    Sum,
    Tensor,
    Window,
)
from verify.fuzz.walk import (
    free_letters,
    names_in,
    renamed,
)

ODD = ("tanh", "erf", "sigmoid", "relu", "gelu", "silu")


class Terms(Workshop):
    """Draws the right side of lines."""

    window_letters: list[tuple[str, str, Window]]
    features: list[str]
    group: str

    def bent(self, node: Node) -> Node:
        """A function of a value, finite everywhere."""
        way = self.source.integer(1, 14)
        if way <= 8:
            return Fun(self.pick(ODD), (node,))
        square = Pow(node, 2)
        if way == 9 and isinstance(node, Read):
            return Fun("exp", (Mul((Const("-0.5"), square)),))
        if way == 10:
            return Fun("sqrt", (Sum((square, Const("1"))),))
        if way == 11:
            return Fun("log", (Sum((square, Const("2"))),))
        if way == 12:
            return Fun("max", (node, self.pick((Const("0.5"), Const("-0.25")))))
        if way == 13 and isinstance(node, Read):
            return Div(node, Sum((Const("1"), Pow(explicit(self.apart(node)), 2))))
        return Fun("exp", (Mul((Const("0.5"), Fun("tanh", (node,)))),))

    def apart(self, node: Node) -> Node:
        """The same value with letters of its own for its sums."""
        return renamed(node, {x: self.alias(x) for x in sorted(summed_letters(node))})

    # -------------------------------------------------------------- the output
    def output(self, left: list[str]) -> Node:
        """A sum of terms, perhaps bent or gated; every letter of the left side occurs."""
        way = self.source.integer(1, 100)
        plain = way > 12
        terms = [self.term(left, True, plain)]
        while plain and self.flip(0.3) and len(terms) < 3:
            terms.append(self.term(left, self.flip(0.8), plain))
        if self.flip(0.55):
            terms.append(self.bias(left))
        terms += self.residual(left)
        value: Node = Sum(tuple(self.shuffled(terms))) if len(terms) > 1 else terms[0]
        if way <= 8:
            value = self.bent(explicit(value))
        elif not plain:
            gate = explicit(self.apart(self.term(left, True, False)))
            value = Mul((explicit(value), Fun("sigmoid", (gate,))))
        return self.complete(value, left)

    def term(self, left: list[str], moved: bool, plain: bool) -> Node:
        """A product of signals and parameters, summed over what the left side lacks.

        Args:
            left: The letters of the left side.
            moved: Whether it holds a parameter.
            plain: Whether it may be long; what goes into a function stays short.
        """
        factors: list[Node] = []
        free: list[str] = []
        counts = (0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3) if plain else (1,)
        for _ in range(self.pick(counts)):
            signal = self.pick(self.signals)
            twice = signal.name in set().union(*(names_in(f) for f in factors), set())
            read, more = self.read(signal, left, fresh=twice and self.flip(0.6))
            factors.append(self.read_factor(read) if plain else read)
            free += [x for x in more if x not in free]
        for _ in range(self.pick((1, 1, 1, 1, 1, 1, 2) if plain else (1,)) if moved else 0):
            factors.append(self.weight(left, free))
        if not factors:
            factors.append(self.read_factor(self.read(self.signals[0], left)[0]))
            free = sorted(free_letters(factors[0]) - set(left))
        factors += self.scale(left, free)
        factors = self.shuffled(factors) if self.flip(0.2) else factors
        body: Node = Mul(tuple(factors)) if len(factors) > 1 else factors[0]
        summed = [x for x in free if x in free_letters(body)]
        return Ein(tuple(summed), body) if summed else body

    def read_factor(self, read: Read) -> Node:
        """A read as a factor: as it is, bent, squared, or divided by a positive input's root."""
        way = self.source.integer(1, 40)
        if way <= 31:
            return read
        if way <= 35:
            return self.bent(read)
        if way <= 38:
            return Pow(read, self.pick((2, 2, 3)))
        below = self.positive()
        return Div(read, Fun("sqrt", (below,))) if way == 39 else Mul((read, Fun("log", (below,))))

    def positive(self) -> Node:
        """An input that has to be positive, plus perhaps a little."""
        left = [x for x in self.site if x in self.signals[0].letters][:1]
        signal = self.add_input(left, wanted="var", positive=True)
        read, _ = self.read(signal, left)
        return Sum((read, self.hyper(*REAL[2]))) if self.flip(0.6) else read

    def weight(self, left: list[str], free: list[str]) -> Node:
        """A parameter over units and what is summed, sometimes over sites; sometimes one again."""
        if self.flip(0.06):
            again = [
                Read(t.name, t.letters)
                for t in self.tensors.values()
                if t.kind == "parameter" and set(t.letters) <= {*left, *free} and not t.declared
            ]
            if again:
                return self.pick(again)
        units = self.shuffled(self.unit) if self.flip(0.1) else list(self.unit)
        letters = [x for x in units if self.flip(0.88)]
        letters += [x for x in free if self.flip(0.94)]
        letters += [p for p, _, _ in self.window_letters if self.flip(0.1)]
        letters += [x for x in self.site if self.flip(0.02) and x not in letters]
        if self.group and self.unit and self.unit[0] in letters and self.flip(0.9):
            letters.remove(self.unit[0])
            letters = [x for x in letters if x != self.group]
            letters = [self.group, self.unit[0], *letters]
        elif self.flip(0.1):
            letters = self.shuffled(letters)
        if self.flip(0.06) and self.site:
            return self.looked_up(letters)
        read: Node = self.parameter(letters)
        if self.flip(0.08):
            read = Pow(read, self.pick((2, 2, 3)))
        elif self.flip(0.03):
            read = Fun(self.pick(("tanh", "sigmoid", "exp")), (read,))
        return read

    def looked_up(self, letters: list[str]) -> Read:
        """A parameter that is read at a token."""
        plain = [x for x in self.signals[0].letters if x in self.site] or list(self.site[:1])
        token = self.token(self.some(plain, 0.9) or plain[:1])
        axis = self.letter("v")
        read = self.parameter([axis, *letters])
        tensor = self.tensors[read.tensor]
        self.tensors[read.tensor] = Tensor(
            tensor.name, "parameter", tensor.axes, tensor.torch, declared=True
        )
        return Read(read.tensor, (token, *letters))

    def scale(self, left: list[str], free: list[str]) -> list[Node]:
        """A constant, a real hyperparameter, or one over a size; mostly nothing."""
        way = self.source.integer(1, 20)
        if way <= 2:
            return [Const(self.pick(("2", "3", "0.5", "-1", "-2")))]
        if way == 3:
            return [self.hyper(*self.pick(REAL[:2]))]
        if way == 4 and (letters := [x for x in (*free, *left) if x not in self.same]):
            return [Div(Const("1"), SizeOf(self.pick(letters)))]
        return []

    def bias(self, left: list[str]) -> Node:
        """An offset over the units, sometimes over positions too, sometimes a multiple or power."""
        letters = [x for x in left if x in self.unit]
        letters += [p for p, _, _ in self.window_letters if self.flip(0.08)]
        if self.group and (self.flip(0.9) or not letters):
            letters = [self.group, *letters]
        read: Node = self.parameter(letters, wanted="b")
        way = self.source.integer(1, 20)
        if way == 1:
            read = Mul((Const("3"), read))
        elif way == 2:
            read = Mul((read, read))
        elif way == 3:
            read = Pow(read, 2)
        return read

    def residual(self, left: list[str]) -> list[Node]:
        """An input that is added as it is, where one fits."""
        fits = [s for s in self.signals if set(s.letters) <= set(left) and not s.at]
        if fits and self.flip(0.15):
            return [self.read(self.pick(fits), left)[0]]
        return []

    def complete(self, value: Node, left: list[str]) -> Node:
        """A value that holds every letter of the left side, and a parameter."""
        missing = [x for x in left if x not in free_letters(value)]
        if missing:
            units = [x for x in missing if x in self.unit]
            rest = [x for x in missing if x not in units]
            more: list[Node] = []
            if units:
                more.append(self.parameter(units, wanted="b"))
            if rest:
                more += self.over_sites(rest)
            value = explicit(value)
            value = Sum((value, *more)) if self.flip(0.5) else Mul((value, *more))
        names = {t.name for t in self.tensors.values() if t.kind == "parameter"}
        pending, seen = set(names_in(value)), set()
        while pending:
            name = pending.pop()
            seen.add(name)
            line = next((x for x in self.lines if x.target == name), None)
            pending |= names_in(line.value) - seen if line is not None else set()
        return value if seen & names else Sum((value, self.parameter(self.unit, wanted="b")))

    def over_sites(self, letters: list[str]) -> list[Node]:
        """Reads that hold the given site letters."""
        found: list[Node] = []
        positions = {p: (length, w) for p, length, w in self.window_letters}
        plain = [x for x in letters if x not in positions]
        if plain:
            signal = self.add_input(plain)
            found.append(self.read(signal, plain)[0])
        for p in letters:
            if p in positions:
                length, window = positions[p]
                signal = self.add_input([length], at={length: window})
                read, free = self.read(signal, letters)
                found.append(Reduce("sum", tuple(free), read) if free else read)
        return found

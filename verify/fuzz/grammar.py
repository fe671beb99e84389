"""Random legal layers: number ``k`` of seed ``S`` is the same tree everywhere."""

from __future__ import annotations

from collections.abc import Sequence

from verify.fuzz.parts import REAL, Signal, Workshop
from verify.fuzz.tree import (
    Const,
    Div,
    Ein,
    Fun,
    Layer,
    Mul,
    Node,
    Pow,
    Read,
    Reduce,
    Size,
    SizeOf,
    Sum,
    Tensor,
    Window,
    explicit,
    free_letters,
    index_letters,
    names_in,
    renamed,
    summed_letters,
    walk,
)
from verify.instances import Seeded

ODD = ("tanh", "erf", "sigmoid", "relu", "gelu", "silu")
MAX_OPTIONAL = 3


def random_layer(seed: int, number: int) -> Layer:
    """The legal layer number ``number`` of a seed."""
    return Grammar(Seeded(seed, number, 1)).build()


class Grammar(Workshop):
    """Draws the parts of a layer in the order in which a reader meets them."""

    def build(self) -> Layer:
        """Letters, inputs, intermediates, the output, and what goes on the left."""
        self.draw_letters()
        self.draw_inputs()
        for _ in range(self.pick((0, 0, 0, 0, 1, 1, 2))):
            self.draw_intermediate()
        left = self.shuffled_left()
        value = self.output(left)
        self.define("z", left, value)
        self.draw_optional()
        return self.layer("Fuzzed")

    # -------------------------------------------------------------- letters
    def draw_letters(self) -> None:
        """The letters of site and unit; windows and groups come with letters of their own."""
        site = [self.letter("n")] if self.flip(0.95) else []
        site += [self.letter("t")] if self.flip(0.12) or not site else []
        self.windows = self.pick((0,) * 13 + (1,) * 6 + (2,))
        self.window_letters = [self.draw_window(k) for k in range(self.windows)]
        site += [p for p, _, _ in self.window_letters]
        grouped = self.flip(0.15)
        if grouped:
            group, whole = self.letter("g"), self.letter("c")
            own = self.letter("o")
            site.insert(self.source.integer(0, len(site)), group)
            self.unit = (own,)
            self.features = [whole]
            self.composed = tuple(p for p in ((group, whole), (group, own)) if self.flip(0.9))
            self.size_groups(group, whole, own)
        else:
            chance = self.source.integer(1, 100)
            unit = ["i"] if chance <= 83 else ["i", "d"] if chance <= 93 else []
            self.unit = tuple(self.letter(x) for x in unit)
            self.features = [self.letter("c" if self.windows else "j")]
        self.group = group if grouped else ""
        self.site = tuple(site)

    def size_groups(self, group: str, whole: str, own: str) -> None:
        """The sizes of a group's letters: the group's own, and what is left of each whole."""
        if self.flip(0.5):
            self.hyper("groups", self.source.integer(1, 2))
            self.sizes[group] = Size(group, "hyper", "groups")
        else:
            self.sizes[group] = Size(group, "argument", "groups")
        for letter, name in ((whole, "in_channels"), (own, "out_channels")):
            if (group, letter) in self.composed and self.flip(0.7):
                self.sizes[letter] = Size(letter, "rest", name, partner=group)

    def draw_window(self, place: int) -> tuple[str, str, Window]:
        """Position and length letters of a window, and the window."""
        p, k, length = (self.letter(x) for x in (("p", "k", "l"), ("q", "w", "m"))[place])
        tag = "" if place == 0 else "2"
        transposed = self.flip(0.15)
        window = Window(
            p,
            k if transposed or self.flip(0.92) else "",
            self.count(f"stride{tag}", 1, 2),
            self.count(f"dilation{tag}", 1, 2) if self.flip(0.4) else Const("1"),
            self.count(f"padding{tag}", 0, 1) if self.flip(0.6) else Const("0"),
            transposed,
        )
        self.sizes[p] = Size(p, "window", length, window)
        return p, length, window

    def shuffled_left(self) -> list[str]:
        """The output's letters in random order, a composed pair side by side."""
        left = [*self.site, *self.unit]
        if self.flip(0.3):
            left = self.shuffled(left)
        for a, b in self.composed:
            if a in left and b in left:
                left.remove(b)
                left.insert(left.index(a) + 1, b)
        return left

    # -------------------------------------------------------------- inputs
    def draw_inputs(self) -> None:
        """A main input over sample, group, features and windows, and up to two more."""
        plain = [x for x in self.site if x not in {p for p, _, _ in self.window_letters}]
        plain = [x for x in plain if x != self.group]
        letters = [*plain]
        letters += [self.group] if self.group else []
        letters += self.features if self.flip(0.9) or self.group else []
        letters += self.some(self.unit, 0.1) if not self.group else []
        letters += [length for _, length, _ in self.window_letters]
        if not letters[len(plain) :]:
            letters.append(self.features[0])
        at = {length: window for _, length, window in self.window_letters}
        self.signals.append(self.add_input(letters, at=at))
        for _ in range(self.pick((0, 0, 0, 0, 1, 1, 2))):
            self.signals.append(self.more_input(plain))

    def more_input(self, plain: Sequence[str]) -> Signal:
        """Another input: over some sites, and perhaps over features or units."""
        letters = self.some(plain, 0.8)
        way = self.source.integer(1, 10)
        if way <= 4:
            self.features.append(self.letter("k"))
            letters.append(self.features[-1])
        elif way <= 6:
            letters.append(self.features[0])
        elif way <= 8 or not letters:
            letters += self.unit or self.features[:1]
        if self.flip(0.08) and plain:
            where = self.token(self.some(plain, 0.9) or plain[:1])
            axis = self.letter("v")
            return self.add_input([axis, *(x for x in letters if x not in plain)], at={axis: where})
        return self.add_input(self.shuffled(letters) if self.flip(0.2) else letters)

    # -------------------------------------------------------------- intermediates
    def draw_intermediate(self) -> None:
        """One line, or two that belong together, for later lines to read."""
        way = self.source.integer(1, 20)
        signal = self.pick(self.signals)
        pure = not signal.at
        free = [x for x in signal.letters if x not in (*self.site, *self.unit)]
        if way <= 7:
            self.mixed_line(signal)
        elif way <= 11 and pure:
            read, _ = self.read(signal, signal.letters)
            self.keep(signal.letters, self.bent(read))
        elif way <= 15 and pure and free:
            self.normalised(signal, free)
        elif way <= 18 and pure and free:
            self.statistic(signal, free)
        elif pure and free:
            read, _ = self.read(signal, signal.letters)
            scaled: Node = read
            if self.flip(0.2):
                scaled = Mul((self.parameter(self.some(free, 0.7)), read))
            self.keep(signal.letters, Reduce("softmax", (self.pick(free),), scaled))

    def keep(self, letters: Sequence[str], value: Node) -> Signal:
        """A line that later lines may read."""
        signal = self.define(self.symbol("input", "h"), letters, value)
        self.signals.append(signal)
        return signal

    def mixed_line(self, signal: Signal) -> None:
        """h[.., r] = A[r, j]*x[.., j], perhaps bent, perhaps with a bias."""
        row = self.letter("r")
        places = [signal.at.get(x, x) for x in signal.letters]
        found = dict.fromkeys(x for place in places for x in index_letters(place))
        left = [*(x for x in found if x in self.site), row]
        read, free = self.read(signal, left)
        value: Node = Ein(tuple(free), Mul((self.parameter([row, *free]), read)))
        if not free:
            value = Mul((self.parameter([row]), read))
        if self.flip(0.25):
            value = Sum((value, self.parameter([row], wanted="b")))
        value = explicit(value)
        self.keep(left, self.bent(value) if self.flip(0.3) else value)

    def normalised(self, signal: Signal, free: list[str]) -> None:
        """x/√(mean x² + ε), or with the mean taken off first."""
        letter = self.pick(free)
        left = [x for x in signal.letters if x != letter]
        value: Node = self.read(signal, signal.letters)[0]
        if self.flip(0.4):
            mean = self.keep(left, Reduce("mean", (letter,), value))
            value = Sum((value, Mul((Const("-1"), self.read(mean, left)[0]))))
            self.signals.pop()
        kind = self.pick(("mean", "mean", "sum"))
        power = self.keep(left, Reduce(kind, (letter,), Pow(value, 2)))
        choices: list[Node] = [Const("1"), Const("0.1"), self.hyper(*REAL[2])]
        terms: tuple[Node, ...] = (self.read(power, left)[0], self.pick(choices))
        below = Fun("sqrt", (Sum(terms),))
        self.keep(signal.letters, Div(value, below))

    def statistic(self, signal: Signal, free: list[str]) -> None:
        """One number a site."""
        letter = self.pick(free)
        left = [x for x in signal.letters if x != letter]
        read, _ = self.read(signal, signal.letters)
        kind = self.pick(("sum", "mean", "max"))
        body: Node = Pow(read, 2) if self.flip(0.3) else read
        self.keep(left, Reduce(kind, (letter,), body))

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
            free = list(free_letters(factors[0]) - set(left))
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

    # -------------------------------------------------------------- optional parameters
    def draw_optional(self) -> None:
        """Up to three parameters that stand alone in a term may be left out."""
        alone = [
            term.tensor if isinstance(term, Read) else next(iter(names_in(term)), "")
            for line in self.lines
            for node in walk(line.value)
            if isinstance(node, Sum)
            for term in node.terms
            if len(names_in(term)) == 1
        ]
        names = [n for n in dict.fromkeys(alone) if self.tensors_kind(n) == "parameter"]
        others = [t.name for t in self.tensors.values() if t.kind == "parameter"]
        for name in names[:MAX_OPTIONAL]:
            if len(others) > 1 and self.flip(0.6):
                others.remove(name)
                tensor = self.tensors[name]
                self.tensors[name] = Tensor(
                    tensor.name,
                    "parameter",
                    tensor.axes,
                    tensor.torch,
                    optional=True,
                    declared=tensor.declared,
                )
                if self.flip(0.1):
                    self.hypers[tensor.torch] = True

    def tensors_kind(self, name: str) -> str:
        """The kind of a tensor, or nothing for a line."""
        tensor = self.tensors.get(name)
        return tensor.kind if tensor is not None else ""

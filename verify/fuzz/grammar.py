"""Random legal layers: number ``k`` of seed ``S`` is the same tree everywhere."""

from __future__ import annotations

from collections.abc import Sequence

from verify.fuzz.parts import REAL, Signal
from verify.fuzz.sums import (
    explicit,
)
from verify.fuzz.terms import Terms
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
    Sum,
    Tensor,
    Window,
)
from verify.fuzz.walk import (
    index_letters,
    names_in,
    walk,
)
from verify.instances import Seeded

MAX_OPTIONAL = 3


def random_layer(seed: int, number: int) -> Layer:
    """The legal layer number ``number`` of a seed."""
    return Grammar(Seeded(seed, number, 1)).build()


class Grammar(Terms):
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

"""A checker of certificates, to be read in ten minutes; it trusts the standard library alone.

A certificate holds a layer z(x, θ) as formulas, and a claim about one step of gradient descent. This
program differentiates the formulas itself and compares. With K(s,s') = Σ_θ (∂z_s/∂θ)(∂z_s'/∂θ)ᵀ over
sites s, *accepted* means, at all sizes that were drawn and wherever nothing is divided by 0:

- kernel: K(s,s') is the claimed formula. self-kernel: K(s,s) is; if ``constant``, it reads no tensor.
- matrix gauge: besides, K(s,s) = L D Lᵀ has no pivot 0, so that Λ = D^(-1/2) L⁻¹ gives Λ K Λᵀ = I.
- correction: the corrected z̃ is z where its gauges are 1, and has K(s,s) = c·I with c that reads no
  tensor. The class must be the one found: ``frozen`` if a gauge depends on θ (it is then held fixed),
  else ``first-order`` if z̃ is not affine in θ, else ``exact`` if c = 1, else ``constant-rate``.

A false claim has a chance below 2^-100 at each of the sizes. Entries are random residues modulo a
random prime of 127 bits that is drawn after the certificate was read, so that none can hide a multiple
of it. A number's *height*, 1 for an entry and the sum of both for a + b and a·b, bounds its degree and
the bits of its coefficients; hence a false identity of height h holds by chance below h / 2^120
(Schwartz and Zippel; few primes divide an integer of h bits). A root of a is a generator r with r^q = a:
what vanishes for every choice of roots vanishes for the positive one. exp, log, tanh, sigmoid and erf
are random residues, one an argument, with the slopes below: what holds for all functions with such
slopes holds for these. Tangents ε_θ are generators with ε ε' = 0. What is not understood is refused.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import pathlib
import secrets
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

FORMAT, BITS, TRIES, OUTPUTS, ENTRIES = "truestep certificate 1", 100, 20000, 8, 64
FIELDS = {"format", "about", "assumptions", "integers", "reals", "axes", "tensors", "lines"} | {
    *("corrected", "site", "unit", "claim")
}
SIZES, ONE, Env = 3, ((), ()), dict[str, int]


class Verdict(NamedTuple):
    """What became of a certificate; ``bits`` is -log2 of the chance of error."""

    accepted: bool
    reason: str
    bits: float
    points: int
    compared: int


class Number:
    """Σ coefficient · roots · tangent; ``terms`` maps (roots, tangent) to a residue."""

    def __init__(self, field: Field, height: int, terms: dict[Any, int]) -> None:
        self.field, self.height = field, height
        self.terms = {k: c % field.p for k, c in terms.items() if c % field.p}

    def __add__(self, other: Number) -> Number:
        terms = dict(self.terms)
        for key, c in other.terms.items():
            terms[key] = terms.get(key, 0) + c
        return Number(self.field, self.height + other.height, terms)

    def __sub__(self, other: Number) -> Number:
        return self + other * self.field.number(-1)

    def __mul__(self, other: Number) -> Number:
        out: dict[Any, int] = {}
        for ((r, t), c), ((s, u), d) in itertools.product(self.terms.items(), other.terms.items()):
            if not (t and u):
                for key, e in self.field.reduced(tuple(sorted(r + s)), t or u, c * d):
                    out[key] = out.get(key, 0) + e
        known_zero = not (self.height and other.height)
        return Number(self.field, 0 if known_zero else self.height + other.height, out)

    def __pow__(self, n: int) -> Number:
        factors = [self if n > 0 else self.inverse()] * min(abs(n), TRIES)
        return functools.reduce(Number.__mul__, factors, self.field.number(1))

    def tangent(self, theta: Any = ()) -> Number:
        """∂/∂θ; without θ the number without its tangents."""
        part = {(roots, ()): c for (roots, t), c in self.terms.items() if t == theta}
        return Number(self.field, self.height, part)

    def inverse(self) -> Number:
        """1/(x + ε) = (2 - (x + ε)/x)/x, and 1/x = y/(x y) where x y holds one root less."""
        x = self.tangent()
        if len(x.terms) < len(self.terms):
            return x.inverse() * (self.field.number(2) - self * x.inverse())
        if not x.terms:
            raise ZeroDivisionError
        last = max((i for roots, _ in x.terms for i in roots), default=-1)
        if last < 0:
            return Number(self.field, x.height, {ONE: pow(x.terms[ONE], -1, self.field.p)})
        y = Number(self.field, x.height, {k: -c if last in k[0] else c for k, c in x.terms.items()})
        if all(last in roots for roots, _ in x.terms):
            y = x ** (self.field.roots[last][0] - 1)
        return y * (x * y).inverse()


class Field:
    """Residues modulo a random prime, the roots and functions met, and what was compared."""

    def __init__(self) -> None:
        prime, self.p = False, 0
        while not prime:  # Miller and Rabin's test, which is this simple for p = 3 modulo 4
            self.p = 1 << 126 | secrets.randbits(124) << 2 | 3
            bases = (secrets.randbelow(self.p - 3) + 2 for _ in range(60))
            prime = all(pow(b, self.p >> 1, self.p) in (1, self.p - 1) for b in bases)
        self.roots: list[tuple[int, Number]] = []
        self.drawn: dict[Any, Number] = {}
        self.height, self.compared = 1, 0

    def number(self, value: int) -> Number:
        """An integer."""
        return Number(self, value.bit_length(), {ONE: value})

    def total(self, numbers: Iterable[Number]) -> Number:
        """Σ."""
        return sum(numbers, self.number(0))

    def draw(self, key: Any) -> Number:
        """A random residue, one a key."""
        if key not in self.drawn:
            self.drawn[key] = Number(self, 1, {ONE: secrets.randbelow(self.p)})
        return self.drawn[key]

    def reduced(self, roots: tuple[int, ...], theta: Any, c: int) -> Iterable[tuple[Any, int]]:
        """The terms of a product of roots: r^q is the radicand."""
        for i in set(roots):
            q, radicand = self.roots[i]
            if roots.count(i) >= q:
                at = roots.index(i)
                rest = {(roots[:at] + roots[at + q :], theta): c}
                return (Number(self, 1, rest) * radicand).terms.items()
        return [((roots, theta), c)]

    def argument(self, name: Any, x: Number) -> Any:
        """What tells this root or value of a function from all others."""
        self.height += x.height * (1 + len(self.drawn))
        return name, *sorted(x.terms.items())

    def root(self, q: int, a: Number) -> Number:
        """a^(1/q) = r (1 + ε/(q x)) for a = x + ε and r^q = x."""
        x = a.tangent()
        if not a.terms:
            return a
        key = self.argument(q, x)
        if key not in self.drawn:
            self.drawn[key] = Number(self, x.height, {((len(self.roots),), ()): 1})
            self.roots.append((q, x))
        return self.drawn[key] * (self.number(1) + (a - x) * (self.number(q) * x).inverse())

    def call(self, name: str, a: Number) -> Number:
        """f(x + ε) = f(x) + f'(x) ε."""
        x = a.tangent()
        y = self.draw(self.argument(name, x))
        return y + SLOPES[name](self, x, y) * (a - x)

    def demand(self, found: Number, claimed: Number, what: str) -> None:
        """Refuse numbers that differ."""
        self.height, self.compared = (
            self.height + found.height + claimed.height,
            self.compared + bool(found.terms),
        )
        if (found - claimed).terms:
            raise ValueError(what)


SLOPES: dict[str, Any] = {
    "exp": lambda f, x, y: y,
    "log": lambda f, x, y: x.inverse(),
    "tanh": lambda f, x, y: f.number(1) - y * y,
    "sigmoid": lambda f, x, y: y - y * y,
    "erf": lambda f, x, y: f.number(2) * (f.root(2, f.draw("pi")) * f.call("exp", x * x)).inverse(),
}
INDICES: dict[str, Any] = {
    "size": lambda at, env, axis: at.sizes[axis],
    "+": lambda at, env, *parts: sum(at.integer(e, env) for e in parts),
    "*": lambda at, env, *parts: math.prod(at.integer(e, env) for e in parts),
    "//": lambda at, env, a, b: at.integer(a, env) // at.integer(b, env),
    "token": lambda at, env, name, *index: at.token(name, [at.integer(e, env) for e in index]),
}
NUMBERS: dict[str, Any] = {
    "int": lambda at, env, e: at.field.number(at.integer(e, {})),
    "real": lambda at, env, name: at.field.draw(("pi", *at.data["reals"]).index(name) and name),
    "add": lambda at, env, *parts: at.field.total(at.value(e, env) for e in parts),
    "mul": lambda at, env, *parts: at.product(parts, env),
    "pow": lambda at, env, e, n: at.value(e, env) ** n,
    "root": lambda at, env, q, e: at.field.root(q, at.value(e, env)),
    "call": lambda at, env, name, e: at.field.call(name, at.value(e, env)),
    "is 0": lambda at, env, e: at.field.number(int(at.integer(e, env) == 0)),
    "sum": lambda at, env, over, e: at.field.total(at.value(e, env | i) for i in at.places(over)),
    "read": lambda at, env, name, *index: at.read(name, [at.integer(e, env) for e in index]),
}


class Layer:
    """The formulas at given sizes; ``shift`` moves the parameters, ``gauge`` replaces gauges."""

    def __init__(self, data: Any, field: Any, sizes: Env, gauge: Any = None, shift: bool = False):
        self.data, self.field, self.sizes, self.shift, self.gauge = data, field, sizes, shift, gauge
        self.lines = {line["name"]: line for line in data["lines"] + data["corrected"]}
        self.known: dict[Any, Number] = {}

    def places(self, letters: dict[str, str]) -> list[Env]:
        """Every position of letters along their axes."""
        ranges = (range(self.sizes[axis]) for axis in letters.values())
        return [dict(zip(letters, i, strict=True)) for i in itertools.product(*ranges)]

    def integer(self, e: Any, env: Env) -> int:
        """An index or a size."""
        if isinstance(e, list):
            return INDICES[e[0]](self, env, *e[1:])
        return e if isinstance(e, int) else env[e] if e in env else self.sizes[e]

    def value(self, e: Any, env: Env) -> Number:
        """A number."""
        return NUMBERS[e[0]](self, env, *e[1:]) if isinstance(e, list) else self.field.number(e)

    def product(self, parts: Any, env: Env) -> Number:
        """Π; what stands behind an exact 0, which alone has height 0, is passed over."""
        result = self.field.number(1)
        for e in parts:
            result = result * self.value(e, env) if result.height else result
        return result

    def token(self, name: str, index: list[int]) -> int:
        """An integer input, below the size of the axis that it indexes."""
        return self.read(name, index).terms[ONE] % self.sizes[self.data["tensors"][name]["below"]]

    def read(self, name: str, index: list[int]) -> Number:
        """An element of a tensor or a line, 0 out of range."""
        key, line = (name, *index), self.lines.get(name)
        axes = [*line["letters"].values()] if line else self.data["tensors"][name]["axes"]
        if not all(0 <= i < self.sizes[axis] for i, axis in zip(index, axes, strict=True)):
            return self.field.number(0)
        if key not in self.known:
            if line:
                found = self.value(line["value"], dict(zip(line["letters"], index, strict=True)))
            else:
                found = self.field.draw(key)
                if self.data["tensors"][name]["kind"] == "parameter":
                    found = found + Number(self.field, 1, {((), key): 1})
                    found = found + self.field.draw(("shift", key)) if self.shift else found
            gauge = self.gauge and name in self.data["claim"]["gauges"]
            self.known[key] = self.gauge(found) if gauge else found
        return self.known[key]

    def output(self, at: Env, line: Any) -> Number:
        """A line at a site and unit."""
        return self.read(line["name"], [at[x] for x in line["letters"]])

    def kernel(self, here: Env, there: Env, line: Any) -> Number:
        """Σ_θ (∂z/∂θ)(∂z'/∂θ)."""
        y, z = self.output(here, line), self.output(there, line)
        common = {t for _, t in y.terms} & {t for _, t in z.terms} - {()}
        return self.field.total(y.tangent(t) * z.tangent(t) for t in common)

    def is_affine(self, at: Env, line: Any) -> bool:
        """Whether z(θ + v) = z(θ) + (∂z/∂θ) v for a random v."""
        z, moved = self.output(at, line), Layer(self.data, self.field, self.sizes, self.gauge, True)
        steps = ((t, self.field.draw(("shift", t))) for t in {t for _, t in z.terms} - {()})
        change = self.field.total(z.tangent(t) * v for t, v in steps)
        return not (moved.output(at, line) - z - change).tangent().terms


class Point:
    """A claim at one random point."""

    def __init__(self, data: Any, sizes: Env) -> None:
        self.field, self.claim = Field(), data["claim"]
        self.layer = Layer(data, self.field, sizes)
        self.bare = Layer({**data, "tensors": {}, "lines": [], "corrected": []}, self.field, sizes)
        self.line, letters = data["lines"][-1], data["lines"][-1]["letters"]
        self.data, self.places = data, self.layer.places(letters)
        site, unit = ({x: letters[x] for x in data[k]} for k in ("site", "unit"))
        self.site, self.unit = self.layer.places(site), self.layer.places(unit)
        if len(letters) != len(site) + len(unit):
            raise ValueError("a letter of the output is neither of the site nor of the unit")

    def kernel(self) -> list[Number]:
        """K(s,s') or K(s,s) is the claimed value."""
        where, values = self.bare if self.claim["constant"] else self.layer, []
        pairs = itertools.product(self.site, self.site, self.unit, self.unit)
        for s, t, u, v in pairs:
            if s == t or self.claim["kind"] == "kernel":
                env = s | u | {f"{letter}'": i for letter, i in (t | v).items()}
                values.append(where.value(self.claim["value"], env))
                found = self.layer.kernel(s | u, t | v, self.line)
                self.field.demand(found, values[-1].tangent(), f"K differs at {env}")
        return values

    def matrix(self) -> None:
        """K(s,s) is the claimed value, and elimination meets no pivot 0."""
        values, n = self.kernel(), len(self.unit)
        for start in range(0, len(values), n * n):
            rows = [[x.tangent() for x in values[start + k * n :][:n]] for k in range(n)]
            while rows:
                (pivot, *top), *rest = rows
                over = pivot.inverse()
                rows = [[x - y * r * over for x, y in zip(row, top)] for r, *row in rest]
        self.classify(self.layer, self.line, values)

    def correction(self) -> None:
        """The corrected line is z at gauges 1, and its K(s,s) is c·I."""
        field, line, gauges = self.field, self.data["corrected"][-1], self.claim["gauges"]
        frozen = self.claim["class"] == "frozen"
        layer = Layer(self.data, field, self.layer.sizes, Number.tangent if frozen else None)
        plain = Layer(self.data, field, self.layer.sizes, lambda x: field.number(1))
        for at in self.places:
            self.layer.output(at, line)
            field.demand(plain.output(at, line), plain.output(at, self.line), "z at gauges 1")
        rate = self.bare.value(self.claim["rate"], {})
        for s, u, v in itertools.product(self.site, self.unit, self.unit):
            wanted = rate if u == v else field.number(0)
            field.demand(layer.kernel(s | u, s | v, line), wanted, f"K is not c·I at {s}")
        self.classify(layer, line, [x for k, x in self.layer.known.items() if k[0] in gauges])

    def classify(self, layer: Layer, line: Any, gauges: list[Number]) -> None:
        """The class is the claimed one."""
        one = self.bare.value(self.claim["rate"], {}).terms == {ONE: 1}
        affine = all(layer.is_affine(at, line) for at in self.places)
        found = "first-order" if not affine else "exact" if one else "constant-rate"
        found = "frozen" if any(t for x in gauges for _, t in x.terms) else found
        if found != self.claim["class"]:
            raise ValueError(f"the class is {found}, not {self.claim['class']}")


CLAIMS: dict[str, tuple[set[str], Any]] = {
    "kernel": ({"kind", "value", "constant"}, Point.kernel),
    "self-kernel": ({"kind", "value", "constant"}, Point.kernel),
    "matrix gauge": ({"kind", "value", "constant", "rate", "class"}, Point.matrix),
    "correction": ({"kind", "gauges", "rate", "class"}, Point.correction),
}


def draw_sizes(data: Any, least: Env, wanted: set[str]) -> Env:
    """Small sizes that fit together, one of the wanted ones above its least value."""
    for _ in range(TRIES):
        sizes = {k: low + secrets.choice((0, 0, 1, 2)) for k, low in data["integers"].items()}
        layer = Layer(data, None, sizes)
        for axis, e in data["axes"].items():
            sizes[axis] = secrets.choice((1, 1, 2, 2, 3, 4)) if e is None else layer.integer(e, {})
        held = [[sizes[axis] for axis in t["axes"]] for t in data["tensors"].values()]
        output = math.prod(sizes[axis] for axis in data["lines"][-1]["letters"].values())
        fits = all(sizes[k] >= low for k, low in least.items()) and output <= OUTPUTS
        if fits and sum(map(math.prod, held)) <= ENTRIES:
            if not wanted or any(sizes[k] > least[k] for k in wanted):
                return sizes
    raise ValueError(f"no small sizes fit, or no {' '.join(sorted(wanted))} above its least value")


def examine(data: Any) -> Verdict:
    """Points at random sizes until each axis and integer was above its least value."""
    fields, judge = CLAIMS[data["claim"]["kind"]]
    least = data["integers"] | dict.fromkeys(data["axes"], 1)
    if data["format"] != FORMAT or set(data) != FIELDS or set(data["claim"]) != fields:
        raise ValueError("another format, or a field that is missing or unknown")
    if not set(data["integers"].values()) <= {0, 1}:
        raise ValueError("the least value of an integer is 0 or 1")
    wanted, points, compared, worst = set(least), 0, 0, math.inf
    for _ in range(TRIES):
        sizes, bits = draw_sizes(data, least, wanted), 0.0
        try:
            while bits < BITS:
                point = Point(data, sizes)
                judge(point)
                bits += 120 - math.log2(point.field.height)
                points, compared = points + 1, compared + point.field.compared
        except ZeroDivisionError:
            continue
        worst, wanted = min(worst, bits), {k for k in wanted if sizes[k] == least[k]}
        if points > SIZES and compared and not wanted:
            return Verdict(True, "", worst, points, compared)
    raise ValueError("a division by 0 at all sizes, or nothing to compare but zeros")


def check(data: Any) -> Verdict:
    """Accept or refuse one certificate."""
    try:
        return examine(data)
    except Exception as error:  # whatever is not understood is refused
        return Verdict(False, f"{type(error).__name__}: {error}", 0.0, 0, 0)


def main(paths: list[str]) -> int:
    """One line a certificate; 1 if any was refused."""
    failed = not paths
    for path in paths:
        v = check(json.loads(pathlib.Path(path).read_text(encoding="utf-8")))
        counts = f"2^-{v.bits:.0f} chance of error, {v.points} points, {v.compared} comparisons"
        print(path, f"accepted: {counts}" if v.accepted else f"REFUSED: {v.reason}")
        failed |= not v.accepted
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

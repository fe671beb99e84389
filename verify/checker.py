"""A checker of certificates, to be read in ten minutes; it trusts the standard library alone.

A certificate holds a layer z(x, θ) as formulas, and a claim about one step of gradient descent.
This program differentiates the formulas itself and compares. *Accepted* means, with
K(s,s') = Σ_θ (∂z_s/∂θ)(∂z_s'/∂θ)ᵀ, at all sizes that were drawn, where nothing is divided by 0:

- kernel: K(s,s') is the claimed formula; self-kernel: K(s,s) is; ``constant``: it reads no tensor;
- matrix gauge: besides, elimination on K(s,s) = L D Lᵀ meets no pivot 0, so that Λ = D^(-1/2) L⁻¹,
  held fixed if it depends on θ, gives Λ K Λᵀ = I;
- correction: the corrected z̃ is z where its gauges are 1, and has K(s,s) = c·I with a c that reads
  no tensor, where a ``held`` gauge counts as fixed during the step;
- the class is the one that was found: ``frozen`` if what is held depends on θ, else ``first-order``
  if z̃ is not affine in θ, else ``exact`` if c = 1, else ``constant-rate``.

A false claim has a chance below 2^-100 at each of the sizes. All entries are random residues modulo
a random prime of 127 bits, which is drawn after the certificate was read: none can hide a multiple
of it. A number's *height*, 1 for an entry and the sum of both for a + b and a·b, bounds its degree
and the bits of its coefficients, and a false identity of height h holds by chance below h / 2^120
(Schwartz and Zippel; few primes divide an integer of h bits). A root of a is a generator r with
r^q = a: what vanishes for every choice of roots vanishes for the positive one. Values of functions
are random residues, one an argument, with the slopes below: what holds for every function with such
a slope holds for this one. Tangents ε are generators with ε ε' = 0. What is not known is refused.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import pathlib
import random
import re
import secrets
import sys
from typing import Any, NamedTuple, TypeAlias

FORMAT, BITS, POINTS, TRIES, OUTPUTS, ENTRIES = "truestep certificate 1", 100, 4, 5000, 8, 64
ROUNDS, MOST = 400, 12
PARTS = "format about assumptions integers reals axes tensors lines corrected site unit claim"
CLAIMS = {
    "kernel": "kind value constant",
    "self-kernel": "kind value constant",
    "matrix gauge": "kind value constant class",
    "correction": "kind gauges rate class",
}
CLASSES = {"held": "frozen", "bent": "first-order", "not 1": "constant-rate"}
ONE: Any = ((), ())
Env: TypeAlias = dict[str, tuple[int, str]]  # letter → position and axis
Sizes: TypeAlias = dict[str, int]


class Verdict(NamedTuple):
    """What became of a certificate, and why."""

    accepted: bool
    text: str


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
                for key, e in self.field.reduced(tuple(sorted(r + s)), t or u, c * d).items():
                    out[key] = out.get(key, 0) + e
        exact_zero = not (self.height and other.height)
        return Number(self.field, 0 if exact_zero else self.height + other.height, out)

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
        if x.terms != self.terms:
            return x.inverse() * (self.field.number(2) - self * x.inverse())
        if not x.terms:
            raise ZeroDivisionError
        last = max((i for roots, _ in x.terms for i in roots), default=None)
        if last is None:
            return Number(self.field, x.height, {ONE: pow(x.terms[ONE], -1, self.field.p)})
        y = Number(self.field, x.height, {k: -c if last in k[0] else c for k, c in x.terms.items()})
        if all(last in roots for roots, _ in x.terms):
            y = x ** (self.field.roots[last][0] - 1)
        return y * (x * y).inverse()


class Field:
    """Residues modulo a random prime, with the roots and values of functions that were met."""

    def __init__(self) -> None:
        prime, self.p = False, 0
        while not prime:  # the test of Miller and Rabin, as simple as this for p = 3 modulo 4
            self.p = 1 << 126 | secrets.randbits(124) << 2 | 3
            bases = (secrets.randbelow(self.p - 3) + 2 for _ in range(60))
            prime = all(pow(b, self.p >> 1, self.p) in (1, self.p - 1) for b in bases)
        self.roots: list[tuple[int, Number]] = []
        self.drawn: dict[Any, Number] = {}
        self.height, self.held = 1, False

    def number(self, value: int) -> Number:
        """An integer."""
        return Number(self, value.bit_length(), {ONE: value})

    def draw(self, key: Any) -> Number:
        """A random residue, one a key."""
        if key not in self.drawn:
            self.drawn[key] = Number(self, 1, {ONE: secrets.randbelow(self.p)})
        return self.drawn[key]

    def reduced(self, roots: tuple[int, ...], theta: Any, c: int) -> dict[Any, int]:
        """A product of roots, where r^q is the radicand."""
        for i in set(roots):
            (q, radicand), at = self.roots[i], roots.index(i)
            if roots.count(i) >= q:
                rest = {(roots[:at] + roots[at + q :], theta): c}
                return (Number(self, 1, rest) * radicand).terms
        return {(roots, theta): c}

    def call(self, name: str, a: Number, q: int = 0) -> Number:
        """f(x + ε) = f(x) + f'(x) ε; for a root of order q, f(x) is a generator."""
        x, slope = a.tangent(), SLOPES[name]
        key = ("call", name, q, *sorted(x.terms.items()))
        self.height += x.height * (1 + len(self.drawn))  # another argument may coincide with x
        if q and x.terms and key not in self.drawn:
            self.drawn[key] = Number(self, x.height, {((len(self.roots),), ()): 1})
            self.roots.append((q, x))
        y = self.draw(key) if x.terms or not q else x
        return y + slope(self, x, y, q) * (a - x) if a.terms != x.terms else y

    def same(self, a: Number, b: Number) -> bool:
        """Whether two numbers agree."""
        self.height += a.height + b.height
        return not (a - b).terms


SLOPES: dict[str, Any] = {
    "root": lambda f, x, y, q: y * (f.number(q) * x).inverse(),
    "exp": lambda f, x, y, q: y,
    "log": lambda f, x, y, q: x.inverse(),
    "tanh": lambda f, x, y, q: f.number(1) - y * y,
    "sigmoid": lambda f, x, y, q: y - y * y,
    "erf": lambda f, x, y, q: (
        f.number(2)  # 2/√π exp(-x²)
        * (f.call("root", f.draw("pi"), 2) * f.call("exp", x * x)).inverse()
    ),
}
INDICES: dict[str, Any] = {
    "size": lambda at, env, axis: at.sizes[axis],
    "+": lambda at, env, *parts: sum(at.integer(e, env) for e in parts),
    "*": lambda at, env, *parts: math.prod(at.integer(e, env) for e in parts),
    "//": lambda at, env, a, b: at.integer(a, env) // at.integer(b, env),
    "token": lambda at, env, name, *index: at.token(name, index, env),
}
NUMBERS: dict[str, Any] = {
    "int": lambda at, env, e: at.field.number(at.integer(e, {})),
    "real": lambda at, env, name: at.field.draw(name),
    "add": lambda at, env, *parts: at.total(at.value(e, env) for e in parts),
    "mul": lambda at, env, *parts: at.product(parts, env),
    "pow": lambda at, env, e, n: at.value(e, env) ** n,
    "root": lambda at, env, q, e: at.field.call("root", at.value(e, env), q),
    "call": lambda at, env, name, e: at.field.call(name, at.value(e, env)),
    "held": lambda at, env, e: at.held(at.value(e, env)),
    "is 0": lambda at, env, e: at.field.number(int(at.integer(e, env) == 0)),
    "sum": lambda at, env, over, e: at.total(at.value(e, env | i) for i in at.places(over)),
    "read": lambda at, env, name, *index: at.read(name, index, env),
}


class Layer:
    """The formulas at given sizes, where some gauges are 1 or the parameters have moved."""

    def __init__(self, data: Any, field: Any, sizes: Sizes, ones: Any = (), moved: Any = None):
        self.data, self.field, self.sizes, self.ones, self.moved = data, field, sizes, ones, moved
        self.lines = {line["name"]: line for line in data["lines"] + data["corrected"]}
        self.known: dict[Any, Number] = {}

    def places(self, letters: dict[str, str]) -> list[Env]:
        """Every position of letters along their axes."""
        ranges = ([(i, axis) for i in range(self.sizes[axis])] for axis in letters.values())
        return [dict(zip(letters, i, strict=True)) for i in itertools.product(*ranges)]

    def integer(self, e: Any, env: Env) -> Any:
        """An index or a size."""
        if isinstance(e, list):
            return INDICES[e[0]](self, env, *e[1:])
        return e if isinstance(e, int) else env[e][0] if e in env else self.sizes[e]

    def value(self, e: Any, env: Env) -> Any:
        """A number."""
        return NUMBERS[e[0]](self, env, *e[1:]) if isinstance(e, list) else self.field.number(e)

    def total(self, numbers: Any) -> Any:
        """Σ."""
        return sum(numbers, self.field.number(0))

    def product(self, parts: Any, env: Env) -> Any:
        """Π; nothing behind an exact 0, which alone has height 0, is looked at."""
        result = self.field.number(1)
        for e in parts:
            result = result * self.value(e, env) if result.height else result
        return result

    def held(self, x: Number) -> Number:
        """A number that counts as fixed during the step."""
        self.field.held |= x.terms != x.tangent().terms
        return x.tangent()

    def token(self, name: str, index: Any, env: Env) -> Any:
        """An integer input, below the size of the axis that it indexes."""
        bound = self.sizes[self.data["tensors"][name]["below"]]
        return self.read(name, index, env).terms.get(ONE, 0) % bound

    def axis(self, e: Any, env: Env) -> Any:
        """The axis that a letter or a token is made for; any other index may leave its axis."""
        if isinstance(e, list):
            return self.data["tensors"][e[1]]["below"] if e[0] == "token" else None
        return env[e][1] if e in env else None

    def read(self, name: str, index: Any, env: Env) -> Any:
        """An element of a line or tensor, 0 out of range; a parameter has a tangent."""
        line, tensor = self.lines.get(name), self.data["tensors"].get(name)
        axes = [*line["letters"].values()] if line else tensor["axes"]
        if any(self.axis(e, env) not in (None, a) for e, a in zip(index, axes, strict=True)):
            raise ValueError(f"an index of {name} is made for another axis")
        key = name, *(self.integer(e, env) for e in index)
        if not all(0 <= i < self.sizes[axis] for i, axis in zip(key[1:], axes, strict=True)):
            return self.field.number(0)
        if key not in self.known:
            if line:
                at = zip(line["letters"], zip(key[1:], axes, strict=True), strict=True)
                found = self.value(line["value"], dict(at))
            else:
                found = self.field.draw(key)
                if tensor["kind"] == "parameter":
                    found = found + Number(self.field, 1, {((), key): 1})
                    found = found + self.field.draw(("moved", key)) if self.moved else found
            self.known[key] = self.field.number(1) if name in self.ones else found
        return self.known[key]

    def output(self, at: Env, line: Any) -> Any:
        """A line at a site and unit."""
        return self.read(line["name"], list(line["letters"]), at)

    def kernel(self, here: Env, there: Env, line: Any) -> Any:
        """Σ_θ (∂z/∂θ)(∂z'/∂θ)."""
        y, z = self.output(here, line), self.output(there, line)
        common = {t for _, t in y.terms} & {t for _, t in z.terms} - {()}
        return self.total(y.tangent(t) * z.tangent(t) for t in common)


def judge(data: Any, field: Field, sizes: Sizes) -> set[str]:
    """Compare the claim with the layer at a random point; what was seen there."""
    claim, z, last = data["claim"], data["lines"][-1], (data["lines"] + data["corrected"])[-1]
    layer, seen = Layer(data, field, sizes), set()
    site, unit = (layer.places({x: z["letters"][x] for x in data[k]}) for k in ("site", "unit"))
    for s, t in itertools.product(site, site):
        if s != t and claim["kind"] != "kernel":
            continue
        rows = [[layer.kernel(s | u, t | v, last) for v in unit] for u in unit]
        for (i, u), (j, v) in itertools.product(enumerate(unit), repeat=2):
            env = s | u | {f"{letter}'": place for letter, place in (t | v).items()}
            e = claim["value"] if "value" in claim else claim["rate"] if i == j else 0
            wanted = layer.value(["held", e] if claim["kind"] == "matrix gauge" else e, env)
            seen |= {"not 0"} if rows[i][j].terms else set()
            if not field.same(rows[i][j], wanted.tangent()):
                raise ValueError(f"K is not as claimed at {env}")
        while claim["kind"] == "matrix gauge" and rows:
            ((_, *top), *rest), over = rows, rows[0][0].inverse()
            rows = [[x - r * over * y for x, y in zip(row, top, strict=True)] for r, *row in rest]
    if "class" in claim:
        seen |= {"not 1"} if layer.value(claim.get("rate", 1), {}).terms != {ONE: 1} else set()
        seen |= classify(layer, z, last, claim.get("gauges", ()))
    return seen


def classify(layer: Layer, z: Any, last: Any, gauges: Any) -> set[str]:
    """Whether the corrected map, which is z where gauges are 1, is held or not affine."""
    data, field, sizes, affine = layer.data, layer.field, layer.sizes, True
    plain, moved = Layer(data, field, sizes, ones=gauges), Layer(data, field, sizes, moved=True)
    for at in layer.places(z["letters"]):
        if not field.same(plain.output(at, z), plain.output(at, last)):
            raise ValueError("the corrected map is not the layer where the gauges are 1")
        here = layer.output(at, last)
        steps = {t: field.draw(("moved", t)) for _, t in here.terms if t}
        there = layer.total([here.tangent(), *(here.tangent(t) * v for t, v in steps.items())])
        affine &= not (moved.output(at, last).tangent() - there).terms
    return ({"held"} if field.held else set()) | (set() if affine else {"bent"})


def draw_sizes(data: Any, least: Sizes, wanted: set[tuple[str, str]]) -> Sizes:
    """Small sizes that fit together, a wanted pair of them above their least values."""
    dice = random.Random(secrets.randbits(256))
    pairs: list[tuple[str, ...]] = [*sorted(wanted)] or [()]
    for attempt in range(TRIES):
        pair, small = dice.choice(pairs), (1, 2, 3, 4) if attempt < 50 else (1, 1, 1, 2, 3)
        above = {k: dice.choice((1, 1, 2) if k in pair else (0, 0, 1, 2)) for k in least}
        sizes = {k: low + above[k] for k, low in data["integers"].items()}
        layer = Layer(data, None, sizes)
        for axis, e in data["axes"].items():
            free = 1 + above[axis] if axis in pair else dice.choice(small)
            sizes[axis] = free if e is None else layer.integer(e, {})
        shapes = [t["axes"] for t in data["tensors"].values()]
        shapes.append(data["lines"][-1]["letters"].values())
        *held, output = (math.prod(sizes[axis] for axis in shape) for shape in shapes)
        fit = sum(held) <= ENTRIES and output <= OUTPUTS
        fit = fit and all(sizes[k] >= low for k, low in least.items())
        if fit and all(sizes[k] > least[k] for k in pair):
            return sizes
    return {}


def examine(data: Any) -> str:
    """Points at random sizes, until every axis and integer was above its least value."""
    claim, letters = data["claim"], data["lines"][-1]["letters"]
    least, constant = data["integers"] | dict.fromkeys(data["axes"], 1), [claim.get("rate")]
    constant.append(claim["value"] if claim.get("constant") else None)
    if data["format"] != FORMAT or set(data) != set(PARTS.split()):
        raise ValueError("another format, or a part that is missing or unknown")
    if set(claim) != set(CLAIMS[claim["kind"]].split()) or re.search(
        '"read"|"token"', json.dumps(constant)
    ):
        raise ValueError("the claim lacks a part, or a constant reads a tensor")
    if sorted(letters) != sorted(data["site"] + data["unit"]):
        raise ValueError("site and unit are not the letters of the output")
    gauges = claim.get("gauges", [])
    names = [line["name"] for line in data["lines"] + data["corrected"]] + list(data["tensors"])
    used = [
        f'"read", "{gauge}"' in json.dumps(data["lines"], ensure_ascii=False) for gauge in gauges
    ]
    if '"held"' in json.dumps(data["lines"]) or "pi" in data["reals"]:
        raise ValueError("the layer holds something fixed, or a number named pi")
    if len(set(names)) < len(names) or any(used) or data["lines"][-1]["name"] in gauges:
        raise ValueError("a name twice, or a gauge that the layer itself holds")
    if not set(data["integers"].values()) <= {0, 1}:
        raise ValueError("the least value of an integer is neither 0 nor 1")
    wanted = set(itertools.combinations_with_replacement(least, 2))
    points, worst, seen = 0, math.inf, set()
    for _ in range(ROUNDS):
        alone = {(a, b) for a, b in wanted if a == b}
        sizes, bits = draw_sizes(data, least, alone or wanted), 0.0
        try:
            while sizes and bits < BITS:
                field = Field()
                seen |= judge(data, field, sizes)
                bits += 120 - math.log2(field.height)
                points += 1
        except ZeroDivisionError:
            continue
        above = {k for k in sizes if sizes[k] > least[k]}
        wanted = {pair for pair in wanted if not above >= {*pair}}
        worst = min(worst, bits) if sizes else worst
        if not sizes or (not alone and points >= (MOST if wanted else POINTS)):
            break
    if alone & wanted:
        raise ValueError(
            f"nothing could be compared where {alone & wanted} is above its least value"
        )
    found = next((name for sign, name in CLASSES.items() if sign in seen), "exact")
    if claim.get("class", found) != found or "not 0" not in seen:
        raise ValueError(f"the class is {found}" if "not 0" in seen else "nothing was compared")
    return f"{points} points, chance of error below 2^-{worst:.0f} at each of the sizes"


def check(data: Any) -> Verdict:
    """Accept or refuse one certificate."""
    try:
        return Verdict(True, examine(data))
    except Exception as error:  # whatever is not known is refused
        return Verdict(False, f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    verdicts = []
    for path in sys.argv[1:]:
        verdicts.append(check(json.loads(pathlib.Path(path).read_text(encoding="utf-8"))))
        print(path, "accepted:" if verdicts[-1].accepted else "REFUSED:", verdicts[-1].text)
    sys.exit(not (verdicts and all(v.accepted for v in verdicts)))

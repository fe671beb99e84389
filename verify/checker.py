"""A checker of certificates, to be read in ten minutes; it trusts the standard library alone.

A certificate holds a layer z(x, θ) as formulas and a claim about one step of gradient descent.
*Accepted* means, at the points drawn, if the layer divides nothing by 0 there, with K(s,s') =
Σ_θ (∂z_s/∂θ)(∂z_s'/∂θ)ᵀ: K(s,s') is the formula (``kernel``); K(s,s) is (``self-kernel``);
K(s,s) = c·I, where c reads no tensor (``constant``); or the corrected z̃, if it divides nothing by 0
either, is z where gauges are neutral, and has such a c·I if what is ``held`` counts as fixed: it is
``frozen`` if that varies, else ``first-order`` if not affine in θ, else ``exact`` if c = 1.

This program takes the step: numbers are residues modulo p², where f(θ + p δ) = f(θ) + p f'(θ) δ.
*Positive* is what is a square, as the primes up to 19 are (p is -1 modulo each), and one root of
any order; points where a radicand is none are passed over. Prime and points are drawn after the
certificate was read. Numbers are quotients of polynomials in the entries, of degree and bits below
the length T of what is computed, or 16 T³ for K. Different ones agree by chance below
T³ / 2^(PRIME - 12) (Schwartz, Zippel), times q² for a root of order q (conjugates, choice): below
2^-BITS at each point. At POINTS of them K is not 0: what is false for one sign of x in √x² passes
by 2^-100, and for a share f of points by (1 - f)^100.
"""

import json
import pathlib
import sys
from collections import defaultdict, namedtuple
from functools import reduce
from itertools import chain, product
from math import log2, prod
from secrets import choice, randbelow, randbits
from typing import Any

PARTS = "about assumptions claim corrected format gauges layer reals sizes tensors unit"
SHAPE = "truestep certificate 2", PARTS.split(), ["kind", "value"]
KINDS = ["frozen", "first-order", "constant-rate", "exact", "constant", "self-kernel", "kernel"]
BITS, ROOM, PRIME, POINTS, TRIES, COUNT, STILL = 100, 144, 256, 100, 400, 48, ("held",)
SLOPES: dict[str, Any] = {"exp": "y", "log": ["root", -1, "x"]}  # f'(x), where y = f(x) is random
SLOPES |= {"sigmoid": ["+", "y", ["*", -1, "y", "y"]], "tanh": ["+", 1, ["*", -1, "y", "y"]]}
SLOPES["erf"] = ["*", 2, ["root", -2, "pi"], ["root", -1, ["call", "exp", ["*", "x", "x"]]]]
OPERATIONS: dict[str, Any] = {  # a product ends at 0, which is what is_0 or out of range; others p²
    "+": lambda at, env, *parts: sum(at.value(e, env) for e in parts),
    "*": lambda at, env, *parts: reduce(lambda x, e: x and x * at.value(e, env), parts, 1),
    "sum": lambda at, env, x, n, e: sum(at.value(e, env | {x: (i, n)}) for i in range(at.names[n])),
    "is 0": lambda at, env, e: int(at.value(e, env) % at.square == 0),
    "read": lambda at, env, name, *index: at.read(name, index, env),
    "root": lambda at, env, q, e: at.root(x, q) if (x := at.value(e, env)) or q < 0 else 0,
    "call": lambda at, env, f, e: at.call(f, at.value(e, env)),
    "held": lambda at, env, e: at.value(e, env | {STILL: (0, "")}),
}
Verdict = namedtuple("Verdict", "accepted text")


def demand(holds: bool, what: str) -> None:
    """Refuse a certificate where something does not hold."""
    if not holds:
        raise ValueError(what)


class Point:
    """Random entries, and the values of formulas there."""

    def __init__(self, data: Any, p: int, sizes: Any) -> None:
        self.data, self.p, self.square, self.length, self.compared = data, p, p**2, 0, False
        self.roots, self.drawn = dict[Any, int](), defaultdict[Any, int](lambda: randbelow(p))
        self.known: dict[Any, Any] = {}
        self.names = {x: self.drawn[x] ** 2 for x in ["pi", *data["reals"]]} | sizes

    def value(self, e: Any, env: Any) -> int:
        """An expression where each letter stands at a position on an axis of some size."""
        if isinstance(e, list):
            self.length += len(e)
            x = OPERATIONS[e[0]](self, env, *e[1:])
            return x and (x % self.square or self.square)
        x = e if isinstance(e, int) else env[e][0] if e in env else self.names[e]
        self.length += x.bit_length()
        return x

    def read(self, name: str, index: Any, env: Any) -> Any:
        """An element of a line or a tensor, 0 out of range; letters and tokens have their axes."""
        array, key = self.arrays[name], (name, *(self.value(e, env) % self.square for e in index))
        places: list[Any] = [*zip(key[1:], array["letters"].values(), strict=True)]
        for e, place in zip(index, places, strict=True):
            token = isinstance(e, list) and e[0] == "read" and self.arrays[e[1]]["below"]
            demand((token or env.get(str(e), place)[1]) == place[1], "an index of another axis")
        if any(i >= self.value(n, {}) for i, n in places):
            return 0
        still = {STILL: env[STILL]} if STILL in env else {}  # a letter of no certificate
        if "value" not in array:
            self.thetas |= {"input": set(), "token": set(), "parameter": {key}}[array["kind"]]
            x = self.drawn[key] + (0 if still else self.moves.get(key, 0))
            return x % self.value(array["below"], {}) if "below" in array else x
        key, letters = (*key, bool(still)), dict(zip(array["letters"], places, strict=True)) | still
        if key not in self.known:
            length, self.length = self.length, 0
            self.known[key] = self.value(array["value"], letters), self.length
            self.length = length
        self.length += self.known[key][1]
        return self.known[key][0]

    def root(self, x: int, q: int) -> Any:
        """x^(1/q), where of the roots of order |q| one is a square."""
        p, order, key = self.p, abs(q), (abs(q), x % self.p)
        demand(x % p != 0 or not self.compared, "the claim divides by 0")
        self.roots[key] = self.roots.get(key) or (x % p and pow(x, -pow(order, -1, p >> 1), p))
        off = 1 - x * self.roots[key] ** order
        if off % p:
            raise ArithmeticError("a division by 0, or a radicand that is no square")
        inverse = self.roots[key] * (1 + off * pow(order, -1, p))
        return inverse if q < 0 else x * inverse ** (order - 1)

    def call(self, f: str, x: int) -> int:
        """A function: f(x + ε) = f(x) + f'(x) ε with a multiple ε of p; tanh and erf are odd."""
        sign = -1 if f in ("tanh", "erf") and 2 * (x % self.p) > self.p else 1
        at, y = sign * x % self.p, self.drawn["call", f, sign * x % self.p]
        return sign * (y + self.value(SLOPES[f], {"x": (at, 1), "y": (y, 1)}) * (sign * x - at))

    def output(self, lines: Any, env: Any, moves: Any = None) -> int:
        """The last line, where parameters have moved."""
        self.arrays, self.moves, last = self.data["tensors"] | lines, moves or {}, [*lines][-1]
        self.known, self.thetas = {k: x for k, x in self.known.items() if k[-1]}, set[Any]()
        return self.value(["read", last, *lines[last]["letters"]], env)

    def judge(self, place: Any) -> int | None:
        """Compare K at two positions of the output; the kind that is seen, none where K is 0."""
        p, data, (kind, value) = self.p, self.data, self.data["claim"].values()
        lines, letters = data["layer"] | data["corrected"], [*data["layer"].values()][-1]["letters"]
        here, there = ({x: place.get(x + mark, place[x]) for x in letters} for mark in ("", "'"))
        z, thetas = self.output(lines, there), self.thetas
        y, thetas = self.output(lines, here), self.thetas & thetas
        slopes = {t: (self.output(lines, here, {t: p}) - y) // p % p for t in thetas}
        k = (self.output(lines, there, {t: p * d for t, d in slopes.items()}) - z) // p % p
        if k and data["corrected"]:
            far = {t: self.drawn["far", t] for t in thetas}
            near, step = {t: p * far[t] for t in far}, sum(far[t] * slopes[t] for t in far)
            bent = (self.output(lines, here, far) - y - step) % p
            loose = json.loads(json.dumps(lines).replace('"held"', '"+"'))
            varies = ((self.output(loose, here, near) - y) // p - step) % p
            kind = KINDS[0 if varies else 1 if bent else 2 if k != 1 else 3]
            neutral = self.output(loose | data["gauges"], here) - self.output(data["layer"], here)
            demand(neutral % p == 0, "the corrected map is not the layer where gauges are neutral")
        self.compared = True  # from now on, divisions by 0 are refused
        e, env = (value, place) if "kernel" in kind else (["*", int(here == there), value], {})
        demand(self.value(e, env) % p == k, f"K is not as claimed at {place}")
        demand(3 * log2(self.length) + sum(2 * log2(q) for q, _ in self.roots) < ROOM, "too long")
        return KINDS.index(kind) if k else None


def draw_prime() -> int:
    """A random prime, by the test of Miller and Rabin."""
    while True:
        p = 8 * 3 * 5 * 7 * 11 * 13 * 17 * 19 * (1 << PRIME | randbits(PRIME)) - 1
        if all(pow(2 + randbelow(p - 3), p >> 1, p) in (1, p - 1) for _ in range(55)):
            return p


def examine(data: Any) -> str:
    """Judge random positions, at last units too where an axis is above other sizes or its least."""
    _, _, claim, corrected, form, gauges, layer, _, least, tensors, unit = map(data.get, SHAPE[1])
    letters, kind = [*layer.values()][-1]["letters"], claim["kind"]
    demand((form, sorted(data), [*claim]) == SHAPE, "another format")
    demand((kind in KINDS[:4]) == bool(corrected), "a claim about another map")
    demand('"read"' not in json.dumps([gauges, "kernel" in kind or claim["value"]]), "no constant")
    demand('"held"' not in json.dumps(layer), "the layer holds something fixed")
    demand(len(tensors | layer | corrected) == len([*tensors, *layer, *corrected]), "a name twice")
    demand({0, *least.values()} == {0, 1}, "least values other than 0 and 1")
    axes = letters | {f"{x}'": n for x, n in letters.items() if kind == "kernel" or x in unit}
    shapes = [axes.values(), *(tensor["letters"].values() for tensor in tensors.values())]
    p, tries, todo, seen = 0, 0, {*product({*least} & {*chain(*shapes)}, least)}, list[int]()
    while tries < TRIES * (2 + min(len(seen), POINTS)) and len(seen) < POINTS + 16 * len(least):
        p = p if tries % 999 else draw_prime()  # now and then other numbers are squares
        tries, (a, b) = tries + 1, choice([*(todo or product(least, repeat=2))])
        sizes = {k: n + randbelow(1 + randbelow(3)) for k, n in least.items()}
        sizes[a] = 1 + randbelow(2) + (least if a == b else sizes)[b]
        top = [*unit, *(f"{x}'" for x in unit if randbelow(2))] * (a != b)
        place = {x: (sizes[n] - 1 if x in top else randbelow(sizes[n]), n) for x, n in axes.items()}
        small = COUNT * (1 + tries // 3000) >= sum(prod(sizes[n] for n in x) for x in shapes)
        try:
            found = Point(data, p, sizes).judge(place) if small else None
        except ArithmeticError:
            continue
        seen += [] if found is None else [found]
        if small and (0, a) not in place.values() and (a != b or found is not None):
            todo -= {(a, x) for x in least if sizes[a] > sizes[x]} if a != b else {(a, a)}
        if len(seen) >= POINTS and not todo:
            demand(kind == KINDS[min(seen)], f"the class is {KINDS[min(seen)]}")
            return f"chance of error below 2^-{BITS} at each of {len(seen)} points"
    raise ValueError(f"{len(seen)} points were compared, none where the first is above: {todo}")


def check(data: Any) -> Verdict:
    """Accept or refuse one certificate."""
    try:
        return Verdict(True, examine(data))
    except Exception as error:  # whatever is not known is refused
        return Verdict(False, f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    verdicts = [check(json.loads(pathlib.Path(x).read_text("utf-8"))) for x in sys.argv[1:]]
    for path, (accepted, text) in zip(sys.argv[1:], verdicts, strict=True):
        print(path, "accepted:" if accepted else "REFUSED:", text)
    sys.exit(not (verdicts and all(verdict.accepted for verdict in verdicts)))

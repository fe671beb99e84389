"""A checker of certificates, to be read in ten minutes; it trusts the standard library alone.

A certificate holds a layer z(x, θ) as formulas and a claim about one step of gradient descent.
*Accepted* means, at the small sizes, tokens and signs of x in √x² that were drawn, where nothing is
divided by 0, with K(s,s') = Σ_θ (∂z_s/∂θ)(∂z_s'/∂θ)ᵀ: K(s,s') is the formula (``kernel``); K(s,s)
is (``self-kernel``); K(s,s) = c·I, where c reads no tensor (``constant``); or the corrected z̃ is z
where its gauges are neutral, and has such a c·I if what is ``held`` counts as fixed: it is
``frozen`` if that varies, else ``first-order`` if not affine in θ, else ``exact`` if c = 1.

This program takes the step: numbers are residues modulo p², where f(θ + p δ) = f(θ) + p f'(θ) δ.
Prime and entries are drawn after the certificate was read. Numbers stand for quotients of
polynomials in the entries, of degree and bits below the length T of what is computed, or 16 T³ for
K. Different ones agree by chance below T³ / 2^(PRIME - 12) (Schwartz, Zippel), times q² for a root
of order q (conjugates, choice): below 2^-100. *Positive* is what is a square, as the primes up to
19 (p is -1 modulo each) and one root of such an order; entries are drawn until radicands are. Signs
and tokens are drawn at 100 points: what is false for a share f of them passes by (1 - f)^100.
"""

import json
import pathlib
import sys
from collections import defaultdict, namedtuple
from functools import reduce
from itertools import product
from math import log2, prod
from secrets import randbelow, randbits
from typing import Any

PARTS = "about assumptions claim corrected format gauges layer reals sizes tensors unit"
SHAPE = "truestep certificate 2", PARTS.split(), ["kind", "value"]
KINDS = ["kernel", "self-kernel", "constant", "exact", "constant-rate", "first-order", "frozen"]
BITS, ROOM, PRIME, POINTS, LIMIT, TRIES, COUNT = 100, 104, 216, 100, 2000, 3000, 48
SLOPES: dict[str, Any] = {"exp": "y", "log": ["root", -1, "x"]}  # f'(x), where y = f(x) is random
SLOPES |= {"sigmoid": ["+", "y", ["*", -1, "y", "y"]], "tanh": ["+", 1, ["*", -1, "y", "y"]]}
SLOPES["erf"] = ["*", 2, ["root", -2, "pi"], ["root", -1, ["call", "exp", ["*", "x", "x"]]]]
OPERATIONS: dict[str, Any] = {  # a product ends at 0, which is what is_0 or out of range; others p²
    "+": lambda at, env, *parts: sum(at.value(e, env) for e in parts),
    "*": lambda at, env, *parts: reduce(lambda x, e: x and x * at.value(e, env), parts, 1),
    "sum": lambda at, env, x, n, e: sum(at.value(e, env | {x: (i, n)}) for i in range(at.names[n])),
    "is 0": lambda at, env, e: int(at.value(e, env) % at.square == 0),
    "read": lambda at, env, name, *index: at.read(name, index, env),
    "root": lambda at, env, q, e: at.root(at.value(e, env), q),
    "call": lambda at, env, f, e: at.call(f, at.value(e, env)),
    "held": lambda at, env, e: at.value(e, env) % (at.square if at.loose else at.p),
}
Verdict = namedtuple("Verdict", "accepted text")


def demand(holds: bool, what: str) -> None:
    """Refuse a certificate where something does not hold."""
    if not holds:
        raise ValueError(what)


class Point:
    """Random entries, and the values of formulas there."""

    def __init__(self, data: Any, p: int, sizes: Any) -> None:
        self.data, self.p, self.square, self.length = data, p, p**2, 0
        self.roots, self.drawn = dict[Any, int](), defaultdict[Any, int](lambda: randbelow(p))
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
        if "value" not in array:
            self.thetas |= {"input": set(), "token": set(), "parameter": {key}}[array["kind"]]
            x = self.drawn[key] + self.moves.get(key, 0)
            return x % self.value(array["below"], {}) if "below" in array else x
        start, letters = self.length, dict(zip(array["letters"], places, strict=True))
        known = self.known.get(key) or (self.value(array["value"], letters), self.length - start)
        self.known[key], self.length = known, start + known[1]
        return known[0]

    def root(self, x: int, q: int) -> Any:
        """x^(1/q), where of the roots of order |q| one is a square."""
        p, order, key = self.p, abs(q), (abs(q), x % self.p)
        if key not in self.roots:
            if x % p == 0 or (order > 1 and pow(x, p >> 1, p) != 1):
                raise ArithmeticError("radicands are never squares") if x % p else ZeroDivisionError
            self.roots[key] = pow(x, -pow(order, -1, p >> 1), p)
        inverse = self.roots[key] * (1 + (1 - x * self.roots[key] ** order) * pow(order, -1, p))
        return inverse if q < 0 else x * inverse ** (order - 1)

    def call(self, f: str, x: int) -> int:
        """A function: f(x + ε) = f(x) + f'(x) ε with a multiple ε of p; tanh and erf are odd."""
        sign = -1 if f in ("tanh", "erf") and 2 * (x % self.p) > self.p else 1
        at, y = sign * x % self.p, self.drawn["call", f, sign * x % self.p]
        return sign * (y + self.value(SLOPES[f], {"x": (at, 1), "y": (y, 1)}) * (sign * x - at))

    def output(self, lines: Any, env: Any, moves: Any = None, loose: bool = False) -> int:
        """The last line, where parameters have moved, or where nothing is held."""
        self.arrays, self.moves, self.loose = self.data["tensors"] | lines, moves or {}, loose
        self.known, self.thetas, last = dict[Any, Any](), set[Any](), [*lines][-1]
        y = self.value(["read", last, *lines[last]["letters"]], env)
        demand(3 * log2(self.length) + sum(2 * log2(q) for q, _ in self.roots) < ROOM, "too long")
        return y

    def judge(self, here: Any) -> int:
        """Compare the claim with the layer at positions; the class, or 0 where K is 0."""
        p, data, rank = self.p, self.data, KINDS.index(self.data["claim"]["kind"])
        lines = data["layer"] | (data["corrected"] if rank > 2 else {})
        there = {x: here.get(f"{x}'", i) for x, i in here.items()}
        e = ["*", int(rank < 2 or here == there), data["claim"]["value"]]
        (y, thetas), z = (self.output(lines, here), self.thetas), self.output(lines, there)
        slopes = {t: (self.output(lines, here, {t: p}) - y) // p for t in thetas & self.thetas}
        k = (self.output(lines, there, {t: p * d for t, d in slopes.items()}) - z) // p % p
        demand(self.value(e, here if rank < 2 else {}) % p == k, f"K is not as claimed at {here}")
        if rank < 3 or not k:
            return int(k > 0)
        neutral = self.output(lines | data["gauges"], here) - self.output(data["layer"], here)
        demand(neutral % p == 0, "the corrected map is not the layer where gauges are neutral")
        far, near = ({t: s * self.drawn["far", t] for t in thetas} for s in (1, p))
        step = sum(d * far[t] for t, d in slopes.items())
        free = self.output(lines, here, near, True) - self.output(lines, here, {}, True)
        bent = self.output(lines, here, far) - y - step
        return 6 if (free // p - step) % p else 5 if bent % p else 4 if k != 1 else 3


def visit(data: Any, p: int, sizes: Any, place: Any, cap: int) -> int:
    """Judge random entries, 0 where something is divided by 0."""
    for attempt in range(cap):
        try:  # now and then modulo another prime, of which other numbers are squares
            return Point(data, draw_prime() if attempt % 99 == 98 else p, sizes).judge(place)
        except ZeroDivisionError:
            return 0
        except ArithmeticError:
            continue
    raise ArithmeticError("radicands are never squares")


def draw_prime() -> int:
    """A random prime, by the test of Miller and Rabin."""
    while True:
        p = 8 * 3 * 5 * 7 * 11 * 13 * 17 * 19 * (1 << PRIME | randbits(PRIME)) - 1
        if all(pow(2 + randbelow(p - 3), p >> 1, p) in (1, p - 1) for _ in range(55)):
            return p


def examine(data: Any) -> str:
    """Judge all positions at random sizes, until each was above each other and its least."""
    letters = [*data["layer"].values()][-1]["letters"]
    rank, least = KINDS.index(data["claim"]["kind"]), data["sizes"]
    names = [*data["tensors"], *data["layer"], *data["corrected"]]
    constants = json.dumps([data["gauges"], data["claim"]["value"] if rank > 1 else 0])
    demand((data["format"], sorted(data), sorted(data["claim"])) == SHAPE, "another format")
    demand('"read"' not in constants, "a constant reads a tensor")
    demand('"held"' not in json.dumps(data["layer"]), "the layer holds something fixed")
    demand(len({*names}) == len(names), "a name twice")
    demand({0, *least.values()} == {0, 1}, "least values other than 0 and 1")
    axes = letters | {f"{x}'": letters[x] for x in (data["unit"] if rank else letters)}
    shapes = [axes.values(), *(tensor["letters"].values() for tensor in data["tensors"].values())]
    p, cap, found, wanted = draw_prime(), TRIES, list[int](), {*product(least, repeat=2)}
    for attempt in range(LIMIT):
        sizes = {k: n + randbelow(1 + randbelow(3 + attempt % 8)) for k, n in least.items()}
        above = {(a, b) for a, b in wanted if sizes[a] > (least[a] if a == b else sizes[b])}
        if sum(prod(sizes[n] for n in shape) for shape in shapes) > COUNT or (wanted and not above):
            continue
        places = product(*([(x, (i, n)) for i in range(sizes[n])] for x, n in axes.items()))
        try:
            judged = [*filter(None, (visit(data, p, sizes, dict(i), cap) for i in places))]
        except ArithmeticError:
            judged, above, cap = [], set(), cap // 2
        found, wanted = found + judged, wanted - {(a, b) for a, b in above if judged or a != b}
        if len(found) >= POINTS and not wanted:
            demand(rank < 3 or rank == max(found), f"the class is {KINDS[max(found)]}")
            return f"chance of error below 2^-{BITS} at each of {len(found)} points"
    raise ValueError(f"{len(found)} points were compared, none where the first is above: {wanted}")


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
    sys.exit(not (verdicts and all(verdict.accepted for verdict in verdicts)))

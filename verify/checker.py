"""A checker of certificates, to be read in ten minutes; it trusts the standard library alone.

A certificate holds a layer z(x, θ) as formulas and a claim about one step of gradient descent.
*Accepted* means, at all sizes, tokens and signs of roots that were drawn, where nothing is divided
by 0, with K(s,s') = Σ_θ (∂z_s/∂θ)(∂z_s'/∂θ)ᵀ:

- ``kernel``: K(s,s') is the formula; ``self-kernel``: K(s,s) is; ``constant``: K(s,s) is c·I, and
  c reads no tensor;
- a class: the corrected z̃ is z where its gauges are neutral, and has K(s,s) = c·I, where a ``held``
  gauge counts as fixed. It is ``frozen`` if that matters, else ``first-order`` if z̃ is not affine
  in θ, else ``constant-rate`` if c is not 1, else ``exact``.

This program takes the step: numbers are residues modulo p², where f(θ + p δ) = f(θ) + p f'(θ) δ.
The prime p and the entries are random, and drawn after the certificate was read. Numbers stand for
quotients of polynomials of the entries, whose degrees and bits are below the length T of what was
computed, 16 T³ for K. By Schwartz and Zippel, any that differ agree by chance below T³ / 2^(PRIME-12),
times q for the conjugates of a root of order q and 2 for its choice: for a false claim below 2^-100.
*Positive* is what is a square, entries are drawn until all radicands are. As p is -1 modulo SMOOTH,
one root of an order up to 19 is a square, and so are the primes up to 19.
"""

import itertools
import json
import math
import pathlib
import secrets
import sys
from collections import defaultdict, namedtuple
from functools import reduce
from typing import Any

PARTS = "about assumptions claim corrected format gauges layer reals sizes tensors unit"
FORMAT, SMOOTH = "truestep certificate 2", 8 * 3 * 5 * 7 * 11 * 13 * 17 * 19
KINDS = ["kernel", "self-kernel", "constant", "exact", "constant-rate", "first-order", "frozen"]
BITS, PRIME, ROUNDS, LIMIT, TRIES, COUNT = 100, 216, 10, 9999, 3000, 96
SLOPES: dict[str, Any] = {  # f'(x), where y is f(x), which is random for each x
    "exp": "y",
    "log": ["root", -1, "x"],
    "tanh": ["+", 1, ["*", -1, "y", "y"]],
    "sigmoid": ["+", "y", ["*", -1, "y", "y"]],
    "erf": ["*", 2, ["root", -2, "pi"], ["root", -1, ["call", "exp", ["*", "x", "x"]]]],
}
OPERATIONS: dict[str, Any] = {  # a product ends at 0, which is what is_0 or out of range; others p²
    "+": lambda at, env, *parts: sum(at.value(e, env) for e in parts),
    "*": lambda at, env, *parts: reduce(lambda x, e: x and x * at.value(e, env), parts, 1),
    "sum": lambda at, env, x, n, e: sum(at.value(e, env | {x: i}) for i in range(at.value(n, env))),
    "is 0": lambda at, env, e: int(at.value(e, env) % at.square == 0),
    "read": lambda at, env, name, *index: at.read(name, [at.value(e, env) for e in index]),
    "root": lambda at, env, q, e: at.root(at.value(e, env), q),
    "call": lambda at, env, f, e: at.call(f, at.value(e, env)),
    "held": lambda at, env, e: at.value(e, env) % (at.square if at.loose else at.p),
}
Verdict = namedtuple("Verdict", "accepted text")


class Point:
    """Random entries, and the values of formulas there."""

    def __init__(self, data: Any, p: int, sizes: Any) -> None:
        self.data, self.p, self.square, self.length, self.roots = data, p, p**2, 0, {}
        self.drawn = defaultdict[Any, int](lambda: secrets.randbelow(p))
        self.names = {x: self.drawn[x] ** 2 for x in ["pi", *data["reals"]]} | sizes

    def value(self, e: Any, env: Any) -> int:
        """An expression at positions of letters."""
        if isinstance(e, list):
            self.length += len(e)
            x = OPERATIONS[e[0]](self, env, *e[1:])
            return x and (x % self.square or self.square)
        x = e if isinstance(e, int) else env[e] if e in env else self.names[e]
        self.length += x.bit_length()
        return x

    def read(self, name: str, index: list[int]) -> int:
        """An element of a line or a tensor, 0 out of range; a token is an index."""
        array, key = self.arrays[name], (name, *(i % self.square for i in index))
        letters = dict(zip(array["letters"], key[1:], strict=True))
        if not all(i < self.value(array["letters"][x], {}) for x, i in letters.items()):
            return 0
        if "below" in array:
            return self.drawn[key] % self.value(array["below"], {})
        if "value" not in array:
            self.thetas |= {"input": set(), "parameter": {key}}[array["kind"]]
            return self.drawn[key] + self.moves.get(key, 0)
        start = self.length
        known = self.known.get(key) or (self.value(array["value"], letters), self.length - start)
        self.known[key], self.length = known, start + known[1]
        return known[0]

    def root(self, x: int, q: int) -> int:
        """x^(1/q), where of the roots of order |q| one is a square."""
        p, order, key = self.p, abs(q), (abs(q), x % self.p)
        if x % p == 0:
            raise ZeroDivisionError
        if key not in self.roots:
            if order > 1 and pow(x, p >> 1, p) != 1:
                raise ArithmeticError("radicands are never squares")
            self.roots[key] = pow(x, -pow(order, -1, p >> 1), p)
        inverse = self.roots[key]
        inverse += inverse * (1 - x * inverse**order) * pow(order, -1, p)
        return inverse if q < 0 else x * inverse ** (order - 1)

    def call(self, f: str, x: int) -> int:
        """A function: f(x + ε) = f(x) + f'(x) ε, where ε is a multiple of p."""
        y = self.drawn["call", f, x % self.p]
        return y + self.value(SLOPES[f], {"x": x % self.p, "y": y}) * (x - x % self.p)

    def output(self, lines: Any, env: Any, moves: Any = None, loose: bool = False) -> int:
        """The last line, where parameters have moved, or where nothing is held."""
        self.arrays, self.known, self.thetas = self.data["tensors"] | lines, {}, set()
        self.moves, self.loose, last = moves or {}, loose, [*lines][-1]
        return self.value(["read", last, *lines[last]["letters"]], env)

    def judge(self, here: Any) -> int:
        """Compare the claim with the layer at positions; the class, or 0 where K is 0."""
        p, kind, e = self.p, self.data["claim"]["kind"], self.data["claim"]["value"]
        lines = self.data["layer"] | (self.data["corrected"] if kind in KINDS[3:] else {})
        there = {x: here.get(f"{x}'", i) for x, i in here.items()}
        (y, thetas), z = (self.output(lines, here), self.thetas), self.output(lines, there)
        slopes = {t: (self.output(lines, here, {t: p}) - y) // p for t in thetas & self.thetas}
        k = (self.output(lines, there, {t: p * d for t, d in slopes.items()}) - z) // p % p
        e, env = (e, here) if kind in KINDS[:2] else (["*", int(here == there), e], {})
        if self.value(e, env) % p != k:
            raise ValueError(f"K is not as claimed at {here}")
        found = bool(k)
        if k and kind in KINDS[3:]:
            neutral = self.output(lines | self.data["gauges"], here)
            if (neutral - self.output(self.data["layer"], here)) % p:
                raise ValueError("the corrected map is not the layer where the gauges are neutral")
            far = {t: self.drawn["far", t] for t in thetas}
            near = {t: p * d for t, d in far.items()}
            step = sum(d * far[t] for t, d in slopes.items())
            bent = (self.output(lines, here, far) - y - step) % p
            free = self.output(lines, here, near, True) - self.output(lines, here, {}, True)
            found = 6 if (free // p - step) % p else 5 if bent else 4 if k != 1 else 3
        bits = 3 * math.log2(self.length) + sum(math.log2(2 * q) for q, _ in self.roots if q > 1)
        if bits + BITS > PRIME - 12:
            raise ValueError("the formulas are too long")
        return found


def visit(data: Any, p: int, sizes: Any, place: Any) -> int:
    """Judge random entries, 0 where something is divided by 0."""
    for attempt in range(TRIES):
        p = draw_prime() if attempt % 99 == 98 else p  # other primes may not be squares modulo p
        try:
            return Point(data, p, sizes).judge(place)
        except ZeroDivisionError:
            return 0
        except ArithmeticError:
            continue
    raise ArithmeticError("radicands are never squares")


def draw_prime() -> int:
    """A random prime that is -1 modulo SMOOTH, by the test of Miller and Rabin."""
    while True:
        p = SMOOTH * (1 << PRIME | secrets.randbits(PRIME)) - 1
        if all(pow(2 + secrets.randbelow(p - 3), p >> 1, p) in (1, p - 1) for _ in range(55)):
            return p


def examine(data: Any) -> str:
    """Judge all positions at random sizes, until every size was above its least value."""
    kind, least, letters = (
        data["claim"]["kind"],
        data["sizes"],
        [*data["layer"].values()][-1]["letters"],
    )
    constants = json.dumps([data["gauges"], kind in KINDS[:2] or data["claim"]["value"]])
    names, arrays = [*least, *data["reals"]], [*data["tensors"], *data["layer"], *data["corrected"]]
    parts = data["format"], sorted(data), sorted(data["claim"])
    demands = {
        "another format, or its parts": parts == (FORMAT, PARTS.split(), ["kind", "value"]),
        "an unknown claim": kind in KINDS,
        "a constant reads a tensor": '"read"' not in constants,
        "the layer holds something fixed": '"held"' not in json.dumps(data["layer"]),
        "a name twice": len({"pi", *names}) + len({*arrays}) > len(names + arrays),
        "least values other than 0 and 1": {0, *least.values()} == {0, 1},
    }
    if not all(demands.values()):
        raise ValueError(next(what for what, holds in demands.items() if not holds))
    primed = letters if kind == "kernel" else {x: letters[x] for x in data["unit"]}
    letters = letters | {f"{x}'": n for x, n in primed.items()}
    shapes = [letters, *(tensor["letters"] for tensor in data["tensors"].values())]
    enough = ROUNDS * (6 if '"token"' in json.dumps(data["tensors"]) else 1)
    p, wanted, judged, found = draw_prime(), {*least}, 0, 0
    for attempt in range(LIMIT):
        wide = 3 + attempt // 500
        sizes = {k: n + secrets.randbelow(1 + secrets.randbelow(wide)) for k, n in least.items()}
        grown = {k for k in wanted if sizes[k] > least[k]}
        count = sum(math.prod(sizes[n] for n in shape.values()) for shape in shapes)
        if count > COUNT or (wanted and not grown):
            continue
        places = itertools.product(*(range(sizes[n]) for n in letters.values()))
        try:
            here = max(visit(data, p, sizes, dict(zip(letters, i, strict=True))) for i in places)
        except ArithmeticError:
            continue
        if here:
            judged, found, wanted = judged + 1, max(found, here), wanted - grown
        if judged >= enough and not wanted:
            if kind in KINDS[3:] and kind != KINDS[found]:
                raise ValueError(f"the class is {KINDS[found]}")
            return f"chance of error below 2^-{BITS} at each of {judged} sizes"
    raise ValueError(f"nothing was compared, or not where {wanted} is above its least value")


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

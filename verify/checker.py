"""A checker of certificates, to be read in ten minutes; it trusts the standard library alone.

A certificate holds a layer z(x, θ) as formulas, and a claim about one step of gradient descent.
This program differentiates the formulas itself and compares. *Accepted* means, at all sizes and
tokens that were drawn, where nothing is divided by 0, with K(s,s') = Σ_θ (∂z_s/∂θ)(∂z_s'/∂θ)ᵀ:

- kernel: K(s,s') is the claimed formula; self-kernel: K(s,s) is; ``constant``: it reads no tensor;
- matrix gauge: besides, elimination on K(s,s) = L D Lᵀ meets no pivot 0, so that Λ = D^(-1/2) L⁻¹,
  held fixed if it depends on θ, gives Λ K Λᵀ = I;
- correction: the corrected z̃ is z where its gauges are 1, and has K(s,s) = c·I with a c that reads
  no tensor, where a ``held`` gauge counts as fixed during the step;
- the class is the one that was found: ``frozen`` if what is held depends on θ, else ``first-order``
  if z̃ is not affine in θ, else ``exact`` if c = 1, else ``constant-rate``.

A false claim has a chance below 2^-100 at each of the sizes. Entries are random residues modulo a
random prime of 155 bits, drawn after the certificate was read: none can hide a multiple of it. A
number's *height*, 1 for an entry and the sum of both for a + b and a·b, bounds its degree and the
bits of its coefficients: a false identity of height h holds by chance below h / 2^120 (Schwartz and
Zippel; few primes divide an integer of h bits). *Positive* is what is a square: the prime is -1
modulo 8·3·5·7·11·13·17·19, which makes the primes up to 19 squares, and one root of each of these
orders a square. Entries are drawn until all radicands are squares: a root of order q costs a factor
q for its conjugates and 2 for the choice. Values of functions are random residues, one an argument,
with the slopes below, of tanh and erf one for x and -x, as they are odd: what holds for all such
functions holds for these. A site where something is divided by 0 is passed over, and a size where
radicands are too many to be squares by chance; what is not known is refused.
"""

from __future__ import annotations

import itertools
import json
import math
import pathlib
import secrets
import sys
from functools import reduce
from typing import Any, NamedTuple

FORMAT, BITS, ROUNDS, TRIES, OUTPUTS, ENTRIES = "truestep certificate 1", 100, 10, 3000, 8, 64
LIMIT, MISSES, SMOOTH = 200, 3, 8 * 3 * 5 * 7 * 11 * 13 * 17 * 19
PARTS = "about assumptions axes claim corrected format integers lines reals site tensors unit"
CLAIMS = {"kernel": "constant kind value", "correction": "class gauges kind rate"}
CLAIMS |= {"self-kernel": "constant kind value", "matrix gauge": "class constant kind value"}
ODD = {"tanh", "erf"}
CLASSES = {"held": "frozen", "bent": "first-order", "not 1": "constant-rate", "not 0": "exact"}
SLOPES: dict[str, Any] = {
    "exp": lambda at, x, y: y,
    "log": lambda at, x, y: at.power(x, -1),
    "tanh": lambda at, x, y: at.number(1) + at.number(-1) * y * y,
    "sigmoid": lambda at, x, y: y + at.number(-1) * y * y,
    "erf": lambda at, x, y: at.power(
        at.root(NUMBERS["real"](at, {}, "pi"), 2) * at.call("exp", x * x), -1, 2
    ),
}
INDICES: dict[str, Any] = {
    "size": lambda at, env, axis: at.sizes[axis],
    "+": lambda at, env, *parts: sum(at.index(e, env) for e in parts),
    "*": lambda at, env, *parts: math.prod(at.index(e, env) for e in parts),
    "//": lambda at, env, a, b: at.index(a, env) // at.index(b, env),
    "token": lambda at, env, name, *i: (
        at.read(name, i, env).value % at.sizes[at.axis(["token", name])]
    ),
}
NUMBERS: dict[str, Any] = {
    "int": lambda at, env, e: at.number(at.index(e, {})),
    "real": lambda at, env, name: Number(at.p, at.draw(("real", name)) ** 2, 2),
    "add": lambda at, env, *parts: sum((at.value(e, env) for e in parts), at.zero),
    "mul": lambda at, env, *parts: reduce(lambda x, e: x and x * at.value(e, env), parts, at.one),
    "pow": lambda at, env, e, n: at.power(at.value(e, env), n),
    "root": lambda at, env, q, e: at.root(at.value(e, env), q),
    "call": lambda at, env, name, e: at.call(name, at.value(e, env)),
    "held": lambda at, env, e: at.hold(at.value(e, env)),
    "is 0": lambda at, env, e: at.number(int(at.index(e, env) == 0)),
    "sum": lambda at, env, over, e: sum((at.value(e, env | i) for i in at.places(over)), at.zero),
    "read": lambda at, env, name, *index: at.read(name, index, env),
}


class NoSquareError(Exception):
    """A radicand is no square at these entries."""


class Verdict(NamedTuple):
    """What became of a certificate, and why."""

    accepted: bool
    text: str


class Number:
    """The residue value + Σ slopes[θ] ε_θ modulo p, where ε ε' = 0; of height 0 if 0 everywhere."""

    def __init__(self, p: int, value: int, height: int, slopes: Any = ()) -> None:
        self.p, self.value, self.height, self.slopes = p, value % p, height, dict(slopes)

    def __bool__(self) -> bool:
        return self.height > 0

    def __add__(self, other: Any) -> Any:
        slopes = {t: self.slopes.get(t, 0) + d for t, d in other.slopes.items()}
        value, height = self.value + other.value, self.height + other.height
        return Number(self.p, value, height, self.slopes | slopes)

    def __mul__(self, other: Any) -> Any:
        height = self.height + other.height if self and other else 0
        ours = self.chain(self.value * other.value, other.value, height)
        return ours + other.chain(0, self.value, 0)

    def chain(self, value: int, slope: int, height: int) -> Any:
        """f(x + ε) = f(x) + f'(x) ε."""
        slopes = {t: d * slope % self.p for t, d in self.slopes.items()}
        return Number(self.p, value, height, slopes)


class Point:
    """The formulas at random entries, where some lines are 1 or the parameters have moved."""

    def __init__(self, data: Any, p: int, sizes: Any, drawn: Any, ones: Any = (), far: int = 0):
        self.data, self.p, self.sizes, self.ones, self.far = data, p, sizes, ones, far
        self.drawn, self.known, self.height, self.seen = drawn, dict[Any, Any](), 1, set[str]()
        self.lines = {line["name"]: line for line in data["lines"] + data["corrected"]}
        letters = [item for line in self.lines.values() for item in line["letters"].items()]
        self.axes = dict(letters) | {f"{letter}'": axis for letter, axis in letters}
        self.zero, self.one = self.number(0), self.number(1)

    def number(self, value: int) -> Number:
        """An integer."""
        return Number(self.p, value, value.bit_length())

    def draw(self, key: Any) -> Any:
        """A random residue, one a key."""
        return self.drawn.setdefault(key, secrets.randbelow(self.p))

    def axis(self, e: Any) -> Any:
        """The axis that a letter or token is made for; other indices may leave theirs."""
        if isinstance(e, list):
            return self.data["tensors"][e[1]]["below"] if e[0] == "token" else None
        return self.axes.get(e)

    def places(self, letters: dict[str, str]) -> list[dict[str, int]]:
        """Every position of letters along their axes."""
        self.axes |= letters
        ranges = (range(self.sizes[axis]) for axis in letters.values())
        return [dict(zip(letters, i, strict=True)) for i in itertools.product(*ranges)]

    def index(self, e: Any, env: Any) -> Any:
        """An index or a size."""
        if isinstance(e, list):
            return INDICES[e[0]](self, env, *e[1:])
        return e if isinstance(e, int) else env[e] if e in env else self.sizes[e]

    def value(self, e: Any, env: Any) -> Any:
        """A number."""
        return NUMBERS[e[0]](self, env, *e[1:]) if isinstance(e, list) else self.number(e)

    def power(self, x: Number, n: int, times: int = 1) -> Any:
        """A multiple of xⁿ, with the slope n xⁿ⁻¹."""
        if n < 0 and not x.value:
            raise ZeroDivisionError
        slope = n and n * pow(x.value, n - 1, self.p)
        return x.chain(times * pow(x.value, n, self.p), times * slope, abs(n) * x.height + times)

    def root(self, x: Number, q: int) -> Any:
        """The positive root r, with the slope r / (q x)."""
        if not x.value or pow(x.value, self.p >> 1, self.p) != 1:
            raise NoSquareError if x.value else ZeroDivisionError
        self.height *= 1 if ("root", q, x.value) in self.drawn else 2 * q
        r = self.drawn["root", q, x.value] = pow(x.value, pow(q, -1, self.p >> 1), self.p)
        return x.chain(r, r * pow(q * x.value, -1, self.p), 2 * x.height)

    def call(self, name: str, x: Number) -> Any:
        """A function; by chance x may be another of its arguments."""
        if name in ODD and 2 * x.value > self.p:
            return self.number(-1) * self.call(name, self.number(-1) * x)
        self.height += x.height * len(self.drawn)
        y = Number(self.p, self.draw(("call", name, x.value)), 1)
        slope = SLOPES[name](self, Number(self.p, x.value, x.height), y)
        return x.chain(y.value, slope.value, x.height + slope.height)

    def hold(self, x: Number) -> Number:
        """What counts as fixed during the step."""
        self.seen |= {"held"} if any(x.slopes.values()) else set()
        return Number(self.p, x.value, x.height)

    def read(self, name: str, index: Any, env: Any) -> Any:
        """An element of a line or tensor, 0 out of range; a parameter has a slope."""
        line, tensor = self.lines.get(name), self.data["tensors"].get(name)
        axes = line["letters"].values() if line else tensor["axes"]
        key = name, *(self.index(e, env) for e in index)
        if any(self.axis(e) not in (None, axis) for e, axis in zip(index, axes, strict=True)):
            raise ValueError(f"an index of {name} is made for another axis")
        if not all(0 <= i < self.sizes[axis] for i, axis in zip(key[1:], axes, strict=True)):
            return self.zero
        if name in self.ones:
            return self.one
        if key not in self.known and line:
            env = dict(zip(line["letters"], key[1:], strict=True))
            self.known[key] = self.value(line["value"], env)
        elif key not in self.known:
            moves = tensor["kind"] == "parameter"
            value = self.draw(key) + moves * self.far * self.draw(("far", key))
            self.known[key] = Number(self.p, value, 1, {key: 1} if moves else ())
        return self.known[key]

    def output(self, line: Any, env: Any, **changed: Any) -> Any:
        """A line at a site and unit, also where gauges are 1 or parameters have moved."""
        at = Point(self.data, self.p, self.sizes, self.drawn, **changed) if changed else self
        found = at.read(line["name"], line["letters"], env)
        self.height += at.height + found.height
        return found

    def kernel(self, y: Number, z: Number) -> Any:
        """Σ_θ (∂y/∂θ)(∂z/∂θ)."""
        self.height += (y.height + z.height) * len(y.slopes)
        return sum(d * z.slopes.get(t, 0) for t, d in y.slopes.items()) % self.p

    def judge(self, s: Any, t: Any) -> set[str]:
        """Compare the claim with the layer at the sites s and s'; what was seen there."""
        claim, z, last = self.data["claim"], self.data["lines"][-1], [*self.lines.values()][-1]
        units = self.places({letter: z["letters"][letter] for letter in self.data["unit"]})
        here, there = ([self.output(last, site | u) for u in units] for site in (s, t))
        rows = [[self.kernel(y, other) for other in there] for y in here]
        for (i, u), (j, v) in itertools.product(enumerate(units), repeat=2):
            env = s | u | {f"{letter}'": place for letter, place in (t | v).items()}
            e = claim["value"] if "value" in claim else claim["rate"] if i == j else 0
            wanted = self.value(["held", e] if claim["kind"] == "matrix gauge" else e, env)
            self.height += wanted.height
            self.seen |= {"not 0"} if rows[i][j] else set()
            if rows[i][j] != wanted.value:
                raise ValueError(f"K is not as claimed at {env}")
        while claim["kind"] == "matrix gauge" and rows:
            (pivot, *top), *rest = rows
            over = pow(pivot, -1, self.p) if pivot else 1 // pivot
            rows = [[x - r * over * y for x, y in zip(row, top, strict=True)] for r, *row in rest]
            rows = [[x % self.p for x in row] for row in rows]
        for y, u in zip(here, units if "class" in claim else (), strict=False):
            self.classify(y, s | u, z, last)
        return self.seen

    def classify(self, y: Number, env: Any, z: Any, last: Any) -> None:
        """See that the corrected map is z where the gauges are 1; whether it is affine, and c."""
        claim = self.data["claim"]
        plain = self.output(last, env, ones=claim.get("gauges", ()))
        if plain.value != self.output(z, env).value:
            raise ValueError("the corrected map is not the layer where the gauges are 1")
        if "held" not in self.seen:
            moved = y.value + sum(d * self.draw(("far", t)) for t, d in y.slopes.items())
            bent = (self.output(last, env, far=1).value - moved) % self.p
            self.seen |= {"bent"} if bent else set()
        self.seen |= {"not 1"} if self.value(claim.get("rate", 1), {}).value != 1 else set()


def draw_prime() -> int:
    """A prime of 155 bits; being -1 modulo SMOOTH makes the primes up to 19 squares."""
    while True:
        p = SMOOTH * (1 << 129 | secrets.randbits(129)) - 1
        bases = (2 + secrets.randbelow(p - 3) for _ in range(55))  # the test of Miller and Rabin
        if all(pow(base, p >> 1, p) in (1, p - 1) for base in bases):
            return p


def draw_excess(few: int, wide: int) -> int:
    """How far above its least value a size is: often not at all."""
    return secrets.randbelow(wide) if secrets.randbelow(6) >= few else 0


def draw_sizes(data: Any, wanted: set[str]) -> dict[str, int]:
    """Small sizes that fit together, with one of the wanted above its least value."""
    shapes = [tensor["axes"] for tensor in data["tensors"].values()]
    for attempt in range(TRIES):
        few, wide = secrets.randbelow(6), 3 + 6 * attempt // TRIES
        sizes = {k: low + draw_excess(few, 3) for k, low in data["integers"].items()}
        for axis, e in data["axes"].items():
            sizes[axis] = (
                1 + draw_excess(few, wide) if e is None else Point(data, 1, sizes, {}).index(e, {})
            )
        entries = sum(math.prod(sizes[axis] for axis in shape) for shape in shapes)
        outputs = math.prod(sizes[axis] for axis in data["lines"][-1]["letters"].values())
        fit = entries <= ENTRIES and outputs <= OUTPUTS and all(sizes[a] > 0 for a in data["axes"])
        if fit and (not wanted or any(sizes[k] > data["integers"].get(k, 1) for k in wanted)):
            return sizes
    raise ValueError(f"no sizes where one of {wanted} is above its least value")


def visit(data: Any, sizes: dict[str, int], p: int, s: Any, t: Any) -> set[str]:
    """Judge random entries until the error bound holds; nothing is seen at a singular site."""
    seen, bits = set[str](), 0.0
    for attempt in range(TRIES):
        p = draw_prime() if attempt % 99 == 98 else p  # other primes may not be squares modulo p
        point = Point(data, p, sizes, {})
        try:
            seen |= point.judge(s, t)
        except NoSquareError:
            continue
        except ZeroDivisionError:
            return set()  # singular
        bits += 120 - math.log2(point.height)
        if bits >= BITS:
            return seen | {"compared"}
    raise NoSquareError


def validate(data: Any) -> None:
    """Refuse what is no certificate, or names things so that its claim is about something else."""
    claim, z, layer = data["claim"], data["lines"][-1], json.dumps(data["lines"])
    constants = json.dumps([claim.get("rate"), claim.get("constant") and claim["value"]])
    names = [line["name"] for line in data["lines"] + data["corrected"]] + [*data["tensors"]]
    own = {z["name"]} | {name for name in names if f'"read", {json.dumps(name)}' in layer}
    demands = {
        "another format, or its parts": (data["format"], sorted(data)) == (FORMAT, PARTS.split()),
        "a claim of other parts": sorted(claim) == CLAIMS[claim["kind"]].split(),
        "a constant reads a tensor": '"read"' not in constants and '"token"' not in constants,
        "site and unit are no output": sorted(z["letters"]) == sorted(data["site"] + data["unit"]),
        "the layer holds something fixed": '"held"' not in layer,
        "a name twice, or a number named pi": len({*names}) == len(names)
        and "pi" not in data["reals"],
        "a gauge that the layer itself holds": not own & {*claim.get("gauges", ())},
        "a least value other than 0 and 1": {*data["integers"].values()} <= {0, 1},
        "no size to be drawn": None in data["axes"].values(),
    }
    if not all(demands.values()):
        raise ValueError(next(what for what, holds in demands.items() if not holds))


def examine(data: Any) -> str:
    """Judge all sites at random sizes, until every axis and integer was above its least value."""
    validate(data)
    seen, letters, misses = set[str](), data["lines"][-1]["letters"], 0
    wanted = {*data["integers"]} | {k for k, e in data["axes"].items() if not isinstance(e, int)}
    enough = ROUNDS if all(t["kind"] != "token" for t in data["tensors"].values()) else 6 * ROUNDS
    for rounds in range(LIMIT):
        sizes, p = draw_sizes(data, wanted), draw_prime()
        sites = Point(data, p, sizes, {}).places({x: letters[x] for x in data["site"]})
        all_pairs = data["claim"]["kind"] == "kernel"
        pairs = [(s, t) for s in sites for t in (sites if all_pairs else [s])]
        try:
            found = [visit(data, sizes, p, s, t) for s, t in pairs]
        except NoSquareError:
            misses += 1
            if misses == MISSES:
                raise ValueError("radicands are never squares") from None
            continue
        seen = seen.union(*found)
        if "compared" in set().union(*found):
            wanted -= {name for name in wanted if sizes[name] > data["integers"].get(name, 1)}
        if not wanted and rounds - misses >= enough:
            break
    name = next((CLASSES[sign] for sign in CLASSES if sign in seen), "")
    if wanted or "not 0" not in seen:
        raise ValueError(f"nothing was compared, or not where {wanted} is above its least value")
    if data["claim"].get("class", name) != name:
        raise ValueError(f"the class is {name}")
    return f"chance of error below 2^-{BITS} at each of {rounds - misses} sizes"


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

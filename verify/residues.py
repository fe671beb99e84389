"""Numbers modulo a prime in which everything that is positive has a root.

P = 2Q + 1 with Q prime and P ≡ -1 (mod 8·3·5·7·11·13·17·19). So exactly one of ±a is a square for
every a ≠ 0, and every product of the primes up to 19 is one. *Positive* is read as *being a
square*: products, quotients, powers and exponentials of positive numbers are positive, small
fractions are positive where real ones are, and

- a^e for a positive a and a fraction e = n/m is a^(n/m mod Q), the one root that is positive, as Q
  is the order of the squares: (ab)^e = a^e b^e, a^(e+f) = a^e a^f, √(a²) = |a|. A number that is
  not positive has no root: :class:`NoRoot`, and the point is drawn again.
- relu, max of two, |·|, sign and Step follow from that reading of positive.
- exp turns sums into products: exp(a) = 4^(a mod Q), and 4 has order Q. So where formulas hold exp,
  numbers are kept modulo P·Q, both residues in one integer; exponents see the second one alone.
- sigmoid, erf, log and π are drawn from the seed, the name and the argument, with the relations
  sigmoid(-a) = 1 - sigmoid(a), erf(-a) = -erf(a), and signs as the real functions have them;
  tanh(a) = (exp(2a) - 1)/(exp(2a) + 1), silu and gelu are what their definitions say.
"""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction

SUBGROUP = 85070591730234615865843651833747962879
PRIME = 2 * SUBGROUP + 1
# Of order SUBGROUP modulo PRIME, like every square but 1.
BASE = 4
# Brings a number that is 0 modulo PRIME to 1 modulo SUBGROUP.
LIFT = pow(PRIME, -1, SUBGROUP)


class NoRoot(Exception):  # noqa: N818 - an event that is dealt with
    """The root of a number that does not count as positive: the point has to be drawn again."""


class Singular(Exception):  # noqa: N818 - an event that is dealt with
    """A division by 0, by chance or at these sizes always."""


def is_positive(a: int) -> bool:
    """Whether a residue counts as positive: it is a square and not 0."""
    return pow(a, SUBGROUP, PRIME) == 1


class Residues:
    """The numbers, for one drawing of the functions.

    Args:
        seed: What sigmoid, erf, log and π are drawn from.
        exponents: Whether formulas hold exp, so that residues modulo SUBGROUP are needed too.
        counting: Whether roots are only counted; that of a number that is not positive is then the
            root of its opposite.

    Attributes:
        modulus: PRIME, or PRIME·SUBGROUP.
        radicands: What roots were taken of, with the root's degree.
        missing: What had to be positive and is not, where that is only counted.
    """

    def __init__(self, seed: int, *, exponents: bool, counting: bool = False) -> None:
        """Keep the seed."""
        self.seed = seed
        self.exponents = exponents
        self.counting = counting
        self.modulus = PRIME * SUBGROUP if exponents else PRIME
        self.radicands: set[tuple[int, int]] = set()
        self.missing: set[int] = set()

    @property
    def roots(self) -> float:
        """log2 of the degree of the extension that holds all roots, at most."""
        return sum(math.log2(degree) for _, degree in self.radicands)

    def joined(self, value: int, exponent: int) -> int:
        """The number that is ``value`` modulo PRIME and ``exponent`` modulo SUBGROUP."""
        if not self.exponents:
            return value % PRIME
        value %= PRIME
        return value + PRIME * ((exponent - value) * LIFT % SUBGROUP)

    def atom(self, name: str, *arguments: int) -> int:
        """A number drawn from the seed, a name and arguments."""
        text = f"{self.seed}|{name}|{'|'.join(map(str, arguments))}"
        digest = hashlib.blake2b(text.encode(), digest_size=48).digest()
        return int.from_bytes(digest, "big") % self.modulus

    def number(self, value: Fraction | int) -> int:
        """A fraction, exactly.

        Raises:
            Singular: If its denominator is a multiple of the prime.
        """
        if isinstance(value, int):
            return value % self.modulus
        return value.numerator * self.inverse(value.denominator) % self.modulus

    def inverse(self, a: int) -> int:
        """1/a.

        Raises:
            Singular: If a is 0.
        """
        try:
            return pow(a, -1, self.modulus)
        except ValueError as error:
            raise Singular("division by 0") from error

    def power(self, a: int, exponent: Fraction) -> int:
        """``a ** exponent``; of a positive number unless the exponent is an integer.

        Raises:
            NoRoot: If the exponent is no integer and a is not positive.
            Singular: If a is 0 and the exponent is negative.
        """
        if exponent.denominator == 1:
            base = a if exponent >= 0 else self.inverse(a)
            return pow(base, abs(exponent.numerator), self.modulus)
        if a % PRIME == 0:
            if exponent < 0:
                raise Singular("division by 0")
            return 0
        a = self.positive(a)
        self.radicands.add((a % PRIME, exponent.denominator))
        e = exponent.numerator * pow(exponent.denominator, -1, SUBGROUP) % SUBGROUP
        return self.joined(pow(a, e, PRIME), self.shadow_power(a, exponent))

    def positive(self, a: int) -> int:
        """The number, if it is positive.

        Raises:
            NoRoot: If it is not, unless that is only counted.
        """
        if is_positive(a):
            return a
        if not self.counting:
            raise NoRoot
        self.missing.add(a % PRIME)
        return -a

    def shadow_power(self, a: int, exponent: Fraction) -> int:
        """A root modulo SUBGROUP, where it is that of |a|; a drawn number for odd roots."""
        if not self.exponents:
            return 0
        base, bottom = a % SUBGROUP, exponent.denominator
        while bottom % 2 == 0:
            root = pow(base, (SUBGROUP + 1) // 4, SUBGROUP)
            base, bottom = root, bottom // 2
        if bottom > 1:
            return self.atom("root", a, bottom)
        try:
            return pow(base, exponent.numerator, SUBGROUP)
        except ValueError as error:
            raise Singular("division by 0") from error

    def exponential(self, a: int) -> int:
        """exp(a), with exp(a + b) = exp(a) exp(b), and positive."""
        return self.joined(pow(BASE, a % SUBGROUP, PRIME), self.atom("exp", a) if a else 1)

    def sign(self, a: int) -> int:
        """1, -1 or 0."""
        if a % PRIME == 0:
            return 0
        return 1 if is_positive(a) else -1

    def sigmoid(self, a: int) -> int:
        """Drawn so that it and 1 - sigmoid a = sigmoid -a are both positive.

        They are s² and c² with s = 2t/(1 + t²), c = (1 - t²)/(1 + t²).
        """
        sign = self.sign(a)
        if sign == 0:
            return self.number(Fraction(1, 2))
        t = self.atom("sigmoid", a * sign % self.modulus)
        below = self.inverse(1 + t * t)
        value = 2 * t * below if sign > 0 else (1 - t * t) * below
        return value * value % self.modulus

    def erf(self, a: int) -> int:
        """Drawn, odd and of the argument's sign."""
        sign = self.sign(a)
        root = self.atom("erf", a * sign % self.modulus)
        return sign * root * root % self.modulus

    def log(self, a: int) -> int:
        """Drawn, of the sign of a - 1.

        Raises:
            NoRoot: If a is not positive.
        """
        a = self.positive(a)
        return self.sign(a - 1) * self.atom("log", a) ** 2 % self.modulus

    def pi(self) -> int:
        """Drawn, positive."""
        return pow(self.atom("pi"), 2, self.modulus)

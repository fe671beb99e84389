"""What a derivation may cost: terms of its expressions and seconds of its time.

A short spec can ask for a large answer: (Σ_j W_ij x_j + b_i)^12 squared has thousands of terms, and
a chain of softmaxes has more than any memory holds. Products are therefore counted before they are
multiplied out, and the loops of the derivation look at the clock:

- *terms* is the same on every machine; it refuses one ansatz, or the layer, with a reason;
- *seconds* depends on the machine; it ends everything that runs ``within`` it.

SymPy's own loops do not look at our clock. ``within(..., interrupt=True)`` interrupts them by a
timer signal, where the system has one and the main thread asks for it. What no signal interrupts is
a single operation of the interpreter on huge integers; the notation bounds its numbers and powers.
"""

from __future__ import annotations

import gc
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType

from sympy import Add, Expr, Mul, Pow, fraction

from derive.errors import DerivationError, TruestepError

AGAIN = 1.0
"""Seconds after which an interruption is repeated; what it interrupts may need some to clean up."""


@dataclass(frozen=True)
class Limits:
    """What a derivation may cost.

    Attributes:
        terms: Terms of an expression in normal form.
        products: Terms of a product while it is multiplied out, before equal ones are collected.
        orders: Orders of bound letters that are compared to name them.
        seconds: Time.
        clock: What seconds are read off: :func:`time.process_time` where it must not matter how
            busy the machine is.
    """

    terms: int = 4000
    products: int = 40_000
    orders: int = 5040
    seconds: float = 300.0
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Budget:
    """Limits that are running: ``end`` is a reading of ``clock``."""

    limits: Limits
    end: float
    clock: Callable[[], float]


class BudgetError(TruestepError):
    """A spec that takes longer than it may, or more memory than there is."""


class TooLargeError(DerivationError):
    """An expression that has more parts than it may."""


class _TimeUp(BaseException):
    """Raised by the timer; nothing on the way may take it for an error of its own."""


DEFAULT = Limits()
_running: ContextVar[Budget | None] = ContextVar("budget", default=None)


@contextmanager
def within(limits: Limits | None = None, *, interrupt: bool = False) -> Iterator[Budget]:
    """Run the body within limits.

    Args:
        limits: The limits; default: those of the body around, or :data:`DEFAULT`. A body within
            another ends no later than that, and by the clock of that.
        interrupt: Interrupt SymPy's own loops too, by the timer signal of the main thread, unless
            somebody else uses that; its seconds are those of the wall.

    Raises:
        BudgetError: If the time is up, or there is no more memory.
    """
    around = _running.get()
    if around is not None and limits is None:
        yield around
        return
    chosen = limits or DEFAULT
    clock = chosen.clock if around is None else around.clock
    end = clock() + chosen.seconds
    budget = Budget(chosen, end if around is None else min(end, around.end), clock)
    token = _running.set(budget)
    try:
        with _timer(chosen.seconds) if interrupt and _may_interrupt() else _no_timer():
            yield budget
    except _TimeUp:
        raise _time_is_up(chosen) from None
    except MemoryError:
        raise BudgetError(
            "the spec takes more memory than there is\n"
            "  remedy: name intermediates, or lower sizes and defaults that are plain numbers"
        ) from None
    finally:
        _running.reset(token)


def _may_interrupt() -> bool:
    """Whether the timer signal exists and is nobody else's."""
    return (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGALRM) in (signal.SIG_DFL, signal.SIG_IGN)
    )


@contextmanager
def _no_timer() -> Iterator[None]:
    yield


@contextmanager
def _timer(seconds: float) -> Iterator[None]:
    """Raise ``_TimeUp`` in the body when the time is up, and again if that was swallowed."""
    running = True

    def ring(number: int, frame: FrameType | None) -> None:
        if running and not _swallows(frame):
            raise _TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _swallows(frame: FrameType | None) -> bool:
    """Whether Python is in a destructor or a callback of its memory, where errors get lost."""
    callbacks = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or code in callbacks or "weakref" in code.co_filename:
            return True
        frame = frame.f_back
    return False


def _time_is_up(limits: Limits) -> BudgetError:
    return BudgetError(
        f"the spec takes longer than {limits.seconds:g} seconds\n"
        "  remedy: name intermediates, lower its powers, or raise the limit (--time-limit)"
    )


@contextmanager
def concerning(what: str) -> Iterator[None]:
    """Name what grew too large, as ``the kernel of W``."""
    try:
        yield
    except TooLargeError as error:
        raise TooLargeError(f"{what}: {error}") from None


def limits() -> Limits:
    """The limits that apply here."""
    budget = _running.get()
    return DEFAULT if budget is None else budget.limits


def check_time() -> None:
    """Look at the clock.

    Raises:
        BudgetError: If the time is up.
    """
    budget = _running.get()
    if budget is not None and budget.clock() > budget.end:
        raise _time_is_up(budget.limits)


def check_product(expression: Expr) -> None:
    """Count what multiplying out would give, before anything is multiplied.

    Raises:
        TooLargeError: If that is more than the limits allow.
        BudgetError: If the time is up.
    """
    check_time()
    _check_count(expanded_terms(expression))


def check_fraction(expression: Expr) -> None:
    """Count what numerator and denominator would have, all of it multiplied out.

    Raises:
        TooLargeError: If that is more than the limits allow.
        BudgetError: If the time is up.
    """
    check_time()
    for part in fraction(expression):
        _check_count(written_out(part))


def _check_count(count: int) -> None:
    most = limits().products
    if count > most:
        raise TooLargeError(
            f"a product would have {_rounded(count)} terms when multiplied out, more than {most}; "
            "split the layer into smaller ones or lower its powers"
        )


def check_terms(expression: Expr) -> None:
    """Refuse an expression of too many terms.

    Raises:
        TooLargeError: If it has more than the limits allow.
    """
    most = limits().terms
    if expression.is_Add and len(expression.args) > most:
        raise TooLargeError(
            f"the expression has more than {most} terms; "
            "split the layer into smaller ones or lower its powers"
        )


def check_orders(count: int) -> None:
    """Refuse to compare too many orders of the bound letters of one sum.

    Raises:
        TooLargeError: If there are more than the limits allow.
    """
    most = limits().orders
    if count > most:
        raise TooLargeError(
            f"the letters of a sum can be named in {_rounded(count)} orders, more than {most}; "
            "name intermediates"
        )


def expanded_terms(expression: Expr) -> int:
    """The number of terms of a product, or sum of products, multiplied out and not collected.

    Π_k (n_k terms) gives Π_k n_k, and (n terms)^m gives the number of monomials C(n + m - 1, m).
    """
    return sum(
        math.prod(_terms_of_factor(f) for f in Mul.make_args(term))
        for term in Add.make_args(expression)
    )


def written_out(expression: Expr) -> int:
    """The same where sums stand inside of sums and products to any depth."""
    if expression.is_Add:
        return sum(written_out(a) for a in expression.args)
    if expression.is_Mul:
        return math.prod(written_out(a) for a in expression.args)
    if isinstance(expression, Pow) and expression.exp.is_Integer and expression.exp > 0:
        power = int(expression.exp)
        return math.comb(written_out(expression.base) + power - 1, power)
    return 1


def _terms_of_factor(factor: Expr) -> int:
    if factor.is_Add:
        return len(factor.args)
    if isinstance(factor, Pow) and factor.base.is_Add and factor.exp.is_Integer and factor.exp > 0:
        return math.comb(len(factor.base.args) + int(factor.exp) - 1, int(factor.exp))
    return 1


def _rounded(count: int) -> str:
    return str(count) if count < 10**9 else f"about 10^{len(str(count)) - 1}"

"""Specs that ask for more than a machine can do end in time and say what to do about it."""

import contextlib
import signal
import threading
import time
from dataclasses import replace

import pytest
import sympy

from derive import DerivationError, LayerSpec, derive
from derive.budget import (
    BudgetError,
    Limits,
    TooLargeError,
    check_product,
    check_time,
    expanded_terms,
    limits,
    within,
)

AFFINE = "W[i, j]*x[n, j] + b[i]"
BOTH = {"W": {"torch": "weight"}, "b": {"torch": "bias"}}
LAYERS = 4
SOFTMAX = "softmax[i](gelu("


def layer(forward, parameters=BOTH, sizes=None):
    return LayerSpec(
        name="Layer",
        forward=forward,
        site="n",
        unit="i",
        parameters=parameters,
        sizes={"j": "in_features", "i": "out_features"} if sizes is None else sizes,
    )


def only(symbol):
    return {symbol: BOTH[symbol]}


def lines(*texts):
    return "\n".join(texts)


NORMALISED = [
    (
        f"m{k}[n] = mean[i](h{k}[n, i])",
        f"h{k + 1}[n, i] = (h{k}[n, i] - m{k}[n])/sqrt(mean[i]((h{k}[n, i] - m{k}[n])**2) + 1)",
    )
    for k in range(LAYERS)
]
PERCEPTRON = [
    f"h{k + 1}[n, l{k + 1}] = W{k}[l{k + 1}, l{k}]*tanh(h{k}[n, l{k}])" for k in range(1, LAYERS)
]
HOSTILE = {
    "power of a sum": layer(f"z[n, i] = ({AFFINE})**12"),
    "tower of powers": layer(
        lines(f"h[n, i] = ({AFFINE})**12", "k[n, i] = h[n, i]**12", "z[n, i] = k[n, i]**12")
    ),
    "softmax of gelu of softmax": layer(f"z[n, i] = {SOFTMAX * 2}{AFFINE}{'))' * 2}"),
    "the same in lines": layer(
        lines(
            f"a1[n, i] = softmax[i](gelu({AFFINE}))",
            *(f"a{k + 1}[n, i] = softmax[i](gelu(a{k}[n, i]))" for k in range(1, LAYERS)),
            f"z[n, i] = a{LAYERS}[n, i]",
        )
    ),
    "chain of gelu": layer(f"z[n, i] = {'gelu(' * 8}{AFFINE}{')' * 8}"),
    "chain of silu": layer(f"z[n, i] = {'silu(' * 30}{AFFINE}{')' * 30}"),
    "chain of exp": layer(f"z[n, i] = {'exp(' * 12}{AFFINE}{')' * 12}"),
    "product of affine maps": layer(
        "z[n, i] = " + "*".join(f"({AFFINE} + {k})" for k in range(1, 9))
    ),
    "product of sums": layer(
        "z[n, i] = b[i]*" + "*".join(f"(x[n, j{k}] + y[n, j{k}] + {k})" for k in range(8)),
        only("b"),
        {"i": "features"},
    ),
    "sum that is one cycle": layer(
        "z[n, i] = W[i, j]*x[n, j]*" + "*".join(f"A[c{k}, c{(k + 1) % 9}]" for k in range(9)),
        only("W"),
    ),
    "continued fraction": layer(
        f"z[n, i] = ({AFFINE})/(1 + ({AFFINE})/(1 + ({AFFINE})/(1 + ({AFFINE})**2)))"
    ),
    "many denominators": layer(
        f"z[n, i] = ({AFFINE})/(" + " + ".join(f"(y[n, i] + {k})**-2" for k in range(1, 9)) + ")"
    ),
    "normalised again and again": layer(
        lines(f"h0[n, i] = {AFFINE}", *sum(NORMALISED, ()), f"z[n, i] = h{LAYERS}[n, i]")
    ),
    "many roots": layer("z[n, i] = " + " + ".join(f"sqrt(({AFFINE})**2 + {k})" for k in range(12))),
    "perceptron of five layers": layer(
        lines(
            "h1[n, l1] = W0[l1, j]*x[n, j]",
            *PERCEPTRON,
            "z[n, i] = V[i, l4]*tanh(h4[n, l4])",
        ),
        {"V": {"torch": "last"}, **{f"W{k}": {"torch": f"weight{k}"} for k in range(LAYERS)}},
        {"i": "out", "j": "into", **{f"l{k}": f"hidden{k}" for k in range(1, LAYERS + 1)}},
    ),
    "parentheses": layer(f"z[n, i] = {'(1 + 2*' * 25}{AFFINE}{')' * 25}"),
}
SECONDS = 0.6
# A single step of SymPy that no loop of ours is in; the timer ends it.
SLACK = 3.0


@pytest.mark.parametrize("name", HOSTILE)
def test_ends_in_time(name):
    before = time.monotonic()
    told = "name intermediates"
    try:
        with within(Limits(seconds=SECONDS), interrupt=True):
            derive(HOSTILE[name])
    except (BudgetError, DerivationError) as error:
        told = str(error)
    assert "lower its powers" in told or "name intermediates" in told
    assert time.monotonic() - before < SECONDS + SLACK


def test_what_is_too_large_is_named():
    with pytest.raises(TooLargeError, match=r"the layer Layer: the kernel of `W`: .* more than"):
        derive(HOSTILE["chain of silu"])


def test_the_clock_stops_a_derivation_in_any_thread():
    found = []

    def run():
        try:
            with within(Limits(seconds=0.2), interrupt=True):
                derive(HOSTILE["many denominators"])
        except BudgetError as error:
            found.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert found
    assert "longer than 0.2 seconds" in found[0]
    assert "--time-limit" in found[0]


def sleep_through_errors():
    """A loop that looks at no clock and takes every error for one of its own."""
    with within(Limits(seconds=0.1), interrupt=True):
        while True:
            with contextlib.suppress(Exception):
                time.sleep(5)


def test_a_loop_of_another_library_is_interrupted():
    before = time.monotonic()
    with pytest.raises(BudgetError, match=r"longer than 0\.1 seconds"):
        sleep_through_errors()
    assert time.monotonic() - before < 2


def test_an_interruption_waits_for_a_destructor():
    class Slow:
        ended = False

        def __del__(self):
            time.sleep(0.2)
            Slow.ended = True

    def run():
        with within(Limits(seconds=0.1), interrupt=True):
            Slow()
            while True:
                time.sleep(0.01)

    with pytest.raises(BudgetError):
        run()
    assert Slow.ended


def test_the_timer_is_put_back():
    mine = []
    before = signal.getsignal(signal.SIGALRM)
    with within(Limits(seconds=30), interrupt=True):
        assert signal.getsignal(signal.SIGALRM) is not before
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    signal.signal(signal.SIGALRM, mine.append)
    try:
        with within(Limits(seconds=30), interrupt=True):
            assert signal.getsignal(signal.SIGALRM) == mine.append
            assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_limits_within_limits():
    with within(Limits(seconds=0.0, terms=7)):
        assert limits().terms == 7
        with within() as same:
            assert same.limits.terms == 7
        with within(Limits(seconds=60.0)) as inner:
            assert inner.limits.terms == Limits().terms
            with pytest.raises(BudgetError):
                check_time()
    assert limits() == Limits()
    check_time()


def test_time_of_the_processor():
    patient = Limits(seconds=0.05, clock=time.process_time)
    with within(patient), within(Limits(seconds=0.01)):
        time.sleep(0.1)
        check_time()
    with within(replace(patient, clock=time.monotonic)):
        time.sleep(0.1)
        with pytest.raises(BudgetError):
            check_time()


def test_terms_are_counted_before_they_are_made():
    x = sympy.symbols("x:9")
    sums = [sympy.Add(*x[: k + 2]) for k in range(5)]
    product = sympy.Mul(*sums)
    assert expanded_terms(product) == 2 * 3 * 4 * 5 * 6
    power = sums[2] ** 6
    assert expanded_terms(power) == len(sympy.expand(power).args)
    assert expanded_terms(product + power) == expanded_terms(product) + expanded_terms(power)
    assert expanded_terms(x[0] * x[1]) == 1
    huge = sums[4] ** 1000 * sums[3] ** 1000
    with pytest.raises(TooLargeError, match=r"about 10\^\d+ terms"):
        check_product(huge)

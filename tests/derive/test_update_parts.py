"""What a derivative, Σ_u a_u = 1 and the question for parameters are for, against brute force."""

import re
from dataclasses import replace

import numpy as np
import pytest
from sympy import Integer, Symbol

from derive import LayerSpec, derive
from derive.nodes import Contraction, Letter, Read, Softmax, reads
from derive.normal import inline
from derive.points import with_lines
from derive.update import definitions, depends_on_parameters, derive_update, sum_softmax

SCORES = "W[u, j]*x[n, j]"
ATTENTION = f"a[n, u] = softmax[u]({SCORES})\nz[n, i] = V[i, u]*a[n, u]"
WITHIN = f"a[n, u] = 2*softmax[u]({SCORES})\nz[n, i] = V[i, u]*a[n, u]"


def own(forward):
    """A layer of inputs x, y and of the parameters among W, V and b that it reads."""
    sizes = {"i": "out_features", "u": "width", "j": "in_features"}
    return LayerSpec(
        name="Own",
        forward=forward,
        site="n",
        unit="i",
        parameters={name: {"torch": name.lower()} for name in "WVb" if f"{name}[" in forward},
        sizes={
            letter: size for letter, size in sizes.items() if re.search(rf"\b{letter}\b", forward)
        },
    )


def gradients(point):
    """∂z/∂θ as derived, a matrix like ``Point.jacobian``."""
    update, letters = point.update, point.program.output.letters
    outputs = point[point.program.output.target].size
    columns = [
        point.over(gradient, *letters, *update.axes[name]).reshape(outputs, -1)
        for name, gradient in update.gradients.items()
    ]
    return np.concatenate(columns, axis=1)


def assert_differentiated(point):
    np.testing.assert_allclose(gradients(point), point.jacobian(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "forward",
    [
        ATTENTION,
        WITHIN,
        f"z[n, i] = V[i, u]*softmax[u]({SCORES})",
        "z[n, i] = softmax[i](W[i, j]*x[n, j])",
        "z[n, i] = max(W[i, j]*x[n, j], V[i, j]*x[n, j])",
        "z[n, i] = max(W[i, j]*x[n, j], W[i, j]*y[n, j])",
    ],
)
def test_gradient_is_the_finite_difference(forward, draw):
    assert_differentiated(draw(own(forward), low=2))


@pytest.mark.parametrize("place", ["element", "own letter"])
def test_gradient_of_a_softmax_that_is_read_elsewhere(place, draw):
    """As notation has none: at one element, or at a letter that its scores hold too."""
    point = draw(own("z[n, i] = softmax[i](W[i, j]*x[n, j])"), low=2)
    line = point.program.output
    n, i = line.letters
    bound = Letter("u", i.size)
    scores = Read(Symbol("W"), bound, Integer(0)) * Read(Symbol("x"), n, Integer(0))
    value = {
        "element": Softmax(scores, bound, Integer(0)),
        "own letter": 3 * Softmax(scores * Read(Symbol("W"), i, Integer(1)), bound, i),
    }[place]
    changed = replace(point.program, lines=(replace(line, value=value),))
    at = with_lines(changed, point.evaluator)
    assert_differentiated(
        replace(point, program=changed, update=derive_update(changed), evaluator=at)
    )


@pytest.mark.parametrize(("forward", "read"), [(ATTENTION, True), (WITHIN, False)])
def test_a_softmax_is_read_off_its_line_where_it_is_the_line(forward, read, draw):
    gradient = draw(own(forward)).update.gradients["W"]
    assert gradient.has(Softmax) is not read


def test_max_over_a_line_without_parameters_is_a_constant(draw):
    assert_differentiated(
        draw(own("h[n, j] = x[n, j]**2\nz[n, i] = W[i, j]*x[n, j] - max[j](h[n, j])"), low=2)
    )


N, T, U = Letter("n", "n"), Letter("i", "i"), Letter("u", "u")


def a(*indices):
    return Read(Symbol("a"), *indices)


WHOLE = Contraction(a(N, T, U), U)


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        (WHOLE, Integer(1)),
        (3 * WHOLE + Read(Symbol("b"), T) * WHOLE, 3 + Read(Symbol("b"), T)),
        *(
            (other, other)
            for other in (
                Contraction(a(N, T, U), T),
                Contraction(a(N, T, U), T, U),
                Contraction(a(N, T, U), U, T),
                Contraction(a(N, T, U + 1), U),
                Contraction(a(N, U, U), U),
                Contraction(a(N, T, U) ** 2, U),
                Contraction(Read(Symbol("x"), N, T, U), U),
            )
        ),
    ],
)
def test_a_softmax_sums_to_one_along_its_whole_axis_only(expression, found, draw):
    point = draw(own("a[n, i, u] = softmax[u](b[i]*x[n, i, u])\nz[n, i] = a[n, i, u]*y[n, u]"))
    assert sum_softmax(point.program, expression) == found
    letters = [N, T, U]
    np.testing.assert_allclose(point.over(found, *letters), point.over(expression, *letters))


SQUARED = "y[n, i] = W[i, j]*x[n, j]\nz[n, i] = y[n, i]**2 + b[i]"


def test_definitions_write_out_every_line(draw):
    point = draw(own(SQUARED))
    program = point.program
    known = definitions(program)
    assert set(known) == {line.target for line in program.lines}
    read = Read(Symbol("y"), *program.output.letters)
    written = inline(read, known)
    assert {r.tensor for r in reads(written)} == {"W", "x"}
    letters = program.output.letters
    np.testing.assert_allclose(point.over(written, *letters), point.over(read, *letters))


def test_what_cancels_depends_on_no_parameter(draw):
    """Nor does it with an unknown as a factor, which has no value at any point."""
    program = draw(own(SQUARED)).program
    line = program.lines[0]
    read, unknown = Read(Symbol("y"), *line.letters), Read(Symbol("λ"), line.letters[0])
    nothing = read - line.value
    x = Read(Symbol("x"), line.letters[0], Integer(0))
    for factor in (Integer(1), unknown):
        assert depends_on_parameters(program, factor * read)
        assert depends_on_parameters(program, factor * (nothing + read))
        assert not depends_on_parameters(program, factor * x)
        assert not depends_on_parameters(program, factor * (nothing + x))


@pytest.mark.parametrize("ansatz", ["output gauge", "input map", "split gauge"])
def test_unknowns_are_shown_by_the_names_they_are_solved_for(ansatz, derivations):
    correction = derivations("linear")[frozenset()].correction(ansatz)
    shown = set(re.findall(r"(\w)\(s\)", correction.unknown))
    assert shown == {s.name for s in correction.equation.atoms(Symbol)} & set("λμν")


def test_an_output_that_is_a_softmax_is_corrected_without_being_read():
    """Its gauge is computed before it."""
    derivation = derive(own("z[n, i] = softmax[n](W[i]*x[n] + b[i]*x[n]**2)"))
    (found,) = (c for c in derivation.corrections if c.applies)
    assert (found.ansatz, found.exactness) == ("unit gauge", "frozen")
    assert {r.tensor for r in reads(found.gauge)} == {"W", "b", "x"}

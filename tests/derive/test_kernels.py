"""K(s,s') as derived against the Gram matrix of a Jacobian by central differences."""

import numpy as np
import pytest

from derive import derive, variants
from derive.evaluate import Evaluator, run_program
from derive.fractions import cancel, factored
from derive.nodes import Letter
from derive.normal import normal
from derive.stages import stage_spec


def test_kernel_is_the_gram_matrix_of_the_jacobian(name, shipped, draw):
    spec = shipped(name)
    for absent in variants(spec):
        point = draw(spec, absent)
        jacobian = point.jacobian()
        expected = jacobian @ jacobian.T
        np.testing.assert_allclose(
            point.kernel(), expected, rtol=1e-6, atol=1e-6 * max(1.0, np.abs(expected).max())
        )


def test_self_kernel_is_the_kernel_on_the_diagonal(name, shipped, draw):
    point = draw(shipped(name))
    program = point.program
    letters = (*program.site, *program.unit, *(x.primed for x in program.unit))
    own = point.over(point.update.self_kernel, *letters)
    order = program.output.letters
    whole = point.over(point.update.kernel, *order, *(x.primed for x in order))
    count = len(order)
    names = {x: k for k, x in enumerate(order)}
    # einsum labels: a primed site letter gets the label of its twin.
    labels = list(range(count)) + [
        k if order[k] in program.site else count + k for k in range(count)
    ]
    wanted = [names[x] for x in (*program.site, *program.unit)]
    wanted += [count + names[x] for x in program.unit]
    np.testing.assert_allclose(own, np.einsum(whole, labels, wanted), rtol=1e-9, atol=1e-9)


def test_parts_sum_to_the_kernel(name, shipped, draw):
    point = draw(shipped(name))
    letters = point.program.output.letters
    both = (*letters, *(x.primed for x in letters))
    total = sum(point.over(part, *both) for part in point.update.parts.values())
    np.testing.assert_allclose(total, point.over(point.update.kernel, *both), rtol=1e-9, atol=1e-9)


def test_affine_exactly_where_a_large_step_moves_z_by_the_first_order(name, shipped, draw, rng):
    point = draw(shipped(name), low=2)
    target = point.program.output.target
    tensors = {t.name: point[t.name] for t in (*point.program.inputs, *point.program.parameters)}
    steps = {t.name: rng.standard_normal(point[t.name].shape) for t in point.program.parameters}

    def at(scale):
        moved = {k: v + scale * steps[k] if k in steps else v for k, v in tensors.items()}
        values = run_program(point.program, Evaluator(point.sizes, moved, point.evaluator.symbols))
        return values[target]

    curvature = np.abs(at(1.0) - 2 * at(0.0) + at(-1.0)).max()
    assert point.update.affine == (curvature < 1e-9)


def test_same_text_whatever_was_derived_before(name, shipped):
    spec = shipped(name)
    parts = [stage_spec(spec, stage) for stage in spec.stages] or [spec]

    def shown():
        for remembered in (normal, cancel, factored):
            remembered.cache_clear()
        return [
            (
                str(d.update.kernel),
                str(d.structure.kappa),
                [(c.ansatz, c.reason, str(c.gauge)) for c in d.corrections],
            )
            for d in map(derive, parts)
        ]

    first = shown()
    for _ in range(97):
        Letter("j", "j").fresh()
    assert shown() == first


@pytest.mark.parametrize("name", ["linear"])
def test_a_corrupted_kernel_is_noticed(name, shipped, draw):
    point = draw(shipped(name), low=2)
    jacobian = point.jacobian()
    wrong = point.kernel() + np.eye(len(jacobian))
    assert not np.allclose(wrong, jacobian @ jacobian.T, rtol=1e-6)

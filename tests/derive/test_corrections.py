"""What is solved, what is refused and why; each gauge judged by a Jacobian of the corrected map."""

import numpy as np
import pytest
import sympy

from derive import ANSATZE, DerivationError, LayerSpec, derive
from derive.corrections import Solver
from derive.evaluate import Evaluator, run_program
from derive.nodes import Read


def layer(forward, parameters="W b", sizes=None, **changes):
    return LayerSpec(
        name="Layer",
        forward=forward,
        site=changes.pop("site", "n"),
        unit=changes.pop("unit", "i"),
        parameters={p: {"torch": p + "_"} for p in parameters.split()},
        sizes={"j": "in_features", "i": "out_features"} if sizes is None else sizes,
        **changes,
    )


def gauge_values(point, correction):
    """The gauge over the output's letters, all in the output's order."""
    evaluator = Evaluator(
        point.sizes, point.evaluator.tensors, {**point.evaluator.symbols, "radius": 1.0}
    )
    return evaluator.array(correction.gauge, point.program.output.letters)


class TestScalarAndUnitGauge:
    def test_corrected_self_kernel_is_the_identity(self, name, derivations, shipped, draw):
        """The gauge is held fixed, so the corrected Jacobian is the plain one scaled row by row."""
        for absent, derivation in derivations(name).items():
            for ansatz in ("output gauge", "unit gauge"):
                correction = derivation.correction(ansatz)
                if not correction.applies:
                    continue
                point = draw(shipped(name), absent, low=2)
                gauge = gauge_values(point, correction)
                gauge = np.where(np.isfinite(gauge), gauge, np.nan)
                jacobian = gauge.reshape(-1, 1) * point.jacobian()
                program = point.program
                order = program.output.letters
                shape = [point.sizes[x.size] for x in order]
                site = [k for k, x in enumerate(order) if x in program.site]
                unit = [k for k, x in enumerate(order) if x in program.unit]
                width = int(np.prod([shape[k] for k in unit]))
                rows = jacobian.reshape(*shape, -1).transpose(*site, *unit, len(shape))
                rows = rows.reshape(-1, width, jacobian.shape[1])
                # Padding alone leaves a patch without bias empty: nothing moves there.
                rows = rows[np.isfinite(rows).all(axis=(1, 2))]
                assert len(rows)
                own = np.einsum("sum,svm->suv", rows, rows)
                np.testing.assert_allclose(
                    own, np.broadcast_to(np.eye(width), own.shape), rtol=1e-5, atol=1e-5
                )

    def test_exactness(self, shipped):
        linear = derive(shipped("linear"))
        assert linear.correction("output gauge").exactness == "exact"
        assert linear.correction("input map").exactness == "constant-rate"
        assert derive(shipped("gated_linear")).correction("unit gauge").exactness == "frozen"
        assert derive(shipped("low_rank")).correction("matrix gauge").exactness == "frozen"

    def test_not_affine_is_first_order_at_best(self):
        spec = layer("z[n, i] = exp(b[i])*x[n, i] + c[i]", "b c", {"i": "features"})
        derivation = derive(spec)
        assert not derivation.update.affine
        assert derivation.correction("unit gauge").exactness == "frozen"


class TestLinearFamily:
    def test_affine_like(self, shipped, draw):
        point = draw(shipped("linear"), low=2)
        correction = derive(shipped("linear")).correction("output gauge")
        expected = 1 / np.sqrt(1 + (point["x"] ** 2).sum(axis=1))
        np.testing.assert_allclose(gauge_values(point, correction)[:, 0], expected)
        assert correction.rate == 1

    def test_norm_like(self, shipped, draw):
        point = draw(shipped("linear"), low=2)
        correction = derive(shipped("linear")).correction("input map")
        expected = 1 / np.sqrt((point["x"] ** 2).sum(axis=1))
        np.testing.assert_allclose(gauge_values(point, correction)[:, 0], expected)
        assert correction.rate == sympy.Symbol("radius", positive=True) ** 2 + 1

    def test_both_are_members_of_the_split_family(self, shipped):
        family = derive(shipped("linear")).correction("split gauge")
        assert set(family.members) == {"affine-like", "norm-like"}

    def test_without_bias_they_coincide(self, shipped):
        derivation = derive(shipped("linear"), frozenset("b"))
        radius = sympy.Symbol("radius", positive=True)
        output, inner = derivation.correction("output gauge"), derivation.correction("input map")
        assert inner.gauge.xreplace({radius: sympy.Integer(1)}) == output.gauge
        assert inner.rate.xreplace({radius: sympy.Integer(1)}) == output.rate
        assert not derivation.correction("split gauge").applies
        assert "no bias" in derivation.correction("split gauge").reason

    def test_side_conditions(self, shipped):
        derivation = derive(shipped("linear"))
        affine, norm = (
            derivation.correction("output gauge").side,
            derivation.correction("input map").side,
        )
        assert (affine.scale_invariant, affine.smooth_at_zero, affine.freedom_lost) == (
            False,
            True,
            0,
        )
        assert (norm.scale_invariant, norm.smooth_at_zero, norm.freedom_lost) == (True, False, 1)
        assert affine.parameter_free
        assert norm.parameter_free

    def test_corrected_kernel_keeps_the_interference(self, shipped, draw):
        point = draw(shipped("linear"), low=2)
        correction = derive(shipped("linear")).correction("output gauge")
        gauge = gauge_values(point, correction)[:, 0]
        program = point.program
        evaluator = Evaluator(
            point.sizes, {**point.evaluator.tensors, "λ": gauge}, point.evaluator.symbols
        )
        letters = program.output.letters
        kernel = evaluator.array(correction.kernel, (*letters, *(x.primed for x in letters)))
        plain = point["x"] @ point["x"].T + 1
        width = kernel.shape[1]
        expected = np.einsum("n,nm,m,ik->nimk", gauge, plain, gauge, np.eye(width))
        np.testing.assert_allclose(kernel, expected)


class TestInputMap:
    def test_solved_factor_makes_kappa_the_rate(self, name, derivations, shipped, draw):
        for absent, derivation in derivations(name).items():
            correction = derivation.correction("input map")
            if not correction.applies:
                continue
            point = draw(shipped(name), absent, low=2)
            program = point.program
            names = {t.name for t in program.inputs}
            letters = tuple(x for x in program.site if x in correction.gauge.free_symbols)
            symbols = {**point.evaluator.symbols, "radius": 1.0}
            factors = Evaluator(point.sizes, point.evaluator.tensors, symbols).array(
                correction.gauge, letters
            )
            # One site at a time, since each has its own factor on the input.
            for index in list(np.ndindex(factors.shape))[:3]:
                if not np.isfinite(factors[index]):
                    continue
                tensors = {
                    k: factors[index] * v if k in names else v
                    for k, v in point.evaluator.tensors.items()
                }
                moved = Evaluator(point.sizes, tensors, symbols)
                tensors |= run_program(program, moved)
                kappa = Evaluator(point.sizes, tensors, symbols).array(
                    derivation.structure.full, letters
                )
                rate = float(correction.rate.subs({s: 1 for s in correction.rate.free_symbols}))
                assert kappa[index] == pytest.approx(rate)


class TestRefusals:
    def reasons(self, spec):
        return {c.ansatz: c.reason for c in derive(spec).corrections if not c.applies}

    def test_every_ansatz_is_answered(self, name, derivations):
        for derivation in derivations(name).values():
            assert tuple(c.ansatz for c in derivation.corrections) == ANSATZE
            for correction in derivation.corrections:
                assert correction.applies or correction.reason
                assert correction.applies == (correction.exactness != "none")

    def test_embedding(self, shipped):
        derivation = derive(shipped("embedding"))
        assert derivation.nothing_to_correct
        assert derivation.correction("output gauge").reason.endswith("there is nothing to correct")
        assert derivation.correction("input map").reason == "no input holds real numbers"

    def test_diagonal(self, shipped):
        reasons = self.reasons(shipped("scale"))
        assert reasons["output gauge"].startswith("K(s,s) is diagonal")
        assert "unit gauge" not in reasons

    def test_anisotropic(self, shipped):
        reasons = self.reasons(shipped("low_rank"))
        assert reasons["unit gauge"].startswith("K(s,s) is not diagonal")
        assert "matrix gauge" not in reasons

    def test_rank_deficient(self):
        reasons = self.reasons(layer("z[n, i] = a*x[n, i]", "a", {}))
        assert "has rank 1 <" in reasons["matrix gauge"]

    def test_dead_units(self):
        reasons = self.reasons(layer("z[n, i] = relu(W[i, j]*x[n, j] + b[i])"))
        assert reasons["unit gauge"].startswith("κ = 0 wherever")

    @pytest.mark.parametrize("factor", ["sigmoid(a[i])", "exp(a[i])", "a[i]**2", "2"])
    def test_factors_without_a_sign_switch_no_unit_off(self, factor):
        spec = layer(
            f"z[n, i] = b[i]*relu({factor}*x[n, i])",
            "a b" if "a" in factor else "b",
            {"i": "units"},
        )
        assert "unit gauge" not in self.reasons(spec)

    @pytest.mark.parametrize("factor", ["a[i]", "a[i]**3", "relu(a[i])**2", "(sigmoid(a[i]) - 1)"])
    def test_factors_with_a_sign_do(self, factor):
        reasons = self.reasons(
            layer(f"z[n, i] = b[i]*relu({factor}*x[n, i])", "a b", {"i": "units"})
        )
        assert reasons["unit gauge"].startswith("κ = 0 wherever")

    def test_degree_above_two(self):
        spec = layer("z[n, i] = W[i, j]*(x[n, j] + x[n, j]**2 + x[n, j]**3) + b[i]")
        assert "degree above two" in self.reasons(spec)["input map"]

    def test_no_closed_form(self, shipped):
        assert "no closed form" in self.reasons(shipped("dyt_linear"))["input map"]

    def test_scale_of_the_input_is_ignored(self):
        spec = layer(
            "v[n] = sum[j](x[n, j]**2)\nz[n, i] = W[i, j]*x[n, j]*exp(x[n, j]/sqrt(v[n])) + b[i]",
        )
        assert self.reasons(spec)["input map"]

    def test_constant_kappa(self, shipped):
        spec = shipped("layer_norm_linear")
        plain = spec.with_(forward=spec.forward.replace(" + eps", ""), hyperparameters={})
        derivation = derive(plain)
        assert derivation.structure.constant
        assert derivation.structure.full == sympy.Symbol("size(j)", integer=True, positive=True) + 1
        assert "κ is constant" in self.reasons(plain)["input map"]

    def test_maximum_over_parameters(self):
        spec = layer("z[n, i] = max[j](W[i, j]*x[n, j]) + b[i]")
        with pytest.raises(DerivationError, match="max"):
            derive(spec)

    def test_a_wrong_gauge_is_not_certified(self, shipped):
        derivation = derive(shipped("linear"))
        solver = Solver(derivation.update, derivation.structure)
        program = derivation.program
        right = derivation.correction("output gauge").gauge
        n, j = program.letters["n"], program.letters["j"]
        for wrong in (
            right**2,
            right * 2,
            sympy.sqrt(right),
            (1 / right**2 - 1) ** sympy.Rational(-1, 2),
            1 / sympy.sqrt(1 + Read(sympy.Symbol("x"), n, sympy.Integer(0)) ** 2),
        ):
            with pytest.raises(DerivationError, match="self-kernel is not"):
                solver.certify(wrong, (n,), sympy.Integer(1))
        assert j not in right.free_symbols
        solver.certify(right, (n,), sympy.Integer(1))

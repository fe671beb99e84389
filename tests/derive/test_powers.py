"""A parameter inside a power: the chain rule's factor, against the closed form."""

import numpy as np
import pytest

from derive import LayerSpec, derive
from derive.evaluate import Evaluator


@pytest.mark.parametrize("power", [2, 3])
def test_self_kernel_of_a_power(power):
    spec = LayerSpec(
        name="Power",
        forward=f"z[n, i] = (W[i, j]*x[n, j])**{power}",
        site="n",
        unit="i",
        parameters={"W": {"torch": "weight"}},
        sizes={"j": "in_features", "i": "out_features"},
    )
    derivation = derive(spec)
    rng = np.random.default_rng(0)
    weight, x = rng.standard_normal((4, 3)), rng.standard_normal((2, 3))
    letters = derivation.program.output.letters
    sizes = dict(zip([v.size for v in letters], (2, 4), strict=True))
    sizes |= {v.size: 3 for v in derivation.program.letters.values() if v.size not in sizes}
    found = Evaluator(sizes, {"W": weight, "x": x}, {}).array(derivation.structure.kappa, letters)
    slope = power * (x @ weight.T) ** (power - 1)
    np.testing.assert_allclose(found, slope**2 * (x**2).sum(1)[:, None], rtol=1e-12)

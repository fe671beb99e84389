"""A layer whose gauge is free of the parameters although it is not affine in them: first-order."""

from codegen import generate
from derive import LayerSpec
from verify import verify_layer

MAXOUT = LayerSpec(
    name="Maxout",
    forward="z[n, i] = max(W[i, j]*x[n, j], V[i, j]*x[n, j])",
    site="n",
    unit="i",
    parameters={"W": {"torch": "weight"}, "V": {"torch": "other"}},
    sizes={"j": "in_features", "i": "out_features"},
)


def test_maxout_is_first_order_and_says_so():
    source = generate(MAXOUT)
    (found,) = source.classes
    assert found.corrections[frozenset()].exactness == "first-order"
    assert "First-order" in source.text
    report = verify_layer(source, instances=4)
    assert report.passed
    assert all(stage.ran for stage in report.stages)

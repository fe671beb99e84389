"""The kernels of the literature, written in NumPy here and derived there."""

import numpy as np
import pytest

from derive import LayerSpec, derive
from derive.stages import stage_spec


def kernel(point):
    """K(s,s') over the logical output axes, twice."""
    letters = point.program.output.letters
    return point.over(point.update.kernel, *letters, *(x.primed for x in letters))


def eye(point, letter):
    return np.eye(point.sizes[point.program.letters[letter].size])


@pytest.mark.parametrize("absent", [frozenset(), frozenset("b")], ids=["bias", "no bias"])
class TestAffine:
    def test_linear(self, shipped, draw, absent):
        point = draw(shipped("linear"), absent, low=2)
        expected = np.einsum("nj,mj->nm", point["x"], point["x"]) + (not absent)
        np.testing.assert_allclose(
            kernel(point), np.einsum("nm,ik->nimk", expected, eye(point, "i"))
        )
        assert point.update.affine

    def test_bilinear(self, shipped, draw, absent):
        point = draw(shipped("bilinear"), absent, low=2)
        x, y = point["x"], point["y"]
        expected = (x @ x.T) * (y @ y.T) + (not absent)
        np.testing.assert_allclose(
            kernel(point), np.einsum("nm,ik->nimk", expected, eye(point, "i"))
        )

    def test_scale(self, shipped, draw, absent):
        point = draw(shipped("scale"), absent, low=2)
        expected = np.einsum("ni,mi->nmi", point["x"], point["x"]) + (not absent)
        np.testing.assert_allclose(
            kernel(point), np.einsum("nmi,ik->nimk", expected, eye(point, "i"))
        )

    def test_residual(self, shipped, draw, absent):
        point = draw(shipped("residual_linear"), absent, low=2)
        expected = point["x"] @ point["x"].T + (not absent)
        np.testing.assert_allclose(
            kernel(point), np.einsum("nm,ik->nimk", expected, eye(point, "i"))
        )


def patches(point, x):
    """x[n, channel..., l] → patches[n, channel..., p, k] with zeros outside, by plain loops."""
    symbols, sizes = point.evaluator.symbols, point.sizes
    count, width = sizes["p"], sizes["k"]
    found = np.zeros((*x.shape[:-1], count, width))
    for p in range(count):
        for k in range(width):
            at = symbols["stride"] * p + symbols["dilation"] * k - symbols["padding"]
            if 0 <= at < x.shape[-1]:
                found[..., p, k] = x[..., at]
    return found


@pytest.mark.parametrize("attempt", range(3))
def test_convolution(shipped, draw, attempt):
    point = draw(shipped("conv1d"), low=1 + attempt // 2)
    q = patches(point, point["x"])  # n g c p k
    dots = np.einsum("ngcpk,mgcrk->ngpmr", q, q) + 1
    expected = np.einsum("ngpmr,gh,ok->ngopmhkr", dots, eye(point, "g"), eye(point, "o"))
    np.testing.assert_allclose(kernel(point), expected)


def test_depthwise_convolution_is_diagonal_and_not_isotropic(shipped, draw):
    point = draw(shipped("depthwise_conv1d"), low=2)
    q = patches(point, point["x"])  # n o p k
    dots = np.einsum("nopk,mork->nopmr", q, q) + 1
    np.testing.assert_allclose(kernel(point), np.einsum("nopmr,oi->nopmir", dots, eye(point, "o")))
    structure = derive(shipped("depthwise_conv1d")).structure
    assert structure.kind == "diagonal"


def test_transposed_convolution(shipped, draw):
    point = draw(shipped("conv_transpose1d"), low=2)
    x, symbols, sizes = point["x"], point.evaluator.symbols, point.sizes
    q = np.zeros((*x.shape[:-1], sizes["p"], sizes["k"]))
    for p in range(sizes["p"]):
        for k in range(sizes["k"]):
            at, rest = divmod(p + symbols["padding"] - symbols["dilation"] * k, symbols["stride"])
            if rest == 0 and 0 <= at < x.shape[-1]:
                q[..., p, k] = x[..., at]
    dots = np.einsum("ngcpk,mgcrk->ngpmr", q, q) + 1
    expected = np.einsum("ngpmr,gh,ok->ngopmhkr", dots, eye(point, "g"), eye(point, "o"))
    np.testing.assert_allclose(kernel(point), expected)


def test_embedding(shipped, draw):
    point = draw(shipped("embedding"), low=2)
    token = point["token"]
    same = (token[:, :, None, None] == token[None, None]).astype(float)
    np.testing.assert_array_equal(
        kernel(point), np.einsum("ntmu,ij->ntimuj", same, eye(point, "i"))
    )


def test_low_rank(shipped, draw):
    point = draw(shipped("low_rank"), low=2)
    x, h = point["x"], point["x"] @ point["A"].T
    gram = point["B"] @ point["B"].T
    expected = np.einsum("nm,ik->nimk", h @ h.T, eye(point, "i"))
    expected += np.einsum("nm,ik->nimk", x @ x.T, gram)
    np.testing.assert_allclose(kernel(point), expected)


class TestAttention:
    @pytest.mark.parametrize("stage", ["query", "key", "value"])
    def test_projection(self, shipped, draw, stage):
        point = draw(stage_spec(shipped("multihead_attention"), stage), low=2)
        x = point["x"]
        dots = np.einsum("ntj,muj->ntmu", x, x) + 1
        expected = np.einsum("ntmu,hg,de->nthdmuge", dots, eye(point, "h"), eye(point, "d"))
        np.testing.assert_allclose(kernel(point), expected)

    def test_value_mix_sees_the_mean_token(self, shipped, draw):
        point = draw(stage_spec(shipped("multihead_attention"), "mix"), low=2)
        weights = np.exp(point["s"])
        weights /= weights.sum(axis=-1, keepdims=True)
        mean = np.einsum("nhtu,nuj->nhtj", weights, point["x"])
        dots = np.einsum("nhtj,mhuj->nthmu", mean, mean) + 1
        expected = np.einsum("nthmu,hg,de->nthdmuge", dots, eye(point, "h"), eye(point, "d"))
        np.testing.assert_allclose(kernel(point), expected)
        gauge = derive(point.program.spec).correction("output gauge")
        assert gauge.exactness == "exact"

    def test_score_depends_on_the_parameters(self, draw):
        spec = LayerSpec(
            name="Score",
            forward="q[n, t, d] = Q[d, j]*x[n, t, j]\n"
            "k[n, u, d] = K[d, j]*x[n, u, j]\n"
            "s[n, t, u] = q[n, t, d]*k[n, u, d]/sqrt(size(d))",
            site="n t u",
            unit="",
            parameters={"Q": {"torch": "query"}, "K": {"torch": "key"}},
            sizes={"j": "embed_dim", "d": "head_dim"},
        )
        point = draw(spec, low=2)
        x, q, k = point["x"], point["x"] @ point["Q"].T, point["x"] @ point["K"].T
        gram = {
            name: np.einsum("ntj,muj->ntmu", v, v) for name, v in (("x", x), ("q", q), ("k", k))
        }
        # Axes n t u m v w: sites (n, t, u) and (m, v, w).
        expected = np.einsum("ntmv,numw->ntumvw", gram["x"], gram["k"])
        expected += np.einsum("ntmv,numw->ntumvw", gram["q"], gram["x"])
        expected /= point["Q"].shape[0]
        np.testing.assert_allclose(kernel(point), expected)
        assert derive(spec).correction("output gauge").exactness == "frozen"

    def test_a_key_bias_moves_nothing(self, derivations):
        update = derivations("multihead_attention")[frozenset()].update
        assert update.gradients["b"] == 0


class TestNormalisers:
    def kappa(self, point):
        site = point.program.site
        return point.over(derive(point.program.spec).structure.full, *site)

    @pytest.mark.parametrize(
        ("stem", "centred"), [("layer_norm_linear", True), ("rms_norm_linear", False)]
    )
    def test_over_features(self, shipped, draw, stem, centred):
        point = draw(shipped(stem).with_(hyperparameters={"eps": 0.3}), low=2)
        x = point["x"]
        v = x.var(axis=1) if centred else (x**2).mean(axis=1)
        np.testing.assert_allclose(self.kappa(point), x.shape[1] * v / (v + 0.3) + 1)

    def test_group_norm(self, shipped, draw):
        point = draw(shipped("group_norm_linear").with_(hyperparameters={"eps": 0.3}), low=2)
        v = point["x"].var(axis=2)
        width = point["x"].shape[2]
        np.testing.assert_allclose(self.kappa(point), (width * v / (v + 0.3)).sum(axis=1) + 1)

    def test_batch_norm(self, shipped, draw):
        point = draw(shipped("batch_norm_linear").with_(hyperparameters={"eps": 0.3}), low=2)
        x = point["x"]
        expected = ((x - x.mean(axis=0)) ** 2 / (x.var(axis=0) + 0.3)).sum(axis=1) + 1
        np.testing.assert_allclose(self.kappa(point), expected)

    def test_instance_norm(self, shipped, draw):
        point = draw(shipped("instance_norm_conv").with_(hyperparameters={"eps": 0.3}), low=2)
        x = point["x"]
        centred = (x - x.mean(axis=2, keepdims=True)) ** 2
        expected = (centred / (x.var(axis=2, keepdims=True) + 0.3)).sum(axis=1) + 1
        np.testing.assert_allclose(self.kappa(point), expected)

    def test_dyt(self, shipped, draw):
        point = draw(shipped("dyt_linear"), low=2)
        np.testing.assert_allclose(
            self.kappa(point), (np.tanh(0.5 * point["x"]) ** 2).sum(axis=1) + 1
        )

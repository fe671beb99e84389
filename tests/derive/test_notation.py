"""What the notation means: formulas run line by line against NumPy, and how sums are closed."""

import math

import numpy as np
import pytest

from derive import LayerSpec, SpecError
from derive.evaluate import Evaluator, run_program
from derive.points import random_sizes, random_tensors
from derive.resolve import resolve


def resolved(forward, inputs=(), sizes=None, hyperparameters=None, **tables):
    spec = LayerSpec(
        name="Layer",
        forward=forward,
        site="n",
        unit="i" if "i]" in forward.splitlines()[-1].split("=")[0] else "",
        parameters={"W": {"torch": "weight"}},
        sizes=sizes or {"i": "out_features", "j": "in_features"},
        hyperparameters=hyperparameters or {},
        inputs=dict(inputs),
        **tables,
    )
    return resolve(spec)


def run(forward, inputs=(), sizes=None, hyperparameters=None, seed=0, **tables):
    program = resolved(forward, inputs, sizes, hyperparameters, **tables)
    rng = np.random.default_rng(seed)
    drawn, symbols = random_sizes(program, rng, 2, 4)
    tensors = random_tensors(program, drawn, rng)
    values = run_program(program, Evaluator(drawn, tensors, symbols))
    return values[program.output.target], tensors


ERF = np.vectorize(math.erf)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("W[i, j]*x[n, j]", lambda W, x: x @ W.T),
        ("W[i, j]*x[n, j]/size(j)", lambda W, x: (x @ W.T) / x.shape[1]),
        ("W[i, j]*(x[n, j] + 1)", lambda W, x: (x + 1) @ W.T),
        ("exp(W[i, j]*x[n, j])", lambda W, x: np.exp(x @ W.T)),
        ("exp(sum[j](W[i, j])*x[n, 0])", lambda W, x: np.exp(np.outer(x[:, 0], W.sum(axis=1)))),
        ("(W[i, j]*x[n, j])**2", lambda W, x: (x @ W.T) ** 2),
        ("W[i, j]*x[n, j]**2", lambda W, x: x**2 @ W.T),
        ("W[i, j]*x[n, j] - 2*x[n, i]", None),
        ("mean[j](W[i, j]*x[n, j])", lambda W, x: (x @ W.T) / x.shape[1]),
        ("max[j](W[i, j]*x[n, j])", lambda W, x: (W[None] * x[:, None]).max(axis=2)),
        ("max(W[i, j]*x[n, j], 0.25)", lambda W, x: np.maximum(x @ W.T, 0.25)),
        ("relu(W[i, j]*x[n, j])", lambda W, x: np.maximum(x @ W.T, 0)),
        ("tanh(W[i, j]*x[n, j])", lambda W, x: np.tanh(x @ W.T)),
        ("sigmoid(W[i, j]*x[n, j])", lambda W, x: 1 / (1 + np.exp(-x @ W.T))),
        ("silu(W[i, j]*x[n, j])", lambda W, x: x @ W.T / (1 + np.exp(-x @ W.T))),
        ("gelu(W[i, j]*x[n, j])", lambda W, x: (x @ W.T) * (1 + ERF(x @ W.T / np.sqrt(2))) / 2),
        ("erf(W[i, j]*x[n, j])", lambda W, x: ERF(x @ W.T)),
        ("log(1 + (W[i, j]*x[n, j])**2)", lambda W, x: np.log(1 + (x @ W.T) ** 2)),
        ("sqrt(1 + (W[i, j]*x[n, j])**2)", lambda W, x: np.sqrt(1 + (x @ W.T) ** 2)),
        (
            "softmax[j](W[i, j])*x[n, j]",
            lambda W, x: x @ (np.exp(W) / np.exp(W).sum(1, keepdims=True)).T,
        ),
        ("-W[i, j]*x[n, j]/(1 + x[n, j]**2)", lambda W, x: -(x / (1 + x**2)) @ W.T),
        ("W[i, j]*x[n, j + 1]", lambda W, x: np.pad(x, ((0, 0), (0, 1)))[:, 1:] @ W.T),
        ("W[i, j]*x[n, j - 1]", lambda W, x: np.pad(x, ((0, 0), (1, 0)))[:, :-1] @ W.T),
        ("+W[i, j]*x[n, j]*1.5e-1", lambda W, x: 0.15 * x @ W.T),
    ],
)
def test_formula(text, expected):
    inputs = {"x": "n j"} if "+ 1]" in text or "- 1]" in text or "0]" in text else {}
    sizes = {"i": "features"} if expected is None else None
    value, tensors = run(f"z[n, i] = {text}", inputs, sizes)
    W, x = tensors["W"], tensors["x"]
    wanted = x @ W.T - 2 * x if expected is None else expected(W, x)
    np.testing.assert_allclose(value, wanted)


def test_an_intermediate_that_is_a_number_stands_for_itself():
    program = resolved("m = 3*size(j)\nk = m + 1\nh[n, j] = x[n, j]/k\nz[n, i] = m*W[i, j]*h[n, j]")
    assert [line.target for line in program.lines] == ["h", "z"]
    assert list(program.tensors) == ["x", "W", "h", "z"]
    x, W = np.random.default_rng(0).standard_normal((2, 3, 4))
    values = run_program(program, Evaluator({"n": 3, "i": 3, "j": 4}, {"x": x, "W": W}, {}))
    np.testing.assert_allclose(values["z"], 12 / 13 * x @ W.T)


def test_division_in_an_index_reads_zero_where_it_is_not_exact():
    value, tensors = run(
        "z[n, i] = W[i]*x[n, i/step]",
        {"x": "n l"},
        {"i": "step*l"},
        {"step": 2},
    )
    wanted = np.zeros_like(value)
    wanted[:, ::2] = tensors["x"]
    np.testing.assert_allclose(value, wanted * tensors["W"])


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        ("z[n, i] = W[j, j]*x[n, i] + W[i, k]*x[n, k]", lambda W, x: W.trace() * x + x @ W.T),
        ("z[n, i] = W[i, k]*x[n, k] + W[j, j]*x[n, i]", lambda W, x: W.trace() * x + x @ W.T),
    ],
)
def test_an_axis_read_along_a_diagonal_has_a_letter_of_its_own(forward, expected):
    value, tensors = run(forward, sizes=dict.fromkeys("ijk", "features"))
    np.testing.assert_allclose(value, expected(tensors["W"], tensors["x"]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("W[j, j]**2*x[n, i]", lambda W, x: W.trace() ** 2 * x),
        ("sum[j](W[j, j]**2)*x[n, i]", lambda W, x: (W.diagonal() ** 2).sum() * x),
        ("tanh(x[n, j + j])*W[i, i]", lambda W, x: np.tanh(x[:, :1] + x[:, 2:3]) * W.diagonal()),
    ],
)
def test_a_letter_twice_in_one_tensor_is_summed_there(text, expected):
    sizes = dict.fromkeys("ij", "features")
    value, tensors = run(f"z[n, i] = {text}", {"x": "n j"}, sizes)
    np.testing.assert_allclose(value, expected(tensors["W"], tensors["x"]))


def test_the_name_of_such_an_axis_is_no_letter_of_the_spec():
    forward = "z[n, i] = W[j, j]*x[n, i] + W[i, j2]*x[n, j2]"
    program = resolved(forward, sizes=dict.fromkeys(("i", "j", "j2"), "features"))
    first, second = program.tensors["W"].letters
    assert first.size == second.size
    assert second.name not in {"n", "i", "j", "j2"}
    program = resolved("z[n, i] = W[j, j]*x[n, i]", sizes=dict.fromkeys("ij", "j2"))
    assert "j2" not in {x.name for x in program.tensors["W"].letters}


def test_axes_that_are_declared_by_one_letter_have_one_size():
    sizes = {"i": "outputs", "u": "rows", "v": "columns"}
    program = resolved("z[n, i] = W[i, u, v]*x[n, u, v]", {"x": "n l l"}, sizes)
    _, first, second = program.tensors["x"].letters
    assert first != second
    assert first.size == second.size


def test_composed_axes_have_one_size_each():
    spec = LayerSpec(
        name="Layer",
        forward="z[n, (g, o)] = W[(g, o), c]*x[n, (g, c)]",
        site="n g",
        unit="o",
        parameters={"W": {"torch": "weight"}},
        sizes={"(g, c)": "channels", "(g, o)": "outputs", "g": "groups"},
        hyperparameters={"groups": 2},
    )
    program = resolve(spec)
    assert [tuple(x.name for x in axis) for axis in program.tensors["W"].axes] == [
        ("g", "o"),
        ("c",),
    ]
    sizes, _ = random_sizes(program, np.random.default_rng(0))
    assert sizes["g"] == 2
    assert list(program.arguments) == ["channels", "outputs"]


def test_constructor_order_is_that_of_torch(shipped):
    wanted = {
        "linear": "in_features out_features",
        "bilinear": "in1_features in2_features out_features",
        "conv2d": "in_channels out_channels kernel_size stride padding dilation groups",
        "conv_transpose2d": "in_channels out_channels kernel_size stride padding output_padding "
        "groups bias dilation",
        "embedding": "num_embeddings embedding_dim",
    }
    for stem, order in wanted.items():
        spec = shipped(stem)
        assert [*resolve(spec).arguments, *spec.hyperparameters] == order.split()


def test_parameter_layouts_are_those_of_torch(shipped):
    import torch

    twins = {
        "linear": torch.nn.Linear(3, 4),
        "bilinear": torch.nn.Bilinear(3, 4, 5),
        "conv1d": torch.nn.Conv1d(4, 6, 3, groups=2),
        "conv2d": torch.nn.Conv2d(4, 6, (2, 3), groups=2),
        "conv3d": torch.nn.Conv3d(4, 6, (2, 3, 1), groups=2),
        "conv_transpose1d": torch.nn.ConvTranspose1d(4, 6, 3, groups=2),
        "conv_transpose2d": torch.nn.ConvTranspose2d(4, 6, (2, 3), groups=2),
        "conv_transpose3d": torch.nn.ConvTranspose3d(4, 6, (2, 3, 1), groups=2),
        "embedding": torch.nn.Embedding(5, 3),
    }
    for stem, twin in twins.items():
        spec = shipped(stem)
        if "groups" in spec.hyperparameters:
            spec = spec.with_(hyperparameters={**spec.hyperparameters, "groups": 2})
        program = resolve(spec)
        assert {t.torch for t in spec.parameters.values()} == {
            k for k, _ in twin.named_parameters()
        }
        known = {k: getattr(twin, k) for k in program.arguments}
        for tensor in program.parameters:
            shape = getattr(twin, spec.parameters[tensor.name].torch).shape
            assert len(tensor.axes) == len(shape)
            for axis, size in zip(tensor.axes, shape, strict=True):
                tree = program.sizes[axis[0].size]
                name = getattr(tree, "name", None)
                if len(axis) == 1 and name in known:
                    whole = known[name]
                    whole = whole[tree.element or 0] if isinstance(whole, tuple) else whole
                    assert size == whole


def test_digest_sees_content_and_not_comments(shipped):
    spec = shipped("conv2d")
    assert spec.digest == shipped("conv2d").with_(text=None, file=None).digest
    assert spec.digest != spec.with_(site="n p q", unit="g o").digest
    assert spec.digest != spec.with_(summary="Other.").digest
    stages = shipped("multihead_attention")
    assert stages.digest != stages.with_(stages={}).digest


def test_a_line_number_counts_lines_of_forward_without_a_file():
    with pytest.raises(SpecError) as caught:
        run("h[n, i] = W[i, j]*x[n, j]\nz[n, i] = cos(h[n, i])")
    assert caught.value.line == 2
    assert caught.value.file is None

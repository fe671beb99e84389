"""Whatever is written into a spec, it is read or refused with a SpecError; nothing else escapes."""

import contextlib

from hypothesis import example, given, settings
from hypothesis import strategies as st

from derive import DerivationError, LayerSpec, SpecError, derive, read_spec
from derive.parser import Parser
from derive.resolve import resolve
from derive.stages import stage_spec

PARAMETERS = {"W": {"torch": "weight"}, "b": {"torch": "bias", "optional": True}}
SIZES = {"j": "in_features", "i": "out_features"}

ALPHABET = "nijkWxbz[](),.+-*/ =0123456789_'\"\\\n#;:@^%!~&|<>{}µ\x00"
FRAGMENTS = (
    "W[i, j]",
    "x[n, j]",
    "b[i]",
    "z[n, i]",
    "x[n, (g, j)]",
    "(",
    ")",
    "[",
    "]",
    ",",
    "+",
    "-",
    "*",
    "/",
    "//",
    "**",
    "=",
    "2",
    "0.5",
    "-1",
    "1e9",
    "0",
    "9" * 30,
    "sqrt(",
    "exp(",
    "max(",
    "softmax[j](",
    "sum[j](",
    "mean[i, j](",
    "size(j)",
    "stride",
    "padding[0]",
    "n",
    "i",
    "j",
    "lambda: 0",
    "__import__",
    "if",
    "x.T",
    "'s'",
    "f'{x}'",
    "x[0]",
    "x[n, 2*j + stride]",
    "x[n, j/stride]",
    "x[n, token[n]]",
    "x[n, j*j]",
    "x[]",
    "x[:]",
    "x[n, ...]",
    "*x",
    "None",
    "True",
    "1j",
    "yield",
    "await x",
    ":=",
    "...",
    "x[(n, i)]",
    "x[((n, i), j)]",
    " ",
    "\n",
)

texts = st.text(alphabet=ALPHABET, max_size=60) | st.text(max_size=40)
fragments = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map(" ".join)

letters = st.sampled_from(["n", "i", "j", "k", "g"])
indices = st.one_of(
    letters,
    letters,
    st.builds("({}, {})".format, letters, letters),
    st.builds("{}*{} + {}".format, st.sampled_from(["2", "stride", "j", "0.5"]), letters, letters),
    st.builds("({} + 1)/stride".format, letters),
    st.builds("token[{}]".format, letters),
)
reads = st.builds(
    lambda name, axes: f"{name}[{', '.join(axes)}]" if axes else name,
    st.sampled_from(["W", "b", "x", "y", "h", "stride", "j"]),
    st.lists(indices, max_size=3),
)
formulas = st.recursive(
    reads | st.sampled_from(["1", "2.5", "0", "size(j)", "stride"]),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner),
        st.builds(
            "{}({})".format, st.sampled_from(["sqrt", "exp", "log", "tanh", "relu", "gelu"]), inner
        ),
        st.builds(
            "{}[{}]({})".format, st.sampled_from(["sum", "mean", "max", "softmax"]), letters, inner
        ),
        st.builds("({})**{}".format, inner, st.integers(-3, 4)),
        st.builds("max({}, {})".format, inner, inner),
        st.builds("-{}".format, inner),
    ),
    max_leaves=8,
)
lefts = st.sampled_from(["z[n, i]", "z[n]", "z", "z[n, (g, i)]", "h[n, j]", "z[i, n]"])
programs = st.lists(st.builds("{} = {}".format, lefts, formulas), min_size=1, max_size=3).map(
    "\n".join
)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["n", "i", "W", "n (g c) l", "kernel_size[0]", "j//2", "weight", "z", "stride", "n p"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "torch",
                    "axes",
                    "init",
                    "optional",
                    "fan_in",
                    "lines",
                    "site",
                    "unit",
                    "padded_by",
                    "x",
                ]
            )
            | st.text(max_size=4),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)
keys = st.sampled_from(
    [
        "n",
        "i",
        "j",
        "W",
        "b",
        "x",
        "(i, j)",
        "(g, c)",
        "stride",
        "affine-like",
        "()",
        "self",
        "class",
        "é",
    ]
) | st.text(max_size=5)
tables = st.dictionaries(keys, values, max_size=3)


def only_spec_errors(build):
    with contextlib.suppress(SpecError):
        build()


def layer(forward, **changes):
    arguments = {
        "name": "Layer",
        "forward": forward,
        "site": "n",
        "unit": "i",
        "parameters": PARAMETERS,
        "sizes": SIZES,
        "hyperparameters": {"stride": 1},
        **changes,
    }
    return LayerSpec(**arguments)


@given(texts | fragments)
@example("W[i, j]*x[n, j] + b[i]")
@example("z[n, i] = W[i, j]*x[n, j]/(b[i] - b[i])")
@example("z[n, i] = W[i, j]*x[n, j] + 10**(10**10)*b[i]")
@example("z[n, i] = " + "-" * 3000 + "b[i]")
@example("z[n, i] = " + "(" * 90 + "W[i, j]*x[n, j]" + ")" * 90)
def test_forward(text):
    only_spec_errors(lambda: resolve(layer(text)))
    only_spec_errors(lambda: resolve(layer("z[n, i] = W[i, j]*x[n, j] + b[i] + " + text)))


@given(texts | fragments)
def test_size(text):
    forward = "z[n, i] = W[i, j]*x[n, j] + b[i]"
    only_spec_errors(lambda: resolve(layer(forward, sizes={"j": text, "i": "out_features"})))
    only_spec_errors(lambda: resolve(layer(forward, sizes={"i": "2*j", text: "in_features"})))


@settings(max_examples=200)
@given(programs)
def test_programs(forward):
    only_spec_errors(lambda: resolve(layer(forward)))


typed_reads = st.sampled_from(
    [
        "W[i, j]",
        "W[i, j]",
        "b[i]",
        "b[i]",
        "x[n, j]",
        "x[n, j]",
        "y[n, i]",
        "y[n, stride*i - 1]",
        "u[n]",
        "2",
        "size(j)",
    ]
)
typed = st.recursive(
    typed_reads,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-**"), inner),
        st.builds(
            "{}({})".format, st.sampled_from(["exp", "tanh", "relu", "sigmoid", "gelu"]), inner
        ),
        st.builds("mean[j](x[n, j]*{})".format, inner),
        st.builds("({})**{}".format, inner, st.integers(1, 2)),
        st.builds("({})/sqrt(u[n]**2 + 1)".format, inner),
    ),
    max_leaves=3,
)


@settings(max_examples=15)
@given(typed, st.booleans())
def test_derivations(formula, split):
    """A spec that can be read is derived, or refused with a reason."""
    forward = f"z[n, i] = W[i, j]*x[n, j] + b[i] + {formula}"
    if split:
        forward = f"h[n, i] = W[i, j]*x[n, j] + b[i]\nz[n, i] = h[n, i]*u[n] + {formula}"
    inputs = {"y": "n i"} if "y[" in formula else {}
    with contextlib.suppress(SpecError, DerivationError):
        derive(layer(forward, inputs=inputs))


@settings(max_examples=200)
@given(
    st.sampled_from(
        [
            "parameters",
            "sizes",
            "hyperparameters",
            "inputs",
            "classes",
            "stages",
            "name",
            "site",
            "unit",
            "layout",
        ]
    ),
    tables | values,
)
def test_tables(field, value):
    forward = "z[n, i] = W[i, j]*x[n, j] + b[i]"

    def build():
        spec = layer(forward, **{field: value})
        resolve(spec)
        assert len(spec.digest) == 64
        for name in spec.stages:
            only_spec_errors(lambda stage=name: resolve(stage_spec(spec, stage)))

    only_spec_errors(build)


@given(texts | fragments)
@example("name = " + "9" * 5000)
@example("x = " + "[" * 5000)
def test_files(text):
    only_spec_errors(lambda: read_spec(text))


def test_nothing_is_run():
    names = {method for method in vars(Parser) if method.startswith("walk_")}
    assert names == {
        "walk_constant",
        "walk_name",
        "walk_unaryop",
        "walk_binop",
        "walk_subscript",
        "walk_call",
    }

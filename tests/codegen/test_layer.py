"""From specs to files: shipped layers, changed specs, refusals, hostile words, the same bytes."""

from __future__ import annotations

import ast
import difflib
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jinja2
import jinja2.meta
import numpy as np
import pytest

from codegen import LayerSource, NothingToGenerate, generate
from codegen.header import is_edited
from codegen.layer import TEMPLATES, fill
from derive import LayerSpec, load_spec
from derive.errors import DerivationError, SpecError
from tests.codegen.specs import FULL, WEIGHT_BIAS, spec
from tests.support import ROOT, SPEC_FILES, point

# Shipped specs that no module comes out of, or one that is put together from stages.
NOTHING = ("embedding",)
ONE_MODULE = tuple(n for n in SPEC_FILES if n not in (*NOTHING, "multihead_attention"))


@functools.cache
def shipped(name: str) -> LayerSource:
    return generate(load_spec(SPEC_FILES[name]))


# ---------------------------------------------------------------------- (a) the shipped files
@pytest.mark.parametrize("name", [n for n in SPEC_FILES if n not in NOTHING])
def test_shipped_file_is_what_its_spec_gives(name):
    source = shipped(name)
    file = ROOT / "layers" / f"{source.module}.py"
    committed = file.read_text(encoding="utf-8")
    diff = difflib.unified_diff(
        committed.splitlines(keepends=True),
        source.text.splitlines(keepends=True),
        f"committed/{file.name}",
        f"generated/{file.name}",
    )
    assert committed == source.text, f"run `truestep build`\n{''.join(diff)}"
    assert f"# spec: sha256 {source.spec.digest}\n" in committed
    assert not is_edited(committed)


def test_no_other_file_lies_among_the_shipped_ones():
    wanted = {shipped(n).module for n in SPEC_FILES if n not in NOTHING}
    found = {file.stem for file in (ROOT / "layers").glob("*.py")} - {"__init__"}
    assert found == wanted


# ---------------------------------------------------------------------- (b) changed specs
LINEAR = load_spec(SPEC_FILES["linear"])
# Another window is no convolution, so that nothing can be said about its padding.
CONV = load_spec(SPEC_FILES["conv1d"]).with_(inputs={"x": "n (g c) l"})
CHANGES = (
    (LINEAR, "+ b[i]", "+ 3*b[i]", "lambda = 1/sqrt(9 + sum_j x[n, j]^2)"),
    (LINEAR, "+ b[i]", "+ 2*b[i]", "lambda = 1/sqrt(4 + sum_j x[n, j]^2)"),
    (LINEAR, "W[i, j]*x[n, j]", "W[i, j]*x[n, j]*y[n]", "y[n]^2"),
    (LINEAR, "x[n, j]", "x[n, j]**2", "lambda = 1/sqrt(1 + sum_j x[n, j]^4)"),
    (CONV, "stride*p + dilation*k - padding", "stride*p + 2*dilation*k - padding", "2*dilation*k"),
)


@pytest.mark.parametrize(("base", "old", "new", "formula"), CHANGES, ids=lambda x: str(x)[:24])
def test_code_and_words_follow_the_spec(base, old, new, formula):
    assert old in base.forward
    changed = base.with_(forward=base.forward.replace(old, new))
    before, source = generate(base), generate(changed)
    assert formula in source.text
    assert formula not in before.text
    for found in source.classes:
        for absent, correction in found.corrections.items():
            for seed in (0, 1):
                at = point(source, found, absent, seed)
                kernel = at.self_kernel()
                wanted = at.rate(correction.rate) * np.eye(kernel.shape[-1])
                np.testing.assert_allclose(kernel, np.broadcast_to(wanted, kernel.shape), atol=1e-9)


def test_a_second_input_becomes_an_argument():
    changed = LINEAR.with_(forward="z[n, i] = W[i, j]*x[n, j]*y[n, j] + b[i]")
    source = generate(changed)
    assert "def forward(self, x: Tensor, y: Tensor) -> Tensor:" in source.text


# ---------------------------------------------------------------------- (c) refusals
REFUSED = (
    (load_spec(SPEC_FILES["embedding"]), "nothing to correct"),
    (spec("ReluLayer", "z[n, i] = relu(W[i, j]*x[n, j] + b[i])"), "no ansatz"),
    (
        spec(
            "OneScale",
            "z[n, i] = a*x[n, i]",
            parameters={"a": {"torch": "scale"}},
            sizes={"i": "features"},
        ),
        "no ansatz",
    ),
)


@pytest.mark.parametrize(("refused", "reason"), REFUSED, ids=lambda x: getattr(x, "name", ""))
def test_nothing_to_generate_says_why(refused, reason):
    with pytest.raises(NothingToGenerate, match=reason) as caught:
        generate(refused)
    assert refused.name in str(caught.value)


def test_every_ansatz_that_fails_is_named_with_its_reason():
    with pytest.raises(NothingToGenerate) as caught:
        generate(REFUSED[2][0])
    lines = str(caught.value).splitlines()[1:]
    assert {line.split(":")[0].strip() for line in lines} >= {"output gauge", "matrix gauge"}
    assert all(line.split(":", 1)[1].strip() for line in lines)


# ---------------------------------------------------------------------- (d) hostile words
HOSTILE = (
    '"""',
    '"""\nimport os',
    'ends in a quote"',
    'ends in three """',
    "ends in a backslash \\",
    '\\"""',
    '\\\\"""',
    "\\N{BULLET} \\x41 \\u0041 \\",
    "# a comment",
    "{{ title }} {% raw %} {c.name}",
    '"""); import os; os.system("true") #',
    "''' single",
    "é ü 数",
)


@pytest.mark.parametrize("words", HOSTILE)
@pytest.mark.parametrize("key", ["summary", "source"])
def test_words_stay_in_the_docstring(key, words):
    plain = shape(generate(LINEAR).text)
    try:
        changed = LINEAR.with_(**{key: words})
    except SpecError:
        assert "\n" in words
        return
    text = generate(changed).text
    assert shape(text) == plain
    classes = {n.name: n for n in ast.parse(text).body if isinstance(n, ast.ClassDef)}
    doc = ast.get_docstring(classes["AffineLikeLinear"])
    shown = "".join(doc.split())
    assert "".join(words.rstrip(".").split())[1:] in shown


def test_newlines_are_refused():
    for key in ("summary", "source"):
        with pytest.raises(SpecError, match=key):
            LINEAR.with_(**{key: "one\ntwo"})


def shape(text: str) -> str:
    """The syntax tree without docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return ast.dump(tree)


# ---------------------------------------------------------------------- (e) recognised forms
FORMS = {
    "linear": ("F.linear(x, self.weight, self.bias)",),
    "bilinear": ("F.bilinear(x, y, self.weight, self.bias)",),
    "residual_linear": ("F.linear(x, self.weight, self.bias)",),
    "layer_norm_linear": ("F.linear(h, self.weight, self.bias)",),
    "gated_linear": ("F.linear(x, self.weight, self.bias)",),
    **{f"conv{d}d": (f"F.conv{d}d(", "_box_sum(") for d in (1, 2, 3)},
    **{f"depthwise_conv{d}d": (f"F.conv{d}d(", "squares.new_ones(") for d in (1, 2)},
    **{f"conv_transpose{d}d": (f"F.conv_transpose{d}d(", "squares.new_ones(") for d in (1, 2, 3)},
}


@pytest.mark.parametrize("name", FORMS)
def test_torchs_own_functions_are_used(name):
    text = shipped(name).text
    for form in FORMS[name]:
        assert form in text
    for general in ("_take(", "_gather(", "einsum", "unfold("):
        assert general not in text.replace("torch.unflatten(", "")


def test_a_lone_table_is_an_embedding_call():
    parameters = {"W": {"torch": "weight", "axes": "v i"}, "b": {"torch": "bias", "optional": True}}
    table = spec(
        "Table",
        "z[n, i] = W[t[n], i] + b[i]",
        parameters=parameters,
        sizes={"v": "rows", "i": "features"},
    )
    assert "F.embedding(t, self.weight)" in generate(table).text


# ---------------------------------------------------------------------- (f) the same bytes
SCRIPT = """
import hashlib, sys
from codegen import generate
from derive import load_spec
for path in sys.argv[1:]:
    print(hashlib.sha256(generate(load_spec(path)).text.encode()).hexdigest())
"""


def test_same_bytes_whatever_the_hash_seed():
    files = [str(SPEC_FILES[n]) for n in ("conv_transpose1d", "gated_linear", "low_rank")]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT, *files],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT.parent)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert len(outputs.pop().split()) == len(files)


@pytest.mark.parametrize("name", ONE_MODULE)
def test_no_place_or_time_in_a_file(name):
    text = shipped(name).text
    for word in (str(Path.home()), str(ROOT), os.uname().nodename, "20" + "26-"):
        assert word not in text


# ---------------------------------------------------------------------- (g) the template
def keys() -> set[str]:
    environment = jinja2.Environment(autoescape=False)
    return set(jinja2.meta.find_undeclared_variables(environment.parse(template())))


def template() -> str:
    return (TEMPLATES / "layer.py.jinja").read_text(encoding="utf-8")


def filled() -> dict[str, object]:
    return {key: [] if key in ("imports", "helpers", "classes") else "x" for key in keys()}


def test_the_template_takes_its_keys_and_no_others():
    assert fill("layer.py.jinja", filled())
    for key in keys():
        missing = filled()
        del missing[key]
        with pytest.raises(DerivationError, match=key):
            fill("layer.py.jinja", missing)
    with pytest.raises(DerivationError, match="surplus"):
        fill("layer.py.jinja", {**filled(), "surplus": ""})


def test_the_template_makes_no_choices():
    assert "{% if" not in template()
    assert json.dumps(sorted(keys())) == json.dumps(
        ["classes", "exports", "header", "helpers", "imports", "title"]
    )


def test_a_backward_pass_that_cannot_be_written_leaves_plain_operations(monkeypatch):
    def refused(self):
        raise DerivationError("the gradient depends on what is absent")

    assert "autograd.Function" in generate(LINEAR).text
    monkeypatch.setattr("codegen.backward.DerivedWriter.parameter_blocks", refused)
    text = generate(LINEAR).text
    assert "autograd.Function" not in text
    assert "F.linear(x, self.weight, self.bias)" in text


@pytest.mark.parametrize(("letter", "derived"), [("n", True), ("j", False)])
def test_a_backward_pass_reads_sizes_off_what_it_is_given(letter, derived):
    """Where that does not have them plain operations stay."""
    spec = LayerSpec(
        name="Share",
        forward=f"h[n] = x[n, j]\nz[n] = h[n]*W*(1/size({letter}))",
        site="n",
        unit="",
        parameters={"W": {"torch": "weight"}},
    )
    text = generate(spec).text
    assert ("autograd.Function" in text) is derived
    assert ("z = weight * h / h.shape[-1]" in text) is derived


def test_variants_in_the_midst_of_a_backward_pass_return_nothing():
    biases = {x: {"torch": f"bias_{x}", "optional": True} for x in "bc"}
    text = generate(
        LayerSpec(
            name="Biased",
            forward="z[n, i] = W[i, j]*x[n, j] + b[i] + c[i]",
            site="n",
            unit="i",
            parameters={"W": {"torch": "weight"}, **biases},
            sizes=FULL,
        )
    ).text
    passes = [f for f in ast.walk(ast.parse(text)) if getattr(f, "name", "") == "backward"]
    assert passes
    for function in passes:
        assert [n for n in ast.walk(function) if isinstance(n, ast.Return)] == [function.body[-1]]


def test_a_spec_may_be_data_instead_of_a_file():
    data = LayerSpec(
        name="Linear",
        summary=LINEAR.summary,
        source=LINEAR.source,
        forward=LINEAR.forward,
        site="n",
        unit="i",
        parameters=WEIGHT_BIAS,
        sizes=FULL,
    )
    assert generate(data).text == generate(LINEAR).text

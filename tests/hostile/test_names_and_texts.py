"""Names and texts of a spec are refused or harmless: none gets out of its place in the code."""

import ast
import builtins
import keyword
import unicodedata

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codegen import generate
from codegen.gate import check
from codegen.header import MARK, is_edited
from derive import LayerSpec, SpecError
from derive.errors import visible
from derive.names import CALLED, MODULE_ATTRIBUTES, RESERVED, name_problem

SPEC = {
    "name": "Layer",
    "forward": "z[n, i] = W[i, j]*x[n, j] + alpha*b[i]",
    "site": "n",
    "unit": "i",
    "parameters": {"W": {"torch": "weight"}, "b": {"torch": "bias", "optional": True}},
    "sizes": {"j": "in_features", "i": "out_features"},
    "hyperparameters": {"alpha": 2},
}
TEXTS = ("summary", "source")
ATTACKS = [
    '"""',
    '"' * 7,
    "'''",
    '\\"""',
    '\\\\"""\nimport os\n"""',
    "a\nimport os",
    "a\rimport os",
    "a\x0cimport os",
    "a\x85import os",
    "a\u2028import os",
    "\x00",
    "\x1b[2J",
    "a\\",
    '"',
    'ends in "',
    "\\N{BULLET}",
    "\\u0022\\u0022\\u0022",
    "%s %(a)s %",
    "{{ 7*7 }}",
    "{% raw %}",
    "{# no comment #}",
    "{x!r:{y}}",
    "${HOME} $(id) `id`",
    "\u202e right to left",
    "\u2066 isolate",
    "zero\u200bwidth",
    "\ufeffmark",
    "\ud800",
    "\uffff",
    f"{MARK}, generator 1.",
    "# content: sha256 " + "0" * 64,
    "# -*- coding: utf-7 -*-",
    "+AAo-import os",
    "аffine",  # noqa: RUF001 - a Cyrillic letter is the point
    "ﬁne",
    "x" * 2001,
    "<script>alert(1)</script>",
]


def layer(**changes):
    return LayerSpec(**{**SPEC, **changes})


def without_docstrings(text):
    """The syntax tree with every docstring emptied, as text."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body[0] = ast.Expr(ast.Constant(""))
    return ast.dump(tree)


HARMLESS = without_docstrings(generate(layer(summary="A layer.", source="A book")).text)


def check_text(field, text):
    """What does not show is refused; other text is shown in a docstring and nowhere else."""
    if not text.isprintable() or len(text) > 2000:
        with pytest.raises(SpecError, match=rf"(?s)`{field}`.*remedy"):
            layer(**{field: text})
        return
    spec = layer(**{field: text})
    found = generate(spec).text
    check(found)
    assert without_docstrings(found) == HARMLESS
    assert not is_edited(found)
    shown = " ".join(ast.get_docstring(ast.parse(found).body[-1]).split())
    words = text.split()
    assert all(word.strip(".").casefold() in shown.casefold() for word in words)


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("text", ATTACKS, ids=ascii)
def test_known_attacks(field, text):
    check_text(field, text)


unusual = st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Zs", "Po", "Ps", "Sm", "Sk"])
pieces = st.sampled_from([*ATTACKS, '"', "\\", "{", "}", "%", "#", " ", "\n", "a"])


@settings(max_examples=25)
@given(st.sampled_from(TEXTS), st.lists(pieces | st.text(unusual, max_size=3), max_size=6))
@example("summary", ["a", "\\", '"""'])
def test_any_text(field, parts):
    check_text(field, "".join(parts))


# ------------------------------------------------------------------ names
def named(place, name):
    """The spec with one name replaced."""
    forward = SPEC["forward"]
    changes = {
        "name": {"name": name},
        "symbol": {
            "forward": forward.replace("W", name),
            "parameters": {name: {"torch": "weight"}, "b": SPEC["parameters"]["b"]},
        },
        "torch": {"parameters": {"W": {"torch": name}, "b": SPEC["parameters"]["b"]}},
        "flag": {"parameters": {"W": {"torch": "weight"}, "b": {"torch": name, "optional": True}}},
        "input": {"forward": forward.replace("x", name)},
        "output": {"forward": forward.replace("z", name)},
        "size": {"sizes": {"j": name, "i": "out_features"}},
        "hyperparameter": {
            "forward": forward.replace("alpha", name),
            "hyperparameters": {name: 2},
        },
        "class": {"classes": {"affine-like": name}},
    }
    return layer(**changes[place])


PLACES = ("name", "symbol", "torch", "flag", "input", "output", "size", "hyperparameter", "class")
NAMES = [
    "",
    "a b",
    "a.b",
    "a-b",
    "1a",
    "_a",
    "__init__",
    "__class__",
    "a__",
    "class",
    "match",
    "None",
    "self",
    "torch",
    "nn",
    "F",
    "math",
    "Tensor",
    "isinstance",
    "len",
    "super",
    "\uff45val",
    "ﬁ",
    "аlpha",  # noqa: RUF001 - a Cyrillic letter is the point
    "a\u200b",
    "a\u0301",
    "a\x00",
    "a\n",
    "a;import os",
    "a: int = __import__('os')",
    'a"""',
    "a" * 65,
    "a\ud800",
    "({})",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_hostile_names_are_refused(place, name):
    with pytest.raises(SpecError) as caught:
        generate(named(place, name))
    assert str(caught.value).replace("\n  remedy", "").isprintable()


@pytest.mark.parametrize("place", ["torch", "flag", "size", "hyperparameter"])
def test_attributes_of_modules_are_refused(place):
    names = {n for n in dir(torch.nn.Module()) if not n.startswith("_")} | {"training"}
    assert names <= MODULE_ATTRIBUTES
    for name in names:
        with pytest.raises(SpecError):
            generate(named(place, name))


@pytest.mark.parametrize("name", ["Random", "Torch", "typing", "NumPy", "Con", "Lpt1", "Truestep"])
def test_a_file_hides_no_module(name):
    with pytest.raises(SpecError, match="would hide a module"):
        named("name", name)


WORDS = (
    "energy scale weight bias fan_in bound x y z n i j input output size_ data T shape stride dim "
    "device_ id type hash iter next set vars print open eval exec compile dir input format result "
    "training_ lambda_ mu gauge kernel factor leading extra cls args kwargs item grad forward_"
)


@settings(max_examples=20)
@given(st.sampled_from(PLACES), st.sampled_from(WORDS.split()))
def test_ordinary_names_give_code_that_works(place, name):
    try:
        source = generate(named(place, name))
    except SpecError:
        return
    check(source.text)
    space = {}
    exec(compile(source.text, "<layer>", "exec"), space)
    x = torch.tensor([[1.0, 2.0]])
    for entry in source.classes:
        module = space[entry.name](2, 3)
        weight, bias = module.parameters()
        energy = x.square().sum()
        wanted = (x @ weight.T + 2 * bias) * torch.rsqrt(4 + energy)
        if entry.kind == "norm-like":
            wanted = x @ weight.T * torch.rsqrt(energy) + 2 * bias
        torch.testing.assert_close(module(x), wanted)
        assert repr(module).startswith(entry.name)


identifiers = st.text(st.characters(max_codepoint=0x7F) | st.characters(categories=["L", "N"]))


@settings(max_examples=200)
@given(identifiers | st.sampled_from([*keyword.kwlist, *keyword.softkwlist, *dir(builtins)]))
def test_what_is_a_name(name):
    if name_problem(name, "sizes") is None:
        assert name.isascii()
        assert name.isidentifier()
        assert unicodedata.normalize("NFKC", name) == name
        assert not keyword.iskeyword(name)
        assert not name.startswith("_")
        assert name not in RESERVED | CALLED | MODULE_ATTRIBUTES


@given(st.text())
def test_errors_show_what_they_quote(text):
    assert visible(text).isprintable()
    assert str(SpecError("wrong", text, text)).replace("\n  remedy", "").isprintable()


def test_a_number_prints_as_python_writes_it():
    class Evil(int):
        def __repr__(self):
            return "__import__('os')"

    class Float(float):
        def __repr__(self):
            return "numpy.float64(0.5)"

    text = generate(layer(hyperparameters={"alpha": Evil(2)})).text
    assert "alpha: int = 2" in text
    assert "alpha: float = 0.5" in generate(layer(hyperparameters={"alpha": Float(0.5)})).text

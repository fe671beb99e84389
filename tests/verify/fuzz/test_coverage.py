"""Every part of the notation occurs in the first few hundred layers; nothing is derived here."""

from collections.abc import Iterator
from itertools import combinations

import pytest

from verify.fuzz.grammar import random_layer
from verify.fuzz.rare import rare_layer
from verify.fuzz.sums import ambiguous
from verify.fuzz.text import toml
from verify.fuzz.tree import Const, Div, Ein, Fun, Hyper, Layer, Pow, Read, Reduce, SizeOf, Window
from verify.fuzz.walk import reads, walk

LAYERS = [random_layer(0, number) for number in range(500)]
FUNCTIONS = ("sqrt", "exp", "log", "tanh", "sigmoid", "relu", "gelu", "silu", "erf", "max")


def nodes(layer: Layer) -> Iterator[object]:
    return (node for line in layer.lines for node in walk(line.value))


def windows(layer: Layer) -> list[Window]:
    found = [i for line in layer.lines for read in reads(line.value) for i in read.indices]
    return [i for i in found if isinstance(i, Window)]


def names(layer: Layer, *kinds: str) -> set[str]:
    return {t.name for t in layer.tensors if t.kind in kinds}


def inside(layer: Layer, *kinds: str) -> bool:
    """A function of something of these kinds."""
    wanted = names(layer, *kinds)
    return any(
        isinstance(n, Fun) and any(r.tensor in wanted for r in reads(n)) for n in nodes(layer)
    )


def bilinear(layer: Layer, count: int) -> bool:
    wanted = names(layer, "input")
    return any(
        isinstance(n, Ein) and sum(r.tensor in wanted for r in reads(n.body)) >= count
        for n in nodes(layer)
    )


def powers(layer: Layer, kind: str) -> bool:
    wanted = names(layer, kind)
    return any(
        isinstance(n, Pow) and isinstance(n.base, Read) and n.base.tensor in wanted
        for n in nodes(layer)
    )


def computed_axis(layer: Layer) -> bool:
    sites = {s.letter for s in layer.sizes if s.how == "window"}
    return any(sites & set(t.letters) for t in layer.parameters)


FEATURES = {
    "one to three parameters": lambda x: len(x.parameters) >= 3,
    "three inputs": lambda x: len(names(x, "input")) >= 3,
    "bilinear": lambda x: bilinear(x, 2),
    "trilinear": lambda x: bilinear(x, 3),
    "power of an input": lambda x: powers(x, "input"),
    "power of a parameter": lambda x: powers(x, "parameter"),
    "b*b": lambda x: "b[i]*b[i]" in toml(x),
    "3*b": lambda x: "3*b[" in toml(x),
    "window": lambda x: any(not w.transposed for w in windows(x)),
    "transposed window": lambda x: any(w.transposed for w in windows(x)),
    "literal stride": lambda x: any(w.stride == Const("2") for w in windows(x)),
    "hyperparameter stride": lambda x: any(isinstance(w.stride, Hyper) for w in windows(x)),
    "dilation": lambda x: any(w.dilation != Const("1") for w in windows(x)),
    "padding": lambda x: any(w.padding != Const("0") for w in windows(x)),
    "two windows": lambda x: len({w.position for w in windows(x)}) == 2,
    "unshared weights": computed_axis,
    "composed parameter": lambda x: any(len(a) == 2 for t in x.parameters for a in t.axes),
    "composed input": lambda x: any(len(a) == 2 for t in x.inputs for a in t.axes),
    "composed output": lambda x: any(len(a) == 2 for a in x.output.axes),
    "intermediate": lambda x: len(x.lines) == 2,
    "several intermediates": lambda x: len(x.lines) >= 3,
    "function of an input": lambda x: inside(x, "input"),
    "function of a parameter": lambda x: inside(x, "parameter"),
    "sum": lambda x: any(isinstance(n, Reduce) and n.kind == "sum" for n in nodes(x)),
    "mean": lambda x: any(isinstance(n, Reduce) and n.kind == "mean" for n in nodes(x)),
    "max over an axis": lambda x: any(isinstance(n, Reduce) and n.kind == "max" for n in nodes(x)),
    "softmax": lambda x: any(isinstance(n, Reduce) and n.kind == "softmax" for n in nodes(x)),
    "size": lambda x: any(isinstance(n, SizeOf) for n in nodes(x)),
    "quotient": lambda x: any(isinstance(n, Div) for n in nodes(x)),
    "constant": lambda x: any(isinstance(n, Const) for n in nodes(x)),
    "optional": lambda x: any(t.optional for t in x.parameters),
    "two optional": lambda x: sum(t.optional for t in x.parameters) >= 2,
    "token in a parameter": lambda x: any(t.declared for t in x.parameters),
    "token": lambda x: bool(names(x, "token")),
    "positive input": lambda x: any(t.positive for t in x.inputs),
    "real hyperparameter": lambda x: any(isinstance(v, float) for _, v in x.hypers),
    "whole hyperparameter": lambda x: any(type(v) is int for _, v in x.hypers),
    "flag": lambda x: any(v is True for _, v in x.hypers),
    "tuple": lambda x: any(isinstance(v, tuple) for _, v in x.hypers),
    "several sites": lambda x: len(x.site) >= 3,
    "several units": lambda x: len(x.unit) == 2,
    "no unit": lambda x: not x.unit,
    "permuted output": lambda x: x.output.letters[: len(x.site)] != x.site,
    "size read off an input": lambda x: any(s.how == "read" for s in x.sizes),
    "size as a number": lambda x: any(s.how == "number" for s in x.sizes),
    "declared input": lambda x: any(t.declared and not windows(x) for t in x.inputs),
    "gate": lambda x: ")*sigmoid(" in toml(x),
}  # fmt: skip


@pytest.mark.parametrize("feature", FEATURES)
def test_feature(feature):
    assert any(FEATURES[feature](layer) for layer in LAYERS)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_function(function):
    assert any(isinstance(n, Fun) and n.name == function for x in LAYERS for n in nodes(x))


# ------------------------------------------------------------------ what random formulas lack
RARE = [rare_layer(0, number) for number in range(300)]


def indices(layer: Layer) -> Iterator[tuple[str, list[object]]]:
    """The kind of each tensor that is read, and its indices."""
    kinds = {t.name: t.kind for t in layer.tensors}
    for line in layer.lines:
        for read in reads(line.value):
            yield kinds.get(read.tensor, "line"), list(read.indices)


def fixed(layer: Layer, kind: str) -> bool:
    return any(k == kind and Const("1") in found for k, found in indices(layer))


def twice(layer: Layer, kind: str, of: type) -> bool:
    own = (found for k, found in indices(layer) if k == kind)
    return any(found.count(i) > 1 for found in own for i in found if isinstance(i, of))


def shifts(layer: Layer, kind: str) -> bool:
    found = (i for k, own in indices(layer) for i in own if k == kind and isinstance(i, Window))
    return any(not w.offset and w.padding == Const("-1") for w in found)


SELDOM = {
    "constant index of an input": lambda x: fixed(x, "input"),
    "constant index of a parameter": lambda x: fixed(x, "parameter"),
    "constant index of a line": lambda x: fixed(x, "line"),
    "letter twice in an input": lambda x: twice(x, "input", str),
    "letter twice in a parameter": lambda x: twice(x, "parameter", str),
    "window twice": lambda x: twice(x, "input", Window),
    "windows that share an offset": lambda x: any(
        a.offset == b.offset and a.position != b.position
        for _, own in indices(x)
        for a, b in combinations([i for i in own if isinstance(i, Window)], 2)
    ),
    "axes of one letter": lambda x: any(len({*t.letters}) < len(t.letters) for t in x.inputs),
    "shifted input": lambda x: shifts(x, "input"),
    "shifted parameter": lambda x: shifts(x, "parameter"),
    "shifted line": lambda x: shifts(x, "line"),
    "line that is a number": lambda x: any(not line.letters for line in x.lines[:-1]),
    "size less 1": lambda x: " + (-1))" in toml(x),
    "size rounded down": lambda x: "//ratio + 1" in toml(x),
    "size rounded up": lambda x: "//ratio)" in toml(x),
}


@pytest.mark.parametrize("feature", SELDOM)
def test_rare_feature(feature):
    assert any(SELDOM[feature](layer) for layer in RARE)


def test_rare_layers_mean_what_they_print():
    for number, layer in enumerate(RARE):
        assert not any(ambiguous(line.value) for line in layer.lines), number
        assert layer == rare_layer(0, number)
        assert layer != random_layer(0, number)


def test_a_feature_that_does_not_occur_is_missed():
    assert not any("arctan(" in toml(layer) for layer in LAYERS)

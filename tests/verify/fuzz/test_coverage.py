"""Every part of the notation occurs in the first few hundred layers; nothing is derived here."""

from collections.abc import Iterator

import pytest

from verify.fuzz.grammar import random_layer
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


def test_a_feature_that_does_not_occur_is_missed():
    assert not any("arctan(" in toml(layer) for layer in LAYERS)

"""The layers that come with truestep keep every contract of the conformance kit, and say so."""

import inspect
import re

import pytest
import torch

from tests.layers.cases import ALL, TWINS
from verify.contracts.stage import COMPILERS, CONTRACTS, broken

every = pytest.mark.parametrize("case", ALL, ids=str)


@pytest.mark.parametrize("name", CONTRACTS)
@every
def test_contract(case, name):
    example = case.example()
    if CONTRACTS[name].applies(example):
        assert broken(CONTRACTS[name], example) == ""
    else:
        assert case not in TWINS  # to them, everything applies


@pytest.mark.parametrize("case", TWINS, ids=str)
def test_contracts_without_bias(case):
    example = case.with_(bias=False).example()
    for contract in CONTRACTS.values():
        assert broken(contract, example) == ""


@pytest.mark.parametrize("name", COMPILERS)
@every
def test_compilers(case, name):
    assert broken(COMPILERS[name], case.example()) == ""


@every
def test_documented(case):
    doc = inspect.getdoc(case.cls)
    for word in ("corrected", "c = ", "Not corrected: interference", "Source:", "Args:", "Shape:"):
        assert word in doc
    for name in inspect.signature(case.cls).parameters:
        assert re.search(rf"^\s+(?:[\w, ]+, )?{name}\b", doc, re.MULTILINE), name


@pytest.mark.parametrize("case", TWINS, ids=str)
def test_a_batch_of_none_has_the_twins_shape(case):
    inputs = tuple(x[:0] for x in case.inputs(torch.float32))
    assert case.build()(*inputs).shape == case.build_twin()(*inputs).shape

"""The checker accepts what is derived and refuses everything near it."""

from __future__ import annotations

import ast
import copy
import json
import subprocess
import sys
from pathlib import Path
from secrets import randbelow

import pytest

from derive import derive, load_spec
from derive.certificate import certificates
from derive.certificate_layer import spec_certificates
from derive.stages import stage_spec
from tests.verify.certificate_mutants import mutants
from verify import checker
from verify.checker import check

SPECS = Path(__file__).parents[2] / "truestep" / "specs"
FILE = Path(checker.__file__)


def certificate(layer, name, absent=(), stage=None):
    spec = load_spec(SPECS / f"{layer}.toml")
    spec = stage_spec(spec, stage) if stage else spec
    found = {c.name: c for c in certificates(derive(spec, frozenset(absent)))}
    return json.loads(found[name].to_json())


def refused(data, *words):
    verdict = check(data)
    assert not verdict.accepted
    assert all(word in verdict.text for word in words), verdict.text


# ---------------------------------------------------------------------- the program itself
def test_imports_the_standard_library_alone():
    tree = ast.parse(FILE.read_text(encoding="utf-8"))
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {getattr(n, "module", None) or n.names[0].name for n in imports}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
    assert not {"exec", "eval", "compile", "__import__"} & {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name)
    }


def test_is_small():
    assert len(FILE.read_text(encoding="utf-8").splitlines()) <= 200


def test_runs_alone(tmp_path):
    good = certificate("linear", "output-gauge")
    bad = copy.deepcopy(good)
    bad["claim"]["value"] = 2
    for name, data in (("good", good), ("bad", bad)):
        (tmp_path / f"{name}.json").write_text(json.dumps(data), encoding="utf-8")

    def run(*names):
        command = [sys.executable, "-I", str(FILE), *(f"{name}.json" for name in names)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run("good").returncode == 0
    assert "good.json accepted" in run("good").stdout
    both = run("good", "bad")
    assert both.returncode == 1
    assert "bad.json REFUSED" in both.stdout
    assert run().returncode == 1


# ---------------------------------------------------------------------- what is derived
@pytest.mark.parametrize("name", sorted(p.stem for p in SPECS.glob("*.toml")))
def test_every_shipped_claim_is_accepted(name):
    for what, found in spec_certificates(load_spec(SPECS / f"{name}.toml")):
        verdict = check(json.loads(found.to_json()))
        assert verdict.accepted, f"{what}: {verdict.text}"


# ---------------------------------------------------------------------- what is near it
# Certificate → words in the path of a change, or the change itself, that leave the claim true.
SIGN = "negated"  # K does not see the sign of z or of a gauge, and -e is 0 where e is
EQUIVALENT = {
    ("linear", "output-gauge", (), None): (SIGN,),
    ("linear", "split-gauge", (), None): (SIGN,),
    ("linear", "input-map", (), None): (SIGN,),
    ("linear", "kernel", ("b",), None): (SIGN,),
    ("low_rank", "matrix-gauge", (), None): (SIGN,),
    ("embedding", "kernel", (), None): (SIGN,),
    ("scale", "unit-gauge", ("b",), None): (SIGN,),
    ("gated_linear", "unit-gauge", (), None): (SIGN,),
    ("multihead_attention", "output-gauge", (), "score"): (SIGN,),
    # The claim holds behind any h, of which tanh(alpha x) is one.
    ("dyt_linear", "output-gauge", ("b",), None): (SIGN, "layer/h/value"),
}


@pytest.mark.parametrize("case", EQUIVALENT, ids=lambda case: f"{case[0]}-{case[1]}")
def test_every_small_change_is_refused(case):
    layer, name, absent, stage = case
    data = certificate(layer, name, absent, stage)
    assert check(data).accepted
    count = 0
    for what, mutant in mutants(data):
        if any(word in what for word in EQUIVALENT[case]):
            continue
        count += 1
        assert not check(mutant).accepted, what
    assert count > 30


def changed(data, path, value):
    copied = copy.deepcopy(data)
    node = copied
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return copied


def test_a_foreign_forward_map_is_refused():
    linear = certificate("linear", "kernel")
    bilinear = certificate("bilinear", "kernel")
    refused(linear | {"claim": bilinear["claim"]})
    refused(bilinear | {"claim": linear["claim"]})


def test_a_prime_in_the_certificate_does_not_hide_a_wrong_claim():
    data = certificate("linear", "kernel")
    for p in (2**61 - 1, 2**127 - 1, ["+", ["*", *[2] * 127], -1]):
        wrong = ["+", data["claim"]["value"], ["*", p, ["read", "b", "i"]]]
        refused(changed(data, ("claim", "value"), wrong), "K is not as claimed")


@pytest.mark.parametrize("what", sorted(checker.PARTS.split()))
def test_a_missing_part_is_refused(what):
    data = certificate("linear", "output-gauge")
    refused({k: v for k, v in data.items() if k != what})


DEGENERATE = {
    "no size to be drawn": (("sizes",), {}),
    "a size less": (("sizes",), {"size(n)": 1, "size(i)": 1}),
    "an empty axis": (("sizes", "size(j)"), -1),
    "huge sizes": (("sizes", "size(j)"), 10**6),
    "sizes that may all be 0": (("sizes",), {"size(i)": 0, "size(j)": 0, "size(n)": 0}),
    "a letter that leaves its axis": (("tensors", "x", "letters", "n"), "size(j)"),
    "another format": (("format",), "truestep certificate 1"),
    "a superfluous part": (("seed",), 1),
    "a claim of three parts": (("claim", "rate"), 1),
    "an unknown node": (("claim", "value"), ["exec", "1"]),
    "an unknown function": (("claim", "value"), ["call", "sin", ["read", "x", "n", "j"]]),
    "an own slope": (("claim", "value"), ["call", "exp", 0, 1]),
    "an unknown kind of tensor": (("tensors", "W", "kind"), "weight"),
    "a broken number": (("claim", "value"), 0.5),
    "a missing index": (("layer", "z", "value"), ["read", "b"]),
    "a line that reads itself": (("layer", "z", "value"), ["read", "z", "n", "i"]),
    "nothing but zeros": (("layer", "z", "value"), 0),
    "an empty product": (("claim", "value"), ["*"]),
    "no claim": (("claim",), {}),
    "an unknown claim": (("claim", "kind"), "true"),
    "a constant that reads": (("claim", "kind"), "constant"),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_certificates_are_refused(name):
    path, value = DEGENERATE[name]
    refused(changed(certificate("linear", "kernel"), path, value))


def test_nothing_to_compare_is_refused():
    data = certificate("linear", "kernel")
    data["layer"]["z"]["value"] = ["*", 0, ["read", "b", "i"]]
    data["claim"]["value"] = 0
    refused(data, "compared")


def test_a_held_gauge_is_frozen_and_nothing_else():
    data = certificate("gated_linear", "unit-gauge")
    assert data["claim"]["kind"] == "frozen"
    text = json.dumps(data["corrected"])
    assert '"held"' in text
    free = json.loads(
        text.replace('["held", ["read", "λ", "n", "i"]]', '["read", "λ", "n", "i"]').replace(
            '["held", ["read", "\\u03bb", "n", "i"]]', '["read", "λ", "n", "i"]'
        )
    )
    refused(data | {"corrected": free})
    for name in ("exact", "constant-rate", "first-order"):
        refused(changed(data, ("claim", "kind"), name), "the class is frozen")


def test_a_corrected_map_is_the_layer_with_gauges():
    data = certificate("linear", "output-gauge")
    data["corrected"]["z̃"]["value"] = ["read", "b", "i"]  # K = I, yet another map
    refused(data, "gauges are neutral")


def test_the_layer_itself_holds_nothing_fixed():
    data = certificate("linear", "kernel")
    data["layer"]["z"]["value"] = ["held", data["layer"]["z"]["value"]]
    refused(data, "holds something fixed")


@pytest.mark.parametrize("name", ["x", "W", "z"])
def test_a_gauge_is_no_part_of_the_layer(name):
    data = certificate("linear", "output-gauge")
    letters = (data["tensors"] | data["layer"])[name]["letters"]
    verdict = check(data | {"gauges": {name: {"letters": letters, "value": 1}}})
    assert not verdict.accepted


@pytest.mark.parametrize("name", ["x", "z", "z̃"])
def test_a_name_stands_for_one_thing(name):
    data = certificate("linear", "output-gauge")
    line = {name: {"letters": {"n": "size(n)", "j": "size(j)"}, "value": 1}}
    refused(data | {"layer": line | data["layer"], "corrected": line | data["corrected"]}, "twice")


def test_roots_and_odd_roots():
    layer = certificate("linear", "input-map")
    assert '["root", -2' in json.dumps(layer)
    wrong = json.loads(json.dumps(layer).replace('["root", -2', '["root", -3'))
    refused(wrong)


@pytest.mark.parametrize(("name", "sign"), [("tanh", -1), ("erf", -1), ("exp", 0), ("sigmoid", 0)])
def test_values_of_odd_functions_come_in_pairs(name, sign):
    p = checker.draw_prime()
    point, x = checker.Point({"reals": []}, p, {}), randbelow(p**2)
    plain, turned = point.call(name, x), point.call(name, -x)
    assert ((turned - sign * plain) % p**2 == 0) == (sign == -1)
    assert (turned - plain) % p

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
from sympy import isprime

from derive import derive, load_spec
from derive.certificate import certificates
from derive.certificate_layer import spec_certificates
from derive.stages import stage_spec
from tests.verify.certificate_mutants import mutants
from verify import checker
from verify.checker import check

SPECS = Path(__file__).parents[2] / "truestep" / "specs"
FILE = Path(checker.__file__)
SAME_UNIT = ["is 0", ["+", "i", ["*", -1, "i'"]]]
SAME_SITE = [["is 0", ["+", x, ["*", -1, f"{x}'"]]] for x in ("n", "t")]


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
    assert len(FILE.read_text(encoding="utf-8").splitlines()) < 200


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
# The build judges every shipped claim; those over more axes than one take seconds each.
NAMES = sorted(p.stem for p in SPECS.glob("*.toml") if not p.stem.endswith(("2d", "3d")))


@pytest.mark.parametrize("name", NAMES)
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
    # Columns beyond those of K and I are never read; a negative size is one modulo p².
    ("low_rank", "matrix-gauge", (), None): (SIGN, "corrected/E/letters/b./1"),
    ("embedding", "kernel", (), None): (SIGN,),
    ("scale", "unit-gauge", ("b",), None): (SIGN,),
    ("gated_linear", "unit-gauge", (), None): (SIGN,),
    ("multihead_attention", "output-gauge", (), "score"): (SIGN,),
    # The claim holds behind any h, of which tanh(alpha x) is one.
    ("dyt_linear", "output-gauge", ("b",), None): (SIGN, "layer/h/value"),
}


# Of the largest certificate every third change, as some take seconds each.
STEP = {("low_rank", "matrix-gauge", (), None): 3}


@pytest.mark.parametrize("case", EQUIVALENT, ids=lambda case: f"{case[0]}-{case[1]}")
def test_every_small_change_is_refused(case):
    layer, name, absent, stage = case
    data = certificate(layer, name, absent, stage)
    assert check(data).accepted
    wrong = [
        (what, mutant)
        for what, mutant in mutants(data)
        if not any(word in what for word in EQUIVALENT[case])
    ]
    for what, mutant in wrong[:: STEP.get(case, 1)]:
        assert not check(mutant).accepted, what
    assert len(wrong) > 30


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


def test_a_claim_that_divides_by_0_where_the_layer_does_not_is_refused():
    data = certificate("linear", "kernel")
    same = ["is 0", ["+", "n", ["*", -1, "n'"]]]
    hidden = ["*", data["claim"]["value"], ["root", -1, same]]
    refused(changed(data, ("claim", "value"), hidden), "the claim divides by 0")


@pytest.mark.parametrize("letter", ["n", "i"])
def test_a_corrected_map_that_is_singular_but_at_one_position_is_refused(letter):
    data = certificate("linear", "output-gauge")
    first = ["root", -1, ["is 0", letter]]
    value = ["*", first, data["corrected"]["z̃"]["value"]]
    refused(changed(data, ("corrected", "z̃", "value"), value), "none where")


def test_a_corrected_map_that_is_singular_at_last_units_is_refused():
    data = certificate("linear", "output-gauge")
    below = ["sum", "q", "size(j)", ["is 0", ["+", "q", ["*", -1, "i"]]]]  # 1 for i < size(j)
    value = ["*", ["root", -1, below], data["corrected"]["z̃"]["value"]]
    wrong = changed(data, ("corrected", "z̃", "value"), value)
    refused(wrong, "none where", "('size(i)', 'size(j)')")


def test_a_correction_has_a_corrected_map_and_a_kernel_has_none():
    gauge, kernel = certificate("embedding", "output-gauge"), certificate("linear", "kernel")
    refused(gauge | {"corrected": {}, "gauges": {}}, "another map")
    refused(kernel | {"corrected": gauge["corrected"]}, "another map")


@pytest.mark.parametrize("letter", ["n", "i", "i'"])
def test_a_constant_depends_on_no_position(letter):
    data = certificate("linear", "self-kernel")
    data["layer"]["z"]["value"] = ["*", letter, ["read", "b", "i"]]
    wrong = changed(data, ("claim", "kind"), "constant")
    refused(changed(wrong, ("claim", "value"), ["*", letter, letter]))


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


def test_a_size_that_is_never_above_its_least_value_is_refused():
    data = certificate("linear", "self-kernel")
    least = ["is 0", ["+", "size(n)", -1]]
    data["layer"]["z"]["value"] = ["*", least, ["read", "b", "i"]]
    refused(changed(data, ("claim", "value"), ["*", least, SAME_UNIT]), "none where", "size(n)")


def test_what_is_too_long_for_the_prime_is_refused():
    def padded(count):
        data = certificate("linear", "kernel")
        lines = {"s0": {"letters": {}, "value": 2}}
        for k in range(count):
            lines[f"s{k + 1}"] = {"letters": {}, "value": ["*", *[["read", f"s{k}"]] * 2]}
        last = ["read", f"s{count}"]
        value = ["+", data["layer"]["z"]["value"], last, ["*", -1, last]]
        return data | {"layer": lines | {"z": data["layer"]["z"] | {"value": value}}}

    assert check(padded(10)).accepted
    refused(padded(60), "too long")


def test_the_prime_is_large_and_drawn_anew():
    first, second = checker.draw_prime(), checker.draw_prime()
    assert first != second
    for p in (first, second):
        assert isprime(p)
        assert p >> checker.PRIME
        assert all(pow(k, p >> 1, p) == 1 for k in (2, 3, 5, 7, 11, 13, 17, 19))
    assert checker.PRIME - 12 - checker.ROOM >= checker.BITS


def test_an_element_out_of_range_is_0():
    data = certificate("linear", "self-kernel")
    data["layer"]["z"]["value"] = ["read", "b", ["+", "i", 1]]
    last = ["is 0", ["+", "i", 1, ["*", -1, "size(i)"]]]
    inside = ["*", SAME_UNIT, ["+", 1, ["*", -1, last]]]
    verdict = check(changed(data, ("claim", "value"), inside))
    assert verdict.accepted, verdict.text
    refused(changed(data, ("claim", "value"), SAME_UNIT), "K is not as claimed")
    # So is its root, but not one over it, nor the root of a 0 that may move.
    b, beyond = ["read", "b", "i"], ["read", "b", ["+", "i", "size(i)"]]
    for number, accepted in ((["root", 2, beyond], True), (["root", -2, beyond], False)):
        moved = changed(data, ("layer", "z", "value"), ["+", b, number])
        assert check(changed(moved, ("claim", "value"), SAME_UNIT)).accepted == accepted
    moved = changed(data, ("layer", "z", "value"), ["+", b, ["root", 2, ["+", b, ["*", -1, b]]]])
    refused(changed(moved, ("claim", "value"), SAME_UNIT), "0 points were compared")


def test_a_product_ends_at_what_is_0_by_its_place_and_at_no_other_0():
    data = certificate("linear", "self-kernel")
    data["claim"]["value"] = SAME_UNIT
    b, first = ["read", "b", "i"], ["is 0", "n"]
    difference = ["+", b, ["*", -1, b]]
    ended = ["+", b, ["*", first, ["root", -1, first]], ["*", -1, first]]
    verdict = check(changed(data, ("layer", "z", "value"), ended))
    assert verdict.accepted, verdict.text
    divided = ["+", b, ["*", difference, ["root", -1, difference]]]
    refused(changed(data, ("layer", "z", "value"), divided), "0 points were compared")


def test_a_sum_has_every_position():
    data = certificate("linear", "self-kernel")
    data["layer"]["z"]["value"] = ["sum", "k", "size(j)", ["read", "b", "i"]]
    square = ["*", "size(j)", "size(j)", SAME_UNIT]
    verdict = check(changed(data, ("claim", "value"), square))
    assert verdict.accepted, verdict.text


def test_a_constant_rate_is_not_exact():
    data = certificate("linear", "input-map")
    assert data["claim"]["kind"] == "constant-rate"
    refused(changed(data, ("claim", "kind"), "exact"), "the class is constant-rate")


def test_what_is_not_affine_is_first_order():
    data = certificate("linear", "output-gauge")
    z = data["layer"]["z"]["value"]
    data["layer"]["z"]["value"] = absolute = ["root", 2, ["*", z, z]]
    data["corrected"]["z̃"]["value"] = ["*", ["read", "λ", "n"], absolute]
    refused(data, "the class is first-order")
    verdict = check(changed(data, ("claim", "kind"), "first-order"))
    assert verdict.accepted, verdict.text


def test_a_neutral_gauge_reads_nothing():
    data = certificate("linear", "output-gauge")
    refused(data | {"gauges": {"λ": data["corrected"]["λ"]}}, "no constant")


def test_slopes():
    p = checker.draw_prime()
    point, x = checker.Point({"reals": []}, p, {}), randbelow(p // 2)
    y = {f: point.call(f, x) for f in checker.SLOPES}
    slope = {f: (point.call(f, x + p) - y[f]) // p % p for f in y}
    assert slope["exp"] == y["exp"] % p
    assert slope["log"] * x % p == 1
    assert slope["tanh"] == (1 - y["tanh"] ** 2) % p
    assert slope["sigmoid"] == y["sigmoid"] * (1 - y["sigmoid"]) % p
    gaussian = slope["erf"] * point.call("exp", x**2)  # 2/√π
    assert (gaussian**2 * point.names["pi"] - 4) % p == 0


def test_a_neutral_gauge_has_the_axes_of_its_line():
    data = certificate("linear", "split-gauge")
    for gauge in data["gauges"]:
        wrong = changed(data, ("gauges", gauge, "letters", "n"), "size(i)")
        refused(wrong, "an index of another axis")


def test_a_letter_stays_on_its_axis():
    data = certificate("linear", "kernel")
    for path in (("layer", "z"), ("tensors", "x")):
        refused(changed(data, (*path, "letters", "n"), "size(i)"), "an index of another axis")


def test_what_is_false_for_some_signs_is_refused():
    data = certificate("linear", "self-kernel")
    z = data["layer"]["z"]["value"]
    absolute = ["root", 2, ["*", z, z]]
    verdict = check(changed(data, ("layer", "z", "value"), absolute))
    assert verdict.accepted, verdict.text  # |z| moves as z does, but for its sign
    assert int(verdict.text.split()[-2]) >= 100
    rectified = ["*", ["root", -1, 2], ["+", z, absolute]]
    refused(changed(data, ("layer", "z", "value"), rectified), "K is not as claimed")


def test_a_token_is_an_index_of_its_axis():
    data = certificate("embedding", "kernel")
    for size in ("size(i)", "size(n)", 1):
        refused(changed(data, ("tensors", "token", "below"), size), "an index of another axis")


@pytest.mark.parametrize("value", [SAME_UNIT, ["*", SAME_UNIT, *SAME_SITE]])
def test_what_is_false_for_some_tokens_is_refused(value):
    data = certificate("embedding", "kernel")
    refused(changed(data, ("claim", "value"), value), "K is not as claimed")


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

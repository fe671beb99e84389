"""One change a mutant, always the same mutants, words for people left alone."""

import ast

import pytest

from verify.mutation.mutants import mutants, mutated

TEXT = '''
"""Words for people."""
LIMIT = 2


def gauge(x, dim=-1):
    """More words."""
    if x is None or dim > LIMIT:
        raise ValueError("no such dim")
    scale = (1 + x.square().sum(dim)).rsqrt()
    return scale
'''
TENSORS = {m.identity: m for m in mutants(TEXT, "f", tensors=True)}
# The operators, constants, calls, conditions and names of the text, by hand.
EXPECTED = {
    ("2 to 3", "2", "3"),
    ("2 to 1", "2", "1"),
    ("USub dropped", "-1", "1"),
    ("1 to 0", "1", "0"),
    ("Is to IsNot", "x is None", "x is not None"),
    ("operand dropped", "x is None or dim > LIMIT", "x is None"),
    ("Gt to GtE", "dim > LIMIT", "dim >= LIMIT"),
    ("Gt to LtE", "dim > LIMIT", "dim <= LIMIT"),
    ("Add to Sub", "1 + x.square().sum(dim)", "1 - x.square().sum(dim)"),
    ("right operand alone", "1 + x.square().sum(dim)", "x.square().sum(dim)"),
    ("square to abs", "x.square()", "x.abs()"),
    ("sum to mean", "x.square().sum(dim)", "x.square().mean(dim)"),
    ("rsqrt to sqrt", "(1 + x.square().sum(dim)).rsqrt()", "(1 + x.square().sum(dim)).sqrt()"),
}


def test_every_kind_of_change_is_made():
    found = {(m.kind, m.before, m.after) for m in TENSORS.values()}
    assert found >= EXPECTED
    (detached,) = [m for m in TENSORS.values() if m.kind == "detached"]
    assert detached.after.endswith(".rsqrt().detach()")


def test_what_shows_wherever_another_change_does_is_left_out():
    """The opposite of what is changed itself, and ``or`` for ``and`` beside an operand less."""
    for test in ("a == b", "not a", "a and b"):
        for text in (f"if {test}:\n    c()", f"d = [x for x in y if {test}]"):
            kinds = {m.kind for m in mutants(text)}
            assert kinds - {"filter dropped"}
            assert not kinds & {"condition negated", "And to Or"}
    assert {m.kind for m in mutants("if a:\n    c()")} == {"condition negated"}


def test_words_and_annotations_are_left_alone():
    text = 'def f(x: int = 1) -> "Tensor":\n    """Two."""\n    raise ValueError(f"{x}, not 3")\n'
    assert {m.kind for m in mutants(text)} == {"1 to 0", "1 to 2"}
    for nothing in (
        '__all__ = ["a", "b"]',
        "Table = dict[str, tuple[int, str]]",
        "z = list(zip(a, strict=True))",
        "def f(x):\n    keep(x)\n    return x.weight",
    ):
        assert mutants(nothing) == ()


def test_operators_in_text_and_axes_of_an_einsum_are_code():
    text = """
code = f"-{a} + {b}" if x.startswith("-") else f"{a} // {b}"
z = einsum("...ij,kj->ik", a)
"""
    found = {(m.kind, m.after) for m in mutants(text) if "'" in m.after or "f" in m.after}
    assert found >= {
        ("written + to -", "f'-{a} - {b}'"),
        ("written sign dropped", "f'{a} + {b}'"),
        ("written sign dropped", "''"),
        ("written // to *", "f'{a} * {b}'"),
        ("axes swapped", "'...ji,kj->ik'"),
    }


@pytest.mark.parametrize("identity", TENSORS)
def test_a_mutant_is_one_change_and_parses(identity):
    mutant = TENSORS[identity]
    ours, theirs = (ast.unparse(ast.parse(t)).splitlines() for t in (TEXT, mutated(TEXT, mutant)))
    changed = [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]
    assert len(changed) == 1
    ast.parse(mutated(TEXT, mutant))


def test_the_same_text_has_the_same_mutants():
    again = mutants(TEXT, "f", tensors=True)
    assert [str(m) for m in again] == [str(m) for m in TENSORS.values()]
    assert len({m.identity for m in again}) == len(again)


def test_equal_operators_at_one_place_are_told_apart():
    kinds = [m.identity for m in mutants("y = a + b + c")]
    assert len(kinds) == len(set(kinds)) == 6


def test_the_same_change_of_the_same_function_is_shared():
    one, other = ("def f(x):\n    return x + 1\n", "A = 1\n\n\ndef f(x):\n    return x + 1\n")
    shared = [{m.shared for m in mutants(t) if m.function == "f"} for t in (one, other)]
    assert shared[0] == shared[1]
    assert len(shared[0]) == 5
    assert {m.shared for m in mutants(other) if not m.function} == {""}

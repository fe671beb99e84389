"""Several variants of a forward pass as one body with branches where they differ."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from codegen.forward import Forward
from derive.spec import LayerSpec


def variant_conditions(
    spec: LayerSpec, absents: Iterable[frozenset[str]]
) -> dict[frozenset[str], str]:
    """When each variant of a module runs: absent optional parameters → a test of its attributes."""
    return {
        absent: " and ".join(
            f"self.{spec.parameters[s].torch} is None" for s in spec.optional if s in absent
        )
        for absent in absents
    }


def merge_variants(
    forwards: Mapping[frozenset[str], Forward], conditions: Mapping[frozenset[str], str]
) -> list[str]:
    """One body for all variants: shared statements once, branches only where they differ."""
    bodies = {a: [*f.statements, f"return {f.result}"] for a, f in forwards.items()}
    lists = list(bodies.values())
    if len(lists) == 1 or all(b == lists[0] for b in lists):
        return lists[0]
    if len(lists) == 2:
        (absent,) = (a for a in bodies if a)
        return interleaved(bodies[absent], bodies[frozenset()], conditions[absent])
    head = 0
    while all(len(b) > head and b[head] == lists[0][head] for b in lists):
        head += 1
    lines = lists[0][:head]
    # The full layer comes last, without a condition.
    for absent in by_absence(bodies):
        lines += [f"if {conditions[absent]}:", *(f"    {x}" for x in bodies[absent][head:])]
    return [*lines, *bodies[frozenset()][head:]]


def merge_steps(
    forwards: Mapping[frozenset[str], Forward], conditions: Mapping[frozenset[str], str]
) -> list[str]:
    """The statements of all variants as one body that others may follow: it returns nothing."""
    bodies = {a: [*f.statements] for a, f in forwards.items()}
    lists = list(bodies.values())
    if len(lists) < 3 or all(b == lists[0] for b in lists):
        return merge_variants(forwards, conditions)[:-1]
    head = 0
    while all(len(b) > head + 1 and b[head] == lists[0][head] for b in lists):
        head += 1
    lines = lists[0][:head]
    for absent in by_absence(bodies):
        test = f"{'if' if len(lines) == head else 'elif'} {conditions[absent]}:"
        lines += [test, *(f"    {x}" for x in bodies[absent][head:])]
    return [*lines, "else:", *(f"    {x}" for x in bodies[frozenset()][head:])]


def by_absence(absents: Iterable[frozenset[str]]) -> list[frozenset[str]]:
    """The variants that lack something, the one that lacks most first."""
    return sorted((a for a in absents if a), key=lambda a: (-len(a), sorted(a)))


def ternary(without: list[str], full: list[str], condition: str) -> str:
    """``name = a if condition else b`` where both branches are one short assignment to one name."""
    if len(without) != 1 or len(full) != 1:
        return ""
    left, right = (x.split(" = ", 1) for x in (without[0], full[0]))
    if len(left) != 2 or len(right) != 2 or left[0] != right[0] or not left[0].isidentifier():
        return ""
    line = f"{left[0]} = {left[1]} if {condition} else {right[1]}"
    return line if len(line) <= 100 - 8 else ""


def interleaved(without: list[str], full: list[str], condition: str) -> list[str]:
    """Two bodies as one: shared statements once, a branch where they differ."""
    lines: list[str] = []
    for tag, a, b, c, d in difflib.SequenceMatcher(a=without, b=full, autojunk=False).get_opcodes():
        if tag == "equal":
            lines += without[a:b]
            continue
        if tag == "insert":
            lines.append(f"if {condition.replace(' is None', ' is not None')}:")
            lines += [f"    {x}" for x in full[c:d]]
            continue
        short = ternary(without[a:b], full[c:d], condition)
        if short:
            lines.append(short)
            continue
        lines += [f"if {condition}:", *(f"    {x}" for x in without[a:b])]
        if tag == "replace":
            returns = without[b - 1].startswith("return ")
            lines += full[c:d] if returns else ["else:", *(f"    {x}" for x in full[c:d])]
    return lines

"""Part of a layer as a layer: some lines of a spec, with the other lines' values as inputs."""

from __future__ import annotations

import re

from derive import grammar as g
from derive.resolve import parse_forward
from derive.spec import Input, LayerSpec, split_letters


def stage_spec(spec: LayerSpec, name: str) -> LayerSpec:
    """The spec of one stage.

    What the stage's lines read of the other lines becomes an input, with the axes that the other
    line gives it; parameters, sizes and hyperparameters that the stage does not need are left out.

    Args:
        spec: A layer with ``[stages]``.
        name: One of them, e.g. ``query``.

    Returns:
        A layer named after both, e.g. ``MultiheadAttentionQuery``.

    Raises:
        SpecError: If there is no such stage, or it names a line that ``forward`` lacks.
    """
    if name not in spec.stages:
        known = ", ".join(spec.stages) or "none"
        raise spec.error(f"there is no stage `{name}`", name, f"known: {known}")
    stage = spec.stages[name]
    statements = {s.target: s for s in parse_forward(spec)}
    for line in stage.lines:
        if line not in statements:
            raise spec.error(
                f"stage `{name}` names the line `{line}`, which `forward` lacks",
                line,
                f"one of {', '.join(statements)}",
            )
    chosen = [s for s in statements.values() if s.target in stage.lines]
    tensors = {r.tensor for s in chosen for r in g.references(s.value)}
    names = {n for s in chosen for n in _names(s.value)}
    letters = names | {x for s in chosen for axis in s.axes for x in axis}
    inputs = {k: v for k, v in spec.inputs.items() if k in tensors}
    inputs |= {
        k: Input(s.axes) for k, s in statements.items() if k in tensors and k not in stage.lines
    }
    letters |= {x for entry in inputs.values() for axis in entry.axes for x in axis}
    parameters = {k: v for k, v in spec.parameters.items() if k in tensors}
    # A size computed from an axis that the stage does not have is read off an input instead.
    axes = {x for entry in spec.inputs.values() for axis in entry.axes for x in axis}
    sizes = {
        k: v
        for k, v in spec.sizes.items()
        if set(split_letters(k)) <= letters and axes & set(words(v)) <= letters
    }
    needed = names | {p.torch for p in parameters.values()}
    needed |= {entry.padded_by for entry in inputs.values()}
    needed |= {word for text in sizes.values() for word in words(text)}
    return LayerSpec(
        name=spec.name + "".join(part.capitalize() for part in name.split("_")),
        forward="\n".join(s.text for s in chosen),
        site=" ".join(stage.site),
        unit=" ".join(stage.unit),
        parameters=parameters,
        sizes=sizes,
        hyperparameters={k: v for k, v in spec.hyperparameters.items() if k in needed},
        inputs=inputs,
        summary=f"{spec.summary.rstrip('.')}: the stage {name}.",
        source=spec.source,
        file=spec.file,
        text=spec.text,
    )


def words(text: str) -> list[str]:
    """The names in a size formula."""
    return re.findall(r"[A-Za-z_]\w*", text)


def _names(tree: g.Tree) -> list[str]:
    """Every bare name and every name that is read, hyperparameters and letters among them."""
    found = []
    for node in g.nodes(tree):
        if isinstance(node, g.Name):
            found.append(node.name)
        if isinstance(node, g.Reference):
            found.append(node.tensor)
        if isinstance(node, g.SizeOf):
            found.append(node.letter)
        if isinstance(node, g.Reduction):
            found += node.letters
    return found

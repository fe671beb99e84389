"""Padding modes: what is padded before reading, and how far the reads then overrun."""

from __future__ import annotations

import sympy

from codegen.lower import Lowering
from codegen.windows import Window, every_axis, window
from derive.nodes import Contraction, reads
from derive.program import Program
from derive.spec import LayerSpec

Padded = tuple[str, str]
"""An input, and the hyperparameter that says how far its reads overrun."""


def padded_window(spec: LayerSpec, program: Program, padded: Padded, lowering: Lowering) -> Window:
    """The window through which a padded input is read.

    Raises:
        SpecError: If the input is not read through a convolution window.
    """
    for line in program.lines:
        for node in sympy.preorder_traversal(line.value):
            if not isinstance(node, Contraction):
                continue
            for read in sorted(reads(node.body, padded[0]), key=str):
                found = window(lowering, read, set(node.letters))
                if found is not None:
                    return found
    raise spec.error(
        f"padded_by of `{padded[0]}`: the input is not read through a convolution window",
        padded[0],
        "drop padded_by, or write stride*p + dilation*k - padding with a convolution's size",
    )


def padding_lines(
    spec: LayerSpec, program: Program, padded: Padded, lowering: Lowering
) -> list[str]:
    """The constructor's part: how much to pad, and how much the reads then overrun."""
    slides = padded_window(spec, program, padded, lowering).slides
    name = padded[1]
    several = isinstance(spec.hyperparameters[name], tuple)
    kernel = every_axis(lowering, [lowering.sizes.letter(s.kernel).code for s in slides])
    stride = every_axis(lowering, [lowering.sizes.number(s.stride).code for s in slides])
    dilation = every_axis(lowering, [lowering.sizes.number(s.dilation).code for s in slides])
    given = f"self.{name}"
    if not several:
        given = f"{given} if isinstance({given}, str) else ({given},)"
    return [
        "self.padding_mode = padding_mode",
        "self._pads, overrun = _resolve_padding("
        f"{given}, padding_mode, {kernel}, {stride}, {dilation})",
        f"self._overrun = {'overrun' if several else 'overrun[0]'}",
    ]


def pad_lines(padded: Padded | None) -> list[str]:
    """The forward pass's part: pad where reads do not simply overrun into zeros."""
    if padded is None:
        return []
    return [
        "if self._pads:",
        '    mode = "constant" if self.padding_mode == "zeros" else self.padding_mode',
        f"    {padded[0]} = F.pad({padded[0]}, self._pads, mode=mode)",
    ]

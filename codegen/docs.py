"""The words of generated docstrings; every formula and figure in them comes from the derivation."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from codegen.forward import batch_letters
from derive.corrections import Correction
from derive.derivation import Derivation
from derive.formula import formula
from derive.program import Program, Tensor

WIDTH = 92
EXACTNESS = {
    "exact": "exact: for one site's own gradient the step is -eta*g at every finite eta",
    "constant-rate": "constant-rate: the step is -c*eta*g at every finite eta, with c as above",
    "first-order": "first-order: the step is -c*eta*g up to O(eta^2)",
    "frozen": (
        "frozen: the gauge depends on the parameters and is held fixed during a step (it is "
        "detached, so the gradient of the input does not see it either); the step is -c*eta*g up "
        "to O(eta^2) and up to the gauge's own drift"
    ),
}
NOT_CORRECTED = (
    "Not corrected: interference, i.e. what the gradients of other sites (samples, positions) do "
    "to this site's activation, and what other layers' steps do to the input."
)


def literal(text: str) -> str:
    """Text that cannot leave a triple-quoted docstring."""
    return text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')


def sentence(text: str) -> str:
    """A capital in front and a full stop behind."""
    return f"{text[0].upper()}{text[1:]}."


def wrapped(text: str, indent: str, hanging: str | None = None) -> list[str]:
    """Lines of at most ``WIDTH`` columns."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def shape(program: Program, tensor: Tensor, leading: str) -> str:
    """The shape of an input or output in the words of the constructor.

    ``leading`` stands for the leading axes: any number of them, or an optional one where torch's
    convolutions take no more.
    """
    batch = batch_letters(program)
    parts = [
        axis_name(program, tensor, axis) for axis in tensor.axes if not set(axis) <= set(batch)
    ]
    front = leading if set(batch) & set(tensor.letters) else ""
    return f"({front}{', '.join(parts)})" if parts else f"({front.strip(' ,')})"


def axis_name(program: Program, tensor: Tensor, axis: tuple[object, ...]) -> str:
    """An axis by its constructor argument or its letter."""
    letters = tuple(str(x) for x in axis)
    for key, value in program.spec.sizes.items():
        named = tuple(key.replace("(", " ").replace(")", " ").replace(",", " ").split())
        if named == letters:
            return (
                value
                if value.replace("_", "").replace("[", "").replace("]", "").isalnum()
                else letters[0]
            )
    return letters[0] if len(letters) == 1 else f"({' '.join(letters)})"


def correction_lines(derivation: Derivation, correction: Correction) -> list[str]:
    """The solved gauge and the rate as formulas."""
    program = derivation.program
    gauge = formula(correction.gauge, program)
    rate = formula(correction.rate, program)
    if correction.ansatz == "output gauge":
        return [f"corrected = lambda*{program.output.target},", f"lambda = {gauge},", f"c = {rate}"]
    if correction.ansatz == "unit gauge":
        return [
            f"corrected = lambda*{program.output.target} with one lambda a unit,",
            f"lambda = {gauge},",
            f"c = {rate}",
        ]
    if correction.ansatz == "input map":
        names = ", ".join(t.name for t in program.inputs if t.kind == "input")
        return [
            f"corrected = {program.output.target} at mu*({names}),",
            f"mu = {gauge},",
            f"c = {rate}",
        ]
    return [
        f"corrected = L^-1 {program.output.target}, with the Cholesky factor K = L L^T of",
        f"K = {gauge},",
        f"c = {rate}",
    ]


def variant_name(derivation: Derivation) -> str:
    """``without bias`` or nothing."""
    names = [derivation.spec.parameters[s].torch for s in sorted(derivation.absent)]
    return f"Without {' and '.join(names)}" if names else ""


def class_doc(
    variants: Mapping[frozenset[str], tuple[Derivation, Correction]],
    argument_docs: list[tuple[str, str]],
    raises: list[str],
    singular: bool,
    leading: str,
) -> str:
    """The docstring of a generated class, without its quotes."""
    derivation, correction = variants[frozenset()]
    program, spec = derivation.program, derivation.spec
    summary = spec.summary.strip().rstrip(".") or f"The layer {spec.name}"
    summary = summary[0].upper() + summary[1:]
    first = f"{summary}, corrected to take the true gradient step."
    lines = (
        [first]
        if len(first) <= WIDTH
        else [
            *wrapped("A layer corrected to take the true gradient step.", ""),
            "",
            *wrapped(f"{summary}.", "    "),
        ]
    )
    lines.append("")
    for text in (x.strip() for x in spec.forward.strip().splitlines()):
        if text:
            lines += wrapped(text, "        ", "            ")
    lines.append("")
    for text in correction_lines(derivation, correction):
        lines += wrapped(text, "        ", "            ")
    lines.append("")
    lines += wrapped(sentence(EXACTNESS[correction.exactness]), "    ")
    for absent, (other, found) in variants.items():
        if absent:
            what = "; ".join(x.rstrip(",") for x in correction_lines(other, found)[1:])
            kind = found.exactness
            if kind == "exact" and found.rate is not None and found.rate.free_symbols:
                kind = "exact at radius 1, else constant-rate"
            lines += wrapped(f"{variant_name(other)}: {what} ({kind}).", "    ")
    if singular:
        lines += wrapped(
            "Where the gauge would be infinite (no gradient reaches any parameter) it is 0.", "    "
        )
    lines += wrapped(NOT_CORRECTED, "    ")
    if spec.source:
        lines += wrapped(f"Source: {spec.source}.", "    ")
    lines += ["", "    Args:"]
    for name, text in argument_docs:
        lines += wrapped(f"{name}: {text}", "        ", "            ")
    if raises:
        lines += ["", "    Raises:"]
        for text in raises:
            lines += wrapped(f"ValueError: {text}", "        ", "            ")
    lines += ["", "    Shape:"]
    for tensor in program.inputs:
        lines.append(f"        {tensor.name}: {shape(program, tensor, leading)}")
    target = program.tensors[program.output.target]
    lines.append(f"        output: {shape(program, target, leading)}")
    return literal("\n".join(lines))

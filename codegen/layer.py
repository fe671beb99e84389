"""A spec's derivations → the text of a Python file with one class a correction."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2
import jinja2.meta
import sympy

from codegen.docs import class_doc, literal
from codegen.formatting import formatted
from codegen.forms import Window, window
from codegen.forward import KINDS, Forward, ForwardWriter, batch_letters
from codegen.header import header
from codegen.helpers import NEEDS_MATH, helper_code
from codegen.lower import Lowering
from codegen.sizes import SizeCode
from derive import grammar as g
from derive.corrections import Correction
from derive.derivation import Derivation, derive_variants
from derive.errors import DerivationError
from derive.nodes import Contraction, Read, reads
from derive.program import Program, Tensor
from derive.spec import LayerSpec

PREFIXES = {
    "affine-like": "AffineLike",
    "norm-like": "NormLike",
    "unit-gauge": "UnitGauge",
    "matrix-gauge": "MatrixGauge",
}
TEMPLATES = Path(__file__).parent / "templates"


class NothingToGenerate(DerivationError):
    """No module comes out of a spec: nothing to correct, or no ansatz applies."""


@dataclass(frozen=True)
class ClassSource:
    """One generated class.

    Attributes:
        name: Its name.
        ansatz: The ansatz that it implements.
        kind: ``affine-like``, ``norm-like``, ``unit-gauge`` or ``matrix-gauge``.
        corrections: Absent optional parameters → the correction used then.
    """

    name: str
    ansatz: str
    kind: str
    corrections: Mapping[frozenset[str], Correction]


@dataclass(frozen=True)
class LayerSource:
    """A generated file.

    Attributes:
        spec: Where it comes from.
        module: The file's stem.
        text: Its content.
        classes: What it defines.
        derivations: Absent optional parameters → derivation.
    """

    spec: LayerSpec
    module: str
    text: str
    classes: tuple[ClassSource, ...]
    derivations: Mapping[frozenset[str], Derivation]


@dataclass
class ClassContext:
    """The strings that the template lays out for one class."""

    name: str
    doc: str = ""
    annotations: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    init: list[str] = field(default_factory=list)
    reset_doc: str = ""
    reset: list[str] = field(default_factory=list)
    forward_arguments: str = ""
    forward_doc: str = ""
    forward: list[str] = field(default_factory=list)
    repr: list[str] = field(default_factory=list)


def module_name(name: str) -> str:
    """``GatedLinear`` → ``gated_linear``."""
    result = ""
    for place, letter in enumerate(name):
        before = name[place - 1] if place else ""
        after = name[place + 1] if place + 1 < len(name) else ""
        if letter.isupper() and place and (before.islower() or before.isdigit() or after.islower()) and before != "_":
            result += "_"
        result += letter.lower()
    return result


def class_name(spec: LayerSpec, kind: str) -> str:
    """The name of the class for a correction, the spec's own wish first."""
    return spec.classes.get(kind, PREFIXES[kind] + spec.name)


def generate(spec: LayerSpec, *, general: bool = False) -> LayerSource:
    """Derive, solve and write the file of a layer.

    Args:
        spec: The layer.
        general: Use the general lowering only, without the recognised forms (for cross-checks).

    Returns:
        The file's text and what it defines.

    Raises:
        SpecError: If the spec is wrong.
        NothingToGenerate: If there is nothing to correct or no ansatz applies, with the reasons.
        DerivationError: If a step does not go through.
    """
    derivations = derive_variants(spec)
    full = derivations[frozenset()]
    if full.nothing_to_correct:
        raise NothingToGenerate(f"{spec.name}: K(s,s) = I already; the activations take the true step, nothing to correct")
    classes: list[ClassSource] = []
    contexts: list[ClassContext] = []
    helpers: set[str] = set()
    for ansatz, kind in KINDS.items():
        if not full.correction(ansatz).applies:
            continue
        found = {a: (d, d.correction(ansatz)) for a, d in derivations.items() if d.correction(ansatz).applies}
        writer = ClassWriter(spec, class_name(spec, kind), ansatz, found, derivations, general)
        contexts.append(writer.write())
        helpers |= writer.helpers
        classes.append(
            ClassSource(writer.name, ansatz, kind, MappingProxyType({a: c for a, (_, c) in found.items()}))
        )
    if not classes:
        reasons = "\n".join(f"  {c.ansatz}: {c.reason}" for c in full.corrections)
        raise NothingToGenerate(f"{spec.name}: no ansatz gives K(s,s) = c I\n{reasons}")
    text = render(spec, contexts, helpers)
    return LayerSource(spec, module_name(spec.name), text, tuple(classes), derivations)


def render(spec: LayerSpec, contexts: list[ClassContext], helpers: set[str]) -> str:
    """Fill the template; every key that it uses is given and every key given is used."""
    code = helper_code(helpers)
    body = "\n".join([*code, *(line for c in contexts for line in (*c.reset, *c.forward, *c.init))])
    imports = []
    if "math." in body or helpers & set(NEEDS_MATH):
        imports += ["import math", ""]
    imports += ["import torch"]
    if "F." in body:
        imports += ["import torch.nn.functional as F"]
    imports += ["from torch import Tensor, nn"]
    data: dict[str, Any] = {
        "header": header(spec),
        "imports": imports,
        "title": json.dumps(f"Corrected forms of {spec.name}.")[1:-1],
        "exports": ", ".join(f'"{name}"' for name in sorted(c.name for c in contexts)),
        "helpers": code,
        "classes": contexts,
    }
    return formatted(fill("layer.py.jinja", data))


def fill(template: str, data: Mapping[str, Any]) -> str:
    """Render a template; unknown and unused keys are errors."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(os.fspath(TEMPLATES)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the output is Python, its strings are escaped where they are made
    )
    source, _, _ = environment.loader.get_source(environment, template)  # type: ignore[union-attr]
    wanted = jinja2.meta.find_undeclared_variables(environment.parse(source))
    if wanted != set(data):
        raise DerivationError(f"{template} and its data disagree on {sorted(wanted ^ set(data))}")
    return environment.get_template(template).render(data)


class ClassWriter:
    """Writes one class."""

    def __init__(
        self,
        spec: LayerSpec,
        name: str,
        ansatz: str,
        variants: Mapping[frozenset[str], tuple[Derivation, Correction]],
        derivations: Mapping[frozenset[str], Derivation],
        general: bool,
    ) -> None:
        """Collect what the class is made of."""
        self.spec = spec
        self.name = name
        self.ansatz = ansatz
        self.variants = variants
        self.derivations = derivations
        self.general = general
        self.program: Program = variants[frozenset()][0].program
        self.helpers: set[str] = set()
        self.padded = next(((n, i.padded_by) for n, i in spec.inputs.items() if i.padded_by), None)
        self.attributes = {n: f"self.{n}" for n in (*self.program.arguments, *spec.hyperparameters)}
        if self.padded is not None:
            self.attributes[self.padded[1]] = "self._overrun"
        if ansatz == "input map":
            self.attributes["radius"] = "self.radius"
        self.sizes = SizeCode(self.program, self.attributes, {})

    # -------------------------------------------------------------- pieces
    def write(self) -> ClassContext:
        """All strings of the class."""
        forwards = self.forwards()
        argument_docs, raises = self.argument_docs(), self.raises()
        singular = any(f.singular for f in forwards.values())
        context = ClassContext(self.name)
        context.doc = class_doc(self.variants, argument_docs, raises, singular)
        context.annotations = self.annotations()
        context.arguments = self.arguments()
        context.init = self.init()
        context.reset_doc, context.reset = self.reset()
        inputs = [t.name for t in self.program.inputs]
        context.forward_arguments = ", ".join(f"{n}: Tensor" for n in inputs)
        context.forward_doc = "The corrected activation."
        context.forward = [*self.pad_lines(), *merge_variants(forwards, self.conditions())]
        context.repr = self.repr_parts()
        return context

    def forwards(self) -> dict[frozenset[str], Forward]:
        """One forward pass a variant, the full layer first so that the others can share its calls."""
        result: dict[frozenset[str], Forward] = {}
        fused: Mapping[str, str] = {}
        for absent, (derivation, correction) in self.variants.items():
            writer = ForwardWriter(derivation, correction, self.attributes, general=self.general, fused=fused)
            forward = writer.write()
            result[absent] = forward
            self.helpers |= forward.helpers
            if not absent:
                names = {f"self.{self.spec.parameters[s].torch}" for s in self.spec.optional}
                fused = {w: b for w, b in forward.fused.items() if b in names}
        return result

    def conditions(self) -> dict[frozenset[str], str]:
        """When a variant runs."""
        return {
            absent: " and ".join(f"self.{self.spec.parameters[s].torch} is None" for s in self.spec.optional if s in absent)
            for absent in self.variants
        }

    @property
    def flags(self) -> list[tuple[str, bool]]:
        """Flags of optional parameters that are not placed among the hyperparameters."""
        return [
            (self.spec.parameters[s].torch, True)
            for s in self.spec.optional
            if self.spec.parameters[s].torch not in self.spec.hyperparameters
        ]

    def arguments(self) -> list[str]:
        """The constructor's parameters."""
        result = []
        for name, count in self.program.arguments.items():
            result.append(f"{name}: {annotation(count)}")
        for name, default in self.spec.hyperparameters.items():
            result.append(self.hyper_argument(name, default))
        result += [f"{name}: bool = {default}" for name, default in self.flags]
        if self.padded is not None:
            result.append('padding_mode: str = "zeros"')
        result += ["device: torch.device | str | None = None", "dtype: torch.dtype | None = None"]
        if self.ansatz == "input map":
            result += ["*", "radius: float = 1.0"]
        return result

    def hyper_argument(self, name: str, default: Any) -> str:
        extra = " | str" if self.padded is not None and name == self.padded[1] else ""
        if isinstance(default, tuple):
            same = len(set(default)) == 1
            return f"{name}: {annotation(len(default))}{extra} = {default[0] if same else default}"
        return f"{name}: {type(default).__name__}{extra} = {default!r}"

    def argument_docs(self) -> list[tuple[str, str]]:
        """What each argument means."""
        docs = []
        letters_of: dict[str, list[str]] = {}
        for key, value in self.spec.sizes.items():
            letters_of.setdefault(value.split("[")[0], []).append(key)
        for name in self.program.arguments:
            docs.append((name, f"size of {' and '.join(letters_of.get(name, [name]))}"))
        for name, default in self.spec.hyperparameters.items():
            if isinstance(default, bool):
                docs.append((name, "whether the layer has this parameter"))
            elif self.padded is not None and name == self.padded[1]:
                docs.append((name, 'how far reads overrun each end, "same" or "valid"'))
            else:
                sized = [k for k, v in self.spec.sizes.items() if v == name]
                docs.append((name, f"size of {sized[0]}" if sized else f"the {name} of the formula"))
        docs += [(name, "whether the layer has this parameter") for name, _ in self.flags]
        if self.padded is not None:
            docs.append(("padding_mode", '"zeros", "reflect", "replicate" or "circular"'))
        docs.append(("device, dtype", "of the parameters"))
        if self.ansatz == "input map":
            docs.append(("radius", "sets the rate c; sqrt(number of features) instead of 1 gives the RMS map"))
        return docs

    def raises(self) -> list[str]:
        """What the constructor refuses."""
        result = [f"If {top} is not divisible by {bottom}." for top, bottom in self.divisions()]
        missing = [a for a in self.derivations if a not in self.variants]
        for absent in missing:
            result.append(f"Without {' and '.join(self.spec.parameters[s].torch for s in sorted(absent))}: no such correction.")
        return result

    def divisions(self) -> list[tuple[str, str]]:
        """Composed sizes: argument, divisor."""
        found = []
        for tree in self.program.sizes.values():
            if isinstance(tree, g.Call) and isinstance(tree.arguments[0], g.Name):
                top, bottom = (SizeCode(self.program, {n: n for n in self.attributes}, {}).tree(a).code for a in tree.arguments)
                if bottom != "1":
                    found.append((top, bottom))
        return found

    def annotations(self) -> list[str]:
        """Declared types of the parameters."""
        lines = []
        for tensor in self.program.parameters:
            parameter = self.spec.parameters[tensor.name]
            lines.append(f"{parameter.torch}: {'nn.Parameter | None' if parameter.optional else 'nn.Parameter'}")
        return lines

    def init(self) -> list[str]:
        """The constructor's body."""
        lines = []
        for top, bottom in self.divisions():
            divisor = bottom if bottom.isidentifier() else f"({bottom})"
            lines += [f"if {top} % {divisor} != 0:", f'    raise ValueError("{top} must be divisible by {bottom}")']
        for absent in self.derivations:
            if absent not in self.variants:
                names = [self.spec.parameters[s].torch for s in self.spec.optional if s in absent]
                present = [self.spec.parameters[s].torch for s in self.spec.optional if s not in absent]
                condition = " and ".join([*(f"not {n}" for n in names), *present])
                lines += [f"if {condition}:", f'    raise ValueError("no such correction exists without {" and ".join(names)}")']
        for name, count in self.program.arguments.items():
            value = f"_as_tuple({name}, {count})" if count else name
            if count:
                self.helpers.add("_as_tuple")
            lines.append(f"self.{name} = {value}")
        for name, default in self.spec.hyperparameters.items():
            lines += self.init_hyper(name, default)
        lines += self.init_padding()
        if self.ansatz == "input map":
            lines.append("self.radius = radius")
        for tensor in self.program.parameters:
            lines += self.init_parameter(tensor)
        return lines

    def init_hyper(self, name: str, default: Any) -> list[str]:
        if isinstance(default, bool):
            return []
        if not isinstance(default, tuple):
            return [f"self.{name} = {name}"]
        self.helpers.add("_as_tuple")
        if self.padded is not None and name == self.padded[1]:
            return [f"self.{name} = {name} if isinstance({name}, str) else _as_tuple({name}, {len(default)})"]
        return [f"self.{name} = _as_tuple({name}, {len(default)})"]

    def init_parameter(self, tensor: Tensor) -> list[str]:
        parameter = self.spec.parameters[tensor.name]
        shape = ", ".join(self.sizes.product([self.sizes.letter(x) for x in axis]).code for axis in tensor.axes)
        for key, value in self.spec.sizes.items():
            # A composed axis is one constructor argument: say it that way.
            letters = tuple(key.replace("(", " ").replace(")", " ").replace(",", " ").split())
            for axis in tensor.axes:
                if len(letters) > 1 and letters == tuple(x.name for x in axis):
                    product = self.sizes.product([self.sizes.letter(x) for x in axis]).code
                    shape = shape.replace(product, f"self.{value}")
        for name, count in self.program.arguments.items():
            if count > 1:
                shape = shape.replace(", ".join(f"self.{name}[{k}]" for k in range(count)), f"*self.{name}")
        shape = f"({shape},)" if len(tensor.axes) == 1 else f"({shape})"
        create = f"self.{parameter.torch} = nn.Parameter(torch.empty({shape}, device=device, dtype=dtype))"
        if not parameter.optional:
            return [create]
        return [
            f"if {parameter.torch}:",
            f"    {create}",
            "else:",
            f'    self.register_parameter("{parameter.torch}", None)',
        ]

    # -------------------------------------------------------------- padding modes
    def window(self) -> Window | None:
        """The window through which the padded input is read."""
        if self.padded is None:
            return None
        low = self.lowering()
        for line in self.program.lines:
            for node in sympy.preorder_traversal(line.value):
                if isinstance(node, Contraction):
                    for read in reads(node.body):
                        if read.tensor == self.padded[0]:
                            found = window(low, read, set(node.letters))
                            if found is not None:
                                return found
        raise self.spec.error(
            f"padded_by of `{self.padded[0]}`: the input is not read through a convolution window",
            self.padded[0],
            "drop padded_by, or write stride*p + dilation*k - padding with the computed size of a convolution",
        )

    def lowering(self) -> Lowering:
        """A lowering to ask about windows."""
        derivation, correction = self.variants[frozenset()]
        return ForwardWriter(derivation, correction, self.attributes, general=False, fused={}).lowering

    def init_padding(self) -> list[str]:
        found = self.window()
        if found is None or self.padded is None:
            return []
        self.helpers |= {"_resolve_padding"}
        low = self.lowering()
        name = self.padded[1]
        tuple_default = isinstance(self.spec.hyperparameters[name], tuple)

        def listed(codes: Iterable[str]) -> str:
            values = list(codes)
            heads = {c[: c.rindex("[")] for c in values if c.endswith("]")}
            if len(heads) == 1 and values == [f"{next(iter(heads))}[{k}]" for k in range(len(values))]:
                return next(iter(heads))
            return f"({', '.join(values)}{',' if len(values) == 1 else ''})"

        kernel = listed(low.sizes.letter(s.kernel).code for s in found.slides)
        stride = listed(low.sizes.number(s.stride).code for s in found.slides)
        dilation = listed(low.sizes.number(s.dilation).code for s in found.slides)
        given = f"self.{name}" if tuple_default else f"{name} if isinstance({name}, str) else ({name},)"
        lines = [
            "self.padding_mode = padding_mode",
            f"self._pads, overrun = _resolve_padding({given}, padding_mode, {kernel}, {stride}, {dilation})",
            f"self._overrun = {'overrun' if tuple_default else 'overrun[0]'}",
        ]
        return lines

    def pad_lines(self) -> list[str]:
        if self.padded is None:
            return []
        name = self.padded[0]
        return [
            "if self._pads:",
            '    mode = "constant" if self.padding_mode == "zeros" else self.padding_mode',
            f"    {name} = F.pad({name}, self._pads, mode=mode)",
        ]

    # -------------------------------------------------------------- initial values
    def reset(self) -> tuple[str, list[str]]:
        """The initial values."""
        lines: list[str] = []
        inits = set()
        previous = ""
        for tensor in self.program.parameters:
            parameter = self.spec.parameters[tensor.name]
            target = f"self.{parameter.torch}"
            inits.add(parameter.init)
            if parameter.init == "uniform":
                bound = self.bound(tensor)
                block = [] if bound == previous else [f"bound = {bound}"]
                previous = bound
                call = f"nn.init.uniform_({target}, -bound, bound)"
                lines += block
            else:
                call = f"nn.init.{parameter.init}_({target})"
            lines += [f"if {target} is not None:", f"    {call}"] if parameter.optional else [call]
        if inits == {"uniform"}:
            return "Uniform values in ±1/sqrt(fan-in), as torch's own affine layers have them.", lines
        return "The initial values of the spec.", lines

    def bound(self, tensor: Tensor) -> str:
        """±1/√fan-in, with the letters summed over as the fan-in; a bias takes its weight's."""
        parameter = self.spec.parameters[tensor.name]
        if parameter.fan_in:
            letters = [self.program.letters[x] for x in parameter.fan_in]
        else:
            letters = self.fan_in(tensor)
        product = self.sizes.product([self.sizes.letter(x) for x in letters])
        return f"1 / math.sqrt(max(1, {product.code}))" if letters else "1.0"

    def fan_in(self, tensor: Tensor) -> list[Any]:
        """The letters of a parameter that are summed over, or those of the weight beside it."""
        for name in (tensor.name, *(t.name for t in self.program.parameters)):
            for line in self.program.lines:
                if not any(r.tensor == tensor.name for r in reads(line.value)):
                    continue
                for node in sympy.preorder_traversal(line.value):
                    if isinstance(node, Contraction):
                        for read in sorted((r for r in reads(node.body) if r.tensor == name), key=str):
                            held = [i for i in read.indices if i in node.letters]
                            if held:
                                return [self.same_size(x) for x in held]
        return []

    def same_size(self, letter: Any) -> Any:
        return next((x for x in self.program.letters.values() if x.size == letter.size), letter)

    def repr_parts(self) -> list[str]:
        """extra_repr as f-strings."""
        names = [*self.program.arguments, *(n for n, d in self.spec.hyperparameters.items() if not isinstance(d, bool))]
        parts = [f"{n}={{self.{n}!r}}" for n in names]
        parts += [
            f"{self.spec.parameters[s].torch}={{self.{self.spec.parameters[s].torch} is not None}}" for s in self.spec.optional
        ]
        if self.padded is not None:
            parts.append("padding_mode={self.padding_mode!r}")
        if self.ansatz == "input map":
            parts.append("radius={self.radius!r}")
        return [f'f"{p}{", " if k < len(parts) - 1 else ""}"' for k, p in enumerate(parts)]


def annotation(count: int) -> str:
    """The type of an integer argument or a tuple of them."""
    return "int" if not count else f"int | tuple[{', '.join(['int'] * count)}]"


def merge_variants(forwards: Mapping[frozenset[str], Forward], conditions: Mapping[frozenset[str], str]) -> list[str]:
    """One body for all variants: shared first and last statements, branches only where they differ."""
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
    # The most absent variant first; the full layer comes last, without a condition.
    for absent in sorted((a for a in bodies if a), key=lambda a: (-len(a), sorted(a))):
        lines += [f"if {conditions[absent]}:", *(f"    {x}" for x in bodies[absent][head:])]
    return [*lines, *bodies[frozenset()][head:]]


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


__all__ = [
    "ClassSource",
    "LayerSource",
    "NothingToGenerate",
    "Read",
    "batch_letters",
    "class_name",
    "generate",
    "literal",
    "module_name",
]

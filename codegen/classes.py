"""One generated class: constructor, initial values, forward pass and documentation as strings."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from codegen.backward import write_backward
from codegen.backward_text import Derived, gauge_of
from codegen.boundary import Padded, pad_lines, padding_lines
from codegen.docs import class_doc
from codegen.forward import Forward, ForwardWriter
from codegen.initial import InitialValues
from codegen.lower import Lowering
from codegen.sizes import SizeCode
from codegen.variants import merge_variants, variant_conditions
from derive import grammar as g
from derive.corrections import Correction
from derive.derivation import Derivation, variants
from derive.program import Program, Tensor
from derive.spec import LayerSpec


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
    derived: tuple[Derived, ...] = ()
    forward: list[str] = field(default_factory=list)
    repr: list[str] = field(default_factory=list)


class ClassWriter:
    """Writes one class."""

    def __init__(
        self,
        spec: LayerSpec,
        name: str,
        ansatz: str,
        variants: Mapping[frozenset[str], tuple[Derivation, Correction]],
        general: bool,
    ) -> None:
        """Collect what the class is made of."""
        self.spec = spec
        self.name = name
        self.ansatz = ansatz
        self.variants = variants
        self.general = general
        self.program: Program = variants[frozenset()][0].program
        self.helpers: set[str] = set()
        self.handed: Mapping[str, str] = {}  # weight's code → the full layer's bias beside it
        self.transposed: list[dict[str, str]] = []
        self.padded: Padded | None = next(
            ((n, i.padded_by) for n, i in spec.inputs.items() if i.padded_by), None
        )
        self.attributes = {n: f"self.{n}" for n in (*self.program.arguments, *spec.hyperparameters)}
        if self.padded is not None:
            self.attributes[self.padded[1]] = "self._overrun"
        if ansatz == "input map":
            self.attributes["radius"] = "self.radius"
        self.sizes = SizeCode(self.program, self.attributes, {})

    # -------------------------------------------------------------- pieces
    def write(self) -> ClassContext:
        """All strings of the class."""
        spec, program = self.spec, self.program
        forwards = self.forwards()
        argument_docs, raises = self.argument_docs(), self.raises()
        singular = any(f.singular for f in forwards.values())
        context = ClassContext(self.name)
        text = "".join(x for f in forwards.values() for x in (*f.statements, f.result))
        leading = "[N,] " if "F.conv" in text else "*, "
        context.doc = class_doc(self.variants, argument_docs, raises, singular, leading)
        context.annotations = self.annotations()
        context.arguments = self.arguments()
        context.init = self.init()
        context.reset_doc, context.reset = InitialValues(spec, program, self.sizes).reset()
        inputs = [t.name for t in self.program.inputs]
        context.forward_arguments = ", ".join(f"{n}: Tensor" for n in inputs)
        context.forward_doc = "The corrected activation."
        derived = self.derived()
        context.derived = () if derived is None else (derived,)
        body = merge_variants(
            self.calling(forwards, derived), variant_conditions(spec, self.variants)
        )
        context.forward = [*pad_lines(self.padded), *body]
        context.repr = self.repr_parts()
        return context

    def forwards(self) -> dict[frozenset[str], Forward]:
        """One forward pass a variant; the full layer comes first, so others share its calls."""
        result: dict[frozenset[str], Forward] = {}
        for absent in self.variants:
            writer = self.writer(absent)
            forward = writer.write()
            result[absent] = forward
            self.transposed = writer.lowering.transposed
            self.helpers |= forward.helpers
            if not absent:
                self.handed = forward.fused
        return result

    def writer(self, absent: frozenset[str]) -> ForwardWriter:
        """A writer of one variant's forward pass."""
        derivation, correction = self.variants[absent]
        # A bias that this variant has goes where the variant puts it, and nowhere else.
        missing = {f"self.{self.spec.parameters[s].torch}" for s in absent}
        fused = {w: b for w, b in self.handed.items() if b in missing}
        return ForwardWriter(
            derivation, correction, self.attributes, general=self.general, fused=fused
        )

    def derived(self) -> Derived | None:
        """The derived backward pass, where it pays."""
        if self.general:
            return None
        writers = {absent: self.writer(absent) for absent in self.variants}
        derived = write_backward(self.name, self.variants, writers, self.types())
        self.helpers |= derived.helpers if derived is not None else set()
        return derived

    def types(self) -> dict[str, str]:
        """The types of the module's attributes."""
        spec, whole = self.spec, "tuple[int, ...]"
        found = {n: whole if count else "int" for n, count in self.program.arguments.items()}
        for name, default in spec.hyperparameters.items():
            found[name] = whole if isinstance(default, tuple) else type(default).__name__
        found |= {p.torch: "Tensor | None" for p in spec.parameters.values() if p.optional}
        if self.padded is not None:
            found["_overrun"] = found[self.padded[1]]
        return found | {"radius": "float"}

    def calling(
        self, forwards: Mapping[frozenset[str], Forward], derived: Derived | None
    ) -> dict[frozenset[str], Forward]:
        """The forward passes with a call of the derived one in front, and of its gauge."""
        if derived is None:
            return dict(forwards)
        test = [
            f"if {derived.test}:",
            f"    corrected: Tensor = {derived.call}",
            "    return corrected",
        ]
        found = {}
        for absent, forward in forwards.items():
            start, end = gauge_of(forward)
            own, layer = forward.statements[: forward.lines], forward.statements[forward.lines :]
            call = f"scale = {derived.gauge_call}"
            before = layer[: start - forward.lines]
            lines = (*own, *test, call, *before, *layer[end - forward.lines :])
            found[absent] = replace(forward, statements=lines)
        return found

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
            result.append(f"{name}: {annotation(count or (name in self.windowed))}")
        for name, default in self.spec.hyperparameters.items():
            result.append(self.hyper_argument(name, default))
        result += [f"{name}: bool = {default}" for name, default in self.flags]
        if self.padded is not None or self.transposed:
            result.append('padding_mode: str = "zeros"')
        result += ["device: torch.device | str | None = None", "dtype: torch.dtype | None = None"]
        if self.ansatz == "input map":
            result += ["*", "radius: float = 1.0"]
        return result

    def hyper_argument(self, name: str, default: Any) -> str:
        """One hyperparameter of the constructor."""
        extra = " | str" if self.padded is not None and name == self.padded[1] else ""
        if isinstance(default, tuple):
            same = len(set(default)) == 1
            return f"{name}: {annotation(len(default))}{extra} = {default[0] if same else default}"
        kind = annotation(1) if name in self.windowed else type(default).__name__
        return f"{name}: {kind}{extra} = {default!r}"

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
                docs.append(
                    (name, f"size of {sized[0]}" if sized else f"the {name} of the formula")
                )
        docs += [(name, "whether the layer has this parameter") for name, _ in self.flags]
        if self.padded is not None:
            docs.append(("padding_mode", '"zeros", "reflect", "replicate" or "circular"'))
        if self.transposed:
            docs.append(("padding_mode", '"zeros", as there is nothing else to read'))
        docs.append(("device, dtype", "of the parameters"))
        if self.ansatz == "input map":
            docs.append(
                (
                    "radius",
                    "sets the rate c; sqrt(number of features) instead of 1 gives the RMS map",
                )
            )
        return docs

    def raises(self) -> list[str]:
        """What the constructor refuses."""
        result = [f"If {top} is not divisible by {bottom}." for top, bottom in self.divisions()]
        missing = [a for a in variants(self.spec) if a not in self.variants]
        for absent in missing:
            names = " and ".join(self.spec.parameters[s].torch for s in sorted(absent))
            result.append(f"Without {names}: no such correction.")
        if self.padded is not None:
            result.append(
                "If padding or padding_mode is unknown, or padding is 'same' with a stride."
            )
        if self.transposed:
            result.append("If padding_mode is not 'zeros'.")
        if any(s["output_padding"] != "0" for s in self.transposed):
            result.append("If output_padding is not smaller than either stride or dilation.")
        return result

    def divisions(self) -> list[tuple[str, str]]:
        """Composed sizes: argument, divisor."""
        found = []
        for tree in self.program.sizes.values():
            if isinstance(tree, g.Call) and isinstance(tree.arguments[0], g.Name):
                top, bottom = (
                    SizeCode(self.program, {n: n for n in self.attributes}, {}).tree(a).code
                    for a in tree.arguments
                )
                if bottom != "1":
                    found.append((top, bottom))
        return found

    def annotations(self) -> list[str]:
        """Declared types of the parameters."""
        lines = []
        for tensor in self.program.parameters:
            parameter = self.spec.parameters[tensor.name]
            lines.append(f"{parameter.torch}: nn.Parameter{' | None' * parameter.optional}")
        return lines

    def init(self) -> list[str]:
        """The constructor's body."""
        lines = []
        divisors: set[str] = set()
        for top, bottom in self.divisions():
            divisor = bottom if bottom.isidentifier() else f"({bottom})"
            below = "" if divisor in divisors else f"{divisor} < 1 or "
            divisors.add(divisor)
            lines += [
                f"if {below}{top} % {divisor}:",
                f'    raise ValueError("{top} must be divisible by {bottom}")',
            ]
        for absent in variants(self.spec):
            if absent not in self.variants:
                names = [self.spec.parameters[s].torch for s in self.spec.optional if s in absent]
                present = [
                    self.spec.parameters[s].torch for s in self.spec.optional if s not in absent
                ]
                condition = " and ".join([*(f"not {n}" for n in names), *present])
                problem = f"no such correction exists without {' and '.join(names)}"
                lines += [f"if {condition}:", f'    raise ValueError("{problem}")']
        for name, count in self.program.arguments.items():
            value = f"_as_tuple({name}, {count})" if count else self.single(name)
            if count:
                self.helpers.add("_as_tuple")
            lines.append(f"self.{name} = {value}")
        for name, default in self.spec.hyperparameters.items():
            lines += self.init_hyper(name, default)
        if self.padded is not None:
            lines += padding_lines(self.spec, self.program, self.padded, self.lowering())
            self.helpers.add("_resolve_padding")
        lines += self.init_transposed()
        if self.ansatz == "input map":
            lines.append("self.radius = radius")
        for tensor in self.program.parameters:
            lines += self.init_parameter(tensor)
        return lines

    def init_hyper(self, name: str, default: Any) -> list[str]:
        """Keep a hyperparameter."""
        if isinstance(default, bool):
            return []
        if self.padded is not None and name == self.padded[1]:
            words = f"{name} if isinstance({name}, str) else "
        else:
            words = ""
        if not isinstance(default, tuple):
            return [f"self.{name} = {words}{self.single(name)}"]
        self.helpers.add("_as_tuple")
        return [f"self.{name} = {words}_as_tuple({name}, {len(default)})"]

    def init_transposed(self) -> list[str]:
        """What torch's own transposed convolution refuses, refused when the layer is built."""
        if not self.transposed:
            return []
        tests = [
            f"{s['output_padding']} >= max({s['stride']}, {s['dilation']})"
            for s in self.transposed
            if s["output_padding"] != "0"
        ]
        lines = [
            'if padding_mode != "zeros":',
            "    raise ValueError(\"only padding_mode='zeros' is supported\")",
            "self.padding_mode = padding_mode",
        ]
        if tests:
            problem = "output_padding must be smaller than either stride or dilation"
            test = tests[0] if len(tests) == 1 else f"any(({', '.join(tests)}))"
            lines += [f"if {test}:", f'    raise ValueError("{problem}")']
        return lines

    @functools.cached_property
    def windowed(self) -> frozenset[str]:
        """Integer arguments that shape a window over one axis; a tuple of one serves there too."""
        names: set[str] = set()
        for letter in self.program.output.letters:
            tree = self.program.sizes[letter.size]
            if tree is None or isinstance(tree, g.Name | g.Call):
                continue
            for node in g.nodes(tree):
                source = self.program.sizes[node.letter] if isinstance(node, g.SizeOf) else node
                if isinstance(source, g.Name) and source.element is None:
                    names.add(source.name)
        return frozenset(names)

    def single(self, name: str) -> str:
        """An integer argument, taken out of a tuple of one where it shapes a window."""
        if name not in self.windowed:
            return name
        self.helpers.add("_as_int")
        return f"_as_int({name})"

    def init_parameter(self, tensor: Tensor) -> list[str]:
        """Make a parameter, in the storage layout of the spec."""
        parameter = self.spec.parameters[tensor.name]
        shape = ", ".join(
            self.sizes.product([self.sizes.letter(x) for x in axis]).code for axis in tensor.axes
        )
        for key, value in self.spec.sizes.items():
            # A composed axis is one constructor argument: say it that way.
            letters = tuple(key.replace("(", " ").replace(")", " ").replace(",", " ").split())
            for axis in tensor.axes:
                if len(letters) > 1 and letters == tuple(x.name for x in axis):
                    product = self.sizes.product([self.sizes.letter(x) for x in axis]).code
                    shape = shape.replace(product, f"self.{value}")
        for name, count in self.program.arguments.items():
            if count > 1:
                shape = shape.replace(
                    ", ".join(f"self.{name}[{k}]" for k in range(count)), f"*self.{name}"
                )
        shape = f"({shape},)" if len(tensor.axes) == 1 else f"({shape})"
        empty = f"torch.empty({shape}, device=device, dtype=dtype)"
        create = f"self.{parameter.torch} = nn.Parameter({empty})"
        if not parameter.optional:
            return [create]
        return [
            f"if {parameter.torch}:",
            f"    {create}",
            "else:",
            f'    self.register_parameter("{parameter.torch}", None)',
        ]

    def lowering(self) -> Lowering:
        """A lowering to ask about windows."""
        derivation, correction = self.variants[frozenset()]
        return ForwardWriter(
            derivation, correction, self.attributes, general=False, fused={}
        ).lowering

    def repr_parts(self) -> list[str]:
        """extra_repr as f-strings."""
        names = [
            *self.program.arguments,
            *(n for n, d in self.spec.hyperparameters.items() if not isinstance(d, bool)),
        ]
        parts = [f"{n}={{self.{n}!r}}" for n in names]
        parts += [
            f"{self.spec.parameters[s].torch}={{self.{self.spec.parameters[s].torch} is not None}}"
            for s in self.spec.optional
        ]
        if self.padded is not None or self.transposed:
            parts.append("padding_mode={self.padding_mode!r}")
        if self.ansatz == "input map":
            parts.append("radius={self.radius!r}")
        return [f'f"{p}{", " if k < len(parts) - 1 else ""}"' for k, p in enumerate(parts)]


def annotation(count: int) -> str:
    """The type of an integer argument or a tuple of them."""
    return "int" if not count else f"int | tuple[{', '.join(['int'] * count)}]"

"""A derived backward pass as text: the gauge's function, and the autograd function of a class."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from codegen.backward_windows import Joint
from codegen.docs import literal, wrapped
from codegen.forward import Forward
from codegen.variants import merge_steps, merge_variants, variant_conditions
from derive.corrections import Correction
from derive.derivation import Derivation
from derive.errors import DerivationError
from derive.formula import formula
from derive.gradients import Gradients
from derive.program import Program

Variants = Mapping[frozenset[str], tuple[Derivation, Correction]]
OWN = re.compile(r"\bself\.(\w+)")
VIEW = re.compile(r"\.(flatten|transpose|movedim)\([^()]*\)$|\.mT$")
KERNEL = "dkernel"


@dataclass(frozen=True)
class Derived:
    """The strings of a derived backward pass.

    Attributes:
        gauge: Name of the function that computes the scale of the output.
        gauge_call: Its call in the module's forward pass.
        gauge_arguments, gauge_doc, gauge_body: What it is made of.
        name: Name of the autograd function.
        doc, arguments, forward, backward: What that is made of.
        test: Whether it is to be called, for an input at hand.
        call: The call.
        helpers: The helper functions that all this calls.
    """

    gauge: str
    gauge_call: str
    gauge_arguments: str
    gauge_doc: str
    gauge_body: tuple[str, ...]
    name: str
    doc: str
    arguments: tuple[str, ...]
    forward: tuple[str, ...]
    backward: tuple[str, ...]
    test: str
    call: str
    helpers: frozenset[str]


@dataclass(frozen=True)
class Pass:
    """Both passes of one variant.

    Attributes:
        forward: The forward pass.
        gradients: What is derived.
        shared: The statements that every gradient needs.
        source: The statements that the gradient of the source needs, the last of which gives it.
        parameters: Parameter → the code of its gradient.
        helpers: The helper functions that both call.
        rank: How many axes the source has where a window reads it; else any number.
        joint: The call that gives several of the gradients.
    """

    forward: Forward
    gradients: Gradients
    shared: tuple[str, ...]
    source: tuple[str, ...]
    parameters: Mapping[str, str]
    helpers: frozenset[str]
    rank: int | None = None
    joint: Joint | None = None


class DerivedWriter:
    """Puts the variants of both passes together as text."""

    def __init__(
        self,
        name: str,
        variants: Variants,
        passes: Mapping[frozenset[str], Pass],
        types: Mapping[str, str],
        gauge: str,
    ) -> None:
        """Name everything."""
        self.variants, self.passes, self.types = variants, passes, types
        self.given = gauge
        self.full = passes[frozenset()]
        self.program: Program = variants[frozenset()][0].program
        stem = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
        self.gauge, self.name = f"_{stem}_gauge", f"_{name}Function"
        self.source = self.full.gradients.sources[0]
        spec = self.program.spec
        self.torch_names = {s: spec.parameters[s].torch for s in self.full.gradients.parameters}
        self.tensors = (self.source, *self.torch_names.values())
        g = self.full.gradients
        self.kept_part = None if g.kept is None else g.kept.name
        # Not both that and a scale as large: computing the scale again costs less than a map.
        large = len(g.scale.letters) == len(self.program.output.letters)
        self.again = self.kept_part is not None and large

    def write(self) -> Derived:
        """All strings."""
        gauge = self.gauge_body()
        arguments = [n for n in (*self.tensors, *self.settings(gauge)) if mentions(gauge, n)]
        self.gauge_call = f"{self.gauge}({', '.join(map(self.called, arguments))})"
        held = [n if n in self.tensors else f"self.{n}" for n in arguments]
        self.gauge_own = f"{self.gauge}({', '.join(held)})"
        if self.given:
            self.gauge_call = self.gauge_own = self.given
        forward, backward = self.forward(), self.backward()
        settings = self.settings((*gauge, *forward, *backward))
        kept = [
            f"ctx.{self.called(n)} = {self.called(n)}"
            for n in settings
            if mentions(backward, f"self.{n}")
        ]
        everything = (*self.tensors, *settings)
        return Derived(
            self.gauge,
            f"{self.gauge}({self.outside(tuple(arguments))})",
            ", ".join(f"{self.called(n)}: {self.type_of(n)}" for n in arguments),
            self.gauge_doc(),
            self.plain(gauge),
            self.name,
            self.doc(),
            tuple(f"{self.called(n)}: {self.type_of(n)}" for n in everything),
            (*kept, *self.plain(forward)),
            tuple(
                OWN.sub(lambda m: f"ctx.{self.called(m[1])}", x)
                for x in self.unpacked(backward, settings)
            ),
            self.test(),
            f"{self.name}.apply({self.outside(everything)})",
            self.helpers(forward),
        )

    def helpers(self, forward: tuple[str, ...]) -> frozenset[str]:
        """The helper functions that all this calls."""
        own = {n for n in ("_as_output",) if any(n in line for line in forward)}
        return frozenset({"_takes_derived", *own}).union(*(p.helpers for p in self.passes.values()))

    def test(self) -> str:
        """Whether the autograd function serves for an input at hand."""
        # What keeps as much as a compiler would keep gains nothing there.
        compiled = "" if self.kept_part is None or self.again else ", compiled=False"
        test = f"_takes_derived({self.source}{compiled})"
        rank = self.full.rank
        return test if rank is None else f"{test} and {self.source}.dim() == {rank}"

    def called(self, name: str) -> str:
        """An attribute of the module as an argument."""
        public = name.lstrip("_")
        return name if public in self.types or public in self.tensors else public

    def plain(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        """Lines in which the module's attributes are arguments."""
        return tuple(OWN.sub(lambda m: self.called(m[1]), x) for x in lines)

    def outside(self, names: tuple[str, ...]) -> str:
        """The arguments of a call in the module's forward pass."""
        return ", ".join(n if n == self.source else f"self.{n}" for n in names)

    def settings(self, lines: tuple[str, ...]) -> list[str]:
        """The attributes that some lines read, besides the parameters."""
        found = dict.fromkeys(n for line in lines for n in OWN.findall(line))
        return [n for n in found if n not in self.tensors]

    def type_of(self, name: str) -> str:
        """The type of an argument."""
        return self.types.get(name, "Tensor")

    def merged(self, parts: Mapping[frozenset[str], Forward]) -> tuple[str, ...]:
        """The variants as one body."""
        return tuple(merge_variants(parts, variant_conditions(self.program.spec, parts)))

    def steps(self, parts: Mapping[frozenset[str], Forward]) -> tuple[str, ...]:
        """The variants as one body in the midst of another."""
        return tuple(merge_steps(parts, variant_conditions(self.program.spec, parts)))

    # ------------------------------------------------------------------ the gauge
    def gauge_body(self) -> tuple[str, ...]:
        """The statements of the gauge, the last as what is returned."""
        parts = {}
        for absent, found in self.passes.items():
            start, end = gauge_of(found.forward)
            *lines, last = found.forward.statements[start:end]
            parts[absent] = replace(
                found.forward, statements=tuple(lines), result=last.split(" = ", 1)[1]
            )
        return self.merged(parts)

    def gauge_doc(self) -> str:
        """What the gauge is."""
        scale = formula(self.full.gradients.scale.value, self.program)
        lines = wrapped(f"{self.full.gradients.scale.name} = {scale}", "        ", "            ")
        return literal("\n".join(["The scale of the output, a number a site.", "", *lines]))

    # ------------------------------------------------------------------ the passes
    def forward(self) -> tuple[str, ...]:
        """The forward pass, which keeps what the backward pass reads."""
        parts = {}
        for absent, found in self.passes.items():
            start, end = gauge_of(found.forward)
            statements = found.forward.statements
            keep = f"ctx.save_for_backward({', '.join(self.kept)})"
            lines = [
                f"{self.full.gradients.scale.name} = {self.gauge_call}",
                keep,
                *statements[found.forward.lines : start],
            ]
            if self.kept_part is not None:
                lines.append(lines.pop(1))
            result = found.forward.result
            if VIEW.search(result):
                result = f"_as_output({result})"
            lines += statements[end:]
            parts[absent] = replace(found.forward, statements=tuple(lines), result=result)
        return self.merged(parts)

    def backward(self) -> tuple[str, ...]:
        """The backward pass."""
        names = [f"d{n}" for n in (self.source, *self.torch_names.values())]
        parts = {
            a: replace(p.forward, statements=p.source, result=names[0])
            for a, p in self.passes.items()
        }
        source = self.steps(parts)
        blocks = self.parameter_blocks()
        joint, given = self.joint_lines()
        left = [n for n in names if n not in given]
        lines = [*self.recorded(), *self.full.shared, *joint, f"{' = '.join(left)} = None"]
        # Sums over what was just written come first, while it is in the cache.
        vectors = {s for s in blocks if len(self.program.tensors[s].axes) == 1}
        for symbol, block in blocks.items():
            lines += block if symbol in vectors else []
        lines += ["if ctx.needs_input_grad[0]:", *(f"    {x}" for x in source)]
        for symbol, block in blocks.items():
            lines += block if symbol not in vectors else []
        return (*lines, f"return {', '.join(names)}")

    def joint_lines(self) -> tuple[list[str], frozenset[str]]:
        """The call that gives several gradients, if there is one, and those that it gives as is.

        Raises:
            DerivationError: If variants differ in it.
        """
        joint = self.full.joint
        calls = {(p.joint.call, p.joint.weight) for p in self.passes.values() if p.joint}
        if joint is None and not calls:
            return [], frozenset()
        if joint is None or len(calls) > 1 or any(p.joint is None for p in self.passes.values()):
            raise DerivationError("the gradients of a convolution depend on what is absent")
        place = {s: k + 1 for k, s in enumerate(self.torch_names)}
        weight, stored = joint.weight
        kernel = KERNEL if stored else f"d{self.torch_names[weight]}"
        bias = f"d{self.torch_names[joint.bias]}" if joint.bias else "_"
        wanted = [0, place[weight], *([place[joint.bias]] if joint.bias else [])]
        mask = "ctx.needs_input_grad[:3]"
        if wanted != [0, 1, 2]:
            asked = [f"ctx.needs_input_grad[{k}]" for k in wanted]
            mask = f"({', '.join([*asked, *['False'] * (3 - len(asked))])})"
        local = self.full.gradients.steps[1].name
        line = f"{local}, {kernel}, {bias} = {joint.call}{mask})"
        return [line], frozenset({kernel, bias})

    def recorded(self) -> list[str]:
        """What was kept, computed again for a second derivative."""
        scale = f"{self.full.gradients.scale.name} = {self.gauge_own}"
        again = [] if self.again else [scale]
        if self.kept_part is not None:
            parts = {}
            for absent, found in self.passes.items():
                lines = found.forward.statements[found.forward.lines : gauge_of(found.forward)[0]]
                parts[absent] = replace(found.forward, statements=lines, result=self.kept_part)
            again += self.steps(parts)
        test = "if torch.is_grad_enabled():  # a second derivative is asked for"
        return [*([scale] if self.again else []), test, *(f"    {x}" for x in again)]

    @functools.cached_property
    def kept(self) -> tuple[str, ...]:
        """What the backward pass reads of the forward pass."""
        lines = self.backward()
        read = [n for n in self.tensors if mentions(lines, n)]
        scale = () if self.again else (self.full.gradients.scale.name,)
        return (*read, *scale, *(() if self.kept_part is None else (self.kept_part,)))

    def parameter_blocks(self) -> dict[str, list[str]]:
        """Parameter → the statements of its own gradient, for all variants that have it."""
        blocks = {}
        joint = self.full.joint
        for place, (symbol, name) in enumerate(self.torch_names.items()):
            if joint is not None and symbol == joint.weight[0]:
                line = f"d{name} = {KERNEL}{joint.weight[1]}"
                test = f"if ctx.needs_input_grad[{place + 1}]:"
                blocks[symbol] = [test, f"    {line}"] if joint.weight[1] else []
                continue
            if joint is not None and symbol == joint.bias:
                blocks[symbol] = []
                continue
            code = {p.parameters[symbol] for p in self.passes.values() if symbol in p.parameters}
            if len(code) != 1:
                raise DerivationError(f"the gradient of {name} depends on what is absent")
            blocks[symbol] = [
                f"if ctx.needs_input_grad[{place + 1}]:",
                f"    d{name} = {code.pop()}",
            ]
        return blocks

    def unpacked(self, lines: tuple[str, ...], settings: list[str]) -> tuple[str, ...]:
        """The backward pass with what it reads taken from the context."""
        head = f"{', '.join(self.kept)} = ctx.saved_tensors"
        *body, last = lines
        parameters = [f"self.{n}" for n in self.tensors]
        body = [strip(x, parameters) for x in body]
        return (head, *body, last + ", None" * len(settings))

    def doc(self) -> str:
        """The formulas of the backward pass."""
        g = self.full.gradients
        own = {s.name for s in (g.scale, *g.steps)}
        kept = [n for n in self.kept if n in own or n == self.kept_part]
        found = " and ".join(kept) if kept != [g.scale.name] else "the scale alone"
        lines = [f"The same map, with the gradient as derived, which keeps {found}.", ""]
        for step in (*g.steps, *g.of.values()):
            text = f"{formula(step.read, self.program)} = {formula(step.value, self.program)}"
            lines += wrapped(text, "        ", "            ")
        return literal("\n".join(lines))


def gauge_of(forward: Forward) -> tuple[int, int]:
    """Where the gauge's statements are."""
    assert forward.gauge is not None, "a pass pays only where the gauge varies"
    return forward.gauge


def mentions(lines: tuple[str, ...], name: str) -> bool:
    """Whether some lines read a name."""
    word = re.compile(rf"(?<![\w.]){re.escape(name)}\b|\bself\.{re.escape(name)}\b")
    return any(word.search(x) for x in lines)


def strip(line: str, names: list[str]) -> str:
    """A line in which some attributes are names."""
    return OWN.sub(lambda m: m[1] if m[0] in names else m[0], line)

"""The initial values of a generated class."""

from __future__ import annotations

from codegen.sizes import SizeCode
from derive.nodes import Delta, Letter, letters_in, reads
from derive.program import Program, Tensor
from derive.spec import LayerSpec


class InitialValues:
    """Writes ``reset_parameters``."""

    def __init__(self, spec: LayerSpec, program: Program, sizes: SizeCode) -> None:
        """Keep the layer and its sizes as code."""
        self.spec = spec
        self.program = program
        self.sizes = sizes

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
            return (
                "Uniform values in ±1/sqrt(fan-in), as torch's own affine layers have them.",
                lines,
            )
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

    def fan_in(self, tensor: Tensor) -> list[Letter]:
        """The letters of a parameter that are summed over, or those of the weight beside it."""
        for name in (tensor.name, *(t.name for t in self.program.parameters)):
            for line in self.program.lines:
                found = sorted(reads(line.value), key=str)
                places = [letters_in([d]) for d in line.value.atoms(Delta)]
                if not any(r.tensor == tensor.name for r in found):
                    continue
                for read in (r for r in found if r.tensor == name):
                    summed = [i for i in read.indices if isinstance(i, Letter)]
                    # W[i, 1] is Σ_j [j = 1] W[i, j] by now, and j no letter that is summed over.
                    summed = [x for x in summed if x not in line.letters and {x} not in places]
                    if summed:
                        return [self.same_size(x) for x in summed]
        return []

    def same_size(self, letter: Letter) -> Letter:
        """The spec's own letter for a bound copy."""
        return next((x for x in self.program.letters.values() if x.size == letter.size), letter)

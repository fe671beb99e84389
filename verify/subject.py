"""What is judged: one class of a generated module, for one choice of its optional parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from derive.corrections import Correction
from derive.derivation import Derivation
from derive.formula import formula, grouped
from derive.nodes import BINDERS
from derive.program import Program, Tensor
from verify.contracts.example import Example
from verify.instances import Instance
from verify.layout import output_tensor, to_storage
from verify.results import Claim, VerificationError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Subject:
    """A generated class and what was derived for it.

    Attributes:
        name: The class name.
        type: The class itself.
        absent: The optional parameters that are left out.
        derivation: The layer's derivation for that choice.
        correction: The correction that the class claims to implement.
        part: The stage of the class that this is about, where a class corrects several.
        text: The text of the file that defines the class.
    """

    name: str
    type: type[torch.nn.Module]
    absent: frozenset[str]
    derivation: Derivation
    correction: Correction
    part: str = ""
    text: str = ""

    @property
    def key(self) -> tuple[str, str, frozenset[str]]:
        """What tells the subjects of a module apart."""
        return self.name, self.part, self.absent

    @property
    def program(self) -> Program:
        """The layer."""
        return self.derivation.program

    def claim(self) -> Claim:
        """What the class claims."""
        c, program = self.correction, self.derivation.program
        kernel = formula(grouped(c.kernel or self.derivation.update.kernel), program, unicode=True)
        if c.kernel is None:
            kernel = f"Λ(s) ({kernel}) Λ(s')ᵀ"
        return Claim(
            self.name,
            tuple(sorted(self.absent)),
            c.ansatz + (f" of the stage {self.part}" if self.part else ""),
            c.exactness,
            formula(c.gauge, program, unicode=True),
            formula(c.rate, program, unicode=True),
            kernel,
        )

    def build(self, instance: Instance) -> torch.nn.Module:
        """The module at an instance's sizes, holding the instance's parameters in float64.

        Raises:
            VerificationError: If a parameter is missing, superfluous or has another shape.
        """
        spec = self.program.spec
        module = self.type(*self.arguments(instance), **self.keywords(instance))
        with torch.no_grad():
            for symbol, declared in spec.parameters.items():
                held = getattr(module, declared.torch)
                if symbol in self.absent:
                    if held is not None:
                        raise VerificationError(f"{self.name}: {declared.torch} should be None")
                    continue
                tensor = self.program.tensors[symbol]
                value = to_storage(instance.tensors[symbol], tensor, instance.sizes)
                if not isinstance(held, torch.nn.Parameter) or tuple(held.shape) != value.shape:
                    shape = None if held is None else tuple(held.shape)
                    raise VerificationError(
                        f"{self.name}: {declared.torch} has shape {shape}, not {value.shape}"
                    )
                held.copy_(torch.from_numpy(value))
        wanted = {spec.parameters[t.name].torch for t in self.program.parameters}
        found = {name for name, _ in module.named_parameters()}
        if wanted != found:
            raise VerificationError(
                f"{self.name}: parameters {sorted(found)}, not {sorted(wanted)}"
            )
        return module

    def parameter_name(self, tensor: Tensor) -> str:
        """The attribute of the module that holds a parameter."""
        return str(self.program.spec.parameters[tensor.name].torch)

    def arguments(self, instance: Instance) -> list[Any]:
        """The constructor arguments in order; tuples put together again."""
        symbols = instance.symbols
        return [
            symbols[name] if count == 0 else tuple(symbols[f"{name}[{k}]"] for k in range(count))
            for name, count in self.program.arguments.items()
            if name not in self.program.spec.hyperparameters
        ]

    def keywords(self, instance: Instance) -> dict[str, Any]:
        """Hyperparameters, flags of absent parameters, the radius and the dtype."""
        spec = self.program.spec
        keywords: dict[str, Any] = {}
        for name, default in spec.hyperparameters.items():
            if isinstance(default, tuple):
                keywords[name] = tuple(
                    instance.symbols[f"{name}[{k}]"] for k in range(len(default))
                )
            elif not isinstance(default, bool):
                keywords[name] = instance.symbols[name]
        for symbol in spec.optional:
            keywords[spec.parameters[symbol].torch] = symbol not in self.absent
        if self.correction.ansatz == "input map":
            keywords["radius"] = instance.radius
        return {**keywords, "dtype": torch.float64}

    @property
    def speaks(self) -> bool:
        """Whether the contracts of the class are judged on this subject of it."""
        return True

    def example(self, instance: Instance, tolerance: float) -> Example:
        """The class as its contracts see it."""
        keywords = {k: v for k, v in self.keywords(instance).items() if k != "dtype"}
        axes = [tensor.axes[:1] for tensor in self.program.inputs]
        first = ((self.program.output.letters[0],),)
        return Example(
            self.type,
            tuple(self.arguments(instance)),
            self.inputs(instance),
            tuple(found == first for found in axes),
            independent(self.program),
            tolerance,
            keywords,
        )

    def compositions(self, instance: Instance) -> Iterator[tuple[float, float, str]]:
        """Comparisons of a whole class with its stages as (error, scale, what differs)."""
        yield from ()

    def inputs(self, instance: Instance, *, grad: bool = False) -> tuple[torch.Tensor, ...]:
        """What the module is called with."""
        found = []
        for tensor in self.program.inputs:
            value = torch.from_numpy(
                to_storage(instance.tensors[tensor.name], tensor, instance.sizes)
            )
            found.append(value.clone().requires_grad_(grad and tensor.kind == "input"))
        return tuple(found)


def independent(program: Program) -> bool:
    """Whether samples do not see each other: one letter leads every tensor, and nothing sums it."""
    first = program.output.letters[0]
    tensors = (output_tensor(program), *program.inputs)
    if any(tensor.axes[:1] != ((first,),) for tensor in tensors):
        return False
    bound = {
        letter
        for line in program.lines
        for node in line.value.atoms(*BINDERS)
        for letter in node.letters
    }
    return all(letter.size != first.size for letter in bound)

"""An attention module is judged stage by stage: each stage is a layer with a claim of its own.

The module's own methods compute each stage; :class:`Probe` calls them with the stage's parameters,
as a module whose parameters, input and output are those of the stage's formula. That the stages are
put together as the formulas say is judged on the whole module (:func:`composed`), the softmax in
between taken from its definition.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.func import functional_call

from derive.program import Tensor
from verify.contracts.example import Example
from verify.instances import Instance
from verify.layout import from_sites_by_units, to_storage
from verify.reference import evaluate_reference
from verify.results import VerificationError
from verify.subject import Subject

Array = np.ndarray[Any, Any]
STAGES = {
    "affine-like": ("query", "key", "value", "score", "output"),
    "value-mix": ("query", "key", "mix", "score", "output"),
}
IN_PROJECTION = ("q_proj_", "k_proj_", "v_proj_")


class StageCall(torch.nn.Module):
    """One stage of an attention module as ``forward``.

    Args:
        attention: The generated module, with ``batch_first=True``.
        stage: The stage's name.
    """

    def __init__(self, attention: Any, stage: str) -> None:
        """Keep the module."""
        super().__init__()
        self.attention = attention
        self.stage = stage

    def forward(self, named: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The stage's output in the layout of its formula, from its inputs by name."""
        a: Any = self.attention
        result: torch.Tensor
        if self.stage == "output":
            (m,) = named.values()
            result = a.out_proj(m)
            return result
        x = named["x"]
        q, k, v = a._project(x, x, x)
        if self.stage in ("query", "key", "value"):
            result = a._merge_heads({"query": q, "key": k, "value": v}[self.stage], True)
            return result
        if self.stage == "score":
            gauge = sys.modules[type(a).__module__]._score_gauge
            result = (q / math.sqrt(a.head_dim)) @ k.mT * gauge(q, k)
            return result
        extra = a._bias_value_token(a.bias_v).expand(v.size(0), -1, -1, -1)
        weights = torch.cat([named["w"], named["extra_weight"].mT.unsqueeze(-1)], dim=-1)
        result = a._correct_mix(weights @ torch.cat([v, extra], dim=2))
        return result.transpose(1, 2)


class Probe(torch.nn.Module):
    """A stage with its own parameters, in the layout of its formula.

    Args:
        call: The stage of a module; parameters that the stage does not have stay as they are.
        parameters: Name in the formula → value and its name in the spec's ``torch`` column.
        inputs: The stage's inputs in order.
    """

    def __init__(
        self,
        call: StageCall,
        parameters: Mapping[str, tuple[torch.Tensor, str]],
        inputs: tuple[str, ...],
    ) -> None:
        """Register the parameters."""
        super().__init__()
        # In a tuple, so that the module's own parameters are not the probe's.
        self.held = (call,)
        self.names = {symbol: torch_name for symbol, (_, torch_name) in parameters.items()}
        self.inputs = inputs
        for symbol, (value, _) in parameters.items():
            self.register_parameter(f"p_{symbol}", torch.nn.Parameter(value))

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """The stage, computed by the module with the probe's parameters in place."""
        (call,) = self.held
        values = {k: v.detach() for k, v in call.attention.named_parameters()}
        for symbol, name in self.names.items():
            place(values, name, getattr(self, f"p_{symbol}"))
        named = dict(zip(self.inputs, tensors, strict=True))
        result: torch.Tensor = functional_call(
            call, {f"attention.{k}": v for k, v in values.items()}, (named,)
        )
        return result


def place(values: dict[str, torch.Tensor], name: str, value: torch.Tensor) -> None:
    """Put a parameter where the module keeps it: q, k and v share one tensor, as in torch.

    Raises:
        VerificationError: If the attention module has no such parameter.
    """
    for third, prefix in enumerate(IN_PROJECTION):
        if name.startswith(prefix):
            packed = f"in_proj_{name.removeprefix(prefix)}"
            parts = list(values[packed].chunk(3))
            parts[third] = value
            values[packed] = torch.cat(parts)
            return
    name = name.replace("out_proj_", "out_proj.")
    if name not in values:
        raise VerificationError(f"the attention module has no parameter {name}")
    values[name] = value.reshape(values[name].shape)


@dataclass(frozen=True)
class AttentionSubject(Subject):
    """One stage of an attention class.

    Attributes:
        stages: Every stage of the class with the same choice of biases, by name.
    """

    stages: Mapping[str, Subject] | None = None

    def module(self, embed_dim: int, num_heads: int, **options: Any) -> torch.nn.Module:
        """The whole module in float64."""
        bias = not self.absent
        module: Any = self.type
        built: torch.nn.Module = module(
            embed_dim, num_heads, bias=bias, batch_first=True, dtype=torch.float64, **options
        )
        return built

    def build(self, instance: Instance) -> torch.nn.Module:
        """The stage as a module; see :class:`Probe`."""
        embed_dim = int(instance.symbols["embed_dim"])
        given = instance.symbols.get("num_heads")
        heads = int(given) if given is not None else smallest_factor(embed_dim)
        attention = self.module(
            embed_dim, heads, add_bias_kv=self.part == "mix", score_gauge=self.part == "score"
        )
        spec = self.program.spec
        parameters = {
            t.name: (
                torch.from_numpy(to_storage(instance.tensors[t.name], t, instance.sizes).copy()),
                spec.parameters[t.name].torch,
            )
            for t in self.program.parameters
        }
        names = tuple(t.name for t in self.program.inputs)
        return Probe(StageCall(attention, self.part), parameters, names)

    @property
    def speaks(self) -> bool:
        """The score's subject speaks for all stages."""
        return self.part == "score"

    def example(self, instance: Instance, tolerance: float) -> Example:
        """Self-attention of the whole module."""
        tokens = torch.from_numpy(instance.tensors["x"])
        sizes = tuple(int(instance.symbols[k]) for k in ("embed_dim", "num_heads"))
        keywords = {"bias": not self.absent, "batch_first": True}
        inputs = (tokens, tokens, tokens)
        return Example(self.type, sizes, inputs, (True,) * 3, True, tolerance, keywords)

    def parameter_name(self, tensor: Tensor) -> str:
        """The probe keeps parameters under their names in the formula."""
        return f"p_{tensor.name}"

    def compositions(self, instance: Instance) -> Iterator[tuple[float, float, str]]:
        """The whole module, with and without its score gauge, against its stages put together."""
        if self.part != "score" or self.stages is None:
            return
        for score_gauge in (False, True):
            for found, wanted, what in composed(self, instance, score_gauge):
                error = float(np.abs(found - wanted).max(initial=0.0))
                yield error, max(1.0, float(np.abs(wanted).max(initial=0.0))) * wanted.size, what


def smallest_factor(number: int) -> int:
    """The smallest factor above 1, or 1."""
    return next((k for k in range(2, number + 1) if number % k == 0), 1)


def attention_subjects(source: Any, module: ModuleType) -> tuple[Subject, ...]:
    """Every stage of every class of an attention module, with and without biases.

    Raises:
        VerificationError: If the text does not define a promised class.
    """
    found: list[Subject] = []
    for entry in source.classes:
        defined = getattr(module, entry.name, None)
        if not (isinstance(defined, type) and issubclass(defined, torch.nn.Module)):
            raise VerificationError(f"the generated text defines no module {entry.name}")
        for has_bias in (True, False):
            stages = {}
            for name in STAGES[entry.kind]:
                stage = source.attention.stages[name, has_bias]
                absent = frozenset() if has_bias else frozenset(["bias"])
                stages[name] = AttentionSubject(
                    entry.name, defined, absent, stage.derivation, stage.correction, name
                )
            found += [replace(s, stages=stages) for s in stages.values()]
    return tuple(found)


# ---------------------------------------------------------------------- the stages put together
def composed(
    subject: AttentionSubject, instance: Instance, score_gauge: bool
) -> Iterator[tuple[Array, Array, str]]:
    """Output and weights of the whole module, and what the stages' references make of the input.

    Args:
        subject: The score's subject, whose instance gives the tokens x and the sizes.
        instance: Its instance.
        score_gauge: Whether the module corrects the score too.
    """
    assert subject.stages is not None, "a stage knows its siblings"
    embed_dim, heads = (int(instance.symbols[k]) for k in ("embed_dim", "num_heads"))
    module: Any = subject.module(embed_dim, heads, score_gauge=score_gauge)
    rng = np.random.default_rng(instance.seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(rng.standard_normal(tuple(parameter.shape))))
    x = instance.tensors["x"]
    tokens = torch.from_numpy(x)
    with torch.no_grad():
        output, weights = module(tokens, tokens, tokens, average_attn_weights=False)
        fused, _ = module(tokens, tokens, tokens, need_weights=False)
    parts = Parts(subject.stages, module, embed_dim, heads)
    q, k = (parts.split(parts.run(name, {"x": x})) for name in ("query", "key"))
    score = np.einsum("nthd,nuhd->nhtu", q, k) / math.sqrt(embed_dim // heads)
    if score_gauge:
        score = parts.run("score", {"x": x})
    raised = np.exp(score - score.max(axis=-1, keepdims=True))
    w = raised / raised.sum(axis=-1, keepdims=True)
    if "mix" in subject.stages:
        extra = np.zeros(tuple(w.shape[a] for a in (0, 2, 1)))
        mixed = parts.run("mix", {"x": x, "w": w, "extra_weight": extra})
    else:
        mixed = np.einsum("nhtu,nuhd->nthd", w, parts.split(parts.run("value", {"x": x})))
    z = parts.run("output", {"m": mixed.reshape(x.shape)})
    kind = "with score gauge" if score_gauge else "plain score"
    yield weights.numpy(), w, f"the attention weights are not those of the stages ({kind})"
    yield output.numpy(), z, f"the output is not that of the stages ({kind})"
    yield fused.numpy(), z, f"the output without weights is not that of the stages ({kind})"


@dataclass(frozen=True)
class Parts:
    """The stages' references, with a module's parameters."""

    stages: Mapping[str, Subject]
    module: torch.nn.Module
    embed_dim: int
    heads: int

    def split(self, value: Array) -> Array:
        """(n, t, h d) → (n, t, h, d)."""
        return value.reshape(*value.shape[:2], self.heads, -1)

    def parameter(self, name: str) -> Array:
        """A parameter of the module by its name in the spec."""
        values = {k: v.detach().numpy() for k, v in self.module.named_parameters()}
        for third, prefix in enumerate(IN_PROJECTION):
            if name.startswith(prefix):
                packed = values[f"in_proj_{name.removeprefix(prefix)}"]
                return np.asarray(np.split(packed, 3)[third])
        if name == "bias_v":
            return np.zeros(self.embed_dim)
        return np.asarray(values[name.replace("out_proj_", "out_proj.")])

    def run(self, stage: str, inputs: Mapping[str, Array]) -> Array:
        """A stage's reference output over its logical letters."""
        subject = self.stages[stage]
        program = subject.program
        sizes: dict[str, int] = {}
        tensors = {t.name: inputs[t.name] for t in program.inputs}
        for tensor in program.inputs:
            shape = tensors[tensor.name].shape
            sizes.update(zip((x.size for x in tensor.letters), shape, strict=True))
        for letter in program.letters.values():
            known = {"h": self.heads, "d": self.embed_dim // self.heads}
            sizes.setdefault(letter.size, known.get(letter.name, self.embed_dim))
        for tensor in program.parameters:
            value = self.parameter(program.spec.parameters[tensor.name].torch)
            tensors[tensor.name] = value.reshape([sizes[x.size] for x in tensor.letters])
        symbols = {"embed_dim": self.embed_dim, "num_heads": self.heads}
        instance = Instance("composed", sizes, symbols, tensors, 1.0, 0)
        result = evaluate_reference(subject, instance).output
        return from_sites_by_units(result, program, sizes)

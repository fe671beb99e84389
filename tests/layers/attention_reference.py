"""The whole corrected attention by the derived formulas, evaluated by brute force with NumPy.

Each projection, the score and the mix are the lines and gauges of their stage; masks, extra tokens
and the softmax are written out here. Nothing of the generated code is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sympy import Expr

from derive.evaluate import Evaluator
from derive.nodes import Letter

Array = np.ndarray[Any, Any]


def evaluate_attention(
    attention: Any,
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    mask: torch.Tensor | None,
    corrects_mix: bool,
) -> Array:
    """The output (n, t, features) of the formulas at a module's parameters."""
    state = {n: p.detach().numpy() for n, p in module.named_parameters()}
    run = Formulas(attention, module, state, None if mask is None else mask.numpy(), corrects_mix)
    return run.output([x.numpy() for x in inputs])


@dataclass(frozen=True)
class Formulas:
    """The stages of an attention at the parameters of one module.

    Attributes:
        attention: The derived stages.
        module: Read for its options alone.
        state: Its parameters.
        mask: Additive, (t, u), or ``None``.
        corrects_mix: Whether the mix is corrected, and the values are not.
    """

    attention: Any
    module: Any
    state: Mapping[str, Array]
    mask: Array | None
    corrects_mix: bool

    @property
    def has_bias(self) -> bool:
        """Whether the projections add biases."""
        return "in_proj_bias" in self.state

    def stage(self, name: str) -> Any:
        """A derived stage."""
        return self.attention.stages[name, self.has_bias]

    def projection(self, name: str, x: Array) -> tuple[Array, Array]:
        """The plain projection (n, t, features) and its λ (n, t)."""
        program = self.stage(name).program
        tensors = {program.inputs[0].name: x}
        for tensor in program.parameters:
            tensors[tensor.name] = self.parameter(name, len(tensor.axes) == 1)
        here = At(program, tensors)
        line = program.output
        return here.value(line.value, line.letters), here.value(self.gauge(name), program.site)

    def gauge(self, name: str) -> Expr:
        """λ of a stage."""
        return self.stage(name).correction.gauge

    def parameter(self, name: str, is_bias: bool) -> Array:
        """W or b of a projection."""
        if name == "output":
            return self.state["out_proj.bias" if is_bias else "out_proj.weight"]
        place = ("query", "key", "value").index(name)
        if is_bias:
            return np.split(self.state["in_proj_bias"], 3)[place]
        if "in_proj_weight" in self.state:
            return np.split(self.state["in_proj_weight"], 3)[place]
        return self.state[f"{name[0]}_proj_weight"]

    def heads(self, x: Array) -> Array:
        """(n, t, features) → (n, t, h, d)."""
        return x.reshape(*x.shape[:-1], self.module.num_heads, -1)

    def score(self, q: Array, k: Array) -> tuple[Array, Array]:
        """The score (n, h, t, u) of corrected queries and keys, and its λ."""
        program = self.stage("score").program
        stages = self.attention.spec.stages
        here = At(program, {stages["query"].lines[-1]: q, stages["key"].lines[-1]: k})
        line = program.output
        gauge = here.value(self.gauge("score"), line.letters)
        return here.value(line.value, line.letters), gauge

    def scores(self, q: Array, k: Array) -> tuple[Array, Array]:
        """The score over all keys, extra tokens last, and λ."""
        keys = [k]
        n, _, h, d = k.shape
        if "bias_k" in self.state:
            keys.append(np.broadcast_to(self.state["bias_k"].reshape(h, d), k.shape))
        if self.module.add_zero_attn:
            keys.append(np.zeros(k.shape))
        del n
        pairs = [self.score(q, key) for key in keys]
        found = [
            np.concatenate([pairs[0][i], *(p[i][..., :1] for p in pairs[1:])], axis=-1)
            for i in (0, 1)
        ]
        return found[0], found[1]

    def weights(self, s: Array, tokens: int) -> Array:
        """The softmax of the masked score."""
        s = s.copy()
        if self.mask is not None:
            s[..., :tokens] += self.mask
        e = np.exp(s - s.max(axis=-1, keepdims=True))
        return np.asarray(e / e.sum(axis=-1, keepdims=True))

    def mix(self, w: Array, x: Array, v: Array) -> tuple[Array, Array]:
        """The mix (n, t, h, d) of values v, and its λ (n, t, h)."""
        program = self.stage("mix").program
        tokens = v.shape[1]
        extra = "bias_v" in self.state
        weight = (
            np.moveaxis(w[..., tokens], 1, 2) if extra else np.zeros((*v.shape[:1], *self.th(w)))
        )
        value = self.state["bias_v"].reshape(v.shape[2:]) if extra else np.zeros(v.shape[2:])
        value_line = self.attention.spec.stages["value"].lines[-1]
        names = {t.name for t in program.inputs}
        source = self.stage("value").program.inputs[0].name
        (weights,) = names - {source, "extra_weight"}
        tensors = {
            source: x,
            weights: w[..., :tokens],
            "extra_weight": weight,
            "extra_value": value,
            value_line: v,
        }
        here = At(program, tensors)
        line = program.output
        return here.value(line.value, line.letters), here.value(self.gauge("mix"), program.site)

    def th(self, w: Array) -> tuple[int, int]:
        """Query tokens and heads."""
        return w.shape[2], w.shape[1]

    def output(self, inputs: Sequence[Array]) -> Array:
        """The output, (n, t, features)."""
        plain: dict[str, Array] = {}
        gauges: dict[str, Array] = {}
        for name, x in zip(("query", "key", "value"), inputs, strict=True):
            plain[name], gauges[name] = self.projection(name, x)
        corrected = {n: self.heads(z * gauges[n][..., None]) for n, z in plain.items()}
        s, gauges["score"] = self.scores(corrected["query"], corrected["key"])
        if self.module.score_gauge:
            s = s * gauges["score"]
        w = self.weights(s, inputs[1].shape[1])
        v = self.heads(plain["value"]) if self.corrects_mix else corrected["value"]
        m, gauges["mix"] = self.mix(w, inputs[2], v)
        if self.corrects_mix:
            m = m * gauges["mix"][..., None]
        z, gauges["output"] = self.projection("output", m.reshape(*m.shape[:2], -1))
        return np.asarray(z * gauges["output"][..., None])


class At:
    """A program's expressions at given tensors."""

    def __init__(self, program: Any, tensors: Mapping[str, Array]) -> None:
        """Read the sizes off the tensors."""
        sizes: dict[str, int] = {}
        for name, array in tensors.items():
            for letter, size in zip(program.tensors[name].letters, array.shape, strict=True):
                sizes[letter.size] = size
        self.evaluator = Evaluator(sizes, dict(tensors), {})

    def value(self, expression: Expr, letters: Sequence[Letter]) -> Array:
        """An expression's values over some letters."""
        return self.evaluator.array(expression, letters)

"""Attention modules as places where their file is judged: the whole forward, option by option.

What is wanted is put together from the derived stages as the layer's formulas say, with the extra
tokens and masks of ``nn.MultiheadAttention``:

- q, k, v: the query, key and value stages of their tokens, v plain in the value-mix class,
- s = q·k/√D, times the score stage's gauge, held fixed, with ``score_gauge``,
- w = exp(s + mask) / Σ_u exp(s + mask) over all keys that are not masked,
- m = Σ_u w v, in the value-mix class the mix stage of w and the value tokens,
- z: the output stage of m.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from derive.corrections import Correction
from derive.nodes import Letter, substitute
from derive.program import Program
from verify.attention import IN_PROJECTION, AttentionSubject
from verify.emitted_configurations import Configuration
from verify.emitted_points import Draw, Place, Point
from verify.emitted_reference import ExactLayer
from verify.exact_array import Array, Exact, Whole, constant, multilinear, objects, stacked
from verify.exact_table import Device, Kind
from verify.residues import Residues, is_positive
from verify.subject import Subject


class AttentionPlace(Place):
    """One configuration of an attention class, with or without biases.

    Args:
        subject: The class; it knows its stages.
        configuration: Sizes and options.
        attempt: Other numbers for every attempt.
    """

    def __init__(
        self, subject: AttentionSubject, configuration: Configuration, attempt: int
    ) -> None:
        """Keep both."""
        super().__init__()
        assert subject.stages is not None, "a stage knows its siblings"
        self.stages: Mapping[str, Subject] = subject.stages
        self.has_bias = not subject.absent
        self.configuration = configuration
        self.offset = attempt * 2**20

    def __str__(self) -> str:
        return f"{self.configuration}, {'with' if self.has_bias else 'without'} biases"

    def point(self, seed: int, counting: bool) -> Point:
        """Residues for everything, and output and weights."""
        c = self.configuration
        ring = Residues(seed + self.offset, exponents=True, counting=counting)
        draw = Draw(ring, ring.seed, c.dtype)
        parameters = {name: draw.tensor(shape) for name, shape in self.shapes().items()}
        tokens = self.tokens(draw)
        masks = self.masks(draw)
        attention = ExactAttention(self, ring, parameters, tokens, masks)
        output, weights = attention.results()
        return Point(
            ring,
            (c.features, c.heads),
            self.keywords(),
            parameters,
            tuple(self.laid_out(tokens)),
            {**masks.given, **c.forward_options},
            (self.batch_as_given(output), weights),
            c.dtype,
            draw.conditions,
        )

    def keywords(self) -> dict[str, Any]:
        """The constructor's keywords; what has its default is left out."""
        found = self.configuration.given
        if found:
            found |= {"dtype": Kind(self.configuration.dtype), "device": Device()}
        return found if self.has_bias else {**found, "bias": False}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters of the module, as ``nn.MultiheadAttention`` has them."""
        c, size = self.configuration, self.configuration.features
        _, kdim, vdim = c.widths
        found: dict[str, tuple[int, ...]] = {"out_proj.weight": (size, size)}
        if kdim == vdim == size:
            found["in_proj_weight"] = (3 * size, size)
        else:
            widths = zip(IN_PROJECTION, c.widths, strict=True)
            found |= {f"{prefix}weight": (size, width) for prefix, width in widths}
        if self.has_bias:
            found |= {"in_proj_bias": (3 * size,), "out_proj.bias": (size,)}
        if c.option("add_bias_kv"):
            found |= {"bias_k": (1, 1, size), "bias_v": (1, 1, size)}
        return found

    def tokens(self, draw: Draw) -> tuple[Exact, Exact, Exact]:
        """Query, key and value as (n, t or u, j); each token's own roots exist."""
        c = self.configuration
        lengths = (c.queries, c.keys, c.keys)
        found: list[Exact] = []
        for name, length, width in zip(("query", "key", "value"), lengths, c.widths, strict=True):
            if c.shared == "all" and found:
                found.append(found[0])
            elif c.shared == "key value" and name == "value":
                found.append(found[1])
            else:
                found.append(self.drawn_tokens(draw, length, width))
        query, key, value = found
        return query, key, value

    def drawn_tokens(self, draw: Draw, length: int, width: int) -> Exact:
        """Tokens for which Σ x² (+ 1 with bias) is positive, and Σ x² where a norm is taken."""
        rows = np.empty((max(self.configuration.samples, 1) * length, width), dtype=object)
        shifts = {int(self.has_bias), *([0] if draw.dtype == "float32" else [])}
        for row in rows:
            row[:] = draw.residues(width)
            while not all(is_positive(sum(row * row) + s) for s in shifts):
                row[:] = draw.residues(width)
            draw.conditions += len(shifts)
        return draw.made(rows.reshape(-1, length, width))

    def masks(self, draw: Draw) -> Masks:
        """The masks, as given and as what they mean."""
        c, n = self.configuration, max(self.configuration.samples, 1)
        keep = np.ones((n, c.heads, c.queries, c.keys), dtype=bool)
        added = constant(draw.ring, np.zeros(keep.shape, dtype=object), draw.dtype)
        given: dict[str, Any] = {}
        if c.attn_mask == "float":
            mask = draw.tensor((c.queries, c.keys)).detached()
            given["attn_mask"], added = mask, added + mask
        elif c.attn_mask:
            shape = (n * c.heads, c.queries, c.keys) if "head" in c.attn_mask else keep.shape[2:]
            flags = np.zeros(shape, dtype=bool)
            flags[..., 0, -1] = True
            given["attn_mask"] = Whole(flags)
            keep &= ~flags.reshape(keep.shape if "head" in c.attn_mask else shape)
        if c.key_padding_mask == "float":
            mask = draw.tensor((n, c.keys)).detached()
            given["key_padding_mask"] = mask
            added = added + mask.moved(lambda a: a[:, None, None, :])
        elif c.key_padding_mask:
            flags = np.zeros((n, c.keys), dtype=bool)
            flags[-1, 0] = True
            given["key_padding_mask"] = Whole(flags if c.samples else flags[0])
            keep &= ~flags[:, None, None, :]
        return Masks(given, keep, added)

    def laid_out(self, tokens: Sequence[Exact]) -> list[Exact]:
        """The inputs in the module's layout; one tensor stays one."""
        found: dict[int, Exact] = {}
        for x in tokens:
            found.setdefault(id(x), self.batch_as_given(x))
        return [found[id(x)] for x in tokens]

    def batch_as_given(self, x: Exact) -> Exact:
        """(n, t, j) in the module's layout."""
        c = self.configuration
        if c.samples == 0:
            return x.moved(lambda a: a[0])
        return x if c.option("batch_first") else x.moved(lambda a: np.swapaxes(a, 0, 1))


@dataclass(frozen=True)
class Masks:
    """Masks of one call.

    Attributes:
        given: As ``forward`` is given them.
        keep: (n, h, t, u), which keys a query sees.
        added: (n, h, t, u), what is added to the scores.
    """

    given: Mapping[str, Exact | Whole]
    keep: Array
    added: Exact


@dataclass(frozen=True)
class ExactAttention:
    """The derived stages, put together.

    Attributes:
        place: Sizes, options and stages.
        ring: The numbers.
        parameters: Of the module.
        tokens: Query, key and value as (n, t or u, j).
        masks: The masks.
    """

    place: AttentionPlace
    ring: Residues
    parameters: Mapping[str, Exact]
    tokens: tuple[Exact, Exact, Exact]
    masks: Masks

    def results(self) -> tuple[Exact, Exact | None]:
        """Output as (n, t, i), and weights as returned or ``None``."""
        c = self.place.configuration
        query, key, value = self.tokens
        q = self.split(self.stage("query", {"x": query}))
        k = self.extended(self.split(self.stage("key", {"x": key})), "bias_k")
        w = self.weights(q, k)
        mixed = self.mixed(w, value) if "mix" in self.place.stages else self.plain_mix(w, value)
        merged = mixed.moved(lambda a: a.reshape(*a.shape[:2], -1))
        output = self.stage("output", {"m": merged})
        if not c.need_weights:
            return output, None
        mean = constant(self.ring, Fraction(1, c.heads))
        shown = w.total((1,)) * mean if c.average else w
        return output, shown if c.samples else shown.moved(lambda a: a[0])

    def stage(self, name: str, inputs: Mapping[str, Exact]) -> Exact:
        """A stage's corrected output."""
        return self.layer(name, inputs).corrected()

    def layer(self, name: str, inputs: Mapping[str, Exact]) -> ExactLayer:
        """A stage at its inputs, with the module's parameters."""
        subject, c = self.place.stages[name], self.place.configuration
        program = subject.program
        sizes = self.sizes(program, inputs)
        tensors: dict[str, Any] = dict(inputs)
        for tensor in program.parameters:
            held = self.parameter(program.spec.parameters[tensor.name].torch)
            shape = [sizes[x.size] for x in tensor.letters]
            tensors[tensor.name] = held.moved(lambda a, s=shape: a.reshape(s))  # type: ignore[misc]
        symbols = {"embed_dim": c.features, "num_heads": c.heads}
        return ExactLayer(program, subject.correction, self.ring, sizes, symbols, tensors)

    def sizes(self, program: Program, inputs: Mapping[str, Exact]) -> dict[str, int]:
        """The size of every letter of a stage."""
        c = self.place.configuration
        known = {
            "n": max(c.samples, 1), "t": c.queries, "u": c.keys,
            "h": c.heads, "d": c.features // c.heads,
        }  # fmt: skip
        sizes: dict[str, int] = {}
        for name, value in inputs.items():
            letters = program.tensors[name].letters
            sizes |= dict(zip((x.size for x in letters), value.shape, strict=True))
        for letter in program.letters.values():
            sizes.setdefault(letter.size, known.get(letter.name, c.features))
        return sizes

    def parameter(self, name: str) -> Exact:
        """A parameter of the module by its name in the spec; no extra token has the value 0."""
        for third, prefix in enumerate(IN_PROJECTION):
            if name.startswith(prefix) and name not in self.parameters:
                packed = self.parameters[f"in_proj_{name.removeprefix(prefix)}"]
                return packed.moved(lambda a, k=third: np.split(a, 3)[k])  # type: ignore[misc]
        if name == "bias_v" and name not in self.parameters:
            zeros = np.zeros(self.place.configuration.features, dtype=object)
            return constant(self.ring, zeros, self.place.configuration.dtype)
        return self.parameters[name.replace("out_proj_", "out_proj.")]

    def split(self, x: Exact) -> Exact:
        """(n, t, f) → (n, t, h, d)."""
        return x.moved(lambda a: a.reshape(*a.shape[:2], self.place.configuration.heads, -1))

    def extended(self, x: Exact, extra: str) -> Exact:
        """(n, u, h, d) with the tokens of add_bias_kv and add_zero_attn behind the others."""
        c = self.place.configuration
        parts = [x]
        shape = (x.shape[0], 1, *x.shape[2:])
        if c.option("add_bias_kv"):
            token = self.parameters[extra].moved(lambda a: a.reshape(shape[1:]))
            parts.append(token.moved(lambda a: np.broadcast_to(a, shape)))
        if c.option("add_zero_attn"):
            parts.append(constant(self.ring, np.zeros(shape, dtype=object), c.dtype))
        return stacked(parts, lambda arrays: np.concatenate(arrays, axis=1))

    def weights(self, q: Exact, k: Exact) -> Exact:
        """W (n, h, t, u) over all keys."""
        c = self.place.configuration
        program, correction = self.between(self.place.stages["score"])
        tensors = {"q": q, "k": k}
        n, t, h, d = q.shape
        order = dict(zip("nhtud", (n, h, t, k.shape[1], d), strict=True))
        sizes = {program.letters[x].size: size for x, size in order.items()}
        layer = ExactLayer(program, correction, self.ring, sizes, {}, tensors)
        reader = layer.interpreter(tensors)
        s: Exact = reader.over(program.output.value, program.output.letters)
        if c.option("score_gauge"):
            s = s * layer.factor(layer.held(reader))
        more = k.shape[1] - c.keys
        keep = np.concatenate(
            [self.masks.keep, np.ones((*self.masks.keep.shape[:3], more), dtype=bool)], axis=3
        )
        blank = constant(self.ring, np.zeros((*self.masks.keep.shape[:3], more), dtype=object))
        added = stacked([self.masks.added, blank], lambda arrays: np.concatenate(arrays, axis=3))
        seen = (s + added).exp().filled(~keep, 0)
        return seen / seen.total((3,), keepdims=True)

    def between(self, score: Subject) -> tuple[Program, Correction]:
        """The score with another number of keys than queries, whose letters share a size there."""
        program, line = score.program, score.program.output
        key = program.letters["u"]
        renamed = {key: Letter(key.name, "keys")}
        output = replace(
            line,
            letters=tuple(renamed.get(x, x) for x in line.letters),
            value=substitute(line.value, renamed),
        )
        correction = replace(score.correction, gauge=substitute(score.correction.gauge, renamed))
        letters = {**program.letters, "u": renamed[key]}
        return replace(program, lines=(output,), letters=letters), correction

    def plain_mix(self, w: Exact, value: Exact) -> Exact:
        """Σ_u w v (n, t, h, d) with corrected values."""
        v = self.extended(self.split(self.stage("value", {"x": value})), "bias_v")
        return multilinear(lambda a, b: objects(np.einsum("nhtu,nuhd->nthd", a, b)), w, v)

    def mixed(self, w: Exact, value: Exact) -> Exact:
        """The mix stage; the weight of add_bias_kv's token is its input extra_weight."""
        c = self.place.configuration
        if c.option("add_bias_kv"):
            extra = w.moved(lambda a: np.swapaxes(a[..., c.keys], 1, 2))
        else:
            shape = tuple(w.shape[k] for k in (0, 2, 1))
            extra = constant(self.ring, np.zeros(shape, dtype=object), c.dtype)
        real = w.moved(lambda a: a[..., : c.keys])
        return self.stage("mix", {"w": real, "x": value, "extra_weight": extra})

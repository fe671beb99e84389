"""An attention layer's stages → the text of one module.

The template holds what every attention does (shapes, masks, extra tokens, the softmax); each
formula of a correction comes from the solved gauge of a stage, lowered like any layer's.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from codegen.attention_stages import GAUGE, Attention, DerivedStage, derive_attention
from codegen.attention_writer import NO_BIAS, AttentionWriter
from codegen.formatting import formatted
from codegen.layer import ClassSource, LayerSource, NothingToGenerate, fill, module_name
from derive.corrections import Correction
from derive.derivation import Derivation
from derive.spec import LayerSpec

TEMPLATE = "multihead_attention.py.jinja"


@dataclass(frozen=True)
class AttentionSource(LayerSource):
    """A generated attention file; its derivations are those of the query stage.

    Attributes:
        attention: Every stage, derived.
    """

    attention: Attention


def generate_attention(spec: LayerSpec, *, general: bool = False) -> AttentionSource:
    """Derive the stages of an attention layer, solve them, and write its file.

    Args:
        spec: A spec with ``layout = "attention"`` and the stages query, key, value, output, score
            and mix.
        general: Use the general lowering only, without the recognised forms.

    Returns:
        The file's text, its two classes and the derived stages.

    Raises:
        SpecError: If the spec is wrong or lacks a stage.
        NothingToGenerate: If the correction of a stage does not apply, with the reason.
        DerivationError: If a step does not go through or the lines are not those of an attention.
    """
    attention = derive_attention(spec)
    for (name, has_bias), stage in attention.stages.items():
        check_applies(spec, name, has_bias, stage)
    writer = AttentionWriter(attention, general)
    text = formatted(fill(TEMPLATE, writer.data()))
    return AttentionSource(
        spec,
        module_name(spec.name),
        text,
        (
            class_source(attention, writer.affine.name, "affine-like", "query"),
            class_source(attention, writer.mix.name, "value-mix", "mix"),
        ),
        MappingProxyType(
            {frozenset(): derivation_of(attention, True), NO_BIAS: derivation_of(attention, False)}
        ),
        attention,
    )


def check_applies(spec: LayerSpec, name: str, has_bias: bool, stage: DerivedStage) -> None:
    """Raise if a stage has no output gauge, or none is needed.

    Raises:
        NothingToGenerate: If K(s,s) = I already, or no output gauge applies.
    """
    without = "" if has_bias else " without bias"
    if stage.derivation.nothing_to_correct:
        raise NothingToGenerate(
            f"{spec.name}: the stage {name}{without} has K(s,s) = I already, nothing to correct"
        )
    if not stage.correction.applies:
        raise NothingToGenerate(
            f"{spec.name}: no output gauge for the stage {name}{without}: {stage.correction.reason}"
        )


def derivation_of(attention: Attention, has_bias: bool) -> Derivation:
    """The query stage, which stands for the layer where one derivation is wanted."""
    return attention.stages["query", has_bias].derivation


def class_source(attention: Attention, name: str, kind: str, stage: str) -> ClassSource:
    """A class with the corrections of the stage that it is named after."""
    corrections: dict[frozenset[str], Correction] = {
        frozenset(): attention.stages[stage, True].correction,
        NO_BIAS: attention.stages[stage, False].correction,
    }
    return ClassSource(name, GAUGE, kind, MappingProxyType(corrections))

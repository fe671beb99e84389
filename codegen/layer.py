"""A spec's derivations → the text of a Python file with one class a correction."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2
import jinja2.meta

from codegen.classes import ClassContext, ClassWriter
from codegen.formatting import formatted
from codegen.forward import KINDS
from codegen.header import header
from codegen.helpers import NEEDS_MATH, helper_code
from derive.corrections import Correction
from derive.derivation import Derivation, derive_variants
from derive.errors import DerivationError
from derive.spec import LayerSpec

PREFIXES = {
    "affine-like": "AffineLike",
    "norm-like": "NormLike",
    "unit-gauge": "UnitGauge",
    "matrix-gauge": "MatrixGauge",
}
TEMPLATES = Path(__file__).parent / "templates"


class NothingToGenerate(DerivationError):  # noqa: N818 - an answer, not a mishap
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


def module_name(name: str) -> str:
    """``GatedLinear`` → ``gated_linear``."""
    result = ""
    for place, letter in enumerate(name):
        before = name[place - 1] if place else ""
        after = name[place + 1] if place + 1 < len(name) else ""
        if (
            letter.isupper()
            and place
            and (before.islower() or before.isdigit() or after.islower())
            and before != "_"
        ):
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
    if spec.layout == "attention":
        from codegen.attention import generate_attention

        return generate_attention(spec, general=general)
    derivations = derive_variants(spec)
    full = derivations[frozenset()]
    if full.nothing_to_correct:
        raise NothingToGenerate(
            f"{spec.name}: K(s,s) = I already; the activations take the true step, "
            "nothing to correct"
        )
    classes: list[ClassSource] = []
    contexts: list[ClassContext] = []
    helpers: set[str] = set()
    for ansatz, kind in KINDS.items():
        if not full.correction(ansatz).applies:
            continue
        found = {
            a: (d, correction)
            for a, d in derivations.items()
            if (correction := d.within(ansatz)).applies
        }
        writer = ClassWriter(spec, class_name(spec, kind), ansatz, found, general)
        contexts.append(writer.write())
        helpers |= writer.helpers
        classes.append(
            ClassSource(
                writer.name, ansatz, kind, MappingProxyType({a: c for a, (_, c) in found.items()})
            )
        )
    if not classes:
        reasons = "\n".join(f"  {c.ansatz}: {c.reason}" for c in full.corrections)
        raise NothingToGenerate(f"{spec.name}: no ansatz gives K(s,s) = c I\n{reasons}")
    text = render(spec, contexts, helpers)
    return LayerSource(spec, module_name(spec.name), text, tuple(classes), derivations)


def render(spec: LayerSpec, contexts: list[ClassContext], helpers: set[str]) -> str:
    """Fill the template; every key that it uses is given and every key given is used."""
    code = helper_code(helpers)
    passes = [d for c in contexts for d in c.derived]
    lines = [line for c in contexts for line in (*c.reset, *c.forward, *c.init)]
    lines += [line for d in passes for line in (*d.gauge_body, *d.forward, *d.backward)]
    body = "\n".join([*code, *lines])
    imports = []
    if "math." in body or helpers & set(NEEDS_MATH):
        imports += ["import math"]
    if passes:
        imports += ["from typing import Any"]
    imports += ["", "import torch"] if imports else ["import torch"]
    if "F." in body:
        imports += ["import torch.nn.functional as F"]
    imports += ["from torch import Tensor, nn"]
    if "forward_ad." in "\n".join(code):
        imports += ["from torch.autograd import forward_ad"]
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
    """Render a template; unknown and unused keys are errors.

    Raises:
        DerivationError: If the keys of the data are not those that the template uses.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(os.fspath(TEMPLATES)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    source, _, _ = environment.loader.get_source(environment, template)  # type: ignore[union-attr]
    wanted = jinja2.meta.find_undeclared_variables(environment.parse(source))
    if wanted != set(data):
        raise DerivationError(f"{template} and its data disagree on {sorted(wanted ^ set(data))}")
    return environment.get_template(template).render(data)

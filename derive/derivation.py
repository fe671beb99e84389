"""One layer, derived: the table of contents of this room.

``derive(spec)`` runs, for one choice of the optional parameters,

1. :func:`derive.resolve.resolve`         spec        → resolved program
2. :func:`derive.update.derive_update`  program     → ∂z/∂θ, K(s,s'), self part
3. :func:`derive.structure.classify`    update      → isotropic / diagonal / anisotropic, constant?
4. :func:`derive.corrections.solve_corrections`     → one solved or refused ansatz each

and returns a :class:`Derivation`, which is all that later rooms see.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from derive.budget import concerning, within
from derive.corrections import Correction, solve_corrections
from derive.errors import SpecError
from derive.program import Program
from derive.resolve import resolve
from derive.spec import LayerSpec
from derive.structure import Structure, classify
from derive.update import Update, derive_update

MAX_OPTIONAL = 3


@dataclass(frozen=True)
class Derivation:
    """Everything that follows from a spec, for one choice of its optional parameters.

    Attributes:
        program: The resolved layer.
        update: Its induced update and kernel.
        structure: Its self-kernel, classified.
        corrections: One entry an ansatz, applied or refused with a reason.
    """

    program: Program
    update: Update
    structure: Structure
    corrections: tuple[Correction, ...]

    @property
    def spec(self) -> LayerSpec:
        """Where it comes from."""
        return self.program.spec

    @property
    def absent(self) -> frozenset[str]:
        """Optional parameters that this derivation leaves out."""
        return self.program.absent

    def correction(self, ansatz: str) -> Correction:
        """The entry of an ansatz."""
        return next(c for c in self.corrections if c.ansatz == ansatz)

    @property
    def applied(self) -> tuple[Correction, ...]:
        """The corrections that came out."""
        return tuple(c for c in self.corrections if c.applies)

    def within(self, ansatz: str) -> Correction:
        """The correction that an ansatz comes to: a simpler kernel needs only a member of it.

        One factor for all units is a unit gauge, and factors per unit are a matrix gauge.
        """
        members = {"matrix gauge": ("unit gauge", "output gauge"), "unit gauge": ("output gauge",)}
        candidates = [self.correction(a) for a in (ansatz, *members.get(ansatz, ()))]
        return next((c for c in candidates if c.applies), candidates[0])

    @property
    def nothing_to_correct(self) -> bool:
        """Whether K(s,s) = I already."""
        return (
            self.structure.constant
            and self.structure.kind == "isotropic"
            and self.structure.full == 1
        )

    def to_text(self) -> str:
        """The numbered steps from the forward map to the corrections, as plain text."""
        from derive.show import to_text  # noqa: PLC0415 - show builds on this module

        return to_text(self)

    def to_latex(self) -> str:
        """The same as LaTeX."""
        from derive.show import to_latex  # noqa: PLC0415 - show builds on this module

        return to_latex(self)

    def to_json(self) -> dict[str, object]:
        """The same as JSON-ready data."""
        from derive.show import to_json  # noqa: PLC0415 - show builds on this module

        return to_json(self)

    def _repr_latex_(self) -> str:
        return self.to_latex()

    def _repr_html_(self) -> str:
        from derive.show import to_html  # noqa: PLC0415 - show builds on this module

        return to_html(self)


def derive(spec: LayerSpec, absent: frozenset[str] = frozenset()) -> Derivation:
    """Derive a layer for every size at once.

    Args:
        spec: The layer.
        absent: Optional parameters to leave out (``{"b"}`` for a layer without bias).

    Raises:
        SpecError: If the spec is wrong.
        DerivationError: If a derivation step does not go through.
        BudgetError: If it takes longer than the limits of :func:`derive.budget.within` allow.
    """
    with within(), concerning(f"the layer {spec.name}"):
        resolved = resolve(spec, absent)
        if absent:
            resolved = with_all_inputs(resolved, resolve(spec, frozenset()))
        update = derive_update(resolved)
        structure = classify(update)
        return Derivation(resolved, update, structure, solve_corrections(update, structure))


def with_all_inputs(program: Program, full: Program) -> Program:
    """The program with the full layer's inputs too: every variant of a layer is called alike."""
    missing = [t for t in full.inputs if t.name not in program.tensors]
    if not missing:
        return program
    tensors = {t.name: program.tensors.get(t.name, t) for t in full.inputs} | dict(program.tensors)
    known = {x.size for t in missing for x in t.letters}
    sizes = {k: v for k, v in full.sizes.items() if k in known} | dict(program.sizes)
    return replace(program, tensors=MappingProxyType(tensors), sizes=MappingProxyType(sizes))


def variants(spec: LayerSpec) -> tuple[frozenset[str], ...]:
    """Every choice of absent optional parameters, the full layer first.

    Raises:
        SpecError: If the spec has more than ``MAX_OPTIONAL`` optional parameters.
    """
    optional = spec.optional
    if len(optional) > MAX_OPTIONAL:
        raise spec.error(
            f"more than {MAX_OPTIONAL} optional parameters",
            optional[MAX_OPTIONAL],
            "each doubles the derivations; drop some",
        )
    return tuple(
        frozenset(chosen)
        for count in range(len(optional) + 1)
        for chosen in itertools.combinations(optional, count)
    )


def derive_variants(spec: LayerSpec) -> Mapping[frozenset[str], Derivation]:
    """One derivation for every choice of optional parameters that leaves a layer."""
    found: dict[frozenset[str], Derivation] = {}
    for absent in variants(spec):
        try:
            found[absent] = derive(spec, absent)
        except SpecError:
            if not absent:
                raise
    return MappingProxyType(found)

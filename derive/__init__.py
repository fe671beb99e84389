"""From a layer in index notation to its induced update and its corrections; no torch in here."""

from derive.corrections import ANSATZE, Correction, SideConditions
from derive.derivation import Derivation, derive, derive_variants, variants
from derive.errors import DerivationError, SpecError, TruestepError
from derive.spec import Input, LayerSpec, Parameter, load_spec, read_spec

__all__ = [
    "ANSATZE",
    "Correction",
    "Derivation",
    "DerivationError",
    "Input",
    "LayerSpec",
    "Parameter",
    "SideConditions",
    "SpecError",
    "TruestepError",
    "derive",
    "derive_variants",
    "load_spec",
    "read_spec",
    "variants",
]

"""Does a generated layer do what its derivation claims? Fails closed."""

from verify import conformance
from verify.conformance import verify_layer, verify_layers
from verify.results import Report, StageResult, VerificationError

__all__ = [
    "Report",
    "StageResult",
    "VerificationError",
    "conformance",
    "verify_layer",
    "verify_layers",
]

"""The certificate stage: what a class claims is put down as data, and the checker accepts it.

Certificates are made by :mod:`derive.certificate` and judged by :mod:`verify.checker`, which knows
nothing of this repository. They go through JSON text on the way, as they do on disk.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

from derive.certificate import Certificate, certificate, correction_certificates, kernel_claims
from verify.checker import BITS, Verdict, check
from verify.stage import Record, Settings
from verify.subject import Subject


@functools.lru_cache(maxsize=1024)
def verdict_on(text: str) -> Verdict:
    """The checker's verdict on a certificate's text; classes of one layer share its kernels."""
    return check(json.loads(text))


def subject_certificates(subject: Subject) -> tuple[Certificate, ...]:
    """The layer's kernels and the correction that a class implements.

    Raises:
        DerivationError: If certificates have no word for a formula.
    """
    derivation = subject.derivation
    kernels = [certificate(derivation.program, claim) for claim in kernel_claims(derivation)]
    return (*kernels, *correction_certificates(derivation, subject.correction))


def certificate_stage(variants: Sequence[Subject], settings: Settings, record: Record) -> None:
    """Every claim of every choice of optional parameters has a certificate that is accepted."""
    count = 0
    for subject in variants:
        record.instances += 1
        for entry in subject_certificates(subject):
            count += 1
            verdict = verdict_on(entry.to_json())
            where = f"{entry.name} of {subject.program.spec.name}"
            record.judge(0.0 if verdict.accepted else 1.0, 0.0, f"{where}: {verdict.text}")
    record.note(
        f"{count} certificates accepted; a false claim passes with a chance below 2^-{BITS} "
        "at each of the points drawn"
    )

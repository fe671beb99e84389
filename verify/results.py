"""What verification says: a :class:`StageResult` a stage and class, a :class:`Report` a layer.

A report passes only if every stage ran and passed for every class; it computes this itself, so that
no caller can claim it.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

from derive.errors import TruestepError

STAGES = (
    "symbolic",
    "certificate",
    "emitted",
    "declared",
    "numeric",
    "order",
    "gradients",
    "lowering",
    "controls",
)


class VerificationError(TruestepError):
    """A generated layer that was not verified; its text names the stages that did not pass."""


@dataclass(frozen=True)
class StageResult:
    """The outcome of one stage for one class.

    Attributes:
        stage: One of :data:`STAGES`.
        class_name: The generated class.
        ran: Whether the stage came to a verdict; a stage that did not run fails the report.
        instances: Random instances that were judged, over all choices of optional parameters.
        worst: The largest deviation, from the instance that came nearest to its tolerance.
        tolerance: The tolerance of that same instance.
        passed: Whether every judgement of the stage was favourable.
        detail: What was done and found, or the error.
    """

    stage: str
    class_name: str
    ran: bool
    instances: int
    worst: float
    tolerance: float
    passed: bool
    detail: str

    def __post_init__(self) -> None:
        """Refuse a pass that nothing stands behind."""
        if self.passed and not (self.ran and self.instances > 0):
            raise ValueError(f"stage {self.stage} of {self.class_name} passes without having run")
        if self.passed and not self.worst <= self.tolerance:
            raise ValueError(f"stage {self.stage} of {self.class_name} passes beyond its tolerance")


@dataclass(frozen=True)
class Claim:
    """What a class claims, for one choice of its optional parameters.

    Attributes:
        class_name: The generated class.
        absent: The optional parameters left out.
        ansatz: The correction's ansatz.
        exactness: ``exact``, ``constant-rate``, ``first-order`` or ``frozen``.
        gauge: The solved unknown as plain text.
        rate: c, with K̃(s,s) = c·I.
        interference: K̃(s,s') for s ≠ s' as plain text; the claim is about s' = s alone.
    """

    class_name: str
    absent: tuple[str, ...]
    ansatz: str
    exactness: str
    gauge: str
    rate: str
    interference: str


@dataclass(frozen=True)
class Report:
    """The verdict on a layer.

    Attributes:
        layer: The spec's name.
        digest: The spec's digest.
        stages: Every stage of every class.
        passed: Whether all of them ran and passed; must agree with ``stages``.
        claims: What was verified.
    """

    layer: str
    digest: str
    stages: tuple[StageResult, ...]
    passed: bool
    claims: tuple[Claim, ...]

    def __post_init__(self) -> None:
        """Refuse a verdict that the stages do not carry."""
        if self.passed and not verdict(self.stages, self.claims):
            raise ValueError(f"the report of {self.layer} passes although its stages do not")

    @classmethod
    def of(
        cls,
        layer: str,
        digest: str,
        stages: tuple[StageResult, ...],
        claims: tuple[Claim, ...],
    ) -> Report:
        """A report with the verdict that its stages carry."""
        return cls(layer, digest, stages, verdict(stages, claims), claims)

    @property
    def failures(self) -> tuple[StageResult, ...]:
        """The stages that did not run or did not pass."""
        return tuple(s for s in self.stages if not (s.ran and s.passed))

    def summary(self) -> str:
        """One line a stage: verdict, class, stage, deviation, tolerance, detail."""
        lines = [f"{self.layer}: {'passed' if self.passed else 'FAILED'}"]
        for s in self.stages:
            mark = "ok " if s.passed else ("BAD" if s.ran else "DID NOT RUN")
            lines.append(
                f"  {mark} {s.class_name:28s} {s.stage:11s} {s.instances:4d} instances, "
                f"worst {s.worst:.1e} of {s.tolerance:.1e}; {s.detail}"
            )
        return "\n".join(lines)

    def require(self) -> Report:
        """The report itself if it passed.

        Raises:
            VerificationError: If it did not.
        """
        if self.passed:
            return self
        lines = [f"{self.layer} is not verified:"]
        lines += [f"  {s.class_name}, {s.stage}: {s.detail}" for s in self.failures]
        raise VerificationError(
            "\n".join(lines if self.failures else [*lines, "  nothing was judged"])
        )

    def to_json(self) -> str:
        """The report as JSON text; numbers that JSON lacks become strings."""
        data = asdict(self)
        for stage in data["stages"]:
            for key in ("worst", "tolerance"):
                stage[key] = stage[key] if math.isfinite(stage[key]) else str(stage[key])
        return json.dumps(data, ensure_ascii=False, indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The inverse of :meth:`to_json`.

        Raises:
            VerificationError: If the text is no report.
        """
        try:
            data = json.loads(text)
            stages = tuple(
                StageResult(**{**s, "worst": float(s["worst"]), "tolerance": float(s["tolerance"])})
                for s in data["stages"]
            )
            claims = tuple(Claim(**{**c, "absent": tuple(c["absent"])}) for c in data["claims"])
            return cls(data["layer"], data["digest"], stages, data["passed"], claims)
        except (KeyError, TypeError, ValueError) as error:
            raise VerificationError(f"not a report: {error}") from error


def verdict(stages: tuple[StageResult, ...], claims: tuple[Claim, ...]) -> bool:
    """Whether every class of the claims has every stage, and each of them ran and passed."""
    wanted = {(c.class_name, stage) for c in claims for stage in STAGES}
    found = {(s.class_name, s.stage) for s in stages}
    return bool(wanted) and wanted <= found and all(s.ran and s.passed for s in stages)

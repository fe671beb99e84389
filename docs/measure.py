"""Count what is judged of the shipped layers and of random specs, for the tables of TRUST.md.

    python docs/measure.py [--jobs N] [--fuzz N]

takes minutes. Every stage of the conformance kit on every shipped layer gives
docs/results/stages.json and certificates.json; with ``--fuzz``, so many random specs give fuzz.json
in their place. It fails where anything is found. The same code gives the same files everywhere.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import joblib

from codegen import NothingToGenerate, generate
from derive import derive, load_spec
from derive.certificate import certificates
from verify import StageResult, VerificationError, conformance
from verify.certify import subject_certificates
from verify.checker import BITS, check
from verify.fuzz.results import Settings
from verify.fuzz.run import fuzz, summary
from verify.sources import subjects

ROOT = Path(__file__).parent.parent
SPECS = ROOT / "truestep" / "specs"
RESULTS = ROOT / "docs" / "results"
STAGES = conformance.kit(compilers=True)
# Seconds for one random spec: how fast they are is judged by `truestep fuzz`.
PATIENCE = 600.0


def digest() -> str:
    """Of all shipped specs together."""
    found = [load_spec(path).digest for path in sorted(SPECS.glob("*.toml"))]
    return hashlib.sha256("".join(found).encode()).hexdigest()[:16]


def judged(path: Path) -> tuple[tuple[StageResult, ...], set[str]]:
    """Every stage of every class of one spec, and its certificates.

    A spec of which nothing is generated has the certificates of its kernel alone.

    Raises:
        VerificationError: If a stage does not pass.
    """
    try:
        source = generate(load_spec(path))
    except NothingToGenerate:
        return (), {c.to_json() for c in certificates(derive(load_spec(path)))}
    results = tuple(case.run() for case in conformance.cases_of(source, stages=STAGES))
    failed = [f"{r.class_name}, {r.stage}: {r.detail}" for r in results if not r.passed]
    if failed:
        raise VerificationError("\n".join(failed))
    return results, {c.to_json() for s in subjects(source) for c in subject_certificates(s)}


def counted(results: Iterable[StageResult]) -> Mapping[str, int | str]:
    """Classes, and instances a stage."""
    found = tuple(results)
    instances = {s: sum(r.instances for r in found if r.stage == s) for s in STAGES}
    classes = len({result.class_name for result in found})
    return {"specs, sha256": digest(), "classes": classes, **instances}


def accepted(texts: Iterable[str]) -> Mapping[str, int | str]:
    """How many certificates there are, of which kinds, and what a false one's chance is.

    Raises:
        VerificationError: If the checker refuses one.
    """
    found = {text: check(json.loads(text)) for text in texts}
    refused = [verdict.text for verdict in found.values() if not verdict.accepted]
    if refused:
        raise VerificationError("\n".join(refused))
    kinds = Counter(json.loads(text)["claim"]["kind"] for text in found)
    return {
        "specs, sha256": digest(),
        "accepted": len(found),
        **dict(sorted(kinds.items())),
        "bits": BITS,
    }


def write(name: str, data: Mapping[str, int | str]) -> None:
    """Write docs/results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(data, ensure_ascii=False, indent=1) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")


def shipped(jobs: int) -> None:
    """Judge the shipped layers."""
    run = joblib.Parallel(n_jobs=jobs)
    layers = run(joblib.delayed(judged)(path) for path in sorted(SPECS.glob("*.toml")))
    write("stages", counted(result for results, _ in layers for result in results))
    write("certificates", accepted(set().union(*(texts for _, texts in layers))))


def fuzzed(specs: int, jobs: int) -> None:
    """Judge random specs.

    Raises:
        VerificationError: If the fuzzer finds anything.
    """
    settings = Settings(specs, jobs=jobs, limit=PATIENCE)
    tally = fuzz(settings)
    if tally.failures:
        raise VerificationError(summary(tally, settings))
    counts = {
        "legal specs": tally.specs,
        "seed": settings.seed,
        "of them judged by every stage": tally.thorough,
        "choices of optional parameters": sum(tally.kinds.values()),
        "corrections offered, all confirmed": sum(tally.offered.values()),
        "corrections refused, with a reason": sum(tally.refused.values()),
        "broken specs": sum(tally.outcomes.values()),
        "findings": len(tally.failures),
    }
    write("fuzz", counts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Counts what is judged.")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--fuzz", type=int, metavar="N", help="judge so many random specs instead")
    given = parser.parse_args()
    if given.fuzz is None:
        shipped(given.jobs)
    else:
        fuzzed(given.fuzz, given.jobs)

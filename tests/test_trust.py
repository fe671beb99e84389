"""TRUST.md says what holds: its tables are the generator's, and the tests that it names exist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.test_readme import generator
from verify import conformance

ROOT = Path(__file__).parent.parent
GENERATE = generator()
TRUST = (ROOT / "TRUST.md").read_text(encoding="utf-8")
CLAIMS = GENERATE.read_claims()
BLOCKS = GENERATE.blocks(TRUST)
WORDS = ("proved", "tested", "assumed")


@pytest.mark.parametrize("name", BLOCKS)
def test_block_is_what_the_generator_writes(name: str) -> None:
    start, end = GENERATE.block(TRUST, name)
    assert TRUST[start:end] == GENERATE.BLOCKS[name]() + "\n", (
        "run .venv/bin/python docs/generate.py and commit TRUST.md"
    )


def test_what_was_judged_is_shown() -> None:
    assert {"claims", "checker", "stages", "certificates", "accuracy"} <= set(BLOCKS)


# ---------------------------------------------------------------------- the claims
def test_claims_are_whole() -> None:
    for claim in CLAIMS:
        assert set(claim) == {"claim", "how", "by", "tests"}
        assert claim["how"] in WORDS
        assert bool(claim["tests"]) == (claim["how"] != "assumed"), claim["claim"]
    assert {claim["how"] for claim in CLAIMS} == set(WORDS)


def test_every_stage_carries_a_claim() -> None:
    named = {s for c in CLAIMS for s in re.findall(r"`(\w+)`", c["by"])}
    assert set(conformance.kit(True)) <= named


def collected(names: list[str]) -> subprocess.CompletedProcess[str]:
    """What pytest finds under names of tests."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *names],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_every_test_that_is_named_is_collected() -> None:
    names = sorted({test for claim in CLAIMS for test in claim["tests"]})
    done = collected(names)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line}
    assert found == set(names)


def test_a_test_that_does_not_exist_is_noticed() -> None:
    done = collected(["tests/test_trust.py::test_that_nobody_wrote"])
    assert done.returncode != 0


# ---------------------------------------------------------------------- the measurements
def stages() -> dict[str, int | str]:
    found: dict[str, int | str] = json.loads((GENERATE.RESULTS / "stages.json").read_text())
    return found


def test_every_stage_was_run_on_every_class() -> None:
    import truestep

    found = stages()
    classes = [name for name in truestep.__all__ if name[0].isupper()]
    assert found["classes"] == len(classes), "run .venv/bin/python docs/measure.py"
    for stage in conformance.kit(True):
        assert int(found[stage]) >= len(classes), "run .venv/bin/python docs/measure.py"


@pytest.mark.parametrize("name", ["stages", "certificates"])
def test_what_was_measured_are_the_present_specs(name: str) -> None:
    found = json.loads((GENERATE.RESULTS / f"{name}.json").read_text())
    assert found["specs, sha256"] == measure().digest(), "run .venv/bin/python docs/measure.py"


def measure() -> ModuleType:
    import importlib.util

    spec = importlib.util.spec_from_file_location("measure", ROOT / "docs" / "measure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_stage_that_fails_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "RUN", dict.fromkeys(conformance.RUN, lambda *_: None))
    with pytest.raises(conformance.VerificationError, match="nothing could be judged"):
        measure().judged(ROOT / "truestep" / "specs" / "scale.toml")


def test_a_finding_of_the_fuzzer_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from verify.fuzz.judge import Finding
    from verify.fuzz.results import Failure, Tally

    module = measure()
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    tally = Tally(specs=3)
    monkeypatch.setattr(module, "fuzz", lambda settings: tally)
    module.fuzzed(3, 1)
    assert json.loads((tmp_path / "fuzz.json").read_text())["legal specs"] == 3
    tally.failures.append(Failure(1, Finding("kernel", "not the measured one"), ""))
    with pytest.raises(conformance.VerificationError, match="not the measured one"):
        module.fuzzed(3, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "is missing"), ('{"a": [1]}', "'a' is not one number"), ("[]", "is not one object")],
)
def test_what_is_not_there_is_told(
    text: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GENERATE, "RESULTS", tmp_path)
    monkeypatch.setattr(GENERATE, "ROOT", tmp_path)
    if text is not None:
        (tmp_path / "fuzz.json").write_text(text)
    with pytest.raises(SystemExit, match=words):
        GENERATE.measured("fuzz")


def test_the_power_of_the_checks_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {name: {"wrong": 1, "judged": 9} for name in GENERATE.MISTAKES}
    campaign = {"sample": 3, "mutants": 7, "argued": 2, "survived": ["a.py:1"]}
    data = {"layers": campaign, "rooms": campaign, "stages": {"order": rates}}
    (tmp_path / "power.json").write_text(json.dumps(data))
    monkeypatch.setattr(GENERATE, "RESULTS", tmp_path)
    assert "| generated layers | 3 | 7 | 2 | 1 |" in GENERATE.mutation()
    assert GENERATE.power().splitlines()[-1] == "| order | 1 of 9 | 1 of 9 | 1 of 9 |"


def test_the_worst_of_each_format_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "accuracy.md"
    page.write_text(
        "# Errors\n\n| class | format | units | bound |\n| --- | --- | --- | --- |\n"
        "| A | float32 | 2.0 | 10 |\n| B | float32 | 1.5 | 3 |\n| A | float64 | 1.0 | 10 |\n"
    )
    monkeypatch.setattr(GENERATE, "ACCURACY", page)
    assert GENERATE.accuracy().splitlines()[2:] == [
        "| float32 | 2 | B | 1.5 | 3 |",
        "| float64 | 1 | A | 1.0 | 10 |",
    ]

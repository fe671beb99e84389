"""The report: what it says, that it needs nothing but itself, and that a browser shows it."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import truestep
from codegen import generate
from derive import derive_variants, load_spec
from derive.audit import audit
from verify.report import Uncorrected, write_report
from verify.report_cells import number
from verify.results import STAGES, Report, StageResult
from verify.sources import subjects

SPECS = Path(truestep.__file__).parent / "specs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ATTEMPTS, PATIENCE = 3, 60  # seconds
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--enable-logging=stderr"
)
# Runs in a copy of the page: opens what is folded and measures what is drawn.
PROBE = """
<script>
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(d => { d.open = true; });
  const flat = e => { const b = e.getBoundingClientRect(); return b.width < 2 || b.height < 2; };
  const result = {
    formulas: document.querySelectorAll("math").length,
    flatFormulas: [...document.querySelectorAll("math")].filter(flat).length,
    pictures: document.querySelectorAll("figure svg").length,
    flatPictures: [...document.querySelectorAll("figure svg")].filter(flat).length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    requests: performance.getEntriesByType("resource").length,
  };
  document.body.dataset.probe = JSON.stringify(result);
});
</script>
"""


def source_of(name):
    return generate(load_spec(SPECS / f"{name}.toml"))


def report_of(source, failing=""):
    """A verdict with made-up numbers; the stage ``failing`` did not pass."""
    names = dict.fromkeys(s.name for s in subjects(source))
    stages = tuple(
        StageResult(stage, name, True, 7, 3e-16, 1e-13, stage != failing, f"<found> by {stage}")
        for name in names
        for stage in STAGES
    )
    claims = tuple(s.claim() for s in subjects(source))
    return Report.of(source.spec.name, source.spec.digest, stages, claims)


@pytest.fixture(scope="module")
def entries():
    linear, conv, gated = (source_of(n) for n in ("linear", "conv1d", "gated_linear"))
    spec = load_spec(SPECS / "embedding.toml")
    return [
        (linear, report_of(linear)),
        (conv, report_of(conv, failing="certificate")),
        (gated, report_of(gated)),
        (Uncorrected(spec, derive_variants(spec)), None),
    ]


@pytest.fixture(scope="module")
def page(entries, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    normalisers = ("layer_norm_linear", "batch_norm_linear", "dyt_linear")
    rows = audit(load_spec(SPECS / f"{name}.toml") for name in normalisers)
    write_report(entries, path, audit=rows)
    return path


def test_nothing_is_fetched(page):
    text = page.read_text(encoding="utf-8")
    names = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")
    for namespace in names:
        text = text.replace(f'="{namespace}"', "")
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"<script|<link rel=\"stylesheet|@import|@font-face", text)
    assert set(re.findall(r"\b(?:src|href)=\"([^#\"][^\"]*)\"", text)) == {"data:,"}


def test_identifiers_are_unique(page):
    text = page.read_text(encoding="utf-8")
    counts = Counter(re.findall(r"\bid=\"([^\"]+)\"", text))
    assert [k for k, n in counts.items() if n > 1] == []
    targets = set(re.findall(r"href=\"#([^\"]+)\"|url\(#([^)]+)\)", text))
    assert {a or b for a, b in targets} <= set(counts)


def test_what_it_says(page):
    text = page.read_text(encoding="utf-8")
    for expected in (
        "AffineLikeLinear",
        "NormLikeLinear",
        "Negative controls",
        "nothing to correct",
    ):
        assert expected in text
    assert "&lt;found&gt; by certificate" in text
    assert "<found>" not in text
    assert "2</b> not verified" in text
    assert "all classes verified" not in text
    assert "N = 7" in text
    assert "3.0·10⁻¹⁶" in text
    assert "<b>LayerNormLinear</b>" in text
    assert "on average over n" in text


def test_the_same_bytes_each_time(entries, tmp_path):
    for name in "ab":
        write_report(entries[:1], tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_verdicts_stay_with_their_layers(entries, tmp_path):
    (linear, verdict), (conv, _), *_ = entries
    with pytest.raises(ValueError, match="not about the spec Conv1d"):
        write_report([(conv, verdict)], tmp_path / "x.html", pictures=False)
    with pytest.raises(ValueError, match="no verification report"):
        write_report([(linear, None)], tmp_path / "x.html", pictures=False)
    assert not (tmp_path / "x.html").exists()


def test_a_stage_that_did_not_run_shows(entries, tmp_path):
    linear, _ = entries[0]
    claims = tuple(s.claim() for s in subjects(linear))
    empty = Report.of(linear.spec.name, linear.spec.digest, (), claims)
    write_report([(linear, empty)], tmp_path / "x.html", pictures=False)
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert text.count("did not run<") == 2 * len(STAGES)
    assert "all classes verified" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.5, "1.5"), (0.012, "0.012"), (2.34e-13, "2.3·10⁻¹³"), (float("inf"), "inf")],
)
def test_numbers(value, text):
    assert number(value) == text


# ---------------------------------------------------------------------- in a browser
def browse(path, folder, *arguments):
    """Run a headless browser on a page; what it writes to standard output.

    A browser that hangs while it starts, which happens on busy machines and says nothing about the
    page, is started again; whatever it says about the page counts at once.
    """
    found = next((b for b in map(shutil.which, BROWSERS) if b), None)
    assert found, f"this test needs one of {', '.join(BROWSERS)}"
    for attempt in range(ATTEMPTS):
        profile = folder / f"profile{attempt}"
        command = [found, *FLAGS.split(), f"--user-data-dir={profile}", *arguments, path.as_uri()]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOME": str(folder)},
            start_new_session=True,
        ) as run:
            try:
                output, errors = run.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(run.pid, signal.SIGKILL)
                continue
        assert run.returncode == 0, errors
        assert ":CONSOLE" not in errors, errors
        return output
    raise AssertionError(f"{found} hung {ATTEMPTS} times")


@pytest.mark.parametrize("width", [1400, 420])
def test_every_formula_and_picture_is_drawn(page, tmp_path, width):
    copy = tmp_path / "probed.html"
    text = page.read_text(encoding="utf-8")
    copy.write_text(text.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    dump = browse(copy, tmp_path, f"--window-size={width},2000", "--dump-dom")
    found = re.search(r'data-probe="([^"]*)"', dump)
    assert found, "the page did not finish loading"
    probe = json.loads(found[1].replace("&quot;", '"'))
    assert probe["formulas"] == text.count("<math")
    assert probe["formulas"] > 100
    assert probe["flatFormulas"] == 0
    assert probe["pictures"] == 6
    assert probe["flatPictures"] == 0
    assert probe["overflow"] <= 0
    assert probe["requests"] == 0


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_are_legible(page, tmp_path, dark):
    shot = tmp_path / "shot.png"
    theme = ["--force-dark-mode"] if dark else []
    size = "--window-size=1400,2400"
    browse(page, tmp_path, size, f"--screenshot={shot}", *theme)
    grey = np.asarray(Image.open(shot).convert("L"), dtype=float)
    ground = float(np.median(grey))
    assert (ground < 60) if dark else (ground > 200)
    assert np.mean(np.abs(grey - ground) > 80) > 0.01, "the page is blank"

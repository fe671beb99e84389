"""A run goes on from the results of an earlier one, and says what code they are of."""

from dataclasses import replace

from derive import derivation as derivations
from verify.fuzz import journal, run
from verify.fuzz.results import Settings
from verify.fuzz.run import fuzz, summary


def counted(monkeypatch):
    """The numbers that are judged from here on."""
    judged, right = [], run.one
    monkeypatch.setattr(run, "one", lambda k, settings: judged.append(k) or right(k, settings))
    return judged


def test_goes_on_where_it_was(monkeypatch, tmp_path):
    settings = Settings(3, seed=11, resume=tmp_path / "fuzz.jsonl")
    first = fuzz(settings)
    judged = counted(monkeypatch)
    again = fuzz(replace(settings, specs=4))
    assert judged == [3]
    assert (again.specs, again.fresh) == (4, 1)
    assert first.refused <= again.refused
    assert first.offered <= again.offered
    assert not fuzz(replace(settings, specs=4)).fresh


def test_another_seed_is_another_run(monkeypatch, tmp_path):
    settings = Settings(1, seed=11, resume=tmp_path / "fuzz.jsonl")
    fuzz(settings)
    judged = counted(monkeypatch)
    fuzz(replace(settings, seed=12))
    assert judged == [0]


def test_rare_specs_are_another_run(monkeypatch, tmp_path):
    settings = Settings(1, seed=11, resume=tmp_path / "fuzz.jsonl")
    fuzz(settings)
    judged = counted(monkeypatch)
    fuzz(replace(settings, rare=True))
    assert judged == [0]
    assert not fuzz(replace(settings, rare=True)).fresh


def test_a_line_that_was_cut_short_is_judged_again(monkeypatch, tmp_path):
    file = tmp_path / "fuzz.jsonl"
    fuzz(Settings(2, seed=11, resume=file))
    file.write_text(file.read_text()[:-20])
    judged = counted(monkeypatch)
    assert fuzz(Settings(2, seed=11, resume=file)).specs == 2
    assert judged == [1]


def test_a_failure_is_judged_again_by_other_code(monkeypatch, tmp_path):
    settings = Settings(1, seed=11, resume=tmp_path / "fuzz.jsonl")
    right = derivations.classify
    with monkeypatch.context() as patch:
        patch.setattr(derivations, "classify", lambda update: replace(right(update), constant=True))
        broken = fuzz(settings)
    assert broken.failures
    assert fuzz(settings).failures == broken.failures
    monkeypatch.setattr(run, "state_of_code", lambda: "other")
    monkeypatch.setattr(journal, "state_of_code", lambda: "other")
    mended = fuzz(settings)
    assert not mended.failures
    assert mended.codes == {"other": 1}


def test_the_summary_names_every_state_of_the_code(monkeypatch, tmp_path):
    settings = Settings(1, seed=11, resume=tmp_path / "fuzz.jsonl")
    fuzz(settings)
    monkeypatch.setattr(run, "state_of_code", lambda: "other")
    settings = replace(settings, specs=2)
    text = summary(fuzz(settings), settings)
    assert f"1  {journal.state_of_code()}" in text
    assert "1  other" in text

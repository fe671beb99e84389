"""``truestep build``, ``check`` and ``verify``: what they write, compare and return."""

import json
import re
import threading
from dataclasses import replace

import joblib
import pytest
import torch

import codegen
import codegen.write
from tests.cli.helpers import EMBEDDING, SPEC, files, load, python
from truestep import building, commands_build
from truestep.cli import main


def test_build_writes_one_file_that_works(spec, folder, capsys):
    arguments = ["build", spec, "--out", "out", "--instances", "2"]
    assert main(arguments) == 0
    assert "AffineLikeTwoInputs" in capsys.readouterr().out
    assert files(folder / "out") == ["two_inputs.py"]
    file = folder / "out" / "two_inputs.py"
    layer = load(file).AffineLikeTwoInputs(3, 2, 4)
    x, y = torch.randn(5, 3), torch.randn(5, 2)
    plain = x @ layer.weight.T + y @ layer.weight2.T + 3 * layer.bias
    scale = torch.rsqrt(9 + x.square().sum(-1) + y.square().sum(-1))
    torch.testing.assert_close(layer(x, y), plain * scale[:, None])

    before = file.stat()
    assert main([*arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["exit"], data["changed"], data["unchanged"]) == (0, [], ["two_inputs.py"])
    assert data["layers"][0]["report"]["passed"] is True
    assert file.stat() == before


def test_the_bytes_do_not_depend_on_the_hash_seed(folder, spec):
    script = (
        "from truestep.building import generated; from truestep.shipped import find\n"
        "for name in ('two.toml', 'conv2d', 'gated_linear'): print(generated(find(name))[0].text)"
    )
    one, two = (python("-c", script, PYTHONHASHSEED=seed).stdout for seed in ("1", "2"))
    assert one == two
    assert "AffineLikeTwoInputs" in one


def test_a_failed_verification_writes_nothing(spec, folder, monkeypatch, capsys):
    real = codegen.generate

    def corrupted(spec, *, general=False):
        source = real(spec, general=general)
        wrong = source.text.replace("rsqrt(9 +", "rsqrt(8 +")
        assert wrong != source.text
        return source if general else replace(source, text=wrong)

    monkeypatch.setattr(codegen, "generate", corrupted)
    out = ["--out", "out", "--instances", "2"]
    assert main(["build", spec, *out]) == 1
    told = capsys.readouterr()
    assert re.search(r"AffineLikeTwoInputs, numeric: .* at .*in1_features=", told.err)
    assert "nothing was written" in told.err
    assert not (folder / "out").exists()
    assert main(["build", spec, *out, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["layers"][0]["status"] == "failed"


def test_nothing_to_generate_is_told_with_3(folder, capsys):
    (folder / "table.toml").write_text(EMBEDDING)
    assert main(["build", "table.toml", "--out", "out"]) == 3
    told = capsys.readouterr()
    assert "nothing to correct" in told.out
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("name = ?", r"two\.toml:1: not valid TOML"),
        (SPEC.replace("[i, j]*x", "[i, j]@x"), r"two\.toml"),
        (SPEC.replace('site    = "n"\n', ""), "`site` is missing"),
        (SPEC.replace("b[i]", "__import__('os')"), r"two\.toml:3"),
    ],
)
def test_a_bad_spec_is_told_with_2(folder, capsys, text, match):
    (folder / "two.toml").write_text(text)
    assert main(["build", "two.toml", "--out", "out"]) == 2
    told = capsys.readouterr().err
    assert re.search(match, told)
    assert "Traceback" not in told
    assert not (folder / "out").exists()


def test_one_bad_spec_of_two_writes_nothing(spec, quick, folder):
    (folder / "bad.toml").write_text("name = 1")
    assert main(["build", spec, "bad.toml", "--out", "out"]) == 2
    assert not (folder / "out").exists()


def test_joblib_chooses_where_the_work_runs(spec, folder, monkeypatch):
    threads = []

    def noted(source, settings):
        threads.append(threading.current_thread())
        return replace(building.generated(source)[0], report=json.dumps({"passed": True}))

    monkeypatch.setattr(building, "produce", noted)
    with joblib.parallel_config(backend="threading"):
        assert main(["build", spec, "linear", "--out", "out", "--jobs", "2"]) == 0
    assert threading.main_thread() not in threads
    assert files(folder / "out") == ["linear.py", "two_inputs.py"]


def test_two_specs_of_one_name_are_refused(spec, quick, folder, capsys):
    (folder / "again.toml").write_text(SPEC)
    assert main(["build", spec, "again.toml", "--out", "out"]) == 2
    assert "two_inputs" in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.mark.parametrize("content", ["mine = 1\n", None])
def test_build_overwrites_only_its_own(spec, quick, folder, capsys, content):
    assert main(["build", spec]) == 0
    file = folder / "two_inputs.py"
    wanted = file.read_text()
    mine = content or wanted + "\nmine = 1\n"
    file.write_text(mine)
    assert main(["build", spec]) == 2
    assert "remedy" in capsys.readouterr().err
    assert file.read_text() == mine
    assert main(["build", spec, "--force"]) == 0
    assert file.read_text() == wanted


def test_a_missing_file_is_told(capsys):
    assert main(["build", "nowhere.toml"]) == 2
    assert "nowhere.toml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "hint"), [("liner", "linear"), ("conv2", "conv2d"), ("zzzz", "truestep list")]
)
def test_unknown_names_get_suggestions(name, hint, capsys):
    assert main(["derive", name]) == 2
    assert hint in capsys.readouterr().err


def test_a_defect_shows_no_traceback(spec, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("boom")

    monkeypatch.setattr(building, "generated", broken)
    assert main(["build", spec]) == 70
    assert capsys.readouterr().err.startswith("truestep: RuntimeError: boom\n")


def test_a_build_of_everything_is_a_package(layers, quick, capsys):
    assert main(["build"]) == 0
    out = capsys.readouterr().out
    assert "derivation only" in out
    assert "1 with nothing to generate" in out
    assert files(layers) == ["__init__.py", "linear.py", "scale.py"]
    code = f"import sys; sys.path.insert(0, {str(layers.parent)!r}); import layers\n"
    done = python("-c", code + "print(layers.__all__, layers.UnitGaugeScale(3))")
    assert "'AffineLikeLinear', 'NormLikeLinear', 'UnitGaugeScale'" in done.stdout, done.stderr
    (layers / "linear.py").rename(layers / "old.py")
    assert main(["build"]) == 0
    assert files(layers) == ["__init__.py", "linear.py", "scale.py"]


def test_an_installation_is_not_rebuilt_in_place(layers, monkeypatch, capsys):
    monkeypatch.setattr(commands_build, "in_checkout", lambda: False)
    assert main(["build"]) == 2
    assert "--out" in capsys.readouterr().err


def test_an_unchanged_rebuild_imports_neither_torch_nor_sympy(spec, quick, folder):
    assert main(["build", spec]) == 0
    code = (
        "import sys; from truestep.cli import main\n"
        f"code = main(['build', {spec!r}])\n"
        "print(code, sorted({'torch', 'sympy', 'jinja2', 'joblib'} & set(sys.modules)))"
    )
    done = python("-c", code)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


def test_damaged_entries_are_rebuilt(spec, folder, tmp_path, monkeypatch):
    runs = []

    def counted(source, settings):
        runs.append(source.name)
        outcome, _ = building.generated(source)
        return replace(outcome, report=json.dumps({"passed": True}))

    monkeypatch.setattr(building, "produce", counted)

    def build(*more):
        assert main(["build", spec, *more]) == 0
        return len(runs)

    assert [build(), build()] == [1, 1]
    (entry,) = (tmp_path / "cache").iterdir()
    whole = entry.read_text()
    for damaged in ("", "[]", whole[:-9], whole.replace("rsqrt(9", "rsqrt(8")):
        assert damaged != whole
        entry.write_text(damaged)
        before = len(runs)
        assert build() == before + 1
        assert entry.read_text() == whole
    before = len(runs)
    assert build("--no-cache") == before + 1
    assert build("--seed", "1") == before + 2
    assert build("--instances", "9") == before + 3


def test_an_interrupted_build_is_seen(layers, quick, capsys):
    assert building.STAGE == codegen.write.STAGE
    assert main(["build"]) == 0
    (layers / building.STAGE).mkdir()
    assert main(["check"]) == 1
    assert "interrupted" in capsys.readouterr().out
    assert main(["build"]) == 0
    assert not (layers / building.STAGE).exists()
    assert main(["check"]) == 0


def test_check_tells_drift_from_hand_edits(layers, quick, capsys):
    def check():
        code = main(["check"])
        return code, capsys.readouterr().out

    assert check()[0] == 1  # nothing is there yet
    assert main(["build"]) == 0
    capsys.readouterr()
    assert check()[0] == 0
    file = layers / "linear.py"
    wanted = file.read_text()

    file.write_text(wanted.replace("def forward", "def backward"))
    code, out = check()
    assert (code, "-    def backward" in out, "+    def forward" in out) == (2, True, True)

    drifted = re.sub(r"# content: .*", "# content: sha256 " + "0" * 64, wanted)
    file.write_text(codegen.header.sealed(drifted.replace("def forward", "def backward")))
    code, out = check()
    assert (code, "+    def forward" in out) == (1, True)

    file.unlink()
    code, out = check()
    assert (code, "linear.py: missing" in out) == (1, True)
    file.write_text(wanted)

    (layers / "stale.py").write_text(wanted)
    code, out = check()
    assert (code, "stale.py: no spec" in out) == (1, True)
    (layers / "stale.py").write_text("mine = 1\n")
    assert check()[0] == 2

    assert main(["check", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)[0]["file"] == "stale.py"


def test_verify_wants_the_file_on_disk(layers, quick, capsys):
    assert main(["verify", "scale", "--json"]) == 1
    told = capsys.readouterr()
    assert "scale.py is missing" in told.err
    assert json.loads(told.out)[0]["status"] == "failed"
    assert main(["build"]) == 0
    capsys.readouterr()
    assert main(["verify", "scale", "--json"]) == 0
    (layers / "scale.py").write_text("")
    assert main(["verify", "Scale", "--json"]) == 1
    assert "differs" in capsys.readouterr().err


def test_verify_shows_every_stage(spec, capsys):
    assert main(["verify", spec, "--instances", "2"]) == 0
    out = capsys.readouterr().out
    assert all(stage in out for stage in ("symbolic", "certificate", "numeric", "controls"))

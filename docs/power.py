"""Measure the power of the checks: mutants of every file, and each stage alone.

    python docs/power.py --resume FILE [--jobs N] [--sample K L] [--layers NAME ...]
                         [--rooms NAME ...] [--stages NAME ...]

judges every K-th mutant of generated layers and every L-th of the solver and the lowering (of all
their files, or of those named, which may be none), and each stage alone on the layers named. All of
it takes many hours; FILE keeps verdicts, so that it goes on where it was. Writes
docs/results/power.json and docs/power.md. Fails where nothing was judged, a mutant survives that
nothing argues for, or an argument is not needed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from verify.mutation import power
from verify.mutation.campaign import Plan, Result, run
from verify.mutation.report import arguments, markdown
from verify.mutation.targets import SPECS, layer_keys, open_target, room_keys

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "power.json"
PAGE = ROOT / "power.md"
TEXT = """\
# The power of the checks

A verifier that accepts everything is worth nothing. Here files are broken on purpose, in one place
at a time, and what refuses them is counted. `python docs/power.py` writes this page; a mutant is
named by `file:line:column:kind`, and `truestep mutate` judges any of them again.

What is changed is an operator, a constant, an exponent, an axis, a sign, a condition, or what is
detached. Names, words and attributes, calls, arguments and statements left out are not: such a file
mostly fails at its first call, by torch or Python and not by a check.

## Generated layers

Judged: {layer_words}, counted through each file from its top.

The first of these that refuses a mutant is counted, in this order: `gate` (no generated PyTorch, or
it does not import), `emitted` (the exact reading of the text), `declared` (constructor, initial
values, leading axes, precision, vanishing inputs), `tests` (of the layers), `accuracy` (units in
the last place against 256 bits), `contracts`, `numeric`, `lowering`, `gradients`, `order`. That the
text is not the generated one counts for nothing. A mutant of a function that files share word for
word is judged in one file after another until one refuses it or an argument covers it.

{layers}

## Solver and lowering

Judged: {room_words}, counted through each file from its top. Refused where a spec no longer goes
through (`raises`), where a derivation changes and the checker refuses a certificate of it
(`certificate`), where a file changes and the exact reading refuses it (`emitted`; `lowering`: that
of the general lowering), where it accepts it and only the committed file gives it away (`drift`),
or by those tests of both rooms that take the line (`tests`), or, where all that accepted what
changes, by another stage (`verification`). `timeout` is a mutant that loops. The checker, the
reading and the stages are asked about the first specs that change, so their shares are lower
bounds. What changes only what `derive` says of a spec, and no test or stage sees, is a survivor.

{rooms}

## Survivors that are right

{argued}

## Survivors that nothing argues for

{survivors}

## Each stage alone

Wrong files are mutants of `forward` that some stage refuses; wrong claims are the right file with a
claim that is not true of it (exponent, constant, rate, class, interference, ε, a dropped term);
right layers are shipped ones at instances from {seeds} seeds. Layers: {named}.
A stage has its own task: the symbolic stage reads no file, the lowering stage no claim. Where none
was seen, the bound is 3/n (95 %).

{stages}
"""


def main() -> int:
    """Measure, write, and say whether all is refused or argued."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--sample", type=int, nargs=2, default=(1, 1))
    parser.add_argument("--layers", nargs="*")
    parser.add_argument("--rooms", nargs="*")
    parser.add_argument("--stages", nargs="*", default=())
    parser.add_argument("--resume", type=Path, required=True)
    given = parser.parse_args()
    wanted = chosen(layer_keys, given.layers), chosen(room_keys, given.rooms)
    layers, rooms = (
        run(Plan(open_target, keys, sample, given.resume), n_jobs=given.jobs)
        for keys, sample in zip(wanted, given.sample, strict=True)
    )
    specs = [SPECS / f"{key.split()[1]}.toml" for key in layer_keys(given.stages)]
    kept = given.resume.with_suffix(".stages")
    trials = power.measured(specs, n_jobs=given.jobs, resume=kept)
    data = {
        "layers": {"sample": given.sample[0], **counted(layers)},
        "rooms": {"sample": given.sample[1], **counted(rooms)},
        "stages": {
            stage: {name: asdict(rate) for name, rate in row.items()}
            for stage, row in power.rates(trials).items()
        },
    }
    RESULTS.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(given, layers, rooms, trials), encoding="utf-8")
    return 0 if layers.passed and rooms.passed else 1


def chosen(
    keys: Callable[[Sequence[str]], tuple[str, ...]], names: Sequence[str] | None
) -> tuple[str, ...]:
    """The keys of some files; of all where none are named, of none where nothing is."""
    return () if names == [] else keys(names or ())


def share(result: Result, every: Sequence[str]) -> str:
    """How many files were judged, of how many."""
    return f"{len({v.file for v in result.verdicts})} of {len(every)}"


def counted(result: Result) -> dict[str, object]:
    """What is kept of a campaign."""
    return {
        "mutants": len(result.verdicts),
        "argued": len(result.argued),
        "survived": [str(v) for v in result.survivors],
    }


def page(
    given: argparse.Namespace, layers: Result, rooms: Result, trials: list[power.Trial]
) -> str:
    """The text of docs/power.md."""
    words = "every mutant", "one mutant in {}"
    layer_words, room_words = (
        f"{words[k > 1].format(k)} of {share(result, every)} files"
        for k, result, every in zip(
            given.sample, (layers, rooms), (layer_keys(()), room_keys(())), strict=True
        )
    )
    argued = {**layers.argued, **rooms.argued}
    verdicts = (*layers.verdicts, *rooms.verdicts)
    both = Result(verdicts, argued, (*layers.survivors, *rooms.survivors), ())
    return TEXT.format(
        layer_words=layer_words,
        room_words=room_words,
        named=", ".join(given.stages) or "all",
        layers=markdown(layers),
        rooms=markdown(rooms),
        argued=arguments(both),
        survivors=listed(both),
        seeds=power.SEEDS,
        stages=power.markdown(trials),
    )


def listed(result: Result) -> str:
    """A line a survivor."""
    lines = [f"- `{v}`" for v in result.survivors]
    return "\n".join(lines) or "None."


if __name__ == "__main__":
    raise SystemExit(main())

"""docs/performance.md and the README's table, from stored measurements alone."""

from __future__ import annotations

from bench import report
from bench.cases import PLAIN
from bench.limits import TABLE, kept_beyond_plain
from bench.modes import BOTH, COMPILED, EAGER, Mode
from bench.results import LAYERS, MODELS, SCALE, Results

TEXT = """\
# What the corrected layers cost

`python -m bench page` writes this page from [results/performance.json](results/performance.json).
That file is what `python -m bench all --json FILE` wrote; `python -m bench compare FILE` names what
a later one says has become worse. [results/gpu.json](results/gpu.json) is what `python -m bench gpu
--json FILE` wrote on a machine with a GPU.

A ratio is the time of a layer over the time of the plain layer, which does the same without any
correction and is the limit. Rivals are what one would otherwise put there. All contenders of a
case hold the same weights and run in the same rounds, slice by slice in a new order each round;
a ratio is formed within a round, and shown are the median over rounds ± half the distance of the
quartiles. Time is processor time of one thread. Columns are forward and backward in float32
unless they say otherwise; `forward` alone is inference. Compiled is compared with compiled.

{machine}

## Limits

Forward and backward, or training steps, in float32. What is kept for backward is counted in bytes
of the output, beyond parameters, input and what the plain layer keeps.

{limits}

## Why the missed ones miss

Layers that miss a limit of time, and where their time beyond the plain layer's goes: the own time
of each operator under torch's profiler, as a share of the profiled plain step. `Python` is what
runs between operators. The profiler takes elapsed time, which other work on the machine lengthens,
and makes calls dearer. The corrected models consist of these layers and are not profiled.

### Eager

{eager_profiles}

### Compiled

{compiled_profiles}

### What is kept

Layers that miss a limit of what is kept for backward: the tensors that live on beyond parameters
and input, largest first. In eager mode a layer keeps what its derived backward pass reads; where
scales are kept there is one a site, and with groups one a site and group. What compiled code keeps
the compiler's partitioner decides. It computes cheap operations again, but no matrix product or
convolution, so the sums over windows that scales come from may be kept beside the layer's result.
And it keeps a number in the format in which it was computed: a scale that was computed in float64
takes the room of two numbers in float32.

{missed_kept}

## Layers

![Time of each layer over the plain layer, eager and compiled](performance_layers.svg)

{layers}

## Kept for backward

What lives on for backward beyond parameters and input, each storage once, in bytes of the output. A
compiled convolution keeps both in another order of axes, whether it is corrected or not.

{kept}

## Training steps

A small perceptron, ResNet and transformer: plain, with the usual normaliser, and with every layer
corrected and no normaliser.

{models}

## Against the size of the layer

![Ratio to the plain layer against width, batch, tokens and image](performance_scale.svg)

{scale}

## On a GPU

Compiled, at sizes that fill the device, with TF32 products where numbers are float32. The floor is
the time that the matrix products take at the speed of a large square product, or the numbers at the
speed of a copy, whichever is longer.

{gpu_machine}

{gpu}

## The pipeline itself

`truestep build` of copies of a small spec, each under a name of its own.

{pipeline}
"""

MOST = 6
"""How many operators of a layer the page shows."""


def text(results: Results, on_gpu: Results) -> str:
    """The page, of what was measured on a processor and on a GPU."""
    return TEXT.format(
        machine=machine(results),
        limits=report.limits(results),
        eager_profiles=report.missed_profiles(results, EAGER, MOST),
        compiled_profiles=report.missed_profiles(results, COMPILED, MOST),
        missed_kept=report.missed_kept(results),
        layers=report.timings(report.section(results, LAYERS)),
        kept=report.kept(results),
        models=report.timings(report.section(results, MODELS)),
        scale=report.timings(report.section(results, SCALE)),
        gpu_machine=gpu_machine(on_gpu),
        gpu=report.gpu(on_gpu),
        pipeline=report.builds(results),
    )


def gpu_machine(results: Results) -> str:
    """On which GPU the measurements were made, and beside what, in words."""
    devices = ", ".join(dict.fromkeys(chip.device for chip in results.chips.values()))
    return f"Measured on: {devices}; {software(results)}, {rounds(results)}."


def software(results: Results) -> str:
    """A machine's processor and versions, in words."""
    facts = results.machine
    return f"{facts['processor']}, Python {facts['python']}, torch {facts['torch']}"


def rounds(results: Results) -> str:
    """How many rounds a case was given, in words."""
    found = [row.ratio.rounds for row in results.timings.values()]
    return f"{min(found)} to {max(found)} rounds a case" if found else "no rounds"


def machine(results: Results) -> str:
    """Where the measurements were made, in words."""
    facts = results.machine
    malloc = ", ".join(f"`{k}={v}`" for k, v in facts.items() if k.startswith("MALLOC"))
    often = f"{facts['threads']} thread, {rounds(results)}"
    return f"Measured on: {software(results)}, {often}, {malloc}."


def summary(results: Results) -> str:
    """The README's table: one row a corrected layer, at the first shape that has limits."""
    columns = ("layer", "shape", "eager", "compiled", "instead, eager", "kept / output")
    return report.markdown(columns, summary_rows(results))


def summary_rows(results: Results) -> list[tuple[str, ...]]:
    """One row a corrected layer."""
    seen: dict[str, tuple[str, ...]] = {}
    for cases, contenders, _ in TABLE:
        for name in contenders:
            seen.setdefault(name, summary_row(results, cases[0], name))
    return list(seen.values())


def summary_row(results: Results, case: str, name: str) -> tuple[str, ...]:
    """Ratios to the plain layer, the cheapest rival's beside them, and what is kept."""
    ratios = [ratio(results, case, execution, name) for execution in (EAGER, COMPILED)]
    kept = kept_beyond_plain(results, case, EAGER, name)
    share = "" if kept is None else f"{kept:.2f}"
    return f"`{name}`", case, *ratios, cheapest_rival(results, case), share


def ratio(results: Results, case: str, execution: str, name: str) -> str:
    """A ratio to the plain layer."""
    row = results.timing(case, Mode(BOTH, execution), name, PLAIN, LAYERS)
    return "" if row is None else f"{row.ratio.median:.2f}"


def cheapest_rival(results: Results, case: str) -> str:
    """The rival with the smallest ratio, and that ratio."""
    mode = Mode(BOTH, EAGER)
    ours = {name for _, names, _ in TABLE for name in names} | {PLAIN}
    found = [
        row
        for row in results.timings.values()
        if (row.section, row.case, row.mode, row.reference) == (LAYERS, case, mode, PLAIN)
        and row.contender not in ours
    ]
    if not found:
        return ""
    best = min(found, key=lambda row: row.ratio.median)
    return f"{best.contender} {best.ratio.median:.2f}"

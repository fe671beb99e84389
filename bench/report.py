"""Tables of the measurements, as Markdown that is aligned and so reads well in a terminal too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from bench.cases import FULL, PLAIN
from bench.chip import floor
from bench.limits import Verdict, judge, kept_verdicts, layer_verdicts
from bench.pipeline import line
from bench.results import GPU, LAYERS, MODELS, SCALE, Floor, Profile, Results, Timing
from bench.timing import Spread

NOT_MEASURED = "Not measured."
NONE_MISSES = "No layer misses one."
WIDEST = 48
"""Characters of the name of an operator; the compiler's kernels have longer ones."""


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An aligned Markdown table, or that nothing was measured."""
    cells = [tuple(columns), *(tuple(row) for row in rows)]
    if len(cells) == 1:
        return NOT_MEASURED
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    return "\n".join([padded[0], "|" + "".join(f" {'-' * w} |" for w in widths), *padded[1:]])


def spread(value: Spread) -> str:
    """A ratio, and half the distance of its quartiles."""
    return f"{value.median:.3f} ± {(value.high - value.low) / 2:.3f}"


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    seconds = float(f"{seconds:.3g}")
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def unique(values: Iterable[str]) -> list[str]:
    """Values in the order in which they first come."""
    return list(dict.fromkeys(values))


# ------------------------------------------------------------------ times
def timings(rows: Iterable[Timing]) -> str:
    """A table for each group of cases that were run in the same modes.

    One row a contender, one column a mode: the plain contender's time, and ratios to it.
    """
    by_case: dict[str, list[Timing]] = {}
    for row in rows:
        if row.reference == PLAIN:
            by_case.setdefault(row.case, []).append(row)
    groups: dict[tuple[str, ...], list[Timing]] = {}
    for found in by_case.values():
        groups.setdefault(tuple(unique(row.mode.short for row in found)), []).extend(found)
    tables = [pivot(modes, found) for modes, found in groups.items()]
    return "\n\n".join(tables) or NOT_MEASURED


def pivot(modes: Sequence[str], rows: Sequence[Timing]) -> str:
    """The table of one group."""
    cells = {(row.case, row.contender, row.mode.short): cell(row) for row in rows}
    lines = dict.fromkeys((row.case, row.contender) for row in rows)
    shown = ((*line, *(cells.get((*line, mode), "") for mode in modes)) for line in lines)
    return markdown(("case", "contender", *modes), shown)


def cell(row: Timing) -> str:
    """The plain contender's time, or a ratio to it."""
    return duration(row.seconds) if row.contender == PLAIN else spread(row.ratio)


def section(results: Results, name: str) -> list[Timing]:
    """The timings of one command."""
    return [row for row in results.timings.values() if row.section == name]


def gpu(results: Results) -> str:
    """Large layers on a GPU: time, ratio, and how much of the time nothing could save."""
    columns = ("device", "case", "mode", "contender", "time", f"ratio to {PLAIN}", "floor / time")
    return markdown(columns, gpu_rows(results))


def gpu_rows(results: Results) -> Iterator[tuple[str, ...]]:
    """One row a contender, format and layout."""
    works = {case.name: case.work for case in FULL}
    for row in section(results, GPU):
        for chip in results.chips.values():
            if chip.dtype == row.mode.dtype and row.reference == PLAIN:
                size = row.mode.torch_dtype.itemsize
                share = floor(works[row.case], chip, size) / row.seconds
                words = (row.case, row.mode.short, row.contender, duration(row.seconds))
                yield chip.device, *words, spread(row.ratio), f"{share:.0%}"


# ------------------------------------------------------------------ bytes and builds
def kept(results: Results) -> str:
    """What is kept for backward, in outputs."""
    rows = list(results.kept.values())
    cells = {(row.case, row.contender, row.execution): f"{row.ratio:.3f}" for row in rows}
    ways = unique(row.execution for row in rows)
    lines = dict.fromkeys((row.case, row.contender) for row in rows)
    shown = ((*line, *(cells.get((*line, way), "") for way in ways)) for line in lines)
    return markdown(("case", "contender", *(f"{way}: kept / output" for way in ways)), shown)


def missed_kept(results: Results) -> str:
    """What is kept by layers that miss a limit of it, and by the plain ones."""
    found = [verdict for verdict in kept_verdicts(results) if verdict.value is not None]
    missed = [verdict for verdict in found if not verdict.met]
    if found and not missed:
        return NONE_MISSES
    columns = ("case", "layer", "execution", f"{PLAIN} keeps", "layer keeps")
    return markdown(columns, (kept_row(results, verdict) for verdict in missed))


def kept_row(results: Results, verdict: Verdict) -> tuple[str, ...]:
    """What the plain layer keeps, and what a corrected one does."""
    case, execution, layer = verdict.case, verdict.execution, verdict.contender
    tensors = (results.kept[case, execution, name].tensors for name in (PLAIN, layer))
    return case, layer, execution, *(words or "nothing" for words in tensors)


def builds(results: Results) -> str:
    """What builds cost, and the lines through the measurements where there are enough."""
    rows = sorted(results.builds.values(), key=lambda row: row.specs)
    table = markdown(
        ("specs", "cold", "unchanged"),
        ((str(b.specs), duration(b.cold), duration(b.unchanged)) for b in rows),
    )
    if len(rows) < 3:
        return table
    counts = [row.specs for row in rows]
    words = [
        line_words("Cold", counts, [row.cold for row in rows]),
        line_words("Unchanged", counts, [row.unchanged for row in rows]),
    ]
    return "\n".join([table, "", *words])


def line_words(name: str, counts: Sequence[int], seconds: Sequence[float]) -> str:
    """A line through measurements in words."""
    found = line(counts, seconds)
    return (
        f"{name}: {duration(max(found.start, 0.0))} and {duration(max(found.slope, 0.0))} a spec; "
        f"no measurement is off this line by more than {found.deviation:.0%}."
    )


# ------------------------------------------------------------------ limits
def limits(results: Results, *, measured_only: bool = False) -> str:
    """The table of limits, whole or without what was not measured, and how many are met."""
    found = judge(results)
    if measured_only:
        found = [verdict for verdict in found if verdict.value is not None]
    met = sum(verdict.met for verdict in found)
    return f"{verdicts(found)}\n\n{met} of {len(found)} limits are met."


def verdicts(found: Iterable[Verdict]) -> str:
    """One row a limit."""
    columns = ("case", "layer", "execution", "quantity", "at most", "measured", "verdict")
    rows = (
        (
            v.case,
            v.contender,
            v.execution,
            v.quantity,
            f"{v.limit:g}",
            "" if v.value is None else f"{v.value:.3f}",
            v.words,
        )
        for v in found
    )
    return markdown(columns, rows)


# ------------------------------------------------------------------ profiles
def profiles(results: Results) -> str:
    """What the time beyond the plain step is made of, and what it runs into."""
    found = results.profiles.values()
    ways = unique(profile.execution for profile in found)
    tables = [profile_tables([one for one in found if one.execution == way]) for way in ways]
    return "\n\n".join(tables) or NOT_MEASURED


def missed_profiles(results: Results, execution: str, most: int) -> str:
    """The same of the layers that miss a limit of time in an execution, with so many operators."""
    judged = [
        verdict
        for verdict in layer_verdicts(results)
        if verdict.execution == execution and verdict.value is not None
    ]
    missed = dict.fromkeys((v.case, execution, v.contender) for v in judged if not v.met)
    if judged and not missed:
        return NONE_MISSES
    found = [results.profiles[place] for place in missed if place in results.profiles]
    lacking = [f"{place[0]} {place[-1]}" for place in missed if place not in results.profiles]
    text = profile_tables(found, most)
    return f"{text}\n\nNot measured: {', '.join(lacking)}." if found and lacking else text


def profile_tables(found: Sequence[Profile], most: int | None = None) -> str:
    """One row an operator, then one row a layer; all of one execution."""
    if not found:
        return NOT_MEASURED
    operators = markdown(
        ("case", "layer", "operator", "calls", f"time / {PLAIN}"),
        (row for profile in found for row in operator_rows(profile, most)),
    )
    floors = [(profile, profile.floor) for profile in found if profile.floor is not None]
    if floors:
        rows = (floor_row(profile, floor) for profile, floor in floors)
        return "\n\n".join([operators, FLOOR_WORDS, markdown(FLOOR_COLUMNS, rows)])
    return "\n\n".join([operators, FUSED_WORDS, markdown(FUSED_COLUMNS, map(fused_row, found))])


def operator_rows(profile: Profile, most: int | None) -> Iterator[tuple[str, ...]]:
    """The dearest operators, the sum of the others, and of all."""
    shown = profile.operators[:most]
    rest = profile.profiled - sum(one.share for one in shown)
    place = profile.case, profile.contender
    for one in shown:
        yield *place, shortened(one.name), f"{one.calls:+g}", f"{one.share:+.1%}"
    yield *place, "all others", "", f"{rest:+.1%}"
    yield *place, "all", "", f"{profile.profiled:+.1%}"


def shortened(name: str) -> str:
    """A name that fits into a table."""
    return name if len(name) <= WIDEST else f"{name[: WIDEST - 1]}…"


FLOOR_WORDS = """\
Operators that run one by one each cost a call, and each read their tensors from memory and write
what they return there. That is what eager mode runs into: the calls beyond the plain layer's, at
the cost of the cheapest call, and the numbers read and written beyond the plain layer's, as passes
over input or output, at the cost of a multiplication by one factor a site. Both are measured
without the profiler, the passes on data as cold as in a step, and are shares of the plain step.
`beyond` is the layer's time beyond the plain one's; what of it exceeds `both` is Python, the
engine of autograd, and operators that do more with a number than a multiplication does."""
FLOOR_COLUMNS = (
    "case",
    "layer",
    PLAIN,
    "calls",
    "a call",
    "calls × a call",
    "over input",
    "over output",
    "passes",
    "passes × a pass",
    "both",
    "beyond",
)


def floor_row(profile: Profile, floor: Floor) -> tuple[str, ...]:
    """Calls and passes beyond the plain step, what they cost at least, and what was measured."""
    calls = floor.calls_seconds / profile.seconds
    passes = floor.passes * profile.mean_pass / profile.seconds
    return (
        profile.case,
        profile.contender,
        duration(profile.seconds),
        f"{floor.plain_calls} {floor.calls:+d}",
        duration(floor.call),
        f"{calls:+.1%}",
        *pass_cells(profile),
        f"{floor.passes:+.1f}",
        f"{passes:+.1%}",
        f"{calls + passes:+.1%}",
        f"{profile.ratio - 1:+.1%}",
    )


def pass_cells(profile: Profile) -> tuple[str, str]:
    """A pass over the input and one over the output, as shares of the plain step."""
    passes = (profile.input_pass, profile.output_pass)
    over_input, over_output = (f"{one / profile.seconds:.1%}" for one in passes)
    return over_input, over_output


FUSED_WORDS = """\
The compiler fuses what lies between two matrix products or convolutions into few kernels, which
cost few calls, but it does not fuse it with a product or convolution itself. So a map lies in
memory before and after each, and every fused kernel reads and writes its maps at least once. That
is what compiled code runs into: a correction adds a few passes over maps, and what a pass costs is
what memory gives, however little is computed on the way. `fused kernels` is what all of them take
beyond the plain layer's, under the profiler. A pass over input or output is a multiplication by one
factor a site, and it and `beyond`, the layer's time beyond the plain one's, are measured without
the profiler. All are shares of the plain step. What of `beyond` the kernels do not account for are
the operators that are not fused, and Python and autograd, which a small layer does not hide."""
FUSED_COLUMNS = ("case", "layer", PLAIN, "fused kernels", "over input", "over output", "beyond")


def fused_row(profile: Profile) -> tuple[str, ...]:
    """What fused kernels take beyond the plain step, beside a pass and what was measured."""
    return (
        profile.case,
        profile.contender,
        duration(profile.seconds),
        f"{profile.fused:+.1%}",
        *pass_cells(profile),
        f"{profile.ratio - 1:+.1%}",
    )


# ------------------------------------------------------------------ a run
TABLES: Mapping[str, Callable[[Results], str]] = {
    LAYERS: lambda results: timings(section(results, LAYERS)),
    "memory": kept,
    "profile": profiles,
    MODELS: lambda results: timings(section(results, MODELS)),
    SCALE: lambda results: timings(section(results, SCALE)),
    "pipeline": builds,
    GPU: gpu,
}
"""Command → the table of what it measured."""
LIMITED = {LAYERS, "memory", MODELS}


def everything(results: Results, sections: Sequence[str]) -> str:
    """What a command prints: a table a section, then the limits that it has something to say of."""
    found = [f"# {name}\n\n{TABLES[name](results)}" for name in sections]
    if LIMITED & set(sections):
        whole = set(sections) >= LIMITED
        found.append(f"# limits\n\n{limits(results, measured_only=not whole)}")
    return "\n\n".join(found)

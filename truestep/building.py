"""Spec → derived, generated, gated, verified; side by side, or from the cache if nothing changed.

1. :func:`regenerate`  source → text                          (derive, generate, gate)
2. :func:`produce`     source → text and verdict              (and verify)
3. :func:`produce_all` sources → outcomes, in their order     (cache, processes, progress)
4. :func:`package`     outcomes → the files of a directory
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from truestep.cache import Cache, digest
from truestep.shipped import Source

Status = Literal["layer", "nothing", "failed", "error"]
INIT = Path("__init__.py")
STAGE = ".truestep-build"
"""What :mod:`codegen.write` calls it; named here so that SymPy is not imported to know."""


@dataclass(frozen=True)
class Settings:
    """How to verify.

    Attributes:
        instances: Random instances a class and choice of optional parameters.
        seed: Where they are drawn from.
        jobs: Processes.
        seconds: Time that one spec may take.
    """

    instances: int = 8
    seed: int = 0
    jobs: int = 1
    seconds: float = 300.0


@dataclass(frozen=True)
class Outcome:
    """What became of a spec.

    Attributes:
        source: The spec's name.
        status: ``layer`` (all went well), ``nothing`` (no module comes out of it), ``failed`` (not
            verified) or ``error`` (a bad spec).
        module: The generated file's stem.
        text: Its content.
        classes: What it defines.
        report: The verification report as JSON text; empty if nothing was verified.
        message: Why it is no layer.
    """

    source: str
    status: Status
    module: str = ""
    text: str = ""
    classes: tuple[str, ...] = ()
    report: str = ""
    message: str = ""

    @property
    def file(self) -> Path:
        """The generated file, relative to the output directory."""
        return Path(f"{self.module}.py")

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data, without the text."""
        data = asdict(self)
        del data["text"]
        data["report"] = json.loads(self.report) if self.report else None
        return data


# ------------------------------------------------------------------ one spec
def generated(source: Source) -> tuple[Outcome, Any]:
    """Derive, generate and gate one spec: the outcome and the ``LayerSource``, if there is one."""
    from codegen import NothingToGenerate, generate
    from codegen.gate import GateError, check
    from derive.errors import TruestepError
    from derive.spec import read_spec

    try:
        layer = generate(read_spec(source.text, source.file))
        check(layer.text)
    except NothingToGenerate as error:
        return Outcome(source.name, "nothing", message=str(error)), None
    except GateError as error:
        return Outcome(source.name, "failed", message=f"{source.file}: {error}"), None
    except TruestepError as error:
        text = str(error)
        text = text if text.startswith(source.file) else f"{source.file}: {text}"
        return Outcome(source.name, "error", message=text), None
    classes = tuple(c.name for c in layer.classes)
    return Outcome(source.name, "layer", layer.module, layer.text, classes), layer


def regenerate(source: Source, settings: Settings) -> Outcome:
    """Derive, generate and gate one spec; nothing is verified."""
    return in_time(source, settings, lambda: generated(source)[0])


def produce(source: Source, settings: Settings) -> Outcome:
    """Derive, generate, gate and verify one spec."""
    return in_time(source, settings, lambda: verified(source, settings))


def verified(source: Source, settings: Settings) -> Outcome:
    """Derive, generate, gate and verify one spec, however long that takes."""
    import torch

    from derive.errors import TruestepError
    from verify import verify_layer
    from verify.isolated import IMPORTER

    torch.set_num_threads(1)
    try:
        IMPORTER.start()  # it imports torch meanwhile
    except TruestepError as error:
        return Outcome(source.name, "failed", message=str(error))
    outcome, layer = generated(source)
    if layer is None:
        return outcome
    try:
        report = verify_layer(layer, instances=settings.instances, seed=settings.seed)
        outcome = replace(outcome, report=report.to_json())
        report.require()
    except TruestepError as error:
        return replace(outcome, status="failed", message=str(error))
    return outcome


def in_time(source: Source, settings: Settings, work: Callable[[], Outcome]) -> Outcome:
    """What the work gives, or an error if it takes longer than one spec may."""
    from derive.budget import BudgetError, Limits, within

    try:
        with within(Limits(seconds=settings.seconds), interrupt=True):
            return work()
    except BudgetError as error:
        return Outcome(source.name, "error", message=f"{source.file}: {error}")


# ------------------------------------------------------------------ many specs
def produce_all(sources: Sequence[Source], settings: Settings, cache: Cache) -> list[Outcome]:
    """Produce every spec, from the cache where nothing changed."""
    keys = {s: cache.key(s.text, settings.instances, settings.seed) for s in sources}
    found: dict[Source, Outcome] = {}
    for source, key in keys.items():
        kept = restored(source, cache.get(key))
        if kept is not None:
            found[source] = kept
    missing = [source for source in keys if source not in found]
    for source, outcome in run(produce, missing, settings, "verifying"):
        found[source] = outcome
        if outcome.status in ("layer", "nothing"):
            cache.put(keys[source], asdict(outcome))
    return [found[source] for source in sources]


def restored(source: Source, value: dict[str, Any] | None) -> Outcome | None:
    """An outcome from the cache, if it is one that may be kept."""
    if value is None:
        return None
    try:
        outcome = Outcome(**{**value, "classes": tuple(value["classes"]), "source": source.name})
        good = outcome.status == "nothing" or (
            outcome.status == "layer" and json.loads(outcome.report)["passed"] is True
        )
    except (KeyError, TypeError, ValueError):
        return None
    return outcome if good else None


def run(
    task: Callable[[Source, Settings], Outcome],
    sources: Sequence[Source],
    settings: Settings,
    what: str,
) -> Iterator[tuple[Source, Outcome]]:
    """Run a task for many specs, as they come; ``joblib.parallel_config`` chooses where it runs."""
    if not sources:
        return
    import joblib

    jobs = min(settings.jobs, len(sources))
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
    call = joblib.delayed(numbered)
    with progress(what, len(sources)) as advance:
        for place, outcome in parallel(call(task, n, s, settings) for n, s in enumerate(sources)):
            advance(outcome.source)
            yield sources[place], outcome


def numbered(
    task: Callable[[Source, Settings], Outcome], place: int, source: Source, settings: Settings
) -> tuple[int, Outcome]:
    """A task's outcome and whose it is."""
    return place, task(source, settings)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar on standard error if that is a terminal."""
    import sys

    if not sys.stderr.isatty():
        yield lambda name: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda name: bar.update(task, advance=1, description=f"{what} {name}")


# ------------------------------------------------------------------ a directory
def package(outcomes: Sequence[Outcome], cache: Cache) -> dict[Path, str]:
    """The files of the shipped layers, with an ``__init__.py`` that exports every class."""
    layers = [outcome for outcome in outcomes if outcome.status == "layer"]
    files = {outcome.file: outcome.text for outcome in layers}
    key = cache.key("package", *(outcome.text for outcome in layers))
    kept = cache.get(key)
    if kept is None or not isinstance(kept.get("text"), str):
        kept = {"text": package_init(layers)}
        cache.put(key, kept)
    files[INIT] = kept["text"]
    return files


def package_init(layers: Sequence[Outcome]) -> str:
    """The text of the ``__init__.py`` of the shipped layers."""
    from codegen.formatting import formatted
    from codegen.header import GENERATOR, MARK

    ordered = sorted(layers, key=lambda layer: layer.module)
    specs = digest("\n".join(layer.text for layer in ordered).encode())
    names = sorted(name for layer in layers for name in layer.classes)
    lines = [
        f"{MARK}, generator {GENERATOR}. Change the specs, not this file.",
        f"# spec: sha256 {specs}",
        "# content: sha256 " + "0" * 64,
        "# regenerate: truestep build",
        '"""Every generated layer."""',
        "",
        *(f"from .{layer.module} import {', '.join(sorted(layer.classes))}" for layer in ordered),
        "",
        f"__all__ = [{', '.join(json.dumps(name) for name in names)}]",
    ]
    return formatted("\n".join(lines) + "\n")


def up_to_date(files: dict[Path, str], out: Path, *, prune: bool) -> bool:
    """Whether a directory holds exactly these bytes and no interrupted build."""
    try:
        if out.is_symlink() or not out.is_dir() or os.path.lexists(out / STAGE):
            return False
        targets = {out / path: text.encode() for path, text in files.items()}
        if prune and set(out.glob("*.py")) != set(targets):
            return False
        return all(
            target.is_file() and not target.is_symlink() and target.read_bytes() == content
            for target, content in targets.items()
        )
    except OSError:  # what cannot be read is written, and that says what is wrong
        return False

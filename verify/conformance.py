"""The conformance kit: every check of this room for any spec, with one call.

In a script::

    from verify import conformance
    conformance.check("my_layer.toml")

In a test suite, one test for each class and stage::

    @conformance.parametrize("my_layer.toml")
    def test_my_layer(case):
        case.check()
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib

from codegen import generate
from derive.spec import LayerSpec, load_spec
from verify.controls import controls_stage
from verify.exact import exact_stage
from verify.gradients import gradients_stage
from verify.lowering import lowering_stage
from verify.numeric import numeric_stage
from verify.order import order_stage
from verify.results import STAGES, Report, StageResult, VerificationError
from verify.sources import subjects
from verify.stage import Settings, Stage, run_stage
from verify.subject import Subject
from verify.symbolic import symbolic_stage

INSTANCES = 8
FEW = 4
RUN: dict[str, Stage] = {
    "symbolic": symbolic_stage,
    "exact": exact_stage,
    "numeric": numeric_stage,
    "order": order_stage,
    "gradients": gradients_stage,
    "lowering": lowering_stage,
    "controls": controls_stage,
}


def verify_layer(
    source: Any, *, instances: int = INSTANCES, seed: int = 0, general: Any = None
) -> Report:
    """Verify every class of a generated module; fails closed.

    Stages, cheapest first: ``symbolic`` (the correction goes back through the derivation),
    ``exact`` (modulo 2⁶¹ - 1), ``numeric`` (float64 against independent oracles), ``order`` (an
    SGD step), ``gradients`` (first and second derivatives), ``lowering`` (recognised = general),
    ``controls`` (corrupted gauges must be refused).

    Args:
        source: A ``codegen.LayerSource``, or anything of its shape.
        instances: Random instances a class and choice of optional parameters.
        seed: Where they are drawn from; the same seed gives the same report everywhere.
        general: The same layer from the general lowering alone; generated if not given.

    Returns:
        A report that passes only if every stage of every class ran and passed.

    Raises:
        VerificationError: If the text cannot be loaded or defines no class that it promises.
    """
    found = subjects(source)
    names = list(dict.fromkeys(s.name for s in found))
    settings = Settings(instances, seed, general_subjects(source, general))
    results: list[StageResult] = []
    for name in names:
        variants = [s for s in found if s.name == name]
        here = shared(settings, variants)
        results += [run_stage(stage, RUN[stage], variants, here) for stage in STAGES]
    claims = tuple(s.claim() for s in found)
    return Report.of(source.spec.name, source.spec.digest, tuple(results), claims)


def shared(settings: Settings, variants: Sequence[Subject]) -> Settings:
    """Half the instances each where a class has many variants, as an attention's stages are."""
    if len(variants) <= FEW:
        return settings
    return replace(settings, instances=max(4, settings.instances // 2))


def general_subjects(source: Any, general: Any) -> dict[tuple[str, str, frozenset[str]], Subject]:
    """The classes of the general lowering by :attr:`Subject.key`."""
    if general is None:
        general = generate(source.spec, general=True)
    return {s.key: s for s in subjects(general)}


def verify_layers(
    sources: Iterable[Any],
    *,
    n_jobs: int = 1,
    instances: int = INSTANCES,
    seed: int = 0,
    progress: Callable[[Report], None] | None = None,
) -> tuple[Report, ...]:
    """Verify many layers, in their order.

    The sweep is joblib's: ``joblib.parallel_config(backend=...)`` chooses where it runs.

    Args:
        sources: The generated layers.
        n_jobs: Parallel jobs; 1 is sequential.
        instances: As for :func:`verify_layer`.
        seed: As for :func:`verify_layer`.
        progress: Called with each report as it comes, in order.
    """
    jobs = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    run = joblib.delayed(verify_layer)
    reports = []
    for report in jobs(run(source, instances=instances, seed=seed) for source in sources):
        if progress is not None:
            progress(report)
        reports.append(report)
    return tuple(reports)


def read(spec: LayerSpec | str | Path) -> LayerSpec:
    """A spec, or the spec in a file."""
    return spec if isinstance(spec, LayerSpec) else load_spec(spec)


def check(spec: LayerSpec | str | Path, *, instances: int = INSTANCES, seed: int = 0) -> Report:
    """Derive, generate and verify a layer.

    Args:
        spec: A spec, or the path of its TOML file.
        instances: As for :func:`verify_layer`.
        seed: As for :func:`verify_layer`.

    Returns:
        The report, which passed.

    Raises:
        VerificationError: If anything was not verified.
        TruestepError: If the spec is wrong or cannot be derived or generated.
    """
    return verify_layer(generate(read(spec)), instances=instances, seed=seed).require()


@dataclass(frozen=True)
class ConformanceCase:
    """One stage of one class, ready to be run as a test.

    Attributes:
        class_name: The generated class.
        stage: One of :data:`verify.results.STAGES`.
        variants: The class with each choice of its optional parameters.
        settings: Instances, seed and the general lowering.
    """

    class_name: str
    stage: str
    variants: tuple[Subject, ...]
    settings: Settings

    def run(self) -> StageResult:
        """The stage's result."""
        return run_stage(self.stage, RUN[self.stage], self.variants, self.settings)

    def check(self) -> StageResult:
        """The stage's result, which passed.

        Raises:
            VerificationError: If it did not run or did not pass.
        """
        result = self.run()
        if not result.passed:
            raise VerificationError(f"{result.class_name}, {result.stage}: {result.detail}")
        return result


def cases_of(
    source: Any, *, instances: int = INSTANCES, seed: int = 0, general: Any = None
) -> tuple[ConformanceCase, ...]:
    """Every stage of every class of a generated layer."""
    found = subjects(source)
    settings = Settings(instances, seed, general_subjects(source, general))
    grouped = {n: tuple(s for s in found if s.name == n) for n in (s.name for s in found)}
    return tuple(
        ConformanceCase(name, stage, variants, shared(settings, variants))
        for name, variants in grouped.items()
        for stage in STAGES
    )


@functools.cache
def spec_cases(path: str, instances: int, seed: int) -> tuple[ConformanceCase, ...]:
    """The cases of a spec file, generated once."""
    return cases_of(generate(load_spec(path)), instances=instances, seed=seed)


def parametrize(
    *specs: LayerSpec | str | Path, instances: int = INSTANCES, seed: int = 0
) -> Callable[[Callable[..., Any]], Any]:
    """A pytest decorator: one test a class and stage, with a :class:`ConformanceCase` as ``case``.

    Args:
        specs: Specs, or paths of their TOML files.
        instances: As for :func:`verify_layer`.
        seed: As for :func:`verify_layer`.
    """
    import pytest  # noqa: PLC0415 - a test dependency

    found: list[ConformanceCase] = []
    for spec in specs:
        if isinstance(spec, LayerSpec):
            found += cases_of(generate(spec), instances=instances, seed=seed)
        else:
            found += spec_cases(str(spec), instances, seed)
    return pytest.mark.parametrize("case", found, ids=identify(found))


def identify(cases: Sequence[ConformanceCase]) -> list[str]:
    """Readable test names."""
    return [f"{c.class_name}-{c.stage}" for c in cases]

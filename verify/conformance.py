"""The conformance kit: every check of this room for any spec, with one call.

In a script::

    from verify import conformance
    conformance.check("my_layer.toml")

In a test suite, one test for each class and stage::

    @conformance.parametrize("my_layer.toml")
    def test_my_layer(case):
        case.check()

For a module written by hand, judged by the claim of a spec::

    conformance.check_module(MyLayer, "my_layer.toml", ansatz="output gauge")

What fails is shrunk to the smallest instance that fails (:mod:`verify.shrink`) and explained.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import torch

from codegen import generate
from derive.spec import LayerSpec, load_spec
from verify.certify import certificate_stage
from verify.contracts.stage import compilers_stage, contracts_stage
from verify.controls import controls_stage
from verify.declared import declared_stage
from verify.emitted import emitted_stage
from verify.explain import explained
from verify.gradients import gradients_stage
from verify.lowering import lowering_stage
from verify.numeric import numeric_stage
from verify.order import order_stage
from verify.results import STAGES, Report, StageResult, VerificationError
from verify.sources import subjects
from verify.stage import Record, Settings, Stage, recorded
from verify.subject import Subject
from verify.symbolic import symbolic_stage

INSTANCES = 8
FEW = 4
RUN: dict[str, Stage] = {
    "symbolic": symbolic_stage,
    "certificate": certificate_stage,
    "emitted": emitted_stage,
    "declared": declared_stage,
    "numeric": numeric_stage,
    "order": order_stage,
    "gradients": gradients_stage,
    "lowering": lowering_stage,
    "controls": controls_stage,
    "contracts": contracts_stage,
    "compilers": compilers_stage,
}
# What the kit runs on a spec, and what it can say about a module that it did not write.
KIT = (*STAGES, "contracts")
BY_HAND = ("symbolic", "certificate", "numeric", "order", "gradients", "lowering", "controls")


@dataclass(frozen=True)
class ConformanceCase:
    """One stage of one class, ready to be run as a test.

    Attributes:
        class_name: The class.
        stage: One of :data:`RUN`.
        variants: The class with each choice of its optional parameters.
        settings: Instances, seed, the general lowering, the twin.
        again: The command that runs it again.
    """

    class_name: str
    stage: str
    variants: tuple[Subject, ...]
    settings: Settings
    again: str = ""

    def record(self) -> Record:
        """What the stage judges."""
        return recorded(self.stage, RUN[self.stage], self.variants, self.settings)

    def run(self) -> StageResult:
        """The stage's result."""
        return self.record().result()

    def check(self) -> StageResult:
        """The stage's result, which passed.

        Raises:
            VerificationError: If it did not run or did not pass, at the smallest instance found.
        """
        record = self.record()
        result = record.result()
        if result.passed:
            return result
        raise VerificationError(explained(record, RUN[self.stage], self.settings, self.again))


def cases_of(
    source: Any,
    *,
    instances: int = INSTANCES,
    seed: int = 0,
    general: Any = None,
    stages: Sequence[str] = STAGES,
    twin: type[torch.nn.Module] | None = None,
    again: str = "",
) -> tuple[ConformanceCase, ...]:
    """Every stage of every class of a generated layer, a class's cheapest first."""
    found = subjects(source)
    settings = Settings(instances, seed, general_subjects(source, general), twin=twin)
    return grouped(found, settings, stages, again)


def grouped(
    found: Sequence[Subject], settings: Settings, stages: Sequence[str], again: str
) -> tuple[ConformanceCase, ...]:
    """One case a class and stage."""
    classes = {n: tuple(s for s in found if s.name == n) for n in (s.name for s in found)}
    return tuple(
        ConformanceCase(name, stage, variants, shared(settings, variants), again)
        for name, variants in classes.items()
        for stage in stages
    )


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


# ---------------------------------------------------------------------- reports
def verify_layer(
    source: Any, *, instances: int = INSTANCES, seed: int = 0, general: Any = None
) -> Report:
    """Verify every class of a generated module; fails closed.

    Stages, cheapest first: ``symbolic`` (the correction goes back through the derivation),
    ``certificate`` (data that a small checker accepts), ``emitted`` (the file's text in exact
    arithmetic), ``declared`` (constructor, initial values, shapes, half precision), ``numeric``
    (float64 against independent oracles), ``order`` (an SGD step), ``gradients`` (first and second
    derivatives), ``lowering`` (recognised = general), ``controls`` (corrupted gauges must be
    refused).

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
    found = cases_of(source, instances=instances, seed=seed, general=general)
    return reported(source, found, tuple(case.run() for case in found))


def reported(
    source: Any, found: Sequence[ConformanceCase], results: tuple[StageResult, ...]
) -> Report:
    """The report of a generated layer whose cases gave these results."""
    by_class = {case.class_name: case.variants for case in found}
    claims = tuple(s.claim() for variants in by_class.values() for s in variants)
    return Report.of(source.spec.name, source.spec.digest, results, claims)


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


# ---------------------------------------------------------------------- one call
def check(
    spec: LayerSpec | str | Path,
    *,
    instances: int = INSTANCES,
    seed: int = 0,
    twin: type[torch.nn.Module] | None = None,
    compilers: bool = False,
) -> Report:
    """Derive, generate and verify a layer, its module contracts included.

    Args:
        spec: A spec, or the path of its TOML file.
        instances: As for :func:`verify_layer`.
        seed: As for :func:`verify_layer`.
        twin: A class of torch.nn whose constructor and state dict the layer is to share.
        compilers: Whether torch.compile and torch.export are tried too; it takes seconds a class.

    Returns:
        The report, which passed.

    Raises:
        VerificationError: If anything was not verified, with the smallest instance that fails for
            the first failed stage of each class.
        TruestepError: If the spec is wrong or cannot be derived or generated.
    """
    options = {"instances": instances, "seed": seed, "twin": twin, "compilers": compilers}
    source = generate(read(spec))
    found = cases_of(
        source,
        instances=instances,
        seed=seed,
        stages=kit(compilers),
        twin=twin,
        again=command("check", [spec], options),
    )
    return reported(source, found, checked(found)).require()


def checked(found: Sequence[ConformanceCase]) -> tuple[StageResult, ...]:
    """The results of cases that all passed.

    Raises:
        VerificationError: Otherwise, with the first failed stage of each class explained.
    """
    results = tuple(case.run() for case in found)
    failed: dict[str, ConformanceCase] = {}
    for case, result in zip(found, results, strict=True):
        if not result.passed:
            failed.setdefault(case.class_name, case)
    if not failed:
        return results
    others = len([r for r in results if not r.passed]) - len(failed)
    texts = [explanation(case) for case in failed.values()]
    if others:
        texts.append(f"{others} more stages of these classes fail")
    raise VerificationError("\n".join(texts))


def explanation(case: ConformanceCase) -> str:
    """Why a case that failed failed."""
    return explained(case.record(), RUN[case.stage], case.settings, case.again)


def check_module(
    module: type[torch.nn.Module],
    spec: LayerSpec | str | Path,
    *,
    ansatz: str = "output gauge",
    instances: int = INSTANCES,
    seed: int = 0,
) -> tuple[StageResult, ...]:
    """Judge a module that was written by hand by the claim of a spec.

    Args:
        module: The class; its constructor takes what the generated class takes, and ``dtype``.
        spec: The layer that it corrects, or the path of its TOML file.
        ansatz: The correction that it claims to implement: ``output gauge``, ``input map``,
            ``unit gauge`` or ``matrix gauge``.
        instances: As for :func:`verify_layer`.
        seed: As for :func:`verify_layer`.

    Returns:
        One result a stage; all passed.

    Raises:
        VerificationError: If the module is not that correction, with the smallest instance at which
            it is not, or if the spec has no such correction.
        TruestepError: If the spec is wrong or cannot be derived or generated.
    """
    known = [s for s in subjects(generate(read(spec), general=True)) if not s.part]
    wanted = [s for s in known if s.correction.ansatz == ansatz]
    if not wanted:
        there = ", ".join(dict.fromkeys(s.correction.ansatz for s in known)) or "none"
        raise VerificationError(f"the spec has no correction `{ansatz}`; it has: {there}")
    found = [replace(s, name=module.__name__, type=module) for s in wanted]
    general = {s.key: g for s, g in zip(found, wanted, strict=True)}
    options = {"ansatz": ansatz, "instances": instances, "seed": seed}
    again = command("check_module", [module, spec], options)
    settings = Settings(instances, seed, general)
    return checked(grouped(found, settings, BY_HAND, again))


def kit(compilers: bool) -> tuple[str, ...]:
    """The stages that are run on a spec."""
    return (*KIT, "compilers") if compilers else KIT


def command(function: str, given: Sequence[Any], options: Mapping[str, Any]) -> str:
    """The call that shows a failure again, without the options that are off."""
    shown = [written(value) for value in given]
    shown += [f"{k}={written(v)}" for k, v in options.items() if v is not None and v is not False]
    return f"conformance.{function}({', '.join(shown)})"


def written(value: Any) -> str:
    """A value as it stands in a call; a spec or a class by its name."""
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, LayerSpec):
        return value.name
    if isinstance(value, Path):
        inside = value.is_absolute() and value.is_relative_to(Path.cwd())
        return repr(str(value.relative_to(Path.cwd()) if inside else value))
    return repr(value)


def read(spec: LayerSpec | str | Path) -> LayerSpec:
    """A spec, or the spec in a file."""
    return spec if isinstance(spec, LayerSpec) else load_spec(spec)


# ---------------------------------------------------------------------- tests
@functools.cache
def spec_source(path: str) -> Any:
    """The layer of a spec file, generated once."""
    return generate(load_spec(path))


def parametrize(
    *specs: LayerSpec | str | Path,
    instances: int = INSTANCES,
    seed: int = 0,
    twin: type[torch.nn.Module] | None = None,
    compilers: bool = False,
) -> Callable[[Callable[..., Any]], Any]:
    """A pytest decorator: one test a class and stage, with a :class:`ConformanceCase` as ``case``.

    Args:
        specs: Specs, or paths of their TOML files.
        instances: As for :func:`verify_layer`.
        seed: As for :func:`verify_layer`.
        twin: As for :func:`check`.
        compilers: As for :func:`check`.
    """
    import pytest  # noqa: PLC0415 - a test dependency

    options = {"instances": instances, "seed": seed, "twin": twin, "compilers": compilers}
    found: list[ConformanceCase] = []
    for spec in specs:
        source = generate(spec) if isinstance(spec, LayerSpec) else spec_source(str(spec))
        found += cases_of(
            source,
            instances=instances,
            seed=seed,
            stages=kit(compilers),
            twin=twin,
            again=command("check", [spec], options),
        )
    return pytest.mark.parametrize("case", found, ids=identify(found))


def identify(cases: Sequence[ConformanceCase]) -> list[str]:
    """Readable test names."""
    return [f"{c.class_name}-{c.stage}" for c in cases]

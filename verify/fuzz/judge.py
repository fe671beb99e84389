"""One layer through the whole product, compared with its measurements step by step."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sympy import Integer, Symbol

from codegen import NothingToGenerate, generate
from codegen.gate import check
from derive.budget import BudgetError, Limits, TooLargeError, within
from derive.correction import RADIUS, Correction
from derive.derivation import Derivation, derive_variants
from derive.errors import DerivationError, SpecError, TruestepError
from derive.spec import read_spec
from verify.conformance import cases_of
from verify.fuzz.compare import compare_kernel, compare_module, steady
from verify.fuzz.expect import Character, characterise, exactness, expected, is_still
from verify.fuzz.limits import LIMITS
from verify.fuzz.measure import Measured
from verify.fuzz.points import NoPoint, Point
from verify.fuzz.text import toml
from verify.fuzz.tree import (
    Layer,
)
from verify.instances import Seeded
from verify.results import STAGES

QUICK = ("symbolic", "numeric", "order")
THOROUGH_EVERY = 16
"""One layer in so many goes through every stage, the others through the quick ones."""
FILE = "fuzzed.toml"

BUDGET = "more terms than a derivation may have"
TOO_LONG = "more time than a derivation may take"
SHARE = 0.5
"""Part of a spec's time after which its derivation has to end by itself."""
RULES = {
    r"K\(s,s\) is \w+": "the kernel is of another kind",
    r"κ depends on the parameters": "κ depends on the parameters",
    r"κ is constant": "κ is constant",
    r"no input holds real": "no input holds real numbers",
    r"κ\(μx\) = c has no closed form": "the input stands inside a function or a denominator",
    r"the input stands inside": "the input stands inside a function or a denominator",
    r"κ\(μx\) does not depend on μ": "the layer ignores the input's scale",
    r"the part .* does not depend on μ": "a part of κ(μx) varies with the input and not with μ",
    r"κ\(μx\) = c has a degree": "κ(μx) has a degree above two in a power of μ",
    r"κ = 0 wherever": "κ is 0 on an open set of parameters",
    r"z is not a sum of parts": "z is not a sum of parts with one parameter each",
    r"a parameter's own kernel": "a parameter's own kernel is not isotropic",
    r"no parameter has a constant": "there is nothing to split",
    r"every parameter has a constant": "there is nothing to split",
    r"K\(s,s\) has rank": "K(s,s) loses rank",
    r"(.*: )?(a product would|the expression has more|the letters of a sum)": BUDGET,
}
"""How a refusal may begin, and what it is counted as; any other reason is a finding."""


@dataclass(frozen=True)
class Finding:
    """A disagreement: ``kind`` says which, and a smaller layer must show the same one."""

    kind: str
    detail: str


@dataclass
class Verdict:
    """What became of one layer.

    Attributes:
        findings: Disagreements; none is as it should be.
        kinds: The measured class of each choice of optional parameters.
        offered: Ansatz and exactness class of everything that was offered.
        refused: Ansatz and rule of everything that was refused.
        seconds: Phase → time of the processor.
        thorough: Whether every stage of verification ran.
    """

    findings: list[Finding] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    offered: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    thorough: bool = False

    def found(self, kind: str, detail: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, detail))

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Count the processor's time of a phase."""
        start = time.process_time()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.process_time() - start


class Overtime(BaseException):
    """Raised in whatever runs when a layer's time is up; no handler of errors may swallow it."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Interrupt what takes more of the processor; main thread of a POSIX process only.

    Not by the clock: how busy the machine is says nothing about a spec.
    """

    def interrupt(*_: object) -> None:
        raise Overtime

    before = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def judge(layer: Layer, seed: int, number: int, *, limit: float = 30.0) -> Verdict:
    """Derive, generate and verify a layer, and compare every step with the oracle.

    Args:
        layer: The tree.
        seed: Where points are drawn from.
        number: Which layer of the seed it is; with the seed it determines the verdict.
        limit: Seconds of the processor; a layer that needs more is a finding. Every stage of
            verification together may take as much again.
    """
    verdict = Verdict(thorough=number % THOROUGH_EVERY == 0)
    whole = 2 * limit if verdict.thorough else limit
    try:
        with limited(whole):
            Judgement(layer, Seeded(seed, number, 2), verdict, limit * SHARE).run()
    except Overtime:
        phase = max(verdict.seconds, key=lambda k: verdict.seconds[k], default="derive")
        verdict.found(f"slow: {phase}", f"not done after {whole:g} s")
    return verdict


def stem(message: str) -> str:
    """A message without names and numbers, so that a smaller layer can have the same one."""
    return re.sub(r"`[^`]*`|\d+|Fuzzed", "..", message.splitlines()[0])[:80]


class Judgement:
    """The comparison of one layer."""

    def __init__(self, layer: Layer, source: Seeded, verdict: Verdict, seconds: float) -> None:
        """Nothing is computed yet; ``seconds`` is what the derivation may take."""
        self.budget = Limits(seconds=seconds, clock=time.process_time)
        self.layer = layer
        self.source = source
        self.verdict = verdict
        self.text = toml(layer)

    def run(self) -> None:
        """Every step; an error of any other class than truestep's own is a finding."""
        try:
            with within(self.budget):
                source, derivations = self.produce()
        except BudgetError:
            self.verdict.refused.append(("the layer", TOO_LONG))
            return
        except SpecError as error:
            self.verdict.found(f"refused: {stem(error.problem)}", str(error))
            return
        except DerivationError as error:
            self.stopped(error)
            return
        except TruestepError as error:
            self.verdict.found(f"generate: {type(error).__name__}", str(error))
            return
        except Exception as error:
            self.verdict.found(f"error: {stem(repr(error))}", repr(error))
            return
        for absent, derivation in derivations.items():
            self.variant(absent, derivation, source)
        if source is not None and not self.verdict.findings:
            self.verified(source)

    def produce(self) -> tuple[Any, Mapping[frozenset[str], Derivation]]:
        """The generated source, if there is one, and the derivations."""
        spec = read_spec(self.text, FILE)
        try:
            with self.verdict.timed("derive, generate"):
                source = generate(spec)
        except NothingToGenerate:
            with self.verdict.timed("derive, generate"):
                return None, derive_variants(spec)
        check(source.text)
        return source, source.derivations

    def stopped(self, error: DerivationError) -> None:
        """A derivation that stops is right only where no parameter moves the activation."""
        if "self-kernel is 0" in str(error):
            for absent in (frozenset[str](), *self.single()):
                if is_still(self.layer, absent, self.source):
                    self.verdict.kinds.append("zero")
                    return
        if isinstance(error, TooLargeError):
            self.verdict.refused.append(("the layer", BUDGET))
            return
        if str(error) in LIMITS and LIMITS[str(error)](self.layer):
            self.verdict.refused.append(("the layer", str(error)))
            return
        self.verdict.found(f"derive: {stem(str(error))}", str(error))

    def single(self) -> tuple[frozenset[str], ...]:
        """Each optional parameter alone."""
        return tuple(frozenset({t.name}) for t in self.layer.parameters if t.optional)

    def variant(self, absent: frozenset[str], derivation: Derivation, source: Any) -> None:
        """One choice of optional parameters."""
        try:
            with self.verdict.timed("measure"):
                character, points = characterise(self.layer, absent, self.source)
        except NoPoint as error:
            self.verdict.found("no point", str(error))
            return
        self.verdict.kinds.append(character.kind)
        with self.verdict.timed("compare"):
            self.compare(derivation, character, points)
            if source is not None and not self.verdict.findings:
                self.modules(absent, character, points, source)

    def compare(
        self, derivation: Derivation, c: Character, points: list[tuple[Point, Measured]]
    ) -> None:
        """The kernel, its class, and every ansatz."""
        for point, measured in points:
            problem = compare_kernel(self.layer, derivation, point, measured)
            if problem:
                self.verdict.found("kernel", problem)
        s = derivation.structure
        pairs = (
            ("class", s.kind, c.kind),
            ("constant", s.constant, c.constant),
            ("parameter-dependent", s.parameter_dependent, c.parameter_dependent),
            ("affine", derivation.update.affine, c.affine),
        )
        for what, said, measured_ in pairs:
            if said != measured_:
                self.verdict.found(what, f"derived {said}, measured {measured_}")
        for ansatz, wanted in expected(c).items():
            self.ansatz(derivation.correction(ansatz), wanted, c)

    def ansatz(self, correction: Correction, wanted: bool | None, c: Character) -> None:
        """Offered if and only if it exists, refused for a known reason."""
        name = correction.ansatz
        if correction.applies:
            if wanted is False:
                self.verdict.found(f"offered wrongly: {name}", f"measured {c}")
            rate = 1.0
            if name == "input map" and correction.rate is not None:
                # c = κ(0) + radius² at the radius that a class is built with unless told otherwise.
                shown = correction.rate.xreplace({Symbol(RADIUS, positive=True): Integer(1)})
                rate = c.scale.offset + 1 if c.scale is not None else 1.0 + float(shown != 1)
            right = exactness(c, rate)
            if name != "split gauge" and correction.exactness != right:
                self.verdict.found(
                    f"exactness: {name}", f"claims {correction.exactness}, measured {right}"
                )
            self.verdict.offered.append((name, correction.exactness))
            return
        rule = next((v for k, v in RULES.items() if re.match(k, correction.reason)), "")
        if wanted is True and rule != BUDGET:
            self.verdict.found(f"withheld: {name}", f"{correction.reason}; measured {c}")
        elif not rule:
            self.verdict.found(f"refusal: {name}", correction.reason)
        self.verdict.refused.append((name, rule))

    def modules(
        self,
        absent: frozenset[str],
        character: Character,
        points: list[tuple[Point, Measured]],
        source: Any,
    ) -> None:
        """Every class of the generated file at one of the points."""
        point, measured = steady(self.layer, source.derivations[absent], points[0])
        for found in source.classes:
            correction = found.corrections.get(absent)
            if correction is None:
                continue
            for kind, detail in compare_module(
                self.layer, source, found.name, correction, absent, point, measured, character
            ):
                self.verdict.found(kind, f"{found.name}: {detail}")

    def verified(self, source: Any) -> None:
        """The project's own verification, which has to agree."""
        thorough = self.verdict.thorough
        stages = STAGES if thorough else QUICK
        # The general lowering is a second module; only the stage that compares both needs it.
        general = None if thorough else source
        with self.verdict.timed("load"):
            cases = cases_of(source, instances=4 if thorough else 2, general=general)
        for case in cases:
            if case.stage not in stages:
                continue
            with self.verdict.timed(case.stage):
                result = case.run()
            if not result.passed:
                self.verdict.found(
                    f"verification: {case.stage}", f"{case.class_name}: {result.detail}"
                )

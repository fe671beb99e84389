"""The stages of verification for an attention layer, which is one module of several derived stages.

Symbolic and exact judge each stage as a layer of its own. The others look at the module: K(s,s) of its
projections, of its mix of the values and of its score by torch.func, its output against the formulas
evaluated by brute force, and real steps. What the module computes on the way is read out by watching
its calls, never by asking the generated code for it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, jacrev

from verify.attention_reference import EvaluatedAttention, evaluate_attention
from verify.exact import exact_stage
from verify.load import load_module
from verify.numeric import deviation, size_of
from verify.results import STAGES, Claim, Report, StageResult, VerificationError
from verify.stage import Record, Settings, run_stage
from verify.subject import Subject
from verify.symbolic import symbolic_stage
from verify.tolerances import TOLERANCES

Array = np.ndarray[Any, Any]
Parameters = dict[str, Tensor]
Judge = Callable[[Sequence["AttentionCase"], Record], None]
EMBED, HEADS, TOKENS, SAMPLES = 6, 2, 3, 2
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"bias": False},
    {"add_bias_kv": True, "add_zero_attn": True},
    {"kdim": 5, "vdim": 4, "mask": True},
    {"score_gauge": True, "mask": True},
    {"bias": False, "score_gauge": True, "add_bias_kv": True},
)
CLASS_STAGES = {
    "affine-like": ("query", "key", "value", "output", "score"),
    "value-mix": ("query", "key", "mix", "output", "score"),
}
INDEX = {"query": 0, "key": 1, "value": 2}


@dataclass(frozen=True)
class AttentionCase:
    """A module with random parameters, its inputs, and what the formulas say of them.

    Attributes:
        module: The corrected layer, float64, batch_first.
        general: The same from the general lowering.
        inputs: query, key, value: (SAMPLES, TOKENS, features).
        mask: Additive, (TOKENS, TOKENS), or ``None``.
        stages: Which corrections the class claims.
        reference: The formulas, evaluated.
        options: How the module was built.
    """

    module: nn.Module
    general: nn.Module
    inputs: tuple[Tensor, Tensor, Tensor]
    mask: Tensor | None
    stages: tuple[str, ...]
    reference: EvaluatedAttention
    options: dict[str, Any]

    def __str__(self) -> str:
        return f"{type(self.module).__name__}({self.options})"

    @property
    def parameters(self) -> Parameters:
        """The parameters, detached."""
        return {n: p.detach() for n, p in self.module.named_parameters()}

    @property
    def bound(self) -> float:
        """Rounding of values of order one, by the operations behind one output."""
        operations = 4 * EMBED * (EMBED + TOKENS + 2) * HEADS
        return TOLERANCES.bound(operations, self.reference.condition)

    def call(self, parameters: Parameters, **flags: Any) -> Tensor:
        """The module's output."""
        arguments = {"attn_mask": self.mask, **flags}
        result = functional_call(self.module, parameters, self.inputs, arguments)
        output: Tensor = result[0]
        return output


class Watch(torch.overrides.TorchFunctionMode):
    """Keeps what a module hands to its softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.scores: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") == "softmax":
            self.scores.append(args[0])
        return func(*args, **(kwargs or {}))


class Projected(nn.Module):
    """The projections of a layer, (samples, tokens, features)."""

    def __init__(self, layer: nn.Module, index: int) -> None:
        super().__init__()
        self.layer = layer
        self.index = index

    def forward(self, *inputs: Tensor) -> Tensor:
        """One of q, k and v, all heads side by side."""
        found = self.layer._project(*inputs)[self.index]  # type: ignore[operator]
        result: Tensor = found.transpose(1, 2).flatten(2)
        return result


# ---------------------------------------------------------------------- what a stage computes
def stage_output(
    case: AttentionCase, stage: str
) -> tuple[Callable[[Parameters], Tensor], Parameters, int]:
    """An activation of the module as a function of its own parameters.

    Returns:
        Parameters → (sites, units) flattened, the parameters, and the number of units.
    """
    everything = case.parameters
    if stage in INDEX:
        projected = Projected(case.module, INDEX[stage])

        def project(parameters: Parameters) -> Tensor:
            named = {f"layer.{n}": p for n, p in parameters.items()}
            result: Tensor = functional_call(projected, named, case.inputs)
            return result

        return project, everything, EMBED
    if stage == "output":
        own = {n: p for n, p in everything.items() if n.startswith("out_proj.")}
        return lambda p: case.call({**everything, **p}), own, EMBED
    if stage == "score":
        return lambda p: scores(case, p), everything, 1
    return mix_output(case)


def scores(case: AttentionCase, parameters: Parameters) -> Tensor:
    """What the module's softmax gets, less the mask that it holds."""
    with Watch() as watch:
        case.call(parameters)
    return watch.scores[-1]


def mix_output(case: AttentionCase) -> tuple[Callable[[Parameters], Tensor], Parameters, int]:
    """The mix of the values as a function of W_v, b_v and bias_v."""
    module = copy.deepcopy(case.module)
    module.out_proj = nn.Identity()
    everything = {n: p.detach() for n, p in module.named_parameters()}
    packed = {n: p for n, p in everything.items() if n in ("in_proj_weight", "in_proj_bias")}
    own = {n: p.chunk(3)[2] for n, p in packed.items()}
    own |= {n: p for n, p in everything.items() if n in ("v_proj_weight", "bias_v")}

    def mix(parameters: Parameters) -> Tensor:
        whole = {n: torch.cat([*p.chunk(3)[:2], parameters[n]]) for n, p in packed.items()}
        whole |= {n: p for n, p in parameters.items() if n not in packed}
        arguments = {"attn_mask": case.mask}
        result: Tensor = functional_call(module, {**everything, **whole}, case.inputs, arguments)[0]
        return result

    return mix, own, EMBED // HEADS


def self_kernels(function: Callable[[Parameters], Tensor], own: Parameters, units: int) -> Array:
    """K(s,s) of an activation, (sites, units, units)."""
    jacobians = jacrev(function, chunk_size=1)(own)
    flat = torch.cat([j.flatten(-own[n].dim()).flatten(0, -2) for n, j in jacobians.items()], dim=1)
    blocks = flat.reshape(-1, units, flat.shape[-1])
    return np.asarray(torch.einsum("sip,sjp->sij", blocks, blocks).numpy())


def judged(case: AttentionCase) -> Iterator[str]:
    """The stages that this module corrects; the score only where it was asked to."""
    for stage in case.stages:
        if stage != "score" or case.options.get("score_gauge"):
            yield stage


# ---------------------------------------------------------------------- stages on the module
def numeric(cases: Sequence[AttentionCase], record: Record) -> None:
    """K(s,s) = c I of every stage, and the output of the formulas."""
    for case in cases:
        record.instances += 1
        for stage in judged(case):
            kernels = self_kernels(*stage_output(case, stage))
            wanted = case.reference.rate[stage] * np.eye(kernels.shape[-1])
            error = deviation(kernels, np.broadcast_to(wanted, kernels.shape))
            record.judge(error, case.bound, f"K(s,s) of {stage} is not c I: {case}")
        for need_weights in (True, False):
            found = case.call(case.parameters, need_weights=need_weights).detach().numpy()
            record.judge(
                deviation(found, case.reference.output),
                case.bound * size_of(case.reference.output),
                f"the output is not that of the formulas: {case}",
            )
    record.note("measured K(s,s) = c I of every stage; the output is that of the derived formulas")


def order(cases: Sequence[AttentionCase], record: Record) -> None:
    """A step of SGD on one site's own gradient moves an exact stage by -c η g at any η."""
    for number, case in enumerate(cases):
        record.instances += 1
        for stage in judged(case):
            function, own, units = stage_output(case, stage)
            judge_step(case, stage, function, own, np.random.default_rng([number, units]), record)
    record.note("exact stages take the step -c η g at η = 1e-3, 1 and 10; the score to first order")


def judge_step(
    case: AttentionCase,
    stage: str,
    function: Callable[[Parameters], Tensor],
    own: Parameters,
    rng: np.random.Generator,
    record: Record,
) -> None:
    """One site's step; for the frozen score the remainder of a small step is of order η²."""
    units = stage_output(case, stage)[2]
    g = torch.from_numpy(rng.standard_normal(units))
    site = int(rng.integers(function(own).numel() // units))

    def at(parameters: Parameters) -> Tensor:
        return function(parameters).reshape(-1, units)[site]

    before = at(own).detach()
    gradients = grad(lambda p: at(p) @ g)(own)
    rate = case.reference.rate[stage]
    if stage == "score":
        judge_score_step(case, at, own, gradients, g, site, record)
        return
    for eta in TOLERANCES.exact_steps:
        moved = {n: p - eta * gradients[n] for n, p in own.items()}
        change = (at(moved) - before).detach().numpy()
        scale = size_of(before.numpy()) + eta * size_of(g.numpy())
        error = deviation(change, -eta * rate * g.numpy())
        what = f"a step at η = {eta:g} does not move {stage} by -c η g: {case}"
        record.judge(error, case.bound * scale, what)


def judge_score_step(
    case: AttentionCase,
    at: Callable[[Parameters], Tensor],
    own: Parameters,
    gradients: Parameters,
    g: Tensor,
    site: int,
    record: Record,
) -> None:
    """The remainder of a step with the gauge held fixed shrinks as η²."""
    plain = copy.deepcopy(case.module)
    plain.score_gauge = False  # type: ignore[assignment]
    bare = AttentionCase(
        plain, plain, case.inputs, case.mask, case.stages, case.reference, case.options
    )
    # The mask is 0 or -inf: a site that it shuts has no score to move.
    if not bool(torch.isfinite(at(own)).all()):
        record.note("a masked score was left out")
        return
    gauge = at(own) / scores(bare, own).flatten()[site]
    remainders = []
    for eta in TOLERANCES.slope_steps[:3]:
        moved = {n: p - eta * gradients[n] for n, p in own.items()}
        held = gauge * scores(bare, moved).flatten()[site]
        remainders.append(float((held - at(own) + eta * case.reference.rate["score"] * g).abs()))
    etas = np.log(TOLERANCES.slope_steps[:3])
    noise = TOLERANCES.noise * case.bound
    if min(remainders) <= noise:
        record.judge(0.0, TOLERANCES.slope_slack, "the remainder is rounding")
        return
    slope = float(np.polyfit(etas, np.log(remainders), 1)[0])
    what = f"the remainder of a step of the score has slope {slope:.2f}: {case}"
    record.judge(abs(slope - TOLERANCES.slope), TOLERANCES.slope_slack, what)


def gradients(cases: Sequence[AttentionCase], record: Record) -> None:
    """First and second derivatives by finite differences, where no gauge is frozen."""
    for case in cases:
        if case.options.get("score_gauge"):
            continue
        record.instances += 1
        names = list(case.parameters)
        leaves = [*case.inputs, *case.parameters.values()]
        tensors = tuple(x.clone().requires_grad_() for x in leaves)

        def call(*values: Tensor, case: AttentionCase = case, names: list[str] = names) -> Tensor:
            named = dict(zip(names, values[3:], strict=True))
            arguments = {"attn_mask": case.mask}
            result: Tensor = functional_call(case.module, named, values[:3], arguments)[0]
            return result

        for name, check in (("gradcheck", gradcheck), ("gradgradcheck", gradgradcheck)):
            held = check(call, tensors, raise_exception=False, fast_mode=True)
            record.judge(0.0 if held else 1.0, 0.0, f"{name} refuses: {case}")
    record.note("gradcheck and gradgradcheck by inputs and parameters")


def lowering(cases: Sequence[AttentionCase], record: Record) -> None:
    """The recognised forms and the general lowering agree in output and gradients."""
    for case in cases:
        record.instances += 1
        found = []
        for module in (case.module, case.general):
            leaves = tuple(x.clone().requires_grad_() for x in case.inputs)
            output = module(*leaves, attn_mask=case.mask)[0]
            weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output)
            where = [*leaves, *module.parameters()]
            found.append([output, *torch.autograd.grad((weights * output).sum(), where)])
        for ours, theirs in zip(*found, strict=True):
            a, b = ours.detach().numpy(), theirs.detach().numpy()
            bound = case.bound * a.size * size_of(b)
            record.judge(deviation(a, b), bound, f"the two lowerings differ: {case}")
    record.note("recognised and general lowering agree in output and gradients")


def controls(cases: Sequence[AttentionCase], record: Record) -> None:
    """The uncorrected stage and the stage with its gauge squared must be refused."""
    for case in cases:
        record.instances += 1
        for stage in judged(case):
            kernels = self_kernels(*stage_output(case, stage))
            scale = np.sqrt(case.reference.kappa[stage]).reshape(-1)[: len(kernels)]
            wanted = case.reference.rate[stage] * np.eye(kernels.shape[-1])
            for name, factor in (("uncorrected", scale**2), ("gauge squared", scale**-2.0)):
                wrong = kernels * factor[:, None, None]
                missed = deviation(wrong, np.broadcast_to(wanted, wrong.shape))
                least = TOLERANCES.control_margin * case.bound
                record.judge(
                    least / max(missed, least * 1e-9), 1.0, f"{name} {stage} passes: {case}"
                )
    record.note("uncorrected and twice corrected stages are refused")


# ---------------------------------------------------------------------- everything
RUN: dict[str, Judge] = {
    "numeric": numeric,
    "order": order,
    "gradients": gradients,
    "lowering": lowering,
    "controls": controls,
}


def verify_attention(
    source: Any, *, instances: int = len(OPTIONS), seed: int = 0, general: Any = None
) -> Report:
    """Verify both classes of a generated attention; fails closed.

    Args:
        source: A ``codegen.attention.AttentionSource``.
        instances: Modules a class, built with :data:`OPTIONS` in turn.
        seed: Where parameters and inputs are drawn from.
        general: The same layer from the general lowering alone; generated if not given.

    Raises:
        VerificationError: If the text cannot be loaded or lacks a class.
    """
    if general is None:
        from codegen import generate

        general = generate(source.spec, general=True)
    modules = [load_module(s.text, s.module) for s in (source, general)]
    settings = Settings(max(2, instances), seed)
    results: list[StageResult] = []
    claims: list[Claim] = []
    for entry in source.classes:
        classes = [getattr(m, entry.name, None) for m in modules]
        if not all(isinstance(c, type) and issubclass(c, nn.Module) for c in classes):
            raise VerificationError(f"the generated text defines no module {entry.name}")
        stages = CLASS_STAGES[entry.kind]
        variants = stage_subjects(source.attention, entry.name, stages)
        claims += [s.claim() for s in variants]
        drawn = [
            draw_case(classes, source.attention, stages, number, seed)
            for number in range(max(instances, len(OPTIONS)))
        ]
        for stage in STAGES:
            judge = {"symbolic": symbolic_stage, "exact": exact_stage}.get(stage)
            if judge is None:
                run = RUN[stage]
                judge = lambda v, s, r, run=run: run(drawn, r)  # noqa: E731, B023
            results.append(run_stage(stage, judge, variants, settings))
    return Report.of(source.spec.name, source.spec.digest, tuple(results), tuple(claims))


def stage_subjects(attention: Any, name: str, stages: Sequence[str]) -> list[Subject]:
    """Each corrected stage of a class, with and without biases, as a layer to judge."""
    found = []
    for (stage, has_bias), derived in attention.stages.items():
        if stage in stages:
            absent = derived.derivation.absent
            found.append(Subject(name, nn.Module, absent, derived.derivation, derived.correction))
        del has_bias
    return found


def draw_case(
    classes: Sequence[Any], attention: Any, stages: tuple[str, ...], number: int, seed: int
) -> AttentionCase:
    """A module of each lowering with the same random parameters, and its reference."""
    options = dict(OPTIONS[number % len(OPTIONS)])
    rng = np.random.default_rng([seed, number])
    arguments = {k: v for k, v in options.items() if k != "mask"}
    built = [c(EMBED, HEADS, batch_first=True, dtype=torch.float64, **arguments) for c in classes]
    with torch.no_grad():
        for parameter in built[0].parameters():
            parameter.copy_(torch.from_numpy(rng.standard_normal(parameter.shape) * 0.5))
    built[1].load_state_dict(built[0].state_dict())
    widths = (EMBED, options.get("kdim", EMBED), options.get("vdim", EMBED))
    inputs = [torch.from_numpy(rng.standard_normal((SAMPLES, TOKENS, w))) for w in widths]
    mask = None
    if options.get("mask"):
        mask = torch.zeros(TOKENS, TOKENS, dtype=torch.float64)
        mask[0, -1] = -torch.inf
    reference = evaluate_attention(attention, built[0], inputs, mask, "mix" in stages)
    case = (inputs[0], inputs[1], inputs[2])
    return AttentionCase(built[0], built[1], case, mask, stages, reference, options)

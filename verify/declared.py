"""The declared stage: what a spec declares of a class beside the mathematics.

The class takes its arguments in the order of the spec, keeps and shows them, refuses what does not
divide and nothing that does, and starts from the declared initial values. What it computes beyond
float64 and one batch is judged in :mod:`verify.declared_values`; what any module promises, whatever
its spec, in :mod:`verify.contracts`.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from derive.nodes import Delta, Letter, reads
from derive.program import Program, Tensor
from derive.spec import split_letters
from verify.attention import AttentionSubject
from verify.declared_values import judge_values
from verify.instances import KINDS, Instance, Lowest, draw_instance, sample_one
from verify.stage import Case, Record, Settings, cases
from verify.subject import Subject

COUNT = 4
NOTHING = inspect.Parameter.empty
UNSHOWN = ("device", "dtype")
WINDOW = ("stride", "dilation", "output_padding")


def hold(record: Record, right: bool, what: str) -> None:
    """A judgement that is right or wrong."""
    record.judge(0.0 if right else 1.0, 0.0, what)


# ---------------------------------------------------------------------- constructor
def signature(subject: Subject) -> dict[str, Any]:
    """The constructor's arguments with defaults that a spec calls for, keywords last."""
    spec = subject.program.spec
    found: dict[str, Any] = dict.fromkeys(subject.program.arguments, NOTHING)
    for name, default in spec.hyperparameters.items():
        same = isinstance(default, tuple) and len(set(default)) == 1
        found[name] = default[0] if same else default
    for symbol in spec.optional:
        found.setdefault(spec.parameters[symbol].torch, True)
    if has_padding_mode(subject):
        found["padding_mode"] = "zeros"
    found |= {"device": None, "dtype": None}
    return found | ({"radius": 1.0} if subject.correction.ansatz == "input map" else {})


def has_padding_mode(subject: Subject) -> bool:
    """Whether a spec asks for ``padding_mode``; a scattering layer has it as its twin does."""
    declared = any(i.padded_by for i in subject.program.spec.inputs.values())
    return declared or "padding_mode" in inspect.signature(subject.type).parameters


def judge_constructor(subject: Subject, record: Record) -> None:
    """Names, order, defaults and kinds of the arguments are those of the spec."""
    found = inspect.signature(subject.type).parameters
    right = [(n, p.default) for n, p in found.items()] == list(signature(subject).items())
    right &= [n for n, p in found.items() if p.kind is p.KEYWORD_ONLY] in ([], ["radius"])
    hold(record, right, f"the constructor of {subject.name} is not the one that its spec calls for")


def judge_exports(subject: Subject, record: Record) -> None:
    """The module exports its classes in order, each an ``nn.Module`` of its own."""
    module = sys.modules[subject.type.__module__]
    classes = sorted(
        name
        for name, found in vars(module).items()
        if isinstance(found, type) and found.__module__ == module.__name__ and name[0] != "_"
    )
    exported = list(getattr(module, "__all__", ()))
    hold(record, exported == classes, f"__all__ is {exported}, not {classes}")


def judge_acceptance(subject: Subject, settings: Settings, record: Record) -> None:
    """Sizes that fit divide, so no division of them is refused."""
    for index in range(settings.instances):
        instance = sample_one(subject.derivation, index, settings.seed)
        message = refusal(subject, instance)
        right = "divisible" not in message
        hold(record, right, f"{subject.name} refuses what divides ({message}): {instance}")


def refusal(subject: Subject, instance: Instance) -> str:
    """The message with which a class refuses an instance's arguments; empty if it takes them."""
    try:
        subject.build(instance)
    except ValueError as error:
        return str(error)
    return ""


def judge_divisions(case: Case, record: Record) -> None:
    """What is composed must divide: one more, and a divisor of 0, are refused by name."""
    given = shown_arguments(case.subject.build(case.instance))
    for whole, part in divisions(case.subject.program):
        for change in ({part: 0}, {part: 2, whole: 3}):
            message = problem(case.subject, {**given, **doubled(case, given), **change})
            right = part in message and (whole in message or not change[part])
            hold(record, right, f"{change} is not refused by name but with {message!r}: {case}")


def doubled(case: Case, given: Mapping[str, Any]) -> dict[str, Any]:
    """Twice of everything that is composed, which 2 divides."""
    return {whole: 2 * given[whole] for whole, _ in divisions(case.subject.program)}


def divisions(program: Program) -> Iterator[tuple[str, str]]:
    """Arguments of which the second must divide the first."""
    sizes = program.spec.sizes
    for key, whole in sizes.items():
        for letter in split_letters(key) if key.startswith("(") else ():
            if letter in sizes and sizes[letter].isidentifier():
                yield whole, sizes[letter]


def judge_output_padding(case: Case, record: Record) -> None:
    """Each component of ``output_padding`` may reach stride and dilation less one, and no more."""
    given = shown_arguments(case.subject.build(case.instance))
    if not set(WINDOW) <= set(given):
        return
    usually = given["output_padding"]
    count = len(usually) if isinstance(usually, tuple) else 1
    for place, values in itertools.product(
        range(count), ((2, 1, 1), (1, 2, 1), (2, 1, 2), (1, 2, 2))
    ):
        change = {
            name: tuple(value if k == place else usual for k in range(count))
            for name, value, usual in zip(WINDOW, values, (1, 1, 0), strict=True)
        }
        message = problem(case.subject, {**given, **change})
        right = ("output_padding" in message) == (values[2] == max(values))
        right &= bool(message) == ("output_padding" in message)
        hold(record, right, f"{change} is answered with {message!r}: {case}")


def problem(subject: Subject, arguments: Mapping[str, Any]) -> str:
    """The message of the ``ValueError`` that a constructor raises; empty where it does not."""
    try:
        subject.type(**arguments, device="meta")
    except ValueError as error:
        return str(error)
    return ""


# ---------------------------------------------------------------------- what is shown
def judge_shown(case: Case, record: Record) -> None:
    """Every argument but device and dtype is kept and shown as given."""
    subject = case.subject
    given = dict(zip(positional(subject), subject.arguments(case.instance), strict=True))
    given |= subject.keywords(case.instance)
    given |= {"padding_mode": "zeros"} if has_padding_mode(subject) else {}
    given = {n: v for n, v in given.items() if n not in UNSHOWN}
    module = subject.build(case.instance)
    shown = shown_arguments(module)
    hold(record, shown == given, f"{module!r} does not show its arguments {given}: {case}")
    kept = {n: getattr(module, n, None) for n in given if n not in flags(subject)}
    right = kept == {n: given[n] for n in kept}
    hold(record, right, f"{module!r} does not keep its arguments {given}: {case}")


def positional(subject: Subject) -> list[str]:
    """The arguments that sizes are given by."""
    spec = subject.program.spec
    return [n for n in subject.program.arguments if n not in spec.hyperparameters]


def flags(subject: Subject) -> set[str]:
    """The arguments that say whether a parameter is there."""
    spec = subject.program.spec
    return {spec.parameters[s].torch for s in spec.optional}


def shown_arguments(module: nn.Module) -> dict[str, Any]:
    """The arguments that ``extra_repr`` shows."""
    call = ast.parse(f"f({module.extra_repr()})", mode="eval").body
    assert isinstance(call, ast.Call), "the text is one call"
    return {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}


# ---------------------------------------------------------------------- parameters
def judge_parameters(subject: Subject, instance: Instance, record: Record) -> None:
    """Parameters are those of the spec, in its order, with the initial values that it declares."""
    torch.manual_seed(instance.seed)
    module = subject.type(*subject.arguments(instance), **subject.keywords(instance))
    judge_initial(module, subject, instance, record)
    names = [subject.parameter_name(t) for t in subject.program.parameters]
    what = f"the state of {subject.name} is not {names}: {instance}"
    hold(record, list(module.state_dict()) == names, what)


def judge_initial(module: nn.Module, subject: Subject, instance: Instance, record: Record) -> None:
    """Every parameter has the values that its ``init`` gives after the same seed."""
    torch.manual_seed(instance.seed)
    program = subject.program
    for tensor in program.parameters:
        declared = program.spec.parameters[tensor.name]
        held = getattr(module, declared.torch).detach()
        wanted = torch.empty_like(held)
        if declared.init == "uniform":
            fan_in = math.prod(instance.sizes[s] for s in fan_in_sizes(program, tensor))
            bound = 1 / math.sqrt(max(1, fan_in))
            wanted.uniform_(-bound, bound)
        else:
            getattr(nn.init, f"{declared.init}_")(wanted)
        name = f"{subject.name}.{declared.torch}"
        what = f"{name} does not start from its initial values: {instance}"
        hold(record, torch.allclose(held, wanted, rtol=1e-12, atol=0.0), what)


def fan_in_sizes(program: Program, tensor: Tensor) -> list[str]:
    """The sizes that multiply to the fan-in: letters declared, contracted, or its weight's."""
    declared = program.spec.parameters[tensor.name].fan_in
    if declared:
        return [program.letters[x].size for x in declared]
    for weight in (tensor, *program.parameters):
        for line in program.lines:
            found = reads(line.value)
            if not any(r.tensor == tensor.name for r in found):
                continue
            # [j = 1] of W[i, 1] = Σ_j [j = 1] W[i, j]: one place, which multiplies nothing.
            brackets = [
                [x for x in d.free_symbols if isinstance(x, Letter)]
                for d in line.value.atoms(Delta)
            ]
            fixed = [letters[0] for letters in brackets if len(letters) == 1]
            for read in sorted((r for r in found if r.tensor == weight.name), key=str):
                letters = [x for x in read.indices if isinstance(x, Letter)]
                own = [x.size for x in letters if x not in line.letters and x not in fixed]
                if own:
                    return own
    return []


def judge_empty(case: Case, record: Record) -> None:
    """A layer of no features can be built, as torch's can."""
    given = shown_arguments(case.subject.build(case.instance))
    for name in sized(case.subject.program):
        message = problem(case.subject, {**given, name: 0})
        hold(record, not message, f"{name}=0 is refused: {message}: {case}")


def sized(program: Program) -> Iterator[str]:
    """The arguments that size axes and nothing else."""
    sizes = program.spec.sizes
    computed = " ".join(v for v in sizes.values() if not v.isidentifier())
    composed = [key for key in sizes if key.startswith("(")]
    shaping = set(re.findall(r"[A-Za-z_]\w*", " ".join((computed, *composed))))
    for name, count in program.arguments.items():
        own = {letter for key, v in sizes.items() if v == name for letter in split_letters(key)}
        whole = any(sizes[key] == name for key in composed)
        if not count and (whole or not own & shaping):
            yield name


# ---------------------------------------------------------------------- attention
def judge_attention(subject: AttentionSubject, record: Record) -> None:
    """An attention class is built, initialised and shown as ``nn.MultiheadAttention`` is."""
    found = inspect.signature(subject.type).parameters
    wanted = inspect.signature(nn.MultiheadAttention).parameters
    same = [(p.name, p.default) for p in found.values()][: len(wanted)]
    right = same == [(p.name, p.default) for p in wanted.values()]
    hold(record, right, f"the constructor of {subject.name} is not its twin's")
    for options in ({}, {"bias": False}, {"add_bias_kv": True}, {"kdim": 3, "vdim": 5}):
        states = []
        for build in (subject.type, nn.MultiheadAttention):
            torch.manual_seed(0)
            states.append(build(6, 2, **options).state_dict())
        right = list(states[0]) == list(states[1])
        right = right and all(
            torch.allclose(states[0][k], v, rtol=1e-6) for k, v in states[1].items()
        )
        hold(record, right, f"initial values of {subject.name} with {options} are not its twin's")


# ---------------------------------------------------------------------- the stage
def declared_stage(variants: Sequence[Subject], settings: Settings, record: Record) -> None:
    """Constructor, representation, parameters, shapes and precision."""
    judge_exports(variants[0], record)
    for subject in variants:
        if isinstance(subject, AttentionSubject):
            record.instances += 1
            judge_attention(subject, record)
            continue
        judge_constructor(subject, record)
        judge_acceptance(subject, settings, record)
        # A fan-in of 1 is where a wrong lower bound of it shows.
        judge_parameters(subject, draw_instance(subject.derivation, Lowest(), KINDS[0]), record)
        for case in cases(subject, settings, record, kinds=KINDS, count=COUNT):
            judge_shown(case, record)
            judge_divisions(case, record)
            judge_output_padding(case, record)
            judge_parameters(subject, case.instance, record)
            judge_empty(case, record)
            judge_values(case, record)
    record.note("constructor, initial values, leading axes, precision and zeros as declared")

"""Autograd functions of an emitted file: both passes, read in exact arithmetic and held together.

A file chooses by the mode in which it runs between plain operations and an autograd function. Where
it calls one, its forward pass is read with numbers that have a derivative along v, so that the
exact derivative ṙ of its result is at hand. Its backward pass is read with random g for the
gradient of the result, and has to give numbers d with

    Σ_k ⟨d_k, v_k⟩ = ⟨g, ṙ⟩,

the sum over all arguments that are tensors: random in g and v, so equal only if d is the gradient.
It is read twice: as it runs for a first derivative, and as it runs when a second one is asked for.
Then what was kept besides the arguments counts as constant, and the two have to agree in d and in
its derivative along v.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from verify.emitted_values import Context, EmittedClass
from verify.exact_array import Exact, Refusal, objects, same
from verify.residues import PRIME

if TYPE_CHECKING:
    from verify.emitted_language import Machine


@dataclass(frozen=True)
class Mode:
    """How a file runs.

    Attributes:
        transformed: Whether a transform of torch takes its operations apart.
        recording: Whether gradients are recorded.
        in_range: Whether sums of squares stay within the range that the file asks for.
    """

    transformed: bool
    recording: bool
    in_range: bool = True

    def answer(self, name: str) -> bool:
        """What a question of the file is answered."""
        if name == "torch.is_grad_enabled":
            return self.recording
        return self.transformed and name == "torch._C._are_functorch_transforms_active"


PLAIN = Mode(transformed=True, recording=True)
EAGER = Mode(transformed=False, recording=True)


def modes(machine: Machine, dtype: str) -> tuple[Mode, ...]:
    """The modes in which a file is read for numbers of a type."""
    if not machine.derives:
        return (PLAIN,)
    wide = (replace(EAGER, in_range=False),) if dtype in ("float32", "bfloat16") else ()
    return (PLAIN, EAGER, *wide)


def apply(machine: Machine, function: EmittedClass, given: Sequence[Any]) -> Exact:
    """``Function.apply``: the result of the forward pass, once the backward pass fits to it.

    Raises:
        Refusal: If an autograd function is called in another mode, does not return one tensor, or
            its backward pass is not the derivative.
    """
    mode = machine.mode
    if mode.transformed or not mode.recording:
        raise Refusal(f"{function.name} is called where plain operations are asked for")
    places = [k for k, x in enumerate(given) if isinstance(x, Exact) and x.dtype]
    context = Context(tuple(k in places for k in range(len(given))))
    result = step(machine, replace(mode, recording=False), function, "forward", context, given)
    if not isinstance(result, Exact):
        raise Refusal(f"{function.name} returns what is no tensor of numbers")
    rng = random.Random(f"{function.name}{result.value.tolist()}")
    numbers = [rng.randrange(machine.ring.modulus) for _ in range(result.value.size)]
    upstream = result.like(objects(numbers).reshape(result.shape))
    first = backward(machine, replace(mode, recording=False), function, context, upstream)
    check_derivative(function, [given[k] for k in places], first, places, result, upstream)
    arguments = {id(x) for x in given}
    saved = context.saved or ()
    context.saved = tuple(
        x.detached() if isinstance(x, Exact) and id(x) not in arguments else x for x in saved
    )
    second = backward(machine, mode, function, context, upstream)
    for k in places:
        wrong = same(first[k], second[k])
        if wrong:
            raise Refusal(f"{function.name}: second derivatives start from another {wrong}")
    return result


def step(
    machine: Machine,
    mode: Mode,
    function: EmittedClass,
    name: str,
    context: Context,
    given: Sequence[Any],
) -> Any:
    """One pass, read in a mode of its own."""
    before, machine.mode = machine.mode, mode
    try:
        return machine.run(function.find(name), [context, *given], {})
    finally:
        machine.mode = before


def backward(
    machine: Machine, mode: Mode, function: EmittedClass, context: Context, upstream: Exact
) -> list[Any]:
    """What the backward pass gives, one entry an argument.

    Raises:
        Refusal: If it gives another number of things, or no gradient where one is needed.
    """
    found = step(machine, mode, function, "backward", context, [upstream])
    needed = context.needs_input_grad
    parts = list(found) if isinstance(found, tuple) else [found]
    if [isinstance(x, Exact) for x in parts] != list(needed):
        raise Refusal(f"{function.name}: backward does not give a gradient for each tensor")
    return parts


def check_derivative(
    function: EmittedClass,
    arguments: Sequence[Exact],
    gradients: Sequence[Any],
    places: Sequence[int],
    result: Exact,
    upstream: Exact,
) -> None:
    """Σ_k ⟨d_k, v_k⟩ = ⟨g, ṙ⟩.

    Raises:
        Refusal: If it is not so, or a gradient has another shape or type than its argument.
    """
    total = 0
    for x, k in zip(arguments, places, strict=True):
        d = gradients[k]
        if d.shape != x.shape or d.dtype != x.dtype:
            raise Refusal(f"{function.name}: a gradient of {d.dtype} {d.shape} for {x.shape}")
        if x.tangent is not None:
            total += int((d.finite.value * x.tangent).sum())
    if result.tangent is not None:
        total -= int((upstream.value * result.finite.tangent).sum())
    if total % PRIME:
        raise Refusal(f"{function.name}: the backward pass is not the derivative")

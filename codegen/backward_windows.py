"""The backward pass of sliding windows: the adjoints of what the forward pass computes by windows.

A sum of the backward pass is recognised as an adjoint where it is what the pullback of a sum of the
forward pass derives to, whatever that sum looks like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sympy import Expr, Integer, Mul, Symbol

from codegen.boxes import moves_of, ones_window
from codegen.calls import Found, factors_of
from codegen.lower import Lowering
from codegen.values import BATCH, Value
from codegen.windows import Slid, steps_of
from derive.gradients import Step, pullback
from derive.nodes import Contraction, Delta, Letter, Read, letters_in, reads, substitute
from derive.program import Tensor

SUMMED = "summed over channels"
ALONE = "(True, False, False)", "(False, True, False)"


@dataclass(frozen=True)
class Adjoint:
    """A gradient that a convolution's backward pass gives.

    Attributes:
        slid: The convolution.
        upstream: What it is multiplied with, a read.
        given: The codes of that, of the image and of the weight.
        name: The tensor.
        stored: What brings the gradient into the tensor's own layout.
    """

    slid: Slid
    upstream: Read
    given: tuple[str, str, str]
    name: str
    stored: str


@dataclass(frozen=True)
class Joint:
    """All gradients that one call of a convolution's backward pass gives.

    Attributes:
        call: The call up to what is wanted.
        weight: The weight, and what brings its gradient into its own layout.
        bias: The bias whose gradient it gives too, or "".
    """

    call: str
    weight: tuple[str, str]
    bias: str


def joint_of(
    lowering: Lowering, image: str, parameters: Mapping[str, str], gradients: Mapping[str, Step]
) -> Joint | None:
    """The call that gives the gradients of an image, of a weight and of the bias beside it.

    Args:
        lowering: The lowering of the backward pass.
        image: The code of the image's gradient.
        parameters: Parameter → the code of its gradient.
        gradients: Parameter → its gradient.
    """
    own = lowering.adjoints.get(image)
    beside = [a for code in parameters.values() if (a := lowering.adjoints.get(code)) is not None]
    if own is None or [a.given for a in beside] != [own.given]:
        return None
    (weight,) = beside
    channel = next(a for a in own.slid.axes if isinstance(a, tuple))
    size = lowering.sizes.product([lowering.sizes.letter(x) for x in channel]).code
    u = weight.upstream
    own_biases = (n for n in parameters if is_bias(lowering, n, channel, gradients[n].value, u))
    call = backward_call(lowering, own.slid, own.given, f"({size},)")
    return Joint(call, (weight.name, weight.stored), next(own_biases, ""))


def is_bias(
    lowering: Lowering, name: str, channel: tuple[Letter, ...], gradient: Expr, upstream: Read
) -> bool:
    """Whether a gradient is Σ u ∂b[i]/∂b, b one number a channel."""
    program = lowering.program
    if program.tensors[name].axes != (channel,):
        return False
    bias = Read(Symbol(name), *channel)
    return bool(pullback(program, upstream, bias, name, program.output.letters) == gradient)


def convolution_gradient(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ u ∂z/∂T, T the image or the weight, of a sum z that the forward pass convolves."""
    for slid in lowering.slid:
        if slid.weight is None:
            continue
        weight, matrix = slid.weight
        image = slid.window.read.tensor
        for place, (name, other) in enumerate(((image, weight), (weight, image))):
            upstream = upstream_of(lowering, e, slid, name, other)
            if upstream is None:
                continue
            u = lowering.arranged(lowering.of(upstream), slid.axes)
            given = u.code, lowering.values[image].code, matrix
            call = f"{backward_call(lowering, slid, given)}{ALONE[place]})[{place}]"
            # A depthwise kernel is stored without the channels of its groups.
            stored = ".squeeze(1)" if place and matrix.endswith(".unsqueeze(1)") else ""
            code = f"{call}{stored}"
            lowering.adjoints[code] = Adjoint(slid, upstream, given, name, stored)
            return Value(code, lowering.values[name].axes), False
    return None


def upstream_of(
    lowering: Lowering, e: Contraction, slid: Slid, name: str, other: str
) -> Read | None:
    """u, if the sum is Σ u ∂z/∂T over the output's letters, z a product of T and another tensor."""
    program = lowering.program
    # That of u alone, where the other tensor stands beside it.
    left = {r.tensor for r in reads(e.body)} ^ {other}
    if len(left) != 1:
        return None
    u = Read(Symbol(left.pop()), *program.output.letters)
    last = replace(program, lines=(program.output,))
    return u if pullback(last, u, slid.total, name, program.output.letters) == e else None


def backward_call(
    lowering: Lowering, slid: Slid, given: tuple[str, str, str], bias_sizes: str = "None"
) -> str:
    """The backward pass of a convolution in torch, up to what of it is wanted.

    Args:
        lowering: The lowering of the backward pass.
        slid: The convolution.
        given: The codes of the upstream gradient, the image and the weight.
        bias_sizes: The code of the bias' shape.
    """
    stride, padding, dilation, more = steps_of(lowering, slid.window.slides)
    moves = f"{stride}, {padding}, {dilation}, {slid.kind == 'conv_transpose'}, {more}"
    code = f"{', '.join(given)}, {bias_sizes}, {moves}, {slid.groups or 1}"
    return f"torch.ops.aten.convolution_backward({code}, "


def box_gradient(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ f ∂B/∂y of the box sum B of a map y that the forward pass computes."""
    if not e.has(Delta):
        return None
    for slid in lowering.slid:
        if slid.weight is None:
            found = spread(lowering, e, slid)
            if found is not None:
                return found, False
    return None


def spread(lowering: Lowering, e: Contraction, slid: Slid) -> Value | None:
    """The adjoint of one box sum, if the sum is that."""
    box, y = channelless(lowering, slid)
    f = at_own_letters(lowering, e)
    program = lowering.program
    letters = tuple(x for x in program.output.letters if x in box.free_symbols)
    if letters_in([f]) != {*letters}:
        return None
    tensors = {**program.tensors, y.name: y}
    known = replace(program, tensors=tensors, lines=(program.output,))
    if pullback(known, f, box, y.name, letters) != e:
        return None
    image, count = lowering.values[slid.window.read.tensor], len(slid.window.slides)
    value = lowering.arranged(lowering.of(f), slid.axes)
    axes = (*value.axes[:-count], *image.axes[-count:])
    return lowering.assign("spread", Value(box_adjoint(lowering, slid, value, image.code), axes))


def box_adjoint(lowering: Lowering, slid: Slid, value: Value, image: str) -> str:
    """The adjoint of a box sum, in the form in which the sum itself is computed."""
    w, count = slid.window, len(slid.window.slides)
    shape = f"{image}.shape[-{count}:]"
    if slid.shifted:
        return f"{lowering.helper('_box_adjoint')}({value.code}, {shape}, {moves_of(lowering, w)})"
    value = lowering.assign("flow", value)
    if slid.kind == "conv_transpose":
        plain = tuple(replace(s, output_padding=Integer(0)) for s in w.slides)
        ones = ones_window(lowering, value, replace(w, slides=plain), "conv")
        # With an output padding of a stride or more there are more windows than positions.
        return f"{ones}[..., {', '.join(f': {image}.shape[{k - count}]' for k in range(count))}]"
    unread = f"{lowering.helper('_unread')}({shape}, {moves_of(lowering, w)})"
    # A compiler fuses what stands around this, as it does not around a backward pass' own call.
    return ones_window(lowering, value, w, "conv_transpose", unread)


def channelless(lowering: Lowering, slid: Slid) -> tuple[Expr, Tensor]:
    """A box sum as one of a map without the channels that are summed, and that map."""
    w, bound = slid.window, set(slid.total.letters)
    own = lowering.program.tensors[w.read.tensor]
    indices = dict(zip(own.letters, w.read.indices, strict=True))
    kept = [x for x in own.letters if not (indices[x] == w.channel and w.channel in bound)]
    y = Tensor(SUMMED, "intermediate", tuple((x,) for x in kept))
    deltas = [f for f in factors_of(slid.total) if isinstance(f, Delta)]
    read = Read(Symbol(SUMMED), *(indices[x] for x in kept))
    left = [x for x in slid.total.letters if x != w.channel]
    return Contraction(Mul(*deltas, read), *left), y


def at_own_letters(lowering: Lowering, e: Contraction) -> Expr:
    """What a sum scatters, read where it stands."""
    rest = Mul(*(f for f in factors_of(e) if not isinstance(f, Delta)))
    moved: dict[Expr, Expr] = {}
    for read in reads(rest):
        letters = lowering.program.tensors[read.tensor].letters
        moved.update(zip(read.indices, letters, strict=True))
    return substitute(rest, moved)


def over_sites(lowering: Lowering, e: Contraction, bias: Value | None) -> Found:
    """Σ_npq u[n, i, p, q], where a window leaves one leading axis."""
    if not lowering.slid or not isinstance(e.body, Read):
        return None
    value = lowering.split(lowering.of(e.body))
    own = [a for a in value.axes if isinstance(a, tuple) and set(a) <= {*e.letters}]
    # What is left of the letters is the leading one.
    if len(own) + 1 != len(e.letters):
        return None
    places = (0, *(value.position(a) for a in own))
    axes = tuple(a for a in value.axes if a is not BATCH and a not in own)
    return Value(f"{value.code}.sum({places})", axes), False


WINDOW_RECOGNISERS = (convolution_gradient, box_gradient, over_sites)

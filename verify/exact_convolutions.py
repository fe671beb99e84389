"""Convolutions over one to three axes, transposed ones, and their backward pass.

All of them go between a map whose positions are read through windows, the wide one, and a map with
a position for each window, the narrow one, and multiply by W[(g, narrow), wide, k]:

    read        narrow[p] = Σ_k W[k] wide[stride p + dilation k]
    scatter     wide[stride p + dilation k] += W[k] narrow[p]
    correlate   W[k] = Σ_p narrow[p] wide[stride p + dilation k]

each the adjoint of the others. A convolution reads, and a transposed one scatters; a padding is cut
off the wide map.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from verify.exact_array import Array, Exact, Refusal, multilinear, objects
from verify.exact_products import of_one_type, with_bias
from verify.exact_table import integers, known, real
from verify.residues import Residues

AXES = {1: "p", 2: "pq", 3: "pqr"}
LEADING = (slice(None),) * 3


@dataclass(frozen=True)
class Windows:
    """Windows over some axes.

    Attributes:
        stride, padding, dilation: An entry an axis.
        kernel: The kernel's sizes.
        narrow: How many windows there are.
        wide: How many positions the padded map has.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    kernel: tuple[int, ...]
    narrow: tuple[int, ...]
    wide: tuple[int, ...]

    def places(self) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        """Where an entry of the kernel stands, and what it reads through all windows."""
        for k in itertools.product(*map(range, self.kernel)):
            read = tuple(
                slice(d * i, d * i + s * (n - 1) + 1, s)
                for d, i, s, n in zip(self.dilation, k, self.stride, self.narrow, strict=True)
            )
            yield LEADING + k, LEADING + read

    def padded(self, a: Array) -> Array:
        """A map with zeros around it; what no window reaches may be missing at its end."""
        found = np.zeros((*a.shape[:3], *self.wide), dtype=object)
        ends = (p + n for p, n in zip(self.padding, a.shape[3:], strict=True))
        found[LEADING + tuple(map(slice, self.padding, ends))] = a
        return found

    def cropped(self, a: Array) -> Array:
        """A map without the padding."""
        ends = (n - p for p, n in zip(self.padding, self.wide, strict=True))
        return objects(a[LEADING + tuple(map(slice, self.padding, ends))])

    @property
    def letters(self) -> str:
        """The positions in an einsum."""
        return AXES[len(self.kernel)]

    def read(self, wide: Array, weight: Array) -> Array:
        """Σ_k W[k] wide[stride p + dilation k - padding]."""
        wide, p, found = self.padded(wide), self.letters, 0
        for k, window in self.places():
            found = found + np.einsum(f"ngb{p},gsb->ngs{p}", wide[window], weight[k])
        return objects(found)

    def scatter(self, narrow: Array, weight: Array) -> Array:
        """The map whose entries at stride p + dilation k - padding get W[k] narrow[p]."""
        p = self.letters
        found = np.zeros((*narrow.shape[:2], weight.shape[2], *self.wide), dtype=object)
        for k, window in self.places():
            found[window] += np.einsum(f"ngs{p},gsb->ngb{p}", narrow, weight[k])
        return self.cropped(found)

    def correlate(self, narrow: Array, wide: Array) -> Array:
        """Σ_np narrow[p] wide[stride p + dilation k - padding]."""
        wide, p = self.padded(wide), self.letters
        channels = narrow.shape[1], narrow.shape[2], wide.shape[2]
        found = np.zeros((*channels, *self.kernel), dtype=object)
        for k, window in self.places():
            found[k] = np.einsum(f"ngs{p},ngb{p}->gsb", narrow, wide[window])
        return found


# ---------------------------------------------------------------------- arguments
def per_axis(value: Any, count: int) -> tuple[int, ...]:
    """One number for every axis or one an axis.

    Raises:
        Refusal: If there is another number of them.
    """
    if isinstance(value, int):
        return (value,) * count
    found = integers(value)
    if len(found) != count:
        raise Refusal(f"{len(found)} numbers for {count} axes")
    return found


def reading(
    lengths: tuple[int, ...], kernel: tuple[int, ...], stride: Any, padding: Any, dilation: Any
) -> Windows:
    """The windows of a convolution.

    Raises:
        Refusal: If there are none, or a number is too small.
    """
    steps, pads, gaps = (per_axis(v, len(kernel)) for v in (stride, padding, dilation))
    wide = tuple(n + 2 * p for n, p in zip(lengths, pads, strict=True))
    reach = [n - d * (k - 1) - 1 for n, d, k in zip(wide, gaps, kernel, strict=True)]
    if min(reach) < 0 or min(steps) < 1 or min(gaps) < 1 or min(pads) < 0:
        raise Refusal("a kernel larger than what it reads")
    narrow = tuple(r // s + 1 for r, s in zip(reach, steps, strict=True))
    return Windows(steps, pads, gaps, kernel, narrow, wide)


def scattering(
    lengths: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    output_padding: Any,
) -> Windows:
    """The windows of a transposed convolution.

    Raises:
        Refusal: If nothing is left, or a number is too small or too large.
    """
    steps, pads, gaps, more = (
        per_axis(v, len(kernel)) for v in (stride, padding, dilation, output_padding)
    )
    if min(steps) < 1 or min(gaps) < 1 or min(pads) < 0 or min(more) < 0:
        raise Refusal("a stride or dilation below 1")
    if any(m >= max(s, d) for m, s, d in zip(more, steps, gaps, strict=True)):
        raise Refusal("output_padding must be smaller than stride or dilation")
    wide = tuple(
        (n - 1) * s + d * (k - 1) + 1 + m
        for n, s, d, k, m in zip(lengths, steps, gaps, kernel, more, strict=True)
    )
    if any(n <= 2 * p for n, p in zip(wide, pads, strict=True)):
        raise Refusal("a padding that leaves nothing")
    return Windows(steps, pads, gaps, kernel, lengths, wide)


def batched(x: Exact, count: int) -> tuple[Exact, bool]:
    """With a batch axis, and whether it had one.

    Raises:
        Refusal: If the number of axes is another.
    """
    if len(x.shape) == count + 2:
        return x, True
    if len(x.shape) == count + 1:
        return x.moved(lambda a: a[None]), False
    raise Refusal(f"a convolution over {count} axes of a tensor of {len(x.shape)}")


def grouped_weight(weight: Exact, groups: int, count: int) -> Exact:
    """(g, channels of the group, others, kernel …).

    Raises:
        Refusal: If the groups do not divide the channels.
    """
    shape = weight.shape
    if len(shape) != count + 2 or groups < 1 or shape[0] % groups:
        raise Refusal(f"a weight of shape {shape} in {groups} groups")
    return weight.moved(lambda w: w.reshape(groups, shape[0] // groups, *shape[1:]))


def grouped_map(x: Exact, groups: int, channels: int) -> Exact:
    """(n, g, channels, position …).

    Raises:
        Refusal: If there is another number of channels.
    """
    if x.shape[1] != groups * channels:
        raise Refusal(f"{x.shape[1]} channels in {groups} groups of {channels}")
    return x.moved(lambda a: a.reshape(a.shape[0], groups, channels, *a.shape[2:]))


def merged(x: Exact) -> Exact:
    """Groups and their channels as one axis."""
    return x.moved(lambda a: a.reshape(a.shape[0], -1, *a.shape[3:]))


# ---------------------------------------------------------------------- the calls
def enter(count: int) -> None:
    """Enter the convolutions over that many axes."""

    @known(f"F.conv{count}d")
    def convolve(
        ring: Residues,
        x: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Exact:
        """Σ_ck W[(g, o), c, k] x[n, (g, c), stride p + dilation k - padding] + b[(g, o)]."""
        of_one_type(x, weight)
        given, had_batch = batched(real(x), count)
        w = grouped_weight(real(weight), groups, count)
        given = grouped_map(given, groups, w.shape[2])
        windows = reading(given.shape[3:], w.shape[3:], stride, padding, dilation)
        return finished(multilinear(windows.read, given, w), bias, had_batch)

    @known(f"F.conv_transpose{count}d")
    def transposed(
        ring: Residues,
        x: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Exact:
        """Σ_ck W[(g, c), o, k] x[n, (g, c), (p + padding - dilation k)/stride] + b[(g, o)]."""
        of_one_type(x, weight)
        given, had_batch = batched(real(x), count)
        w = grouped_weight(real(weight), groups, count)
        given = grouped_map(given, groups, w.shape[1])
        lengths, kernel = given.shape[3:], w.shape[3:]
        windows = scattering(lengths, kernel, stride, padding, dilation, output_padding)
        return finished(multilinear(windows.scatter, given, w), bias, had_batch)


def finished(z: Exact, bias: Any, had_batch: bool) -> Exact:
    """Groups merged, the bias added, the batch as it was."""
    z = with_bias(merged(z), bias, 1)
    return z if had_batch else z.moved(lambda a: a[0])


@known("torch.ops.aten.convolution_backward")
def convolution_backward(
    ring: Residues,
    upstream: Any,
    x: Any,
    weight: Any,
    bias_sizes: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    wanted: Any,
) -> tuple[Exact | None, ...]:
    """Σ u ∂z/∂x, Σ u ∂z/∂W and Σ u ∂z/∂b of z = W * x + b, where they are wanted."""
    of_one_type(upstream, x, weight)
    count = len(real(weight).shape) - 2
    if not isinstance(wanted, tuple) or [type(w) for w in wanted] != [bool] * 3:
        raise Refusal(f"{wanted!r} as what is wanted of the backward pass of a convolution")
    if len(real(x).shape) != count + 2 or len(real(upstream).shape) != count + 2:
        raise Refusal("the backward pass of a convolution without a leading axis")
    w = grouped_weight(real(weight), groups, count)
    image = grouped_map(real(x), groups, w.shape[1 if transposed else 2])
    u = grouped_map(real(upstream), groups, w.shape[2 if transposed else 1])
    steps = (image.shape[3:], w.shape[3:], stride, padding, dilation)
    if transposed:
        windows = scattering(*steps, output_padding)
        sizes = windows.cropped(np.zeros((1, 1, 1, *windows.wide))).shape[3:]
    else:
        windows = reading(*steps)
        sizes = windows.narrow
        if any(per_axis(output_padding, count)):
            raise Refusal("an output padding of a convolution that is not transposed")
    if u.shape[3:] != sizes or u.shape[0] != image.shape[0]:
        raise Refusal(f"a gradient of shape {real(upstream).shape} of that convolution")
    first = second = third = None
    if wanted[0]:
        first = merged(multilinear(windows.read if transposed else windows.scatter, u, w))
    if wanted[1]:
        narrow, wide = (image, u) if transposed else (u, image)
        found = multilinear(windows.correlate, narrow, wide)
        second = found.moved(lambda a: a.reshape(-1, *a.shape[2:]))
    if wanted[2]:
        if bias_sizes is None or integers(bias_sizes) != real(upstream).shape[1:2]:
            raise Refusal(f"a bias of shape {bias_sizes} for a gradient of {real(upstream).shape}")
        third = real(upstream).total((0, *range(2, count + 2)))
    return first, second, third


for number in AXES:
    enter(number)

"""Small functions that a generated file carries along when its code needs them."""

from __future__ import annotations

from collections.abc import Iterable

HELPERS: dict[str, str] = {
    "_wide_dtype": '''
def _wide_dtype(x: Tensor) -> torch.dtype:
    """float64, or float32 where x is float16 or its device has no float64."""
    narrow = x.dtype == torch.float16 or x.device.type == "mps"
    return torch.float32 if narrow else torch.float64
''',
    "_wide": '''
def _wide(x: Tensor) -> Tensor:
    """The same numbers in the dtype that gauges are computed in."""
    return x.to(_wide_dtype(x))
''',
    "_energy": '''
def _energy(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """The sum of x * x over dim in the wide dtype, or in float32 where that holds it.

    While gradients are recorded it is a plain sum, smooth at 0 and the same to every transform.
    """
    wide = _wide_dtype(x)
    if torch.is_grad_enabled() or _is_transformed():
        return x.to(wide).square().sum(dim)
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and x.numel():
        if dim == -1:
            norm: Tensor = torch.linalg.vector_norm(x, dim=dim, dtype=torch.float32)
            energy = norm.square()
        else:  # where vector_norm is slow
            energy = x.float().square().sum(dim)
        low, high = torch.aminmax(energy)
        if float(low) > 2.0**-90 and float(high) < 2.0**90:
            return energy
    wide_norm: Tensor = torch.linalg.vector_norm(x, dim=dim, dtype=wide)
    return wide_norm.square()
''',
    "_is_transformed": '''
def _is_transformed() -> bool:
    """Whether a compiler, a tracer, forward mode or a transform of torch.func runs this code."""
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return True
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()
''',
    "_takes_derived": '''
def _takes_derived(x: Tensor, *, compiled: bool = True) -> bool:
    """Whether the derived backward pass serves: in eager mode and, if so said, in compiled code.

    Autocast, exporters, forward mode and the transforms of torch.func get plain operations.
    """
    if x.is_meta or torch.is_autocast_enabled(x.device.type):
        return False
    if torch.compiler.is_compiling():
        return compiled and not torch.compiler.is_exporting()
    return not _is_transformed()
''',
    "_flatten": '''
def _flatten(x: Tensor, first: int, last: int) -> Tensor:
    """torch.flatten, which cannot be taken over a batch of gradients (is_grads_batched)."""
    first, end = first + x.dim(), last + x.dim() + 1
    return x.reshape(*x.shape[:first], math.prod(x.shape[first:end]), *x.shape[end:])
''',
    "_unflatten": '''
def _unflatten(x: Tensor, dim: int, sizes: tuple[int, ...]) -> Tensor:
    """torch.unflatten, which cannot be taken over a batch of gradients (is_grads_batched)."""
    return x.reshape(*x.shape[:dim], *sizes, *x.shape[x.dim() + dim + 1 :])
''',
    "_add_product": '''
def _add_product(h: Tensor, x: Tensor, factor: Tensor, sign: int) -> Tensor:
    """The sum h + sign x factor in x's dtype, in place of h unless a second derivative needs h."""
    if torch.is_grad_enabled():
        return torch.addcmul(h, x, factor, value=sign).to(x.dtype)
    return h.addcmul_(x, factor, value=sign).to(x.dtype)
''',
    "_as_output": '''
def _as_output(x: Tensor) -> Tensor:
    """The same numbers, of which torch forgets that they are a view: a function may return none."""
    found: Tensor = torch.ops.aten._unsafe_view(x, x.shape)
    return found
''',
    "_rows": '''
def _rows(x: Tensor) -> Tensor:
    """All leading axes as one."""
    return x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
''',
    "_single": '''
def _single(x: Tensor) -> Tensor:
    """At least float32: a window over wider squares is slow, and unknown to some runtimes."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
''',
    "_finite": '''
def _finite(scale: Tensor, x: Tensor) -> Tensor:
    """At most the largest number of x's dtype, or of float32: beyond it the scale saturates."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return scale.clamp(max=torch.finfo(wide).max)
''',
    "_times": '''
def _times(z: Tensor, scale: Tensor) -> Tensor:
    """The product in z's dtype, rounded once."""
    if z.dtype in (torch.float16, torch.bfloat16):
        return (z * scale.float()).to(z.dtype)
    return z * scale.to(z.dtype)
''',
    "_times_plus": '''
def _times_plus(z: Tensor, scale: Tensor, added: Tensor) -> Tensor:
    """The product and what is added to it in z's dtype, rounded once."""
    if z.dtype in (torch.float16, torch.bfloat16):
        return torch.addcmul(added.float(), z.float(), scale.float()).to(z.dtype)
    return torch.addcmul(added.to(z.dtype), z, scale.to(z.dtype))
''',
    "_no_autocast": '''
def _no_autocast(x: Tensor) -> torch.autocast:
    """A block without autocast, which rounds to half precision, where sums of squares overflow."""
    return torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False)
''',
    "_inverse_root": '''
def _inverse_root(x: Tensor, degree: float) -> Tensor:
    """The power x ** (-1 / degree) of x >= 0; 0 where x is 0, with finite gradients everywhere."""
    x = x.masked_fill(x <= 0, math.inf)  # below 0 by rounding alone
    return torch.sqrt(x).reciprocal() if degree == 2 else torch.pow(x, -1 / degree)
''',
    "_root": '''
def _root(x: Tensor) -> Tensor:
    """The square root of x >= 0, with gradient 0 where x is 0."""
    zero = x <= 0  # below 0 by rounding alone
    return torch.sqrt(x.masked_fill(zero, 1)).masked_fill(zero, 0)
''',
    "_whiten": '''
def _whiten(kernel: Tensor, z: Tensor) -> Tensor:
    """L⁻¹ z with the Cholesky factor of kernel = L Lᵀ, and 0 where the kernel is singular."""
    singular = (torch.linalg.cholesky_ex(kernel.detach()).info != 0)[..., None, None]
    identity = torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
    factor = torch.linalg.cholesky(torch.where(singular, identity, kernel))
    column = z.unsqueeze(-1).to(kernel.dtype)
    solved: Tensor = torch.linalg.solve_triangular(factor, column, upper=False)
    return solved.masked_fill(singular, 0).squeeze(-1).to(z.dtype)
''',
    "_take": '''
def _take(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """Elements of x along ``dim`` < 0 at ``index``, 0 outside; its axes replace ``dim``."""
    size = x.shape[dim]
    inside = (index >= 0) & (index < size)
    picked = x.index_select(dim, index.clamp(0, size - 1).flatten())
    picked = torch.unflatten(picked, dim, index.shape)
    inside = inside.reshape(*index.shape, *(1,) * (-1 - dim))
    return picked.masked_fill(~inside, 0)
''',
    "_gather": '''
def _gather(x: Tensor, indices: tuple[Tensor, ...]) -> Tensor:
    """Elements x[..., i, j, ...] at index tensors that broadcast, 0 outside the range."""
    sizes = x.shape[-len(indices) :]
    clamped = tuple(i.clamp(0, size - 1) for i, size in zip(indices, sizes, strict=True))
    picked = x[(..., *clamped)]
    for index, size in zip(indices, sizes, strict=True):
        picked = picked.masked_fill((index < 0) | (index >= size), 0)
    return picked
''',
    "_window_sum": '''
def _window_sum(x: Tensor, size: int, step: int) -> Tensor:
    """The sums of x[..., p + step * k] over k < size, each made of two over half as many."""
    if size == 1:
        return x
    half, shift = _window_sum(x, size // 2, step), step * (size // 2)
    total = half[..., :-shift] + half[..., shift:]
    return total if size % 2 == 0 else total[..., :-step] + x[..., step * (size - 1) :]
''',
    "_box_sum": '''
def _box_sum(
    x: Tensor,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """The sums of x over the windows of a convolution, one of the last axes after another."""
    if any(padding):
        x = F.pad(x, [n for n in reversed(padding) for _ in range(2)])
    for size, step, gap in zip(kernel_size[::-1], stride[::-1], dilation[::-1], strict=True):
        x = _window_sum(x, size, gap)[..., ::step].movedim(-1, -len(kernel_size))
    return x
''',
    "_unread": '''
def _unread(
    shape: torch.Size,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[int, ...]:
    """How many positions at the end of each axis no window reads, for lack of a whole stride."""
    moves = zip(shape, kernel_size, stride, padding, dilation, strict=True)
    return tuple((n + 2 * pad - gap * (k - 1) - 1) % step for n, k, step, pad, gap in moves)
''',
    "_box_adjoint": '''
def _box_adjoint(
    x: Tensor,
    shape: torch.Size,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """The adjoint of _box_sum, for maps whose last axes have this shape: every sum spread out."""
    for axis in range(-1, -1 - len(kernel_size), -1):
        size, step, gap = kernel_size[axis], stride[axis], dilation[axis]
        reach = gap * (size - 1)
        unread = (shape[axis] + 2 * padding[axis] - reach - 1) % step
        if step > 1:
            x = F.pad(x.unsqueeze(-1), [0, step - 1]).flatten(-2)
        before = reach - padding[axis]
        x = F.pad(x, [before, before + unread - (step - 1)])
        x = _window_sum(x, size, gap).movedim(-1, -len(kernel_size))
    return x
''',
    "_as_tuple": '''
def _as_tuple(value: int | tuple[int, ...], length: int) -> tuple[int, ...]:
    """One number for every axis, or one number an axis."""
    if isinstance(value, int):
        return (value,) * length
    if len(value) != length:
        raise ValueError(f"expected {length} numbers, got {value}")
    return tuple(value)
''',
    "_as_int": '''
def _as_int(value: int | tuple[int, ...]) -> int:
    """A number, or the number in a tuple of one."""
    if isinstance(value, int):
        return value
    if len(value) != 1:
        raise ValueError(f"expected one number, got {value}")
    return value[0]
''',
    "_resolve_padding": '''
def _resolve_padding(
    padding: tuple[int, ...] | str,
    padding_mode: str,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[list[int], tuple[int, ...]]:
    """How much to pad before reading, as F.pad takes it, and how much the reads then overrun."""
    if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
        raise ValueError(f"unknown padding_mode {padding_mode!r}")
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ValueError("padding='same' is not supported for strided convolutions")
        total = [d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True)]
        ends = [(t // 2, t - t // 2) for t in total]
    elif padding == "valid":
        ends = [(0, 0)] * len(kernel_size)
    elif isinstance(padding, str):
        raise ValueError(f"padding must be a number, 'same' or 'valid', not {padding!r}")
    else:
        ends = [(p, p) for p in padding]
    if padding_mode == "zeros" and all(left == right for left, right in ends):
        return [], tuple(left for left, _ in ends)
    return [n for pair in reversed(ends) for n in pair], (0,) * len(ends)
''',
}
NEEDS_MATH = ("_flatten", "_inverse_root")
NEEDS: dict[str, tuple[str, ...]] = {
    "_wide": ("_wide_dtype",),
    "_energy": ("_wide_dtype", "_is_transformed"),
    "_takes_derived": ("_is_transformed",),
    "_box_sum": ("_window_sum",),
    "_box_adjoint": ("_window_sum",),
}
"""What a helper calls itself."""


def helper_code(names: Iterable[str]) -> list[str]:
    """The text of some helpers, in a fixed order."""
    wanted = set(names)
    wanted |= {needed for name in wanted for needed in NEEDS.get(name, ())}
    return [text.strip() for name, text in HELPERS.items() if name in wanted]

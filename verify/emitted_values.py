"""What the names of an emitted file stand for while it is read: no object of it is Python's own.

Numbers, strings, truth values, tuples, lists and dictionaries are Python's; everything else is one
of the classes here or a tensor of :mod:`verify.exact_array`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

import torch

from verify.exact_array import Exact, Refusal, Whole
from verify.exact_table import ATTRIBUTES, KINDS, TABLE, Device, Factored, Limits, Norm, integers

FUNCTION = "torch.autograd.Function"
NAMESPACES = frozenset(["torch", "torch.linalg", "torch._C", "torch.autograd", "torch.compiler"])
NAMESPACES |= {
    "torch.ops",
    "torch.ops.aten",
    "forward_ad",
    "nn",
    "nn.init",
    "F",
    "math",
    "torch.Tensor",
    FUNCTION,
}
# What a file may ask of the mode in which it runs.
ASKED = frozenset(["torch.is_grad_enabled", "torch.is_autocast_enabled", "torch._C._is_tracing"])
ASKED |= {"torch.compiler.is_compiling", "torch.compiler.is_exporting"}
ASKED |= {"torch._C._are_functorch_transforms_active"}
# Whatever a file may import, and what it binds.
IMPORTS: Mapping[str, Mapping[str, str]] = {
    "from __future__ import annotations": {},
    "from itertools import pairwise": {"pairwise": "pairwise"},
    "from torch import Tensor, nn": {"Tensor": "torch.Tensor", "nn": "nn"},
    "from torch.autograd import forward_ad": {"forward_ad": "forward_ad"},
    "from torch.nn import functional as F": {"F": "F"},
    "from typing import Any": {"Any": "Any"},
    "import math": {"math": "math"},
    "import torch": {"torch": "torch"},
    "import torch.nn.functional as F": {"F": "F"},
}
# Calls that give a parameter initial values, with the numbers of arguments that they take.
INITIAL: Mapping[str, tuple[int, int]] = {
    "nn.init.constant_": (2, 2),
    "nn.init.kaiming_normal_": (1, 2),
    "nn.init.kaiming_uniform_": (1, 2),
    "nn.init.normal_": (1, 3),
    "nn.init.ones_": (1, 1),
    "nn.init.trunc_normal_": (1, 5),
    "nn.init.uniform_": (1, 3),
    "nn.init.xavier_normal_": (1, 2),
    "nn.init.xavier_uniform_": (1, 2),
    "nn.init.zeros_": (1, 1),
}
ERRORS = frozenset(["RuntimeError", "TypeError", "ValueError", "NotImplementedError"])
# Overriding any of these would change what calling a module does.
RESERVED = frozenset(dir(torch.nn.Module())) - {"__init__", "forward", "extra_repr", "training"}


class Raised(Exception):  # noqa: N818 - what the file raised
    """An error that the emitted file raises on purpose.

    Args:
        name: Its class.
        message: Its text.
    """

    def __init__(self, name: str, message: str) -> None:
        """Keep both."""
        super().__init__(f"{name}: {message}")
        self.name = name


@dataclass(frozen=True)
class Named:
    """Something that stands for itself: a namespace, a call of the table, a builtin, an error."""

    name: str


@dataclass(frozen=True)
class Bound:
    """A call of the table, or of a list or dictionary, with its first argument."""

    name: str
    first: Any


@dataclass(eq=False)
class Blank:
    """``torch.empty(shape)``, without numbers.

    Attributes:
        shape: The shape.
        dtype: The type's name; "" for the default.
        parameter: Whether it is an ``nn.Parameter``.
        drawn: How often it was given initial values.
    """

    shape: tuple[int, ...]
    dtype: str = ""
    parameter: bool = False
    drawn: int = 0


@dataclass(frozen=True, eq=False)
class Function:
    """A function of the file.

    Attributes:
        node: Its definition.
        owner: The class that defines it.
        first: The instance, for a method that was looked up on one.
    """

    node: ast.FunctionDef
    owner: EmittedClass | None = None
    first: Instance | None = None


@dataclass(eq=False)
class EmittedClass:
    """A class of the file: its own methods and constants, and its base, if that is of the file.

    ``is_function`` says that it is an autograd function and no module.
    """

    name: str
    base: EmittedClass | None
    held: dict[str, Any] = field(default_factory=dict)
    is_function: bool = False

    def find(self, name: str) -> Any:
        """What a name means for instances.

        Raises:
            Refusal: If neither the class nor its bases hold it.
        """
        if name in self.held:
            return self.held[name]
        if self.base is None:
            raise Refusal(f"`{name}` is no attribute of the emitted class")
        return self.base.find(name)


@dataclass(eq=False)
class Instance:
    """An object of an emitted class.

    Attributes:
        type: The class.
        held: Its attributes; parameters are :class:`Blank` until they are given numbers.
        started: Whether ``nn.Module.__init__`` was called, without which it holds no parameters.
    """

    type: EmittedClass
    held: dict[str, Any] = field(default_factory=dict)
    started: bool = False

    def parameters(self) -> Iterator[tuple[str, Instance, str]]:
        """Every parameter as (full name, instance that holds it, its name there)."""
        for name, value in self.held.items():
            if isinstance(value, Blank):
                yield name, self, name
            elif isinstance(value, Instance):
                yield from ((f"{name}.{n}", i, k) for n, i, k in value.parameters())

    def get(self, name: str) -> Any:
        """What ``self.name`` means.

        Raises:
            Refusal: If it has no such attribute.
        """
        if name in self.held:
            return self.held[name]
        if name == "training":
            return True
        if name == "register_parameter":
            return Bound("register_parameter", self)
        found = self.type.find(name)
        return Function(found.node, found.owner, self) if isinstance(found, Function) else found

    def set(self, name: str, value: Any) -> None:
        """``self.name = value``.

        Raises:
            Refusal: If the name is one of ``nn.Module``'s own, or a tensor is no parameter.
        """
        if name in RESERVED or name in ("training", "forward", "extra_repr"):
            raise Refusal(f"`{name}` of nn.Module may not be set")
        if isinstance(value, Blank) and not value.parameter:
            raise Refusal("a tensor that is no parameter may not be kept")
        if isinstance(value, Blank | Instance) and not self.started:
            raise Refusal("a parameter before nn.Module.__init__")
        self.held[name] = value


@dataclass(eq=False)
class Context:
    """The ``ctx`` of one call of an autograd function.

    Attributes:
        needs_input_grad: One truth value an argument.
        saved: What ``save_for_backward`` was given.
        held: Its other attributes.
    """

    needs_input_grad: tuple[bool, ...]
    saved: tuple[Any, ...] | None = None
    held: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        """What ``ctx.name`` means.

        Raises:
            Refusal: If it has no such attribute.
        """
        if name == "save_for_backward":
            return Bound(name, self)
        if name == "needs_input_grad":
            return self.needs_input_grad
        if name == "saved_tensors" and self.saved is not None:
            return self.saved
        if name not in self.held:
            raise Refusal(f"`ctx.{name}` is not known")
        return self.held[name]

    def set(self, name: str, value: Any) -> None:
        """``ctx.name = value``; what is kept of tensors is seen by ``save_for_backward`` alone.

        Raises:
            Refusal: If the value is a tensor, or the name means something already.
        """
        if isinstance(value, Exact | Whole | Blank) and getattr(value, "shape", ()) != ():
            raise Refusal("ctx may keep tensors by save_for_backward only")
        if name in ("save_for_backward", "needs_input_grad", "saved_tensors"):
            raise Refusal(f"`ctx.{name}` may not be set")
        self.held[name] = value


@dataclass(frozen=True)
class Super:
    """``super()`` in a method of ``owner``."""

    owner: EmittedClass
    first: Instance


def attribute(value: Any, name: str) -> Any:
    """``value.name`` where that is known.

    Raises:
        Refusal: If it is not.
    """
    if isinstance(value, Named):
        return member(f"{value.name}.{name}")
    if isinstance(value, Instance | Context):
        return value.get(name)
    if isinstance(value, EmittedClass) and value.is_function and name == "apply":
        return Bound("apply", value)
    if isinstance(value, Norm) and name == "square":
        return Bound("Norm.square", value)
    if isinstance(value, Device) and name == "type":
        return "cpu"
    if isinstance(value, Factored) and name == "info":
        return value.info
    if isinstance(value, Limits) and name == "max":
        return value.max
    if isinstance(value, Blank) and name == "size":
        return Bound("size", value)
    if (isinstance(value, list) and name == "append") or (
        isinstance(value, dict) and name == "items"
    ):
        return Bound(name, value)
    if isinstance(value, Exact | Whole) and name in ATTRIBUTES:
        return ATTRIBUTES[name](value)
    if isinstance(value, Exact | Whole) and f"Tensor.{name}" in TABLE:
        return Bound(f"Tensor.{name}", value)
    raise Refusal(f"`.{name}` of {spoken(value)} is not known")


def member(name: str) -> Any:
    """What a namespace holds.

    Raises:
        Refusal: If it is not known.
    """
    if name in KINDS:
        return KINDS[name]
    known = (*NAMESPACES, *ASKED, "nn.Module", "nn.Parameter", "torch.aminmax", "torch.empty")
    if name in TABLE or name in known or name in INITIAL:
        return Named(name)
    raise Refusal(f"`{name}` is not known")


def spoken(value: Any) -> str:
    """A value's kind, for messages."""
    return value.name if isinstance(value, Named) else f"a {type(value).__name__}"


# ---------------------------------------------------------------------- builtins
TYPES: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (Fraction, float),
    "str": (str,),
    "bool": (bool,),
    "tuple": (tuple,),
    "list": (list,),
    "dict": (dict,),
}


def is_instance(value: Any, kind: Any) -> bool:
    """``isinstance`` for the types that are known.

    Raises:
        Refusal: If a type is not.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    for k in kinds:
        if not isinstance(k, Named) or k.name not in TYPES:
            raise Refusal(f"isinstance of {spoken(k)} is not known")
    return any(isinstance(value, TYPES[k.name]) for k in kinds)


def as_integer(value: Any) -> int:
    """``int(value)`` of a number or truth value.

    Raises:
        Refusal: If it is none.
    """
    if not isinstance(value, int | Fraction):
        raise Refusal(f"int of {spoken(value)}")
    return int(value)


def plain(values: Any) -> list[Any]:
    """The elements of a tuple or list, none of them a tensor.

    Raises:
        Refusal: If it is no such thing.
    """
    found = list(values) if isinstance(values, tuple | list | range) else None
    if found is None or any(isinstance(v, Exact | Whole | Blank) for v in found):
        raise Refusal(f"{spoken(values)} where plain numbers are wanted")
    return found


def iterated(values: Any) -> list[Any]:
    """The elements that a loop goes through.

    Raises:
        Refusal: If they are not known.
    """
    if isinstance(values, tuple | list | range):
        return list(values)
    raise Refusal(f"a loop over {spoken(values)}")


def extreme(choose: Any) -> Any:
    """``max`` or ``min`` of numbers."""

    def apply(*values: Any) -> Any:
        return choose(plain(values[0] if len(values) == 1 else values))

    return apply


def zipped(*columns: Any, strict: bool = False) -> list[Any]:
    """``zip``."""
    return list(zip(*map(iterated, columns), strict=strict))


def bounded(*limits: int) -> range:
    """``range``, not too long.

    Raises:
        Refusal: If it is longer than anything emitted needs.
    """
    found = range(*integers(*limits))
    if len(found) > 10_000:
        raise Refusal("a range that is too long")
    return found


BUILTINS: Mapping[str, Any] = {
    "isinstance": is_instance,
    "len": lambda x: x.shape[0] if isinstance(x, Exact | Whole) else len(x),
    "max": extreme(max),
    "min": extreme(min),
    "abs": lambda x: x.abs() if isinstance(x, Exact) else abs(plain([x])[0]),
    "any": lambda x: any(plain(x)),
    "all": lambda x: all(plain(x)),
    "sum": lambda x: sum(plain(x)),
    "zip": zipped,
    "range": bounded,
    "enumerate": lambda x: list(enumerate(iterated(x))),
    "reversed": lambda x: iterated(x)[::-1],
    "pairwise": lambda x: list(pairwise(iterated(x))),
    "tuple": lambda x=(): tuple(iterated(x)),
    "list": lambda x=(): iterated(x),
    "int": as_integer,
    "bool": lambda x: bool(plain([x])[0]),
}
SPECIAL = frozenset(["super", "float", "str", "dict", *ERRORS])

"""Contracts of a module's life: built, initialised, moved, copied, saved, shown and called."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import re
from typing import Any

import torch
from torch import Tensor, nn

from verify.contracts.example import Example, call, demand, same


def plain_state(example: Example) -> None:
    """A subclass of no layer of torch.nn, without buffers; its state is its parameters."""
    module = example.build()
    bases = [base for base in example.cls.__mro__ if base.__module__.startswith("torch.")]
    demand(bases == [nn.Module], "it subclasses a layer of torch.nn")
    demand(not list(module.buffers()), "it has buffers")
    names = [name for name, _ in module.named_parameters()]
    demand(list(module.state_dict()) == names, "its state dict is not its parameters")


def reset(example: Example) -> None:
    """``reset_parameters`` draws every initial value anew, the same from the same seed."""
    module, wanted = example.build(), example.build()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(float("nan"))
    reset_from(module, 0)
    equal_parameters(module, wanted, "after reset_parameters")
    for name, value in module.named_parameters():
        demand(bool(value.isfinite().all()), f"{name} is not finite after reset_parameters")


def reset_from(module: nn.Module, seed: int) -> None:
    """Call ``reset_parameters`` with a seed of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module.reset_parameters()  # type: ignore[operator]


def equal_parameters(found: nn.Module, wanted: nn.Module, when: str) -> None:
    """Demand the same parameters in both."""
    theirs = dict(wanted.named_parameters())
    demand([n for n, _ in found.named_parameters()] == list(theirs), f"parameters change {when}")
    for name, value in found.named_parameters():
        same(value, theirs[name], f"{name} {when}")


def meta_device(example: Example) -> None:
    """Built without memory, given memory by ``to_empty``, filled by ``reset_parameters``."""
    module = example.build(device="meta")
    demand(all(p.is_meta for p in module.parameters()), "device='meta' is not kept")
    shape = call(example.build(dtype=torch.float64), example.given()).shape
    inputs = tuple(x.to("meta") for x in example.given(torch.float32))
    found = call(module, inputs)
    demand(found.is_meta and found.shape == shape, "meta inputs do not give a meta output")
    module = module.to_empty(device="cpu")
    reset_from(module, 0)
    equal_parameters(module, example.build(), "after to_empty and reset_parameters")
    with torch.device("meta"):
        inside = example.build()
    demand(all(p.is_meta for p in inside.parameters()), "torch.device('meta') is not obeyed")


def skip_init(example: Example) -> None:
    """``torch.nn.utils.skip_init`` makes parameters of the right shapes, to be loaded."""
    build: Any = nn.utils.skip_init
    module: nn.Module = build(example.cls, *example.arguments, **example.keywords)
    wanted = example.build()
    module.load_state_dict(wanted.state_dict())
    inputs = example.given(torch.float32)
    same(call(module, inputs), call(wanted, inputs), "output after skip_init")


def dtypes(example: Example) -> None:
    """``dtype`` is that of every parameter, and float64 is kept."""
    for dtype in (torch.float64, torch.bfloat16):
        module = example.build(dtype=dtype)
        demand({p.dtype for p in module.parameters()} == {dtype}, f"dtype={dtype} is not kept")
    found = call(example.build(dtype=torch.float64), example.given())
    demand(found.dtype == torch.float64, f"float64 becomes {found.dtype}")


def copies(example: Example) -> None:
    """deepcopy, pickle and torch.save give independent modules with the same output."""
    module = example.build(dtype=torch.float64)
    wanted = call(module, example.given())
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    found: dict[str, nn.Module] = {
        "deepcopy": copy.deepcopy(module),
        "pickle": pickle.loads(pickle.dumps(module)),
        "torch.save": torch.load(file, weights_only=False),
    }
    for name, other in found.items():
        same(call(other, example.given()), wanted, f"output of the copy by {name}")
        shared = {id(p) for p in other.parameters()} & {id(p) for p in module.parameters()}
        demand(not shared, f"the copy by {name} shares parameters")


def modes(example: Example) -> None:
    """Train and eval are one function, and a call changes neither parameters nor inputs."""
    module, inputs = example.build(dtype=torch.float64), example.given()
    before = copy.deepcopy(module)
    first = call(module.train(), inputs)
    same(call(module.eval(), inputs), first, "output in eval mode")
    same(call(module.train(), inputs), first, "output of a second call")
    equal_parameters(module, before, "after a call")
    for found, wanted in zip(inputs, example.given(), strict=True):
        same(found, wanted, "an input after a call")


def shown(example: Example) -> None:
    """``extra_repr`` is one line, shows each argument of the constructor and rebuilds the layer."""
    module = example.build()
    text = module.extra_repr()
    demand("\n" not in text, "extra_repr has more than one line")
    again = eval(f"{example.cls.__name__}({text})", {example.cls.__name__: example.cls})
    demand(again.extra_repr() == text, "extra_repr does not rebuild the layer")
    shapes = [p.shape for p in module.parameters()]
    demand([p.shape for p in again.parameters()] == shapes, "it rebuilds other parameters")
    found = set(re.findall(r"(\w+)=", text))
    wanted = set(inspect.signature(example.cls).parameters) - {"device", "dtype"}
    demand(found == wanted, f"extra_repr shows {sorted(found)}, not {sorted(wanted)}")


def in_place_after(example: Example) -> None:
    """An activation in place behind the layer leaves its gradients as they are."""
    module, inputs = example.build(dtype=torch.float64), example.given()
    leaves = [x.requires_grad_() for x in inputs if x.is_floating_point()]
    leaves += list(module.parameters())

    def gradients(function: str) -> tuple[Tensor | None, ...]:
        total = getattr(torch, function)(call(module, inputs)).sum()
        return torch.autograd.grad(total, leaves, allow_unused=True)

    pairs = zip(gradients("relu"), gradients("relu_"), strict=True)
    for number, (plain, placed) in enumerate(pairs):
        demand((plain is None) == (placed is None), f"gradient {number} behind relu_ is missing")
        if plain is not None and placed is not None:
            same(placed, plain, f"gradient {number} behind relu_")


def twin(example: Example) -> None:
    """The twin's constructor arguments come first; state dicts load strictly, both ways."""
    module, other = example.build(), example.build_twin()
    ours, theirs = (
        [(p.name, p.default) for p in inspect.signature(type(m).__init__).parameters.values()]
        for m in (module, other)
    )
    demand(ours[: len(theirs)] == theirs, "its constructor is not its twin's")
    names = list(other.state_dict())
    demand(list(module.state_dict()) == names, f"its state dict is not its twin's: {names}")
    module.load_state_dict(other.state_dict(), strict=True)
    other.load_state_dict(module.state_dict(), strict=True)
    equal_parameters(module, other, "after loading the twin's state dict")

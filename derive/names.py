"""Names and texts that a spec may hold."""

from __future__ import annotations

import keyword
import re
import sys
import unicodedata
from typing import Any

# Attributes that ``torch.nn.Module`` itself uses: a parameter of that name would shadow them.
_ATTRIBUTES = """
T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda
double dump_patches eval extra_repr factory_kwargs float forward get_buffer get_extra_state
get_parameter get_submodule half ipu load_state_dict modules mtia named_buffers named_children
named_modules named_parameters parameters register_backward_hook register_buffer
register_forward_hook register_forward_pre_hook register_full_backward_hook
register_full_backward_pre_hook register_load_state_dict_post_hook
register_load_state_dict_pre_hook register_module register_parameter
register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ reset_parameters
set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu
zero_grad
"""
MODULE_ATTRIBUTES = frozenset(_ATTRIBUTES.split())

# Names that the notation or the generated code uses itself.
_RESERVED = """
F False None Tensor True annotations device dtype math max mean nn padding_mode radius self size
softmax sum torch
"""
RESERVED = frozenset(_RESERVED.split())
# What the generated code calls; a letter or a stage is not among its names.
_CALLED = """
NotImplementedError RuntimeError TypeError ValueError abs all any bool dict enumerate float int
isinstance len list map min object pairwise range reversed sorted str super tuple zip
"""
CALLED = frozenset(_CALLED.split())

# A layer becomes a file of its name; beside a script, `random.py` would be imported as `random`.
_PACKAGES = "codegen derive jinja2 joblib numpy sympy test torch truestep verify"
_DEVICES = "aux con nul prn com0 com1 com2 com3 com4 com5 com6 com7 com8 com9 lpt0 lpt1 lpt2 lpt3"
FILES = frozenset([*_PACKAGES.split(), *_DEVICES.split(), "conftest", "setup"])

CONTROL = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
MAX_NAME = 64


def name_problem(name: Any, where: str) -> tuple[str, str] | None:
    """Problem and remedy of a name that is no ASCII identifier, a keyword or reserved, or ``None``.

    Args:
        name: The name; anything that is no string is a problem.
        where: What the name names; an index (``letter``) may be a soft keyword.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        problem = f"{where}: a name must be an ASCII identifier that starts with a letter"
        return problem, "use the letters a-z, digits and _"
    if len(name) > MAX_NAME:
        return f"{where}: a name has more than {MAX_NAME} characters", "shorten it"
    if keyword.iskeyword(name) or (keyword.issoftkeyword(name) and where != "letter"):
        return f"{where}: `{name}` is a Python keyword", "choose another name"
    called = name in CALLED and where not in ("letter", "stages")
    if called or name in RESERVED or name.endswith("__"):
        return f"{where}: `{name}` is reserved", "choose another name"
    stored = where in ("hyperparameters", "sizes") or where.startswith("parameter `")
    if stored and name in MODULE_ATTRIBUTES:
        return f"{where}: `{name}` is an attribute of torch.nn.Module", "choose another name"
    if where == "name" and (name.lower() in FILES or name.lower() in sys.stdlib_module_names):
        return f"{where}: a file of the name `{name}` would hide a module", "choose another name"
    return None


def control_character(text: str, allowed: str = "") -> str:
    """The first character of a text that is not printable, or ``""``."""
    odd = (c for c in text if unicodedata.category(c) in CONTROL and c not in allowed)
    return next(odd, "")

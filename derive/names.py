"""Names and texts that a spec may hold."""

from __future__ import annotations

import keyword
import re
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
F False None Tensor True device dtype math max mean nn radius self size softmax sum torch
"""
RESERVED = frozenset(_RESERVED.split())

CONTROL = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def name_problem(name: Any, where: str) -> tuple[str, str] | None:
    """Problem and remedy of a name that is no ASCII identifier, a keyword or reserved, or ``None``.

    Args:
        name: The name; anything that is no string is a problem.
        where: What the name names; an index (``letter``) may be a soft keyword.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        problem = f"{where}: a name must be an ASCII identifier that starts with a letter"
        return problem, "use the letters a-z, digits and _"
    if keyword.iskeyword(name) or (keyword.issoftkeyword(name) and where != "letter"):
        return f"{where}: `{name}` is a Python keyword", "choose another name"
    if name in RESERVED or name.endswith("__"):
        return f"{where}: `{name}` is reserved", "choose another name"
    return None


def control_character(text: str, allowed: str = "") -> str:
    """The first character of a text that is not printable, or ``""``."""
    odd = (c for c in text if unicodedata.category(c) in CONTROL and c not in allowed)
    return next(odd, "")

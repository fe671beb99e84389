"""The last look at emitted code before anything of it runs or is written: an allow-list.

A generated file is plain PyTorch: known imports, classes and functions, and calls of what stands in
the tables below. Everything else is refused, whatever it would do. The gate reads the syntax tree
and executes nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from codegen.gate_text import (
    GateError,
    check_definitions,
    check_package,
    check_scopes,
    parsed,
    refusal,
)

__all__ = ["GateError", "check", "check_package"]


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


IMPORTS = frozenset(
    [
        "from __future__ import annotations",
        "from itertools import pairwise",
        "from torch import Tensor, nn",
        "from torch.autograd import forward_ad",
        "from torch.nn import functional as F",
        "from typing import Any",
        "import math",
        "import torch",
        "import torch.nn.functional as F",
    ]
)
BUILTINS = words("""
    RuntimeError TypeError ValueError NotImplementedError abs all any bool dict enumerate float int
    isinstance len list map max min range reversed sorted str sum super tuple zip object
    """)
NODES = (
    ast.Module | ast.Import | ast.ImportFrom | ast.alias | ast.ClassDef | ast.FunctionDef
    | ast.arguments | ast.arg | ast.keyword | ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Expr
    | ast.If | ast.For | ast.Return | ast.Raise | ast.Pass | ast.Name | ast.Attribute
    | ast.Subscript | ast.Slice | ast.Starred | ast.Call | ast.Constant | ast.Tuple | ast.List
    | ast.Dict | ast.BinOp | ast.UnaryOp | ast.BoolOp | ast.Compare | ast.IfExp | ast.JoinedStr
    | ast.FormattedValue | ast.ListComp | ast.GeneratorExp | ast.comprehension | ast.expr_context
    | ast.With | ast.withitem | ast.operator | ast.unaryop | ast.boolop | ast.cmpop
)  # fmt: skip
TORCH = words("""
    autocast Tensor abs addcmul amax amin aminmax arange atan2 bfloat16 bool bmm broadcast_shapes
    broadcast_tensors cat
    ceil chunk clamp complex128 complex64 cos cumsum device diagonal dtype einsum empty erf exp eye
    finfo flatten float16 float32 float64 floor full full_like get_default_dtype int64 linalg log
    log1p logsumexp long matmul max maximum mean min minimum movedim ones ones_like outer permute
    pow promote_types prod reciprocal relu reshape result_type rsqrt sigmoid sign sin softmax sqrt
    square squeeze stack sum tanh tensor tensordot transpose tril triu unflatten unsqueeze where
    zeros zeros_like
    """)
MEMBERS = {
    "torch": TORCH | words("_C autograd compiler is_autocast_enabled is_grad_enabled ops Size"),
    "torch.ops": frozenset(["aten"]),
    "torch.ops.aten": frozenset(["_unsafe_view", "convolution_backward"]),
    "torch._C": frozenset(["_are_functorch_transforms_active", "_is_tracing"]),
    "torch.autograd": frozenset(["Function"]),
    "torch.compiler": frozenset(["is_compiling", "is_exporting"]),
    "forward_ad": frozenset(["_current_level"]),
    "torch.linalg": words("""
        cholesky cholesky_ex diagonal eigh inv lu_factor lu_solve norm qr solve solve_triangular svd
        vecdot vector_norm
        """),
    "nn": frozenset(["Module", "Parameter", "init", "Linear"]),
    "nn.init": words("""
        constant_ kaiming_normal_ kaiming_uniform_ normal_ ones_ uniform_ xavier_normal_
        xavier_uniform_ zeros_ trunc_normal_
        """),
    "F": words("""
        adaptive_avg_pool1d avg_pool1d avg_pool2d avg_pool3d batch_norm bilinear conv1d conv2d
        conv3d conv_transpose1d conv_transpose2d conv_transpose3d dropout elu embedding fold gelu
        group_norm hardtanh instance_norm layer_norm leaky_relu linear local_response_norm
        log_softmax normalize one_hot pad relu rms_norm scaled_dot_product_attention sigmoid silu
        softmax softplus tanh unfold
        """),
    "math": words("ceil copysign e erf exp floor gcd inf isqrt lcm log nan pi prod sqrt tanh"),
}
# What may be asked of a tensor, a tuple, a list or a dict; what ``self`` holds is its own affair.
METHODS = TORCH | words("""
    add addcmul_ amax append clamp_max clamp_min clone contiguous copy_ count detach device
    diag_embed dim div double dtype expand expand_as extend float gather half index
    index_add index_put index_select info insert is_complex is_contiguous is_cuda
    is_floating_point is_meta item items keys layout masked_fill mH mT mul nan_to_num
    narrow ndim neg new_empty new_full new_ones new_tensor new_zeros nonzero norm numel repeat
    repeat_interleave requires_grad requires_grad_ reset_parameters roll scatter_add select
    shape size stride sub T tensor_split to type type_as unbind unfold values var view
    view_as
    """)


FUNCTION = "torch.autograd.Function"
"""The base of a class that holds a derived backward pass."""
PASSES = frozenset(["forward", "backward"])
CONTEXT = words("needs_input_grad save_for_backward saved_tensors")


def check(text: str) -> None:
    """Refuse a text that is not plain generated PyTorch.

    Args:
        text: The source of a module.

    Raises:
        GateError: With the line and what is not allowed there.
    """
    try:
        check_tree(parsed(text))
        check_scopes(text, BUILTINS | {"staticmethod"})
    except (RecursionError, MemoryError, SyntaxError) as error:
        raise GateError(f"the generated code is refused: {error}") from None


def check_tree(tree: ast.Module) -> None:
    """Refuse a syntax tree with a node that does not stand in the tables.

    Raises:
        GateError: For the first of them.
    """
    check_definitions(tree)
    check_module(tree)
    known = BUILTINS | set(bound_names(tree))
    own = own_attributes(tree)
    passes = set(pass_definitions(tree))
    functions = {c.name for c in tree.body if isinstance(c, ast.ClassDef) and is_function(c)}
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not isinstance(node, NODES):
            raise refusal(node, f"a {type(node).__name__} is not allowed")
        if isinstance(node, ast.Name):
            decorates = parents[node] in passes and node.id == "staticmethod"
            check_name(node, parents[node], known | {"staticmethod"} if decorates else known)
        elif isinstance(node, ast.Attribute):
            check_attribute(node, parents[node], own, functions)
        elif isinstance(node, ast.Subscript):
            check_item(node)
        elif isinstance(node, ast.Call):
            check_call(node)
        elif isinstance(node, ast.AnnAssign):
            check_annotation(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            check_function(node, node in passes)
        elif isinstance(node, ast.ClassDef):
            check_class(node, tree)


def check_module(tree: ast.Module) -> None:
    """Imports from the list, classes, functions and constants; nothing that runs on import.

    Raises:
        GateError: If an import is not allowed, or a statement does more than define something.
    """
    for place, node in enumerate(tree.body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            if ast.unparse(node) not in IMPORTS:
                raise refusal(node, f"`{ast.unparse(node)}` is not an allowed import")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            if not is_constant(node):
                raise refusal(node, "only literals may be assigned to names in a module")
        elif not isinstance(node, ast.ClassDef | ast.FunctionDef) and not (
            place == 0 and is_text(node)
        ):
            raise refusal(node, f"a {type(node).__name__} is not allowed in a module")
    for part in ast.walk(tree):
        if isinstance(part, ast.Import | ast.ImportFrom) and part not in tree.body:
            raise refusal(part, "an import within code is not allowed")


def is_constant(node: ast.Assign | ast.AnnAssign) -> bool:
    """Whether a statement gives names a literal; an attribute may belong to somebody else."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    named = all(isinstance(target, ast.Name) for target in targets)
    return named and node.value is not None and is_literal(node.value)


def is_literal(node: ast.expr) -> bool:
    """Whether an expression is made of constants."""
    allowed = ast.Constant | ast.Tuple | ast.List | ast.UnaryOp | ast.unaryop | ast.expr_context
    return all(isinstance(n, allowed) for n in ast.walk(node))


def is_text(node: ast.stmt) -> bool:
    """Whether a statement is a docstring."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def bound_names(tree: ast.Module) -> Iterator[str]:
    """Every name that the module binds: definitions, imports, arguments, targets."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield plain(node, node.name)
        elif isinstance(node, ast.arg):
            yield plain(node, node.arg)
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield plain(node, node.id)


def plain(node: ast.AST, name: str) -> str:
    """The name, unless binding it would hide what the other checks rely on.

    Raises:
        GateError: If the name is that of an allowed module, or ``super``.
    """
    if name in MEMBERS or name == "super":
        raise refusal(node, f"`{name}` may not be bound")
    return name


def check_name(node: ast.Name, parent: ast.AST, known: frozenset[str] | set[str]) -> None:
    """A name must be bound here or be an allowed builtin; a module is only read from.

    Raises:
        GateError: If the name is unknown or reserved, or a module or ``super`` is used as a value.
    """
    if node.id.startswith("__") and node.id != "__all__":
        raise refusal(node, f"the name `{node.id}` is not allowed")
    if isinstance(node.ctx, ast.Load) and node.id not in known:
        raise refusal(node, f"the name `{node.id}` is neither defined here nor allowed")
    if node.id in MEMBERS and not isinstance(parent, ast.Attribute):
        raise refusal(node, f"the module `{node.id}` may only be read from")
    if node.id == "super" and not isinstance(parent, ast.Call):
        raise refusal(node, "`super` may only be called")


def own_attributes(tree: ast.Module) -> frozenset[str]:
    """What ``self`` may be asked for: what the file defines, and two things of every module."""
    names = {"register_parameter", "training"}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return frozenset(names)


def is_function(node: ast.ClassDef) -> bool:
    """Whether a class holds a derived backward pass."""
    return [ast.unparse(base) for base in node.bases] == [FUNCTION]


def pass_definitions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The functions of the classes that hold a derived backward pass."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and is_function(node):
            yield from (part for part in node.body if isinstance(part, ast.FunctionDef))


def check_attribute(
    node: ast.Attribute, parent: ast.AST, own: frozenset[str], functions: set[str]
) -> None:
    """What a module holds or a tensor offers must stand in the tables above.

    Raises:
        GateError: If the attribute is not in the tables, is assigned elsewhere than in ``self`` and
            ``ctx``, or a module is used as a value.
    """
    owner = dotted(node.value)
    if not isinstance(node.ctx, ast.Load) and owner not in ("self", "ctx"):
        raise refusal(node, f"`{owner}.{node.attr}` may not be assigned")
    if owner in MEMBERS:
        if node.attr not in MEMBERS[owner]:
            raise refusal(node, f"`{owner}.{node.attr}` is not allowed")
        if f"{owner}.{node.attr}" in MEMBERS and not isinstance(parent, ast.Attribute):
            raise refusal(node, f"the module `{owner}.{node.attr}` may only be read from")
        return
    if is_super(node.value):
        if node.attr != "__init__" or not isinstance(parent, ast.Call):
            raise refusal(node, f"`super().{node.attr}` is not allowed")
        return
    # A tensor or layer that `self` holds has weight and bias, beside what all tensors offer.
    held = METHODS | {"bias", "weight"} if owner.startswith("self.") else METHODS
    if owner in functions:
        held = frozenset(["apply"])
    allowed = {"self": own, "ctx": own | CONTEXT}.get(owner, held)
    if node.attr.startswith("__") or node.attr not in allowed:
        raise refusal(node, f"the attribute `{node.attr}` is not allowed")


def dotted(node: ast.expr) -> str:
    """``self.a.b`` of names alone, else nothing; what is read off may be a formula of any depth."""
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return owner and f"{owner}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def is_super(node: ast.expr) -> bool:
    """Whether it is ``super()``."""
    if not isinstance(node, ast.Call) or node.args or node.keywords:
        return False
    return isinstance(node.func, ast.Name) and node.func.id == "super"


def check_item(node: ast.Subscript) -> None:
    """Elements are read; only those of a list that the code made itself may be assigned.

    Raises:
        GateError: If an element of anything but a plain name is assigned.
    """
    if not isinstance(node.ctx, ast.Load) and not isinstance(node.value, ast.Name):
        raise refusal(node, "an element of this may not be assigned")


def check_call(node: ast.Call) -> None:
    """Called are names, attributes and what ``super()`` gives.

    Raises:
        GateError: If anything but a name or attribute is called, or ``super`` is given arguments.
    """
    if not isinstance(node.func, ast.Name | ast.Attribute):
        raise refusal(node, "only names and attributes may be called")
    if isinstance(node.func, ast.Name) and node.func.id == "super" and (node.args or node.keywords):
        raise refusal(node, "`super` takes no arguments here")


def check_function(node: ast.FunctionDef, is_pass: bool) -> None:
    """No decorators; defaults are constants; annotations only name types.

    The two passes of an autograd function are static and take their context first.

    Raises:
        GateError: If the name is reserved, there is a decorator, or a default is no literal.
    """
    if node.name.startswith("__") and node.name != "__init__":
        raise refusal(node, f"a function may not be called `{node.name}`")
    if [ast.unparse(d) for d in node.decorator_list] != ["staticmethod"] * is_pass:
        raise refusal(node, "decorators are not allowed, but for a static pass")
    if is_pass and (node.name not in PASSES or [a.arg for a in node.args.args[:1]] != ["ctx"]):
        raise refusal(node, "an autograd function has a forward and a backward of `ctx`")
    everything = node.args
    for default in [*everything.defaults, *(d for d in everything.kw_defaults if d is not None)]:
        if not is_literal(default):
            raise refusal(default, "a default must be a literal")
    arguments = [*everything.posonlyargs, *everything.args, *everything.kwonlyargs]
    arguments += [a for a in (everything.vararg, everything.kwarg) if a is not None]
    for annotation in (node.returns, *(a.annotation for a in arguments)):
        check_annotation(annotation)


TYPES = (
    ast.Name | ast.Attribute | ast.Subscript | ast.Tuple | ast.List | ast.BinOp | ast.BitOr
    | ast.Constant | ast.expr_context
)  # fmt: skip


def check_annotation(annotation: ast.expr | None) -> None:
    """Names, attributes, ``|`` and ``[]``, so that evaluating it as a type is harmless.

    Raises:
        GateError: If the annotation holds anything else, or a constant but ``None`` and ``...``.
    """
    for part in ast.walk(annotation) if annotation is not None else ():
        value = part.value if isinstance(part, ast.Constant) else None
        if not isinstance(part, TYPES) or value not in (None, ...):
            raise refusal(part, "an annotation may only name types")


def check_class(node: ast.ClassDef, tree: ast.Module) -> None:
    """A module or autograd function that holds a docstring, annotations and methods.

    Raises:
        GateError: If the class is not plain, has another base, or its body holds anything else.
    """
    classes = {"nn.Module", FUNCTION, *(n.name for n in tree.body if isinstance(n, ast.ClassDef))}
    if node.decorator_list or node.keywords or node not in tree.body:
        raise refusal(node, "classes are plain and stand in the module")
    if [ast.unparse(base) in classes for base in node.bases] != [True]:
        raise refusal(node, f"the base of a class is nn.Module, {FUNCTION} or a class of the file")
    for part in node.body:
        if isinstance(part, ast.Assign | ast.AnnAssign):
            annotated = isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
            if not is_constant(part) and not (annotated and part.value is None):
                raise refusal(part, "only literals may be assigned to names in a class")
        elif not isinstance(part, ast.FunctionDef) and not is_text(part):
            raise refusal(part, f"a {type(part).__name__} is not allowed in a class")

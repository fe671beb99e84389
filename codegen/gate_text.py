"""What the gate asks of a text before its syntax: nothing in it is hidden or says more than code.

A reader, an editor and Python must see the same: characters that do not show, identifiers that
look like others, comments that speak to other programs and second names for one thing are refused.
"""

from __future__ import annotations

import ast
import io
import re
import symtable
import tokenize
from collections import Counter
from collections.abc import Iterator

from derive.errors import TruestepError

MAX_LENGTH = 1_000_000
DIRECTIVE = re.compile(
    r"(?:coding|fmt|isort|mypy|noqa|nosec|pragma|pylint|pyright|ruff|type|yapf)\s*[:=]|^#!|-\*-|\bnoqa\b"
)
"""What other programs read in a comment; of these, Python itself reads ``coding`` in a file."""

SPOKEN = ("COMMENT", "FSTRING_END", "FSTRING_MIDDLE", "FSTRING_START", "STRING")
"""Kinds of tokens that may be written in any letters."""


class GateError(TruestepError):
    """Emitted code that is not what a generated layer may be made of; a defect of the generator."""


def refusal(node: object, problem: str) -> GateError:
    """An error at a node's line."""
    line = node if isinstance(node, int) else getattr(node, "lineno", "?")
    return GateError(f"the generated code is refused, line {line}: {problem}")


def parsed(text: str) -> ast.Module:
    """The syntax tree of a text that hides nothing.

    Raises:
        GateError: If the text is too long, is no Python, or holds what does not show.
    """
    if len(text) > MAX_LENGTH:
        raise GateError(f"the generated code is longer than {MAX_LENGTH} characters")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.isprintable():
            odd = next(c for c in line if not c.isprintable())
            raise refusal(number, f"the character U+{ord(odd):04X} does not show")
    try:
        tree = ast.parse(text)
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise GateError(f"the generated code is not valid Python: {error}") from None
    for token in tokens:
        check_token(token)
    return tree


def check_token(token: tokenize.TokenInfo) -> None:
    """Identifiers are ASCII (Python folds others into one another); comments only comment.

    Raises:
        GateError: If they are not, or do not.
    """
    line = token.start[0]
    if tokenize.tok_name[token.type] not in SPOKEN and not token.string.isascii():
        raise refusal(line, f"{token.string!a} is not ASCII")
    if token.type == tokenize.COMMENT and DIRECTIVE.search(token.string):
        raise refusal(line, f"the comment `{token.string[:60]}` speaks to another program")


def check_scopes(text: str, builtins: frozenset[str]) -> None:
    """Where a name is no local one, it must be the module's own or an allowed builtin.

    That ``eval`` is an argument of one function makes it no name of another.

    Raises:
        GateError: If a name reaches any other builtin.
    """
    module = symtable.symtable(text, "<generated>", "exec")
    own = {s.get_name() for s in module.get_symbols() if s.is_assigned() or s.is_imported()}
    own |= {s.get_name() for s in module.get_symbols() if s.is_namespace()}
    for table in scopes(module):
        for symbol in table.get_symbols():
            outer = symbol.is_global() or (table is module and symbol.get_name() not in own)
            # A class body falls back to builtins for what it has not assigned yet.
            outer = outer or (table.get_type() == "class" and symbol.is_referenced())
            if outer and symbol.is_referenced() and symbol.get_name() not in own | builtins:
                name = symbol.get_name()
                raise refusal(table.get_lineno(), f"the name `{name}` is not known there")


def scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    """A scope and all within."""
    yield table
    for child in table.get_children():
        yield from scopes(child)


def check_definitions(tree: ast.Module) -> None:
    """Every class and function of the module has a name of its own.

    Raises:
        GateError: If two have the same.
    """
    counts = Counter(n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef))
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and counts[node.name] > 1:
            raise refusal(node, f"`{node.name}` is defined twice")


def check_package(text: str) -> None:
    """Refuse an ``__init__.py`` that does more than import classes from its own modules.

    Raises:
        GateError: With the line and what is not allowed there.
    """
    for place, node in enumerate(parsed(text).body):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            plain = all(a.asname is None and not a.name.startswith("_") for a in node.names)
            if plain and "*" not in {a.name for a in node.names} and "." not in node.module:
                continue
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["__all__"]:
            names = node.value.elts if isinstance(node.value, ast.List) else [node.value]
            if all(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in names):
                continue
        if place == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        raise refusal(node, f"a {type(node).__name__} is not allowed there")

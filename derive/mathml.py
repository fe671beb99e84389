"""LaTeX → MathML that browsers lay out as a reader expects it.

The conversion is latex2mathml's; on top of it primes stand beside their letter at full size instead
of in a superscript of a superscript, limits stand below sums, and words are one identifier each.
"""

from __future__ import annotations

import functools
import re
from xml.etree import ElementTree as ET

from latex2mathml.converter import convert

TOKENS = re.compile(r"\\left\b|\\right\b|[{}]| [+-] ")
PRIMES = frozenset("′″‴⁗")


@functools.lru_cache(maxsize=4096)
def mathml(tex: str, *, inline: bool = False) -> str:
    """LaTeX as a ``<math>`` element.

    Args:
        tex: What :func:`derive.formula.latex` gives.
        inline: Within a line or a table's cell, though with fractions at full size; else a block.
    """
    text = str(convert(tex)).replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    root = ET.fromstring(text)
    root.attrib.clear()
    root.attrib.update({"displaystyle": "true"} if inline else {"display": "block"})
    root[:] = [tidy(child) for child in root]
    return ET.tostring(root, encoding="unicode")


def tidy(node: ET.Element) -> ET.Element:
    """A node with its descendants tidied."""
    node[:] = [tidy(child) for child in node]
    first = node[0] if len(node) else None
    if node.tag == "mo" and len(node.text or "") > 1 and (node.text or "").isalpha():
        node.tag = "mi"  # a function's name: no operator's space around it
    elif node.tag == "msup" and len(node) == 2 and node[1].text in PRIMES:
        node.tag = "mrow"
    elif node.tag == "msub" and first is not None and (first.tag, first.text) == ("mo", "∑"):
        node.tag = "munder"
    elif node.tag == "mrow" and len(node) > 1 and all(is_upright(child) for child in node):
        word = ET.Element("mi")
        word.text = "".join(child.text or "" for child in node)
        word.tail = node.tail
        return word
    return node


def is_upright(node: ET.Element) -> bool:
    """Whether a node is a letter of a word."""
    return node.tag == "mi" and node.get("mathvariant") == "normal"


def lines(tex: str, width: int) -> list[str]:
    """A long formula in lines, broken before a + or - that stands outside of all brackets.

    Args:
        tex: What :func:`derive.formula.latex` gives.
        width: Characters of LaTeX from which on a line is broken at the next chance.
    """
    found, start, depth = [], 0, 0
    for token in TOKENS.finditer(tex):
        if token[0] in ("{", r"\left"):
            depth += 1
        elif token[0] in ("}", r"\right"):
            depth -= 1
        elif depth == 0 and token.start() - start >= width:
            found.append(tex[start : token.start()])
            start = token.start()
    found.append(tex[start:])
    return [found[0], *(rf"\quad {{}}{line}" for line in found[1:])]

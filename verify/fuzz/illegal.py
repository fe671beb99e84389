"""Broken specs: a legal text, broken in one of many ways, must be refused with a ``SpecError``.

Some breaks are certain (a keyword as a name), others only likely (a cut text): what they leave may
be legal, and then it must go through the derivation without any error that is not truestep's own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from derive.budget import BudgetError, Limits, within
from derive.derivation import derive
from derive.errors import DerivationError, SpecError
from derive.spec import read_spec
from verify.fuzz.judge import FILE, SHARE, Finding, Overtime, limited
from verify.instances import Seeded

SECONDS = 20.0
KEYWORDS = ("lambda", "None", "import", "class", "__class__", "__import__", "True", "yield", "self")
CODE = (
    "sin({0})",
    "({0}).T",
    "({0} if {0} else {0})",
    "[{0} for a in b]",
    "(lambda: {0})",
    "{0} @ {0}",
    "({0})**0.5",
    "({0})**99",
    "({0})**{0}",
    "{0}/0",
    "{0} % 2",
    "{0} // 2",
    "~{0}",
    "({0} and {0})",
    "({0} < {0})",
    "'{0}'",
    "f'{{{0}}}'",
    "(a := {0})",
    "{0}(2)",
    "softmax({0})",
    "mean({0})",
    "exp({0}, {0})",
    "exp(x={0})",
    "exp(*{0})",
    "{0} + 1j",
    "{0} + 1e999",
    "{0} + 99999999999999999999999",
    "{0}; {0}",
    "{0} # {0}",
    "{0} = {0}",
    "eval('1') + {0}",
    "await {0}",
    "{{{0}: 1}}",
    "{0}...",
    "{0} + \u00b5",
    "{0} + \uff58",
    "{0}\u200b",
    "{0} + \u00e9[n]",
)
INDICES = (
    "{0}[0.5*{1}]",
    "{0}[{1}*{1}]",
    "{0}[:]",
    "{0}[...]",
    "{0}[]",
    "{0}[exp({1})]",
    "{0}[{1}:{1}]",
    "{0}['{1}']",
    "{0}[((({1}, {1}), {1}))]",
    "{0}[{1}][{1}]",
    "{0}[*{1}]",
    "{0}[{1} := 1]",
    "{0}[{0}]",
)
VALUES = (
    "5",
    "[]",
    "{}",
    "true",
    "1e400",
    '["n"]',
    '""',
    '"\\u0000"',
    '"\\u00b5"',
    "1979-05-27",
    "nan",
)
NOISE = "[](){}\"'=#,.*/+-\\\n\t\x00\x7f\ud800\u00e9\u202e\U0001f600 0123456789abnijxWz_"

Break = Callable[[str, Seeded], str]


@dataclass(frozen=True)
class Kind:
    """A way to break a text.

    Attributes:
        name: What it is counted as.
        apply: Text → broken text.
        certain: Whether what comes out is illegal whatever the text was.
    """

    name: str
    apply: Break
    certain: bool


# ------------------------------------------------------------------ parts of a text
def forward_of(text: str) -> tuple[str, str, str]:
    """What stands before, in and behind ``forward``."""
    head, rest = text.split('forward = """\n', 1)
    body, tail = rest.split('"""', 1)
    return head + 'forward = """\n', body, '"""' + tail


def in_forward(change: Break) -> Break:
    """A break of the formulas alone."""

    def apply(text: str, source: Seeded) -> str:
        head, body, tail = forward_of(text)
        return head + change(body, source) + tail

    return apply


def one_match(pattern: str, text: str, source: Seeded) -> re.Match[str] | None:
    """One of the places where a pattern matches."""
    found = list(re.finditer(pattern, text))
    return source.choice(found) if found else None


def replaced(text: str, match: re.Match[str] | None, new: str) -> str:
    """The text with a match replaced."""
    return text if match is None else text[: match.start()] + new + text[match.end() :]


# ------------------------------------------------------------------ breaks of formulas
def code(body: str, source: Seeded) -> str:
    """A read inside something that is no notation."""
    match = one_match(r"(?<=[ (*/+-])[A-Za-z]\w*\[[^][]*\](?!\s*=)", body, source)
    if match is None:
        return body.rstrip() + " + lambda: 0\n"
    return replaced(body, match, source.choice(CODE).format(match.group()))


def index(body: str, source: Seeded) -> str:
    """An index that is not integer-affine, or no index at all."""
    match = one_match(r"(?<=[ (*/+-])([A-Za-z]\w*)\[([^][]*)\](?!\s*=)", body, source)
    if match is None or match.group(1) in ("sum", "mean", "max", "softmax"):
        return body.rstrip() + " + z[0.5*n]\n"
    letter = re.search(r"[a-z]\w*", match.group(2))
    inner = letter.group() if letter else "n"
    return replaced(body, match, source.choice(INDICES).format(match.group(1), inner))


def keyword(body: str, source: Seeded) -> str:
    """A name that Python or the notation keeps for itself."""
    name = one_match(r"(?<![\w.])[A-Za-z]\w*(?=\[)", body, source)
    return replaced(body, name, source.choice(KEYWORDS))


def bracket(body: str, source: Seeded) -> str:
    """A bracket less, or one more."""
    match = one_match(r"[][()]", body, source)
    return replaced(body, match, source.choice(("", "((", "]]", ")]")))


def twice(body: str, source: Seeded) -> str:
    """The output defined twice."""
    del source
    last = body.rstrip().splitlines()[-1]
    return f"{body.rstrip()}\n{last}\n"


def nested(body: str, source: Seeded) -> str:
    """Parentheses, signs or functions far too deep."""
    depth = source.choice((30, 250, 3000))
    left, right = body.rstrip().rsplit(" = ", 1)
    opening, closing = source.choice((("(", ")"), ("-", ""), ("exp(", ")"), ("1/(1 + ", ")")))
    return f"{left} = {opening * depth}{right}{closing * depth}\n"


def letters(body: str, source: Seeded) -> str:
    """One index letter exchanged."""
    match = one_match(r"(?<=[\[, ])[a-z]\w*(?=[],])", body, source)
    return replaced(body, match, source.choice(("zz", "n", "i", "j", "W", "stride", "size")))


def axes(body: str, source: Seeded) -> str:
    """One index less, or one more."""
    match = one_match(r", [a-z]\w*(?=\])", body, source)
    return replaced(body, match, source.choice(("", ", n, n", ", 0", ", -1", ", 99999999999")))


# ------------------------------------------------------------------ breaks of the file
def entry(key: str, value: str) -> Break:
    """A top-level key with another value."""

    def apply(text: str, source: Seeded) -> str:
        del source
        kept = re.sub(rf'(?m)^{key} = (""".*?"""|.*?)$', "", text, count=1, flags=re.DOTALL)
        return f"{key} = {value}\n{kept}"

    return apply


def wrong_type(text: str, source: Seeded) -> str:
    """A key with a value of another type."""
    key = source.choice(("name", "forward", "site"))
    values = [v for v in VALUES if not (key == "site" and v == '""')]
    return entry(key, source.choice(values))(text, source)


def missing(text: str, source: Seeded) -> str:
    """A required key less."""
    key = source.choice(("name", "site", "unit"))
    return re.sub(rf"(?m)^{key} = .*$", "", text, count=1)


def table_value(text: str, source: Seeded) -> str:
    """An entry of a table with a value of another type."""
    _, _, tail = forward_of(text)
    match = one_match(r"(?m)(?<== ).+$", tail[tail.index("[parameters]") :], source)
    found = match.group() if match else ""
    place = text.rindex(found)
    return text[:place] + source.choice(VALUES) + text[place + len(found) :]


def appended(table: str, line: str) -> Break:
    """One more entry in a table."""

    def apply(text: str, source: Seeded) -> str:
        del source
        if f"[{table}]\n" in text:
            return text.replace(f"[{table}]\n", f"[{table}]\n{line}\n", 1)
        return f"{text}\n[{table}]\n{line}\n"

    return apply


def first_letter(text: str) -> str:
    """A letter of the output."""
    found = re.search(r'(?m)^(?:site|unit) = "(\w+)', text)
    return found.group(1) if found else "n"


def hidden_letter(text: str, source: Seeded) -> str:
    """A hyperparameter with the name of an index."""
    return appended("hyperparameters", f"{first_letter(text)} = 1")(text, source)


def cycle(text: str, source: Seeded) -> str:
    """Sizes that are defined by each other."""
    letter = first_letter(text)
    text = re.sub(rf'(?m)^{letter} = "?\w+"?$', "", text)
    return appended("sizes", f'{letter} = "2*{letter}"')(text, source)


def overlap(text: str, source: Seeded) -> str:
    """A letter in site and unit, or one that is no letter of the output."""
    letter = source.choice((first_letter(text), "nowhere"))
    if letter == "nowhere":
        return re.sub(r'(?m)^unit = "', 'unit = "nowhere ', text, count=1)
    text = re.sub(rf'(?m)^(site|unit) = "{letter}\b', r'\1 = "', text)
    return re.sub(r'(?m)^unit = "', f'unit = "{letter} {letter}x ', text, count=1)


def duplicate(text: str, source: Seeded) -> str:
    """A key of TOML twice."""
    match = one_match(r"(?m)^[A-Za-z]\w* = [^\"\n]*\S.*$", forward_of(text)[2], source)
    line = match.group() if match else 'name = "Fuzzed"'
    return text.replace(line, f"{line}\n{line}", 1) if match else f"{line}\n{text}"


def cut(text: str, source: Seeded) -> str:
    """The beginning alone."""
    return text[: source.integer(0, len(text) - 2)]


def noise(text: str, source: Seeded) -> str:
    """Some characters anywhere."""
    for _ in range(source.integer(1, 4)):
        place = source.integer(0, len(text))
        text = text[:place] + source.choice(NOISE) + text[place + source.integer(0, 2) :]
    return text


def line_gone(text: str, source: Seeded) -> str:
    """A line less."""
    lines = text.splitlines()
    del lines[source.integer(0, len(lines) - 1)]
    return "\n".join(lines) + "\n"


def lines_swapped(text: str, source: Seeded) -> str:
    """Two lines exchanged."""
    lines = text.splitlines()
    a, b = (source.integer(0, len(lines) - 1) for _ in range(2))
    lines[a], lines[b] = lines[b], lines[a]
    return "\n".join(lines) + "\n"


KINDS = (
    Kind("no notation", in_forward(code), True),
    Kind("no index", in_forward(index), True),
    Kind("keyword", in_forward(keyword), True),
    Kind("bracket", in_forward(bracket), True),
    Kind("defined twice", in_forward(twice), True),
    Kind("too deep", in_forward(nested), False),
    Kind("other letter", in_forward(letters), False),
    Kind("other axes", in_forward(axes), False),
    Kind("wrong type", wrong_type, True),
    Kind("wrong value", table_value, False),
    Kind("missing key", missing, True),
    Kind("unknown key", entry("colour", "1"), True),
    Kind("unused parameter", appended("parameters", 'UU = { torch = "unused" }'), True),
    Kind("attribute", appended("parameters", 'UU = { torch = "forward" }'), True),
    Kind("dunder", appended("parameters", '__init__ = { torch = "dunder" }'), True),
    Kind("no default", appended("hyperparameters", 'alpha2 = "one"'), True),
    Kind("huge default", appended("hyperparameters", "huge = 1e300"), True),
    Kind("unused input", appended("inputs", 'nothing = "n"'), True),
    Kind("size of nothing", appended("sizes", 'nowhere = "nowhere_size"'), True),
    Kind("index and hyperparameter", hidden_letter, True),
    Kind("size cycle", cycle, True),
    Kind("site and unit", overlap, True),
    Kind("key twice", duplicate, True),
    Kind("cut", cut, False),
    Kind("noise", noise, False),
    Kind("line gone", line_gone, False),
    Kind("lines swapped", lines_swapped, False),
)


# ------------------------------------------------------------------ judging
def judge_illegal(text: str, seed: int, number: int) -> tuple[str, tuple[Finding, str] | None]:
    """Break a legal text in one way and see what becomes of it.

    Returns:
        What to count it as, and the finding with the broken text if there is one.
    """
    source = Seeded(seed, number, 3)
    kind = KINDS[number % len(KINDS)]
    broken = kind.apply(text, source)
    try:
        with limited(SECONDS):
            outcome, problem = refusal(broken, kind)
    except Overtime:
        outcome, problem = "slow", Finding("illegal: slow", f"{kind.name}: over {SECONDS:g} s")
    return f"{kind.name}: {outcome}", None if problem is None else (problem, broken)


def refusal(text: str, kind: Kind) -> tuple[str, Finding | None]:
    """``refused`` with a proper error, ``legal`` or ``long`` where that may be; else a finding."""
    try:
        spec = read_spec(text, FILE)
        with within(Limits(seconds=SECONDS * SHARE, clock=time.process_time)):
            derive(spec)
    except SpecError as error:
        return "refused", improper(error, kind)
    except BudgetError:
        return "long", accepted(kind)
    except DerivationError:
        return "legal", accepted(kind)
    except Exception as error:
        return "crash", Finding(f"illegal: {type(error).__name__}", f"{kind.name}: {error!r}"[:500])
    return "legal", accepted(kind)


def accepted(kind: Kind) -> Finding | None:
    """A finding if what was accepted is certainly illegal."""
    if not kind.certain:
        return None
    return Finding(f"illegal: accepted {kind.name}", "read without an error")


def improper(error: SpecError, kind: Kind) -> Finding | None:
    """A finding if the error does not say where and what."""
    del kind
    if not str(error).startswith(FILE):
        return Finding("illegal: no file", str(error))
    if not (error.symbol or error.line or "TOML" in error.problem or "is missing" in error.problem):
        return Finding("illegal: no symbol", str(error))
    return None

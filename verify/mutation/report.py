"""The tables of a campaign, as Markdown."""

from __future__ import annotations

from verify.mutation.campaign import Result, table


def markdown(result: Result) -> str:
    """A row a file and a last row for all: mutants, killers, argued and unargued survivors."""
    rows = list(table(result))
    killers = sorted({k for _, row in rows for k in row} - {"mutants", "argued", "survived"})
    columns = ["mutants", *killers, "argued", "survived"]
    whole = {c: sum(row.get(c, 0) for _, row in rows) for c in columns}
    lines = ["| file | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name, row in [*rows, ("all", whole)]:
        lines.append(f"| {name} | " + " | ".join(str(row.get(c, 0)) for c in columns) + " |")
    return "\n".join(lines)


def arguments(result: Result) -> str:
    """The arguments for survivors, with how many each excuses."""
    lines = ["| where | change | survivors | why it is right |", "|---|---|---:|---|"]
    for entry in dict.fromkeys(result.argued.values()):
        count = sum(e is entry for e in result.argued.values())
        where, kind, change = (
            text.replace("|", "\\|") for text in (entry.where, entry.kind, entry.change)
        )
        lines.append(f"| `{where}` | `{kind}`: `{change}` | {count} | {entry.reason} |")
    return "\n".join(lines)

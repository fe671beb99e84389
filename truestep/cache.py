"""Verified results by what they depend on, so that an unchanged rebuild takes no time.

Imports neither torch nor SymPy. An entry that is damaged, or that belongs to another key, does not
exist; a failed verification is never kept.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs

FORMAT = 1
ROOMS = ("derive", "codegen", "verify")
LIBRARIES = ("torch", "sympy", "numpy", "ruff", "jinja2")


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def directory() -> Path:
    """``$TRUESTEP_CACHE``, or the user's cache directory."""
    chosen = os.environ.get("TRUESTEP_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("truestep", appauthor=False)


def fingerprint() -> str:
    """The digest of all code that a result depends on, ours by content, others' by version."""
    parts = [f"format {FORMAT}", f"python {platform.python_version()}"]
    parts += [f"{name} {metadata.version(name)}" for name in LIBRARIES]
    for room in ROOMS:
        spec = importlib.util.find_spec(room)
        roots = spec.submodule_search_locations if spec is not None else None
        for root in map(Path, roots or ()):
            for path in sorted([*root.rglob("*.py"), *root.rglob("*.jinja")]):
                name = path.relative_to(root).as_posix()
                parts.append(f"{room}/{name} {digest(path.read_bytes())}")
    return digest("\n".join(parts).encode())


class Cache:
    """Entries of JSON data in a directory, one file each."""

    def __init__(self, where: Path | None) -> None:
        """Keep entries in a directory; ``None`` keeps nothing."""
        self.where = where
        self.fingerprint = fingerprint() if where is not None else ""

    def key(self, *parts: Any) -> str:
        """The key of what follows from these parts and the code."""
        return digest(json.dumps([self.fingerprint, *parts]).encode())

    def get(self, key: str) -> dict[str, Any] | None:
        """An entry, or ``None`` if there is none that is whole."""
        if self.where is None:
            return None
        try:
            entry = json.loads((self.where / f"{key}.json").read_text(encoding="utf-8"))
            value = entry["value"]
            whole = entry["key"] == key and entry["digest"] == digest(dumped(value))
            return value if whole and isinstance(value, dict) else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def put(self, key: str, value: dict[str, Any]) -> None:
        """Keep an entry; where that is impossible (a full or read-only disk) it is not kept."""
        if self.where is None:
            return
        entry = {"key": key, "digest": digest(dumped(value)), "value": value}
        part = ""
        try:
            self.where.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(dir=self.where, suffix=".part")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(entry, file)
            os.replace(part, self.where / f"{key}.json")
        except OSError:
            Path(part).unlink(missing_ok=True) if part else None


def dumped(value: Any) -> bytes:
    """JSON text of one form."""
    return json.dumps(value, sort_keys=True).encode()

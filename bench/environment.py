"""The surroundings of a measurement: one thread, an allocator that keeps its memory, no collector.

Imports nothing but the standard library, because the allocator and the thread pools read the
environment once, when the process starts: a process that was started otherwise starts itself anew.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
GIGABYTE = 2**30
FIXED: Mapping[str, str] = {
    # Temporaries of some megabytes stay in the heap: without these each one costs page faults.
    # 32 MiB is the largest threshold that glibc takes; it ignores a larger one.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(16 * GIGABYTE),
    "MALLOC_TOP_PAD_": str(GIGABYTE // 4),
    # Two threads on a busy machine measure the scheduler.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    # The profiler reports its starts and stops on standard error, where progress is shown.
    "KINETO_LOG_LEVEL": "6",
    # The current folder is no place to import from: PYTHONPATH chooses whose layers are measured.
    "PYTHONSAFEPATH": "1",
}


def wanted(current: Mapping[str, str]) -> dict[str, str]:
    """The environment to measure in; what PYTHONPATH names comes before this checkout."""
    path = [entry for entry in current.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if str(ROOT) not in path:
        path.append(str(ROOT))
    return {**current, **FIXED, "PYTHONPATH": os.pathsep.join(path)}


def restart() -> None:
    """Start this command anew unless it runs in the environment to measure in."""
    environment = wanted(os.environ)
    if environment != dict(os.environ):
        os.execve(sys.executable, [sys.executable, "-m", "bench", *sys.argv[1:]], environment)


def machine() -> dict[str, str]:
    """All that a measurement depends on, the code of the layers too; no names of hosts or paths."""
    return {
        "layers": layers_digest(),
        "processor": processor(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "threads": FIXED["OMP_NUM_THREADS"],
        **{name: FIXED[name] for name in FIXED if name.startswith("MALLOC")},
    }


def layers_digest() -> str:
    """What tells the generated layers from others: SHA-256 of their files, eight digits."""
    spec = importlib.util.find_spec("truestep")
    folders = [] if spec is None else spec.submodule_search_locations or []
    found = hashlib.sha256()
    for path in sorted(file for folder in folders for file in Path(folder).glob("layers/*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:8]


def processor() -> str:
    """What the processor calls itself, with the widest vector instructions that it has."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in found.items()}
    name = facts.get("model name", platform.machine())
    known = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
    widest = next((flag for flag in known if flag in facts.get("flags", "").split()), "")
    return f"{name} ({widest})" if widest else name

"""What can be mutated, by key: ``layer linear``, ``room derive/update``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from verify.mutation.campaign import Target
from verify.mutation.layers import open_layer
from verify.mutation.rooms import open_room, room_files

ROOT = Path(__file__).resolve().parent.parent.parent
SPECS = ROOT / "truestep" / "specs"
NOTHING_GENERATED = ("embedding",)


def layer_keys(names: Sequence[str]) -> tuple[str, ...]:
    """Keys of shipped layers; of all that are generated where no names are given.

    Raises:
        KeyError: If there is no such layer.
    """
    known = [p.stem for p in sorted(SPECS.glob("*.toml")) if p.stem not in NOTHING_GENERATED]
    for name in names:
        if name not in known:
            raise KeyError(f"no shipped layer `{name}` is generated; known: {', '.join(known)}")
    return tuple(f"layer {name}" for name in (names or known))


def room_keys(names: Sequence[str]) -> tuple[str, ...]:
    """Keys of rooms and their files; of all where no names are given.

    Raises:
        KeyError: If there is no such room or file.
    """
    return tuple(f"room {name}" for name in room_files(tuple(names)))


def target_keys(layers: Sequence[str] | None, rooms: Sequence[str] | None) -> tuple[str, ...]:
    """Keys of what a command names; everything where it names neither.

    Raises:
        KeyError: If there is no such layer or room.
    """
    found: tuple[str, ...] = ()
    if layers is not None or rooms is None:
        found += layer_keys(layers or ())
    if rooms is not None or layers is None:
        found += room_keys(rooms or ())
    return found


def open_target(key: str) -> Target:
    """The target of a key."""
    kind, name = key.split()
    if kind == "room":
        return open_room(name)
    return open_layer(SPECS / f"{name}.toml")

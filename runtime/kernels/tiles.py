"""The tile of a Triton launch: the fastest, found once for each kernel, device and size of batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ndl.runtime.atomic import write_json


@dataclass(frozen=True)
class Tile:
    """Trajectories of a program, and the warps that share them."""

    block: int
    warps: int


CANDIDATES = (Tile(32, 1), Tile(64, 1), Tile(64, 2), Tile(128, 4))
"""A trajectory a thread, or two. Loops last as long as a tile's slowest trajectory: small tiles idle less."""


def magnitude(count: int) -> int:
    """The number of decimal digits of a batch's size."""
    return len(str(count))


def chosen(
    file: Path, key: str, time: Callable[[Tile], float], candidates: Sequence[Tile] = CANDIDATES
) -> Tile:
    """The fastest tile by `time`, or what `file` says under `key`; the choice is kept there.

    Processes that choose at once may each write: the file is replaced as a whole and loses at worst a choice.
    """
    known = _read(file)
    if key in known:
        return known[key]
    best = min(candidates, key=time)
    rows = {k: [t.block, t.warps] for k, t in {**_read(file), key: best}.items()}
    with suppress(OSError):  # a choice that cannot be kept is made again
        write_json(file, rows)
    return best


def _read(file: Path) -> dict[str, Tile]:
    try:
        return {k: Tile(int(b), int(w)) for k, (b, w) in json.loads(file.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}

"""The tile of a Triton launch: the fastest, found once for each kernel, device and size of batch.

What a kernel computes does not depend on its tile, so that a choice changes no result. Without a GPU, and
with `NDL_TUNE=off` in the environment, it is the first of the candidates.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from ndl.runtime.atomic import write_json


@dataclass(frozen=True)
class Tile:
    """Trajectories of a program, the warps that share them, and the stages in which loops are pipelined.

    Triton pipelines loops over a known range that load what tensor cores multiply. Solves step until they
    are done, and have none: no candidate asks for more than one stage.
    """

    block: int
    warps: int
    stages: int = 1


CANDIDATES = (Tile(32, 1), Tile(64, 1), Tile(64, 2), Tile(128, 4))
"""A trajectory a thread, or two. Loops last as long as a tile's slowest trajectory: small tiles idle less."""

SINGLE = tuple(t for t in CANDIDATES if t.block == 32 * t.warps)
"""A trajectory a thread: where threads have a workspace, and no registers left."""


@dataclass(frozen=True)
class Device:
    """What a choice holds for: a GPU by name and compute capability, and the version of the compiler."""

    name: str
    capability: tuple[int, int]
    compiler: str

    def key(self, count: int) -> str:
        """What a choice is kept under: the device, and the size of the batch in decimal digits."""
        major, minor = self.capability
        return f"{self.name}, sm_{major}{minor}, triton {self.compiler}, {magnitude(count)} digits"


def magnitude(count: int) -> int:
    """The number of decimal digits of a batch's size."""
    return len(str(count))


def tuning() -> bool:
    """Whether tiles are tried out."""
    return os.environ.get("NDL_TUNE", "").lower() not in ("off", "0", "no", "false")


def tile_for(
    file: Path,
    device: Device | None,
    count: int,
    time: Callable[[Tile], float],
    candidates: Sequence[Tile] = CANDIDATES,
) -> Tile:
    """The tile for a batch of `count`: on a device the fastest by `time`, elsewhere the first. `file` is the
    kernel's own."""
    if device is None or len(candidates) == 1 or not tuning():
        return candidates[0]
    return chosen(file, device.key(count), time, candidates)


def chosen(
    file: Path, key: str, time: Callable[[Tile], float], candidates: Sequence[Tile] = CANDIDATES
) -> Tile:
    """The fastest tile by `time`, or what `file` says under `key`; the choice is kept there. Of tiles that
    take the same time the first is chosen.

    Processes that choose at once may each write: the file is replaced as a whole and loses at worst a choice.
    """
    known = _read(file)
    if known.get(key) in candidates:
        return known[key]
    best = min(candidates, key=time)
    rows = {k: list(astuple(t)) for k, t in {**_read(file), key: best}.items()}
    with suppress(OSError):  # a choice that cannot be kept is made again
        write_json(file, rows)
    return best


def _read(file: Path) -> dict[str, Tile]:
    try:
        return {k: Tile(*map(int, t)) for k, t in json.loads(file.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}

"""Memory for what runs keep, lent from one run to the next: fresh pages cost more than what is written."""

from __future__ import annotations

import threading

from torch import Tensor

KEPT = 1 << 26
"""Reals that a run may keep for its derivative, besides its tape: beyond, they are computed again."""
LENT = 1 << 24
"""Reals of a tape that is lent on; a longer one is given back to the system after its run."""

_spare: dict[object, Tensor] = {}
_lock = threading.Lock()


class Lease:
    """A buffer of at least `size` reals for as long as this object lives. One of each use and kind is kept
    for the next to come; a larger one takes its place."""

    def __init__(self, like: Tensor, size: int, use: str = "kept") -> None:
        self._kind = use, like.dtype, like.device
        with _lock:
            found = _spare.pop(self._kind, None)
        self.buffer = found if found is not None and found.numel() >= size else like.new_empty(max(size, 1))

    def __del__(self) -> None:
        with _lock:
            other = _spare.get(self._kind)
            if other is None or other.numel() < self.buffer.numel():
                _spare[self._kind] = self.buffer

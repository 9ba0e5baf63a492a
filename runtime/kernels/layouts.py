"""Compiling Triton kernels whose tiles are all one-dimensional, without the search for layouts of memory.

Triton's coalescing pass looks, for each load and store, at every instruction that is connected with it, and
that again for each of those: of a kernel of some thousands of instructions, all of one loop, it takes nine
tenths of the time of compilation. What it looks for is known here: trajectories stand beside one another in
memory, and the layout that every tile has at first, lane by lane, is coalesced.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_lanes: ContextVar[bool] = ContextVar("lanes", default=False)


@contextmanager
def lane_by_lane() -> Iterator[None]:
    """Kernels that are compiled in here, by this thread, keep the layout that tiles have at first."""
    _install()
    token = _lanes.set(True)
    try:
        yield
    finally:
        _lanes.reset(token)


def _install() -> None:
    """Let Triton's pipelines ask first. A Triton that is built otherwise compiles as it always does."""
    try:
        from triton._C.libtriton import passes
    except ImportError:
        return
    found = getattr(passes, "ttgpuir", None)
    original = getattr(found, "add_coalesce", None)
    if original is None or hasattr(original, "asks"):
        return

    def add_coalesce(manager: Any) -> None:
        if not _lanes.get():
            original(manager)

    add_coalesce.asks = True  # type: ignore[attr-defined]
    found.add_coalesce = add_coalesce  # type: ignore[union-attr]

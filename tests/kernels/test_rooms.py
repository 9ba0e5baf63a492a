"""The room that runs are given: it grows at once, and shrinks when many runs in a row need little."""

from __future__ import annotations

from ndl.runtime.kernels.rooms import LEAST, PATIENCE, Room


def test_it_shrinks_after_many_short_runs() -> None:
    room = Room(256, 16, 32)
    for _ in range(PATIENCE - 1):
        room.taken(3)
    assert room.steps == 256
    room.taken(10)
    assert room.steps == 40
    for _ in range(PATIENCE):
        room.taken(1)
    assert room.steps == LEAST


def test_runs_in_turn_keep_it() -> None:
    room = Room(256, 16, 32)
    for _ in range(4 * PATIENCE):
        room.taken(3)
        room.taken(100)
    assert room.steps == 256


def test_it_grows_at_once() -> None:
    room = Room(16, 16, 32)
    room.grow(300, 4, 40)
    assert (room.steps, room.events, room.turns) == (300, 16, 40)

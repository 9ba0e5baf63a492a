"""The order in which stretches are taken again, and what of it fits into memory."""

from __future__ import annotations

from functools import cache

import pytest
from ndl.runtime.errors import SettingError
from ndl.runtime.recompute import Checkpoints, Plan, checkpoints_of, cost, plan, schedule, stretches_for


@cache
def fewest(length: int, states: int) -> int:
    """The fewest stretches taken again, by trying every place of the next checkpoint."""
    if length <= 1 or states == 1:
        return length * (length - 1) // 2
    return min(k + fewest(k, states) + fewest(length - k, states - 1) for k in range(1, length))


@pytest.mark.parametrize("places", range(5))
def test_every_stretch_is_reached_in_the_fewest_steps(places: int) -> None:
    for length in range(45):
        held, left, taken = {-1: 0}, length, 0
        for s in schedule(length, places):
            assert held[s.source] == s.first, "a stretch starts at a checkpoint that is there"
            for at, place in s.marks:
                assert 0 <= place < places and s.first < at <= s.last
                held[place] = at
            taken += s.last - s.first
            assert s.last == left - 1, "from the last to the first"
            left = s.last
        assert left == 0
        assert taken == fewest(length, places + 1) == (cost(length, places + 1) if length else 0)


def test_plans_fit_and_use_what_there_is() -> None:
    for steps, rooms, state, row in ((1000, 10, 1, 1), (1000, 63, 3, 5), (7, 100, 1, 1), (10_000, 1, 1, 1)):
        found = plan(steps, rooms, state, row)
        assert found is not None
        assert found.places * state + found.rows * row <= rooms or found == Plan(0, steps)
    assert plan(7, 100) == Plan(0, 7), "what fits is kept as a whole"
    assert plan(1000, 4, 3, 5) is None
    more = [plan(1000, n) for n in (5, 20, 63, 500)]
    again = [cost(-(-1000 // p.rows), p.places + 1) * p.rows for p in more if p is not None]
    assert again == sorted(again, reverse=True) and again[2] <= 1000, "2 sqrt(steps): each once more"


def test_stretches_of_the_torch_path() -> None:
    assert stretches_for(100, 1e6, 10, 100) == 1
    found = stretches_for(100, 1500, 10, 100)
    assert found * 10 + -(-100 // found) * 100 <= 1500 < (found - 1) * 10 + -(-100 // (found - 1)) * 100
    with pytest.raises(SettingError, match="too little"):
        stretches_for(100, 100, 10, 100)


def test_what_a_gradient_says() -> None:
    assert checkpoints_of(("checkpoint", 3)) == Checkpoints(states=3)
    assert checkpoints_of("discrete") is None
    for wrong in (0, Checkpoints(memory=0.0), Checkpoints(memory=float("nan"))):
        with pytest.raises(SettingError, match="needs"):
            checkpoints_of(("checkpoint", wrong))

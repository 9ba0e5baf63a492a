"""How much room runs of a kind are given for what nobody knows beforehand: steps, events, turns."""

from __future__ import annotations

from dataclasses import dataclass

PATIENCE = 32
"""Runs in a row that must leave most of the room empty before there is less of it."""
LEAST = 16
"""The fewest steps that there is room for."""


@dataclass
class Room:
    """Rows of a tape, of a record of events, and of kept arrays."""

    steps: int
    events: int
    turns: int
    short: int = 0
    """How many runs in a row have taken less than a quarter of the steps, and the longest of them."""
    longest: int = 0

    def taken(self, steps: int) -> None:
        """Heed a run for which there was room enough."""
        if 4 * steps >= self.steps:
            self.short = self.longest = 0
            return
        self.short, self.longest = self.short + 1, max(self.longest, steps)
        if self.short == PATIENCE:
            self.steps = max(4 * self.longest, LEAST)
            self.short = self.longest = 0

    def grow(self, steps: int, events: int, turns: int) -> None:
        """Make room for so many."""
        self.steps, self.events = max(self.steps, steps), max(self.events, events)
        self.turns = max(self.turns, turns)

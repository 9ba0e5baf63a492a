"""What kernels leave of runs that may end early, as a solution knows it: saved values and events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ndl.runtime.events import Firing
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.recorder import Saved
from ndl.runtime.solution import Events
from torch import Tensor


def saved_until(grid: Floats, saved: Tensor, slots: Ints, last: Tensor, last_t: Floats) -> Saved:
    """Saved times of members that may have ended early, after `slots [B]` of them: the last value of each
    stands at its end, unless it is saved there already. `saved [B, S, n]`, `last [B, n]`."""
    before = grid[np.maximum(slots - 1, 0)]
    more = (slots < len(grid)) & ((slots == 0) | (before != last_t))
    many = slots + more
    place = np.minimum(np.arange(int(many.max()))[None, :], many[:, None] - 1)
    ended = place >= slots[:, None]
    inside = np.minimum(place, len(grid) - 1)
    times = np.where(ended, last_t[:, None], grid[inside])
    at = torch.from_numpy(inside).to(saved.device)[:, :, None].expand(-1, -1, saved.shape[2])
    values = torch.where(
        torch.from_numpy(ended).to(saved.device)[:, :, None], last[:, None], saved.gather(1, at)
    )
    return Saved(times, np.arange(place.shape[1])[None, :] < many[:, None], {"x": values})


@dataclass(frozen=True)
class Record:
    """The firings of all members in their order: `t [B, R]`, with its gradient, `step [B, R]` (accepted steps
    before it), `kind [B, R]` (the event's number); of member m the first `many[m]` count."""

    t: Tensor
    step: Ints
    kind: Ints
    many: Ints

    @staticmethod
    def of(buffers: dict[str, Tensor], many: Ints) -> Record:
        """From the buffers `event_t`, `event_step` and `event_kind` `[R, B]`."""
        width = int(many.max(initial=0))
        step, kind = (buffers[f"event_{k}"][:width].t().cpu().numpy() for k in ("step", "kind"))
        t = buffers["event_t"][:width].t().cpu().to(torch.float64)
        return Record(t, step.astype(np.int64), kind.astype(np.int64), many)

    @property
    def valid(self) -> np.ndarray:
        return np.asarray(np.arange(self.step.shape[1])[None, :] < self.many[:, None])

    def events(self, problem: Problem) -> Events:
        texts = tuple(e.text for e in problem.model.EVENTS)
        t = torch.where(torch.from_numpy(self.valid), self.t, torch.nan)
        kind = torch.from_numpy(np.where(self.valid, self.kind, -1))
        return Events(t, kind, texts) if problem.ensemble else Events(t[0], kind[0], texts)

    def firings(self, problem: Problem, kinds: Ints) -> list[Firing]:
        """One by one, for a replay; `kinds [B, K]` has the event, if any, that ended each step."""
        turns = np.zeros((len(self.many), len(problem.model.EVENTS)), dtype=np.int64)
        times = self.t.detach().numpy()
        found = []
        for m, r in np.argwhere(self.valid):
            k, step = int(self.kind[m, r]), int(self.step[m, r])
            turn, root = int(turns[m, k]), bool(step and kinds[m, step - 1] == k)
            found.append(Firing(int(m), step, float(times[m, r]), k, root, turn))
            turns[m, k] += 1
        return found

    def restarts(self) -> list[tuple[int, int]]:
        """(member, steps done before) of each fresh start after the first."""
        pairs = {(int(m), int(self.step[m, r])) for m, r in np.argwhere(self.valid)}
        return sorted(pair for pair in pairs if pair[1])

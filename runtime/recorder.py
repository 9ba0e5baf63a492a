"""What a run saves, gathered while members step at their own times.

A driver hands over values `[P, ...]` for P (member, slot) pairs; slots are the places of a member's
times, 0, 1, …. Gradient history is kept. At the end everything becomes `[B, S, ...]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from ndl.runtime.problem import Floats, Ints, SavePlan
from torch import Tensor


@dataclass(frozen=True)
class Saved:
    """Saved values by name (`x` is the flat state, noises have their own), `[B, S, ...]` at `t [B, S]`.

    Members with fewer times are padded by their last value; `valid [B, S]` is False there.
    """

    t: Floats
    valid: np.ndarray
    values: dict[str, Tensor]


class Recorder:
    """Collects saved values; see `SavePlan` for what the plan may be."""

    def __init__(self, plan: SavePlan, count: int, sign: float) -> None:
        self.plan = plan
        self.count = count
        self.sign = sign
        self.slots = np.zeros(count, dtype=np.int64)
        self._ids: list[Ints] = []
        self._places: list[Ints] = []
        self._times: list[Floats] = []
        self._values: list[Mapping[str, Tensor]] = []
        self._grid = sign * plan.times if plan.kind == "grid" else np.empty(0)

    def due(self, ids: Ints, t: Floats, inclusive: bool = True) -> tuple[Ints, Ints, Floats] | None:
        """Grid times of the members `ids` up to `t [b]` that are not yet saved: rows into `ids`, slots and
        times, one for each pair, which then count as saved; None when there are none."""
        if self.plan.kind != "grid":
            return None
        begin = self.slots[ids]
        until = np.searchsorted(self._grid, self.sign * t, side="right" if inclusive else "left")
        many = until - begin
        if not (many > 0).any():
            return None
        many = np.maximum(many, 0)
        rows = np.repeat(np.arange(len(ids)), many)
        offset = np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)
        slots = begin[rows] + offset
        self.slots[ids] = begin + many
        return rows, slots, self.plan.times[slots]

    def put(self, ids: Ints, slots: Ints, t: Floats, values: Mapping[str, Tensor]) -> None:
        """Values `[P, ...]` for the given members and slots."""
        self._ids.append(ids)
        self._places.append(slots)
        self._times.append(t)
        self._values.append(values)

    def append(self, ids: Ints, t: Floats, values: Mapping[str, Tensor]) -> None:
        """One more time for each of the members `ids`."""
        slots = self.slots[ids].copy()
        self.slots[ids] += 1
        self.put(ids, slots, t, values)

    def finish(self, ids: Ints, t: Floats, values: Mapping[str, Tensor]) -> None:
        """Members that end at `t [m]` with `values [m, ...]`: saved unless the plan has that time already."""
        if self.plan.kind == "end":
            self.append(ids, t, values)
        elif self.plan.kind == "grid":
            early = self.slots[ids] < len(self._grid)
            last = self.plan.times[np.maximum(self.slots[ids] - 1, 0)]
            rows = np.nonzero(early & ((self.slots[ids] == 0) | (last != t)))[0]
            if len(rows):
                pick = torch.from_numpy(rows)
                self.append(ids[rows], t[rows], {k: v[pick.to(v.device)] for k, v in values.items()})

    def result(self) -> Saved:
        """Everything that was handed over, laid out by member and slot."""
        if not self._ids:
            raise ValueError("nothing was saved")
        ids, slots = np.concatenate(self._ids), np.concatenate(self._places)
        times = np.concatenate(self._times)
        width = int(slots.max()) + 1
        order = np.full((self.count, width), -1, dtype=np.int64)
        order[ids, slots] = np.arange(len(ids))
        valid = order >= 0
        # the last saved value of each member stands for those it does not have
        last = np.maximum.accumulate(np.where(valid, np.arange(width), 0), axis=1)
        order = np.take_along_axis(order, last, axis=1)
        flat = order.reshape(-1)
        in_order = len(flat) == len(ids) and bool((flat == np.arange(len(flat))).all())
        values: dict[str, Tensor] = {}
        for name in self._values[0]:
            pieces = [v[name] for v in self._values]
            joined = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
            if not in_order:
                joined = joined.index_select(0, torch.from_numpy(flat).to(joined.device))
            values[name] = joined.reshape(self.count, width, *joined.shape[1:])
        return Saved(times[flat].reshape(self.count, width), valid, values)

"""The accepted steps of a run: their table, and the continuous output made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.stepping.corners import Corners
from ndl.runtime.stepping.pace import fixed_end
from ndl.runtime.stepping.stepper import Attempt, Carry, Stepper, Time
from torch import Tensor

BUDGET = 2**28
"""Bytes of stages that are kept for continuous output; beyond it, saved values are interpolated."""

FEW = 1000
"""Steps up to which a table is kept for the next run."""


@dataclass(frozen=True)
class Piece:
    """Steps taken together: rows of an attempt, with members, starts, ends (an event may end a step early),
    full sizes and scaled errors, each `[r]`."""

    rows: Ints
    ids: Ints
    t: Floats
    end: Floats
    h: Floats
    error: Floats
    attempt: Attempt | None = None
    tape: tuple[Time, Time] | None = None


@dataclass
class Trail:
    """All pieces of a run, in the order they were taken."""

    count: int
    sign: float
    pieces: list[Piece] = field(default_factory=list)
    keep: bool = True
    complete: Callable[[Piece], None] | None = None
    """Completes an attempt for continuous output, where that has been put off."""
    _bytes: int = 0

    def attempt(self, piece: Piece) -> Attempt:
        """The attempt of a kept piece, complete."""
        assert piece.attempt is not None
        if piece.attempt.stages is None and self.complete is not None:
            self.complete(piece)
        return piece.attempt

    def add(self, piece: Piece) -> None:
        if piece.attempt is not None and self.keep and piece.attempt.stages is not None:
            stages = piece.attempt.stages
            self._bytes += stages.numel() * stages.element_size()
            self.keep = self._bytes <= BUDGET
            if not self.keep:
                self.pieces = [_bare(p) for p in self.pieces]
        self.pieces.append(piece if self.keep else _bare(piece))

    def table(self) -> StepTable:
        """Every step as one row of arrays, ordered by member and time."""
        if not self.pieces:
            empty = np.empty(0)
            none = np.empty(0, dtype=np.int64)
            return StepTable(none, empty, empty, empty, empty, none, none, np.zeros(self.count + 1, np.int64))
        ids = np.concatenate([p.ids for p in self.pieces])
        order = np.argsort(ids, kind="stable")

        def joined(parts: list[np.ndarray]) -> np.ndarray:
            return np.asarray(np.concatenate(parts)[order])

        which = joined([np.full(len(p.ids), i, dtype=np.int64) for i, p in enumerate(self.pieces)])
        starts = np.searchsorted(ids[order], np.arange(self.count + 1))
        return StepTable(
            ids[order],
            joined([p.t for p in self.pieces]),
            joined([p.end for p in self.pieces]),
            joined([p.h for p in self.pieces]),
            joined([p.error for p in self.pieces]),
            which,
            joined([p.rows for p in self.pieces]),
            starts,
        )


def _bare(piece: Piece) -> Piece:
    return Piece(piece.rows, piece.ids, piece.t, piece.end, piece.h, piece.error)


@dataclass(frozen=True)
class StepTable:
    """Steps ordered by member, then time; member m has the entries `starts[m]:starts[m + 1]`. `piece` and
    `row` say where in the trail a step is."""

    ids: Ints
    t: Floats
    end: Floats
    h: Floats
    error: Floats
    piece: Ints
    row: Ints
    starts: Ints

    @property
    def many(self) -> Ints:
        """Steps of each member `[B]`."""
        return np.diff(self.starts)

    def holding(self, ids: Ints, t: Floats, sign: float) -> Ints:
        """The entry `[P]` of the step of each member `ids` that holds its time `t`; at an end, the next.
        Raises `ValueError` for a time outside a member's span."""
        first, last = self.starts[ids], self.starts[ids + 1] - 1
        low, high = sign * self.t[first], sign * self.end[last]
        slack = 1e-9 * np.maximum(np.maximum(np.abs(low), np.abs(high)), high - low)
        outside = (sign * t < low - slack) | (sign * t > high + slack)
        if outside.any():
            i = int(np.nonzero(outside)[0][0])
            ends = sorted((float(self.t[first[i]]), float(self.end[last[i]])))
            raise ValueError(f"t = {t[i]:g} is outside the solved span {ends[0]:g}..{ends[1]:g}")
        # members apart by 2, time within 0..1
        base = float((sign * self.t).min())
        width = max(float((sign * self.end).max()) - base, 1e-300)
        keys = 2.0 * self.ids + (sign * self.t - base) / width
        key = 2.0 * ids + np.clip((sign * t - base) / width, 0.0, 1.0)
        return np.asarray(np.clip(np.searchsorted(keys, key, side="right") - 1, first, last))

    def padded(self, values: Floats) -> Floats:
        """One entry a step as `[B, K]`, padded with nan."""
        many = self.many
        out = np.full((len(many), int(many.max(initial=0))), np.nan)
        out[self.ids, np.arange(len(self.ids)) - self.starts[self.ids]] = values
        return out


def fixed_table(problem: Problem, step: float) -> StepTable:
    """The steps of a run with fixed steps, which all members share."""
    return _repeated(
        *Corners(problem).split(*_fixed_steps(problem.t0, problem.t1, step, problem.max_steps)), problem.count
    )


def shared_table(problem: Problem, step: float) -> StepTable:
    """The steps of a run with fixed steps as those of a single member. Nobody may write into it: runs with
    the same few steps share it."""
    corners = Corners(problem)
    if not corners and abs(problem.t1 - problem.t0) <= FEW * step:
        return _few(problem.t0, problem.t1, step, problem.max_steps)
    return _repeated(*corners.split(*_fixed_steps(problem.t0, problem.t1, step, problem.max_steps)), 1)


@lru_cache(maxsize=64)
def _few(t0: float, t1: float, step: float, most: int) -> StepTable:
    return _repeated(*_fixed_steps(t0, t1, step, most), 1)


def _fixed_steps(t0: float, t1: float, step: float, most: int) -> tuple[Floats, Floats]:
    """The starts and ends of fixed steps. Raises `SettingError` where they are too many."""
    count = int(np.ceil(abs(t1 - t0) / step)) + 2
    if count > most + 2:
        raise SettingError(f"steps of {step:g} over {t0:g}..{t1:g} are more than {most}")
    sign = 1.0 if t1 >= t0 else -1.0
    starts = np.asarray(t0 + sign * step * np.arange(count), dtype=np.float64)
    ends = fixed_end(starts, t0, t1, step)
    over = np.nonzero(ends == t1)[0]
    ends = ends[: over[0] + 1] if t0 != t1 else ends[:0]
    return np.concatenate([[t0], ends[:-1]])[: len(ends)], ends


def _repeated(starts: Floats, ends: Floats, b: int) -> StepTable:
    """The same steps of b members."""
    many = len(ends)

    def tile(values: Any) -> Any:
        return np.tile(values, b)

    return StepTable(
        np.repeat(np.arange(b), many), tile(starts), tile(ends), tile(ends - starts), np.zeros(b * many),
        tile(np.arange(many)), np.repeat(np.arange(b), many), np.arange(b + 1) * many,
    )  # fmt: skip


class TrailInterpolant:
    """Continuous output of the method itself. At an event it gives the values after."""

    def __init__(self, trail: Trail, stepper: Stepper, t0: Floats, x0: Tensor) -> None:
        self.trail, self.stepper, self.x0, self.t0 = trail, stepper, x0, t0
        self.table = table = trail.table()
        sign = trail.sign
        some = table.many > 0
        first, last = table.starts[:-1], np.maximum(table.starts[1:] - 1, 0)
        self.begin = np.where(some, table.t[np.minimum(first, len(table.t) - 1)], np.nan)
        self.finish = np.where(some, table.end[last], np.nan)
        # one sorted key finds the step of any member: members apart by 2, time within 0..1
        self._low = np.nanmin(sign * self.begin)
        self._width = max(float(np.nanmax(sign * self.finish) - self._low), 1e-300)
        self._keys = 2.0 * table.ids + (sign * table.t - self._low) / self._width
        self._joined: Attempt | None = None

    def _steps(self, ids: Ints, t: Floats) -> Ints:
        """The entry of the table `[P]` in which each time lies; -1 for a member without steps."""
        table, sign = self.table, self.trail.sign
        begin, finish = sign * self.begin[ids], sign * self.finish[ids]
        slack = 1e-9 * np.maximum(np.maximum(np.abs(begin), np.abs(finish)), finish - begin)
        wrong = (sign * t < begin - slack) | (sign * t > finish + slack)
        if wrong.any():
            i = int(np.nonzero(wrong)[0][0])
            low, high = sorted((float(self.begin[ids[i]]), float(self.finish[ids[i]])))
            raise ValueError(f"t = {t[i]:g} is outside the solved span {low:g}..{high:g}")
        key = 2.0 * ids + np.clip((sign * t - self._low) / self._width, 0.0, 1.0)
        place = np.searchsorted(self._keys, key, side="right") - 1
        place = np.clip(place, table.starts[ids], table.starts[ids + 1] - 1)
        return np.where(table.many[ids] > 0, place, -1)

    def __call__(self, ids: Ints, t: Floats) -> dict[str, Tensor]:
        table = self.table
        at = self._steps(ids, t)
        if self._joined is None and self.stepper.joins and bool((table.many > 0).all()):
            self._joined = self._join()
        if self._joined is not None:
            theta = (t - table.t[at]) / table.h[at]
            return {"x": self.stepper.interpolate(self._joined, at, theta)}
        pieces = np.where(at >= 0, table.piece[np.maximum(at, 0)] if len(table.piece) else 0, -1)
        values, places = [], []
        for i in np.unique(pieces):
            where = np.nonzero(pieces == i)[0]
            places.append(where)
            if i < 0:
                values.append(self.x0[torch.from_numpy(ids[where]).to(self.x0.device)])
                continue
            step = at[where]
            attempt = self.trail.attempt(self.trail.pieces[i])
            theta = (t[where] - table.t[step]) / table.h[step]
            values.append(self.stepper.interpolate(attempt, table.row[step], theta))
        order = np.argsort(np.concatenate(places), kind="stable")
        return {"x": torch.cat(values)[torch.from_numpy(order).to(self.x0.device)]}

    def _join(self) -> Attempt:
        """All steps as rows of one, in the order of the table."""
        ids = np.concatenate([p.ids for p in self.trail.pieces])
        order = torch.from_numpy(np.argsort(ids, kind="stable")).to(self.x0.device)
        x0, x1, stages = [], [], []
        for piece in self.trail.pieces:
            attempt = self.trail.attempt(piece)
            rows = torch.from_numpy(piece.rows).to(self.x0.device)
            x0.append(attempt.x0[rows])
            x1.append(attempt.x1[rows])
            stages.append(attempt.stages[:, rows])
        none = np.zeros(len(ids), dtype=np.int64)
        joined = Attempt(torch.cat(x0)[order], torch.cat(x1)[order], None, Carry(), none)
        joined.stages = torch.cat(stages, 1)[:, order]
        kept = [p.attempt.extra for p in self.trail.pieces if p.attempt is not None]
        joined.extra = _joined_extra(kept, [p.rows for p in self.trail.pieces], order)
        return joined


def _joined_extra(kept: list[dict[str, Any]], rows: list[Ints], order: Tensor) -> dict[str, Any]:
    """What shorter steps need (see `shorter`), of all steps in the order of the table."""
    if not kept or "again" not in kept[0]:
        return {}

    def joined(values: list[Time]) -> Time:
        if any(isinstance(v, Tensor) for v in values):
            every = [v if isinstance(v, Tensor) else torch.from_numpy(v) for v in values]
            return torch.cat([v[torch.from_numpy(r)] for v, r in zip(every, rows, strict=True)])[order]
        return np.concatenate([v[r] for v, r in zip(values, rows, strict=True)])[order.cpu().numpy()]

    f = kept[0]["again"][0]
    t, h = (joined([e["again"][k] for e in kept]) for k in (1, 2))
    out: dict[str, Any] = {"again": (f, t, h)}
    if "h" in kept[0]:
        sizes = [e["h"] for e in kept]
        out["h"] = torch.cat([h[torch.from_numpy(r)] for h, r in zip(sizes, rows, strict=True)])[order]
    return out

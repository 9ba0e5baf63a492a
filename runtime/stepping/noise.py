"""Steps of stochastic equations, for the loop: the path is asked by time, so that nothing a step size does,
a rejection included, changes it.

A step method written in NDL gets f, g and the increments that it names; an explicit tableau runs as a
Stratonovich method, each slope being f h + g dW (Rümelin 1982, SIAM J. Numer. Anal. 19, 604–613).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ndl.runtime.brownian import BrownianPath
from ndl.runtime.diffusion import DiffusionAt, NoisyField
from ndl.runtime.methods import StepSolver, Tableau, VectorField
from ndl.runtime.problem import Floats, Ints
from ndl.runtime.stepping.calling import call_step, call_stiffness
from ndl.runtime.stepping.control import clock
from ndl.runtime.stepping.pace import fixed_end
from ndl.runtime.stepping.stepper import Attempt, Carry, Stepper, Time, fraction, pick
from torch import Tensor

AHEAD = 1 << 20
"""Numbers of the path that are made at once for fixed steps."""


class PathReader:
    """W and its integral for some members at their times; with fixed steps, many times ahead at once."""

    def __init__(self, path: BrownianPath, t0: float, t1: float, step: float | None) -> None:
        self.path, self.t0, self.t1, self.step = path, t0, t1, step
        self.times: Floats = np.empty(0)
        self.block: tuple[Tensor, Tensor] | None = None
        width = max(1, len(path.members) * path.channels)
        self.count = max(1, AHEAD // width)
        self.everyone = np.arange(len(path.members))

    def read(self, t: Floats, ids: Ints) -> tuple[Tensor, Tensor]:
        """W and I `[b, m]` of the members `ids [b]` at `t [b]`."""
        if self.step is not None and (t == t[0]).all():
            place = self._place(float(t[0]))
            if place is not None and self.block is not None:
                W, I = self.block[0][place], self.block[1][place]
                if len(ids) == len(W) and (ids == self.everyone).all():
                    return W, I
                rows = torch.from_numpy(ids).to(W.device)
                return W[rows], I[rows]
        value = self.path.each(t, ids)
        return value.W, value.I

    def _place(self, t: float) -> int | None:
        """Where a time stands in the block, which is renewed when the time is past it; None if it is not a
        time of the grid."""
        found = int(np.searchsorted(self.times, t))
        if found < len(self.times) and self.times[found] == t:
            return found
        assert self.step is not None
        k = round((t - self.t0) / self.step)
        if t not in (self.t0 + k * self.step, self.t1):
            return None
        if len(self.times) and t < self.times[0]:
            k = max(k - self.count, 0)  # a run that is traced back asks for earlier and earlier times
        steps = self.t0 + np.arange(k, k + self.count + 1) * self.step
        last = np.searchsorted(steps, self.t1 - 1e-9 * self.step)
        self.times = np.asarray(np.append(steps[:last], self.t1) if last < len(steps) else steps, np.float64)
        value = self.path.at(self.times)
        self.block = (value.W, value.I)
        return int(np.searchsorted(self.times, t))


class NoiseStepper(Stepper):
    """A step solver of kind `sde`, or an explicit tableau, on dx = f dt + g dW."""

    revisits = True

    def __init__(self, method: StepSolver | Tableau, reader: PathReader) -> None:
        self.method, self.reader = method, reader
        if isinstance(method, Tableau):
            self.calculus, self.noise = "stratonovich", "general"
            self.order, self.adaptive = 0.5, False
            self.error_order = 0.5
        else:
            self.calculus, self.noise = method.CALCULUS, method.NOISE
            self.order, self.adaptive = method.ORDER, method.EMBEDDED is not None
            self.error_order = min(method.ORDER, method.EMBEDDED or method.ORDER)

    @property
    def estimates(self) -> bool:
        """Whether the method estimates the size of the drift's Jacobian, from a step alone."""
        m = self.method
        return isinstance(m, StepSolver) and m.stiffness is not None and not (m.STATES or m.PREVIOUS)

    # ------------------------------------------------------------ what a step carries

    def begin(self, f: VectorField, x: Tensor, t: Floats) -> Carry:
        ids = np.arange(x.shape[0])
        W, I = self.reader.read(t, ids)
        known = np.ones(len(ids), dtype=bool)
        carry = Carry(member=ids, fresh=known, n=np.zeros(len(ids)), at=t.astype(np.float64), W=W, I=I)
        return self._states(carry, f, x, t)

    def _states(self, carry: Carry, f: VectorField, x: Tensor, t: Floats) -> Carry:
        """The carried states and remembered values at a start."""
        method = self.method
        if isinstance(method, Tableau):
            return carry
        at = clock(t, x)
        for name, value in method.initial_states(f, x, at, g=diffusion(f)).items():
            carry[f"state:{name}"] = value
        for name, most in method.PREVIOUS.items():
            first = {"x": x, "t": at, "h": at * torch.nan}.get(name, carry.get(f"state:{name}"))
            assert first is not None
            carry[f"prev:{name}"] = torch.stack([first] * most, 1)
        return carry

    def refresh(self, f: VectorField, x: Tensor, t: Floats, carry: Carry, rows: np.ndarray) -> Carry:
        """Carried states start again where x has jumped."""
        started = self._states(Carry(carry), f, x, t)
        return carry.merge(started, rows)

    def _seen(self, carry: Carry, name: str, h: Tensor) -> list[Tensor]:
        """What `prev(name, k)` is, for k = 1, 2, …: a carried state is assigned in the step, so that one step
        earlier is what it was before."""
        values = list(self._earlier(carry, name, h).unbind(1))
        now = carry.get(f"state:{name}")
        return values if now is None else [now, *values[:-1]]

    def _earlier(self, carry: Carry, name: str, h: Tensor) -> Tensor:
        """Earlier values of a name, `[b, k, ...]`; before the start, the step was what it is now."""
        values: Tensor = carry[f"prev:{name}"]
        return torch.where(torch.isnan(values), h[:, None], values) if name == "h" else values

    # ------------------------------------------------------------ a step

    def attempt(
        self, f: VectorField, x: Tensor, t: Time, h: Time, carry: Carry, taped: bool = False
    ) -> Attempt:
        start, size = hosted(t), hosted(h)
        end = self._end(start, size) if carry.get("end") is None else carry["end"]
        W, I = self.reader.read(end, carry["member"])
        W0, I0 = self._start(start, carry)
        dW = W - W0
        step = h if isinstance(h, Tensor) else clock(h, x)
        at = t if isinstance(t, Tensor) else clock(t, x)
        dZ = I - I0 - clock(size, x)[:, None] * W0
        g = diffusion(f)
        before = (f.evaluations, g.evaluations)
        if isinstance(self.method, Tableau):
            x1, error, new = self._tableau(self.method, f, x, at, step, dW), None, Carry()
        else:
            x1, error, new = self._solver(self.method, f, x, at, step, dW, dZ, carry)
        new["W"], new["I"], new["at"], new["n"] = W, I, end, carry["n"] + 1
        new["member"], new["fresh"] = carry["member"], carry["fresh"]
        cost = np.full(len(start), f.evaluations - before[0] + g.evaluations - before[1], dtype=np.int64)
        extra = {"W0": W0, "dW": dW, "t": start, "h": size, "member": carry["member"]}
        if self.estimates:
            given = self._offered(self.method, f, x, at, step, dW, dZ, carry)  # type: ignore[arg-type]
            extra["offered"] = given
        return Attempt(x, x1, error, new, cost, extra=extra)

    def _offered(
        self, method: StepSolver, f: VectorField, x: Tensor, t: Tensor, h: Tensor, dW: Tensor, dZ: Tensor,
        carry: Carry,
    ) -> dict[str, Any]:  # fmt: skip
        """What a step may ask for, by name."""
        offered: dict[str, Any] = {
            "f": f,
            "g": diffusion(f),
            "x": x,
            "t": t,
            "h": h,
            "dW": dW,
            "dZ": dZ,
            "n": clock(carry["n"], x),
        }
        offered.update({name: carry[f"state:{name}"] for name in method.STATES})
        if method.PREVIOUS:
            offered["prev"] = {name: self._seen(carry, name, h) for name in method.PREVIOUS}
        return offered

    def _solver(
        self, method: StepSolver, f: VectorField, x: Tensor, t: Tensor, h: Tensor, dW: Tensor, dZ: Tensor,
        carry: Carry,
    ) -> tuple[Tensor, Tensor | None, Carry]:  # fmt: skip
        offered = self._offered(method, f, x, t, h, dW, dZ, carry)
        x1, error, states = call_step(method, offered)
        new = Carry({f"state:{name}": value for name, value in states.items()})
        now = {"x": x, "t": t, "h": h}
        for name in method.PREVIOUS:
            last = now[name] if name in now else carry[f"state:{name}"]
            new[f"prev:{name}"] = torch.cat([last[:, None], self._earlier(carry, name, h)[:, :-1]], 1)
        return x1, error, new

    def _tableau(
        self, tableau: Tableau, f: VectorField, x: Tensor, t: Tensor, h: Tensor, dW: Tensor
    ) -> Tensor:
        slopes: list[Tensor] = []
        used = max(i for i, b in enumerate(tableau.b) if b != 0) + 1
        for i in range(used):
            y = x
            for a, k in zip(tableau.A[i], slopes, strict=False):
                y = y + a * k if a else y
            at = t + tableau.c[i] * h
            slopes.append(f(y, at) * h[:, None] + diffusion(f)(y, at, dW))
        for b, k in zip(tableau.b, slopes, strict=False):
            x = x + b * k if b else x
        return x

    def _start(self, t: Floats, carry: Carry) -> tuple[Tensor, Tensor]:
        """W and I at the step's start: carried, unless an event has ended the last step early."""
        if (np.abs(carry["at"] - t) <= 4e-16 * np.abs(t)).all():
            return carry["W"], carry["I"]
        return self.reader.read(t, carry["member"])

    def _end(self, t: Floats, h: Floats) -> Floats:
        """Where the step ends: on the grid of fixed steps, when t + h misses it by rounding alone."""
        end = t + h
        r = self.reader
        if r.step is None:
            return end
        grid = fixed_end(t, r.t0, r.t1, r.step)
        return np.where(np.abs(grid - end) <= 4e-16 * np.maximum(np.abs(grid), np.abs(t)), grid, end)

    # ------------------------------------------------------------ inside a step

    def revisit(
        self, f: VectorField, x0: Tensor, x1: Tensor, t: Floats, h: Floats, ids: Ints
    ) -> Attempt | None:
        path = self.reader.path
        before, after = path.each(t, ids), path.each(t + h, ids)
        W0, dW = before.W, after.W - before.W
        none = np.zeros(len(ids), dtype=np.int64)
        extra: dict[str, Any] = {"W0": W0, "dW": dW, "t": t, "h": h, "member": ids}
        if self.estimates and isinstance(self.method, StepSolver):
            size = clock(h, x0)
            dZ = after.I - before.I - size[:, None] * W0
            known = Carry(n=none)
            extra["offered"] = self._offered(self.method, f, x0, clock(t, x0), size, dW, dZ, known)
        return Attempt(x0, x1, None, Carry(fresh=none.astype(bool), f0=None), none, extra=extra)

    def complete(self, f: VectorField, step: Attempt, t: Time, h: Time) -> None:
        at = diffusion(f)(step.x0, t if isinstance(t, Tensor) else clock(t, step.x0))
        step.stages, step.extra["diagonal"] = at.value, at.diagonal

    def interpolate(self, step: Attempt, rows: Ints | None, theta: Any) -> Tensor:
        """x0 + theta (x1 - x0) + g(x0) (W - W0 - theta dW), the path itself asked at the time: error O(h)."""
        every = np.zeros(1, dtype=np.int64) if rows is None else rows
        extra, share = step.extra, hosted(theta)
        column = fraction(theta, step.x0)
        W, _ = self.reader.read(extra["t"][every] + share * extra["h"][every], extra["member"][every])
        bridge = W - pick(extra["W0"], every) - column * pick(extra["dW"], every)
        x0, x1 = pick(step.x0, every), pick(step.x1, every)
        return x0 + column * (x1 - x0) + DiffusionAt(pick(step.stages, every), extra["diagonal"]) @ bridge

    def stiffness(self, step: Attempt, h: Time) -> Tensor:
        """Of the drift, where the method estimates it: else nan."""
        if "offered" not in step.extra:
            return torch.full_like(step.x0[:, 0], torch.nan)
        assert isinstance(self.method, StepSolver)
        return call_stiffness(self.method, step.extra["offered"])


def diffusion(f: VectorField) -> Any:
    """The diffusion that goes with a drift."""
    assert isinstance(f, NoisyField)
    return f.diffusion


def hosted(value: Any) -> Floats:
    """A time, size or fraction as a host array, without its gradient."""
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    return np.atleast_1d(np.asarray(array, dtype=np.float64))

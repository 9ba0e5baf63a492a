"""Methods written as a `step`: Rosenbrock methods, multistep methods and a user's own."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from ndl.runtime.members import is_family
from ndl.runtime.methods import StepSolver, VectorField
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.stepping.calling import call_size, call_step, call_stiffness, ratio
from ndl.runtime.stepping.consistent import slopes, smooth_slopes
from ndl.runtime.stepping.control import Tolerances, clock, host
from ndl.runtime.stepping.shorter import ended, field_at, place, remember, shorter
from ndl.runtime.stepping.stepper import Attempt, Carry, Stepper, Time, fraction, hermite, pick
from torch import Tensor


class SteppedSolver(Stepper):
    """Runs `StepSolver.step`. Carried states, earlier values (`prev`) and the number of steps `n` are kept
    for each member, and start anew after a jump."""

    def __init__(self, solver: StepSolver, problem: Problem) -> None:
        self.solver = solver
        self.order = float(solver.ORDER)
        self.adaptive = solver.EMBEDDED is not None
        self.error_order = min(self.order, float(solver.EMBEDDED or solver.ORDER))
        self.extrapolates = solver.EMBEDDED is None or solver.EMBEDDED < solver.ORDER
        self.grow = 6.0
        self.names = tuple(solver.STATES)
        self.depths = dict(solver.PREVIOUS)
        self.problem = problem
        self.proposes = solver.size is not None
        self.counts = "n" in solver.ARGUMENTS
        self.dense = solver.dense
        plain = not (self.names or self.depths or self.counts)
        self.short = self.dense is None and plain and (self.order > 4 or self.proposes)
        self.joins = solver.dense is None and not (self.short and is_family(problem.model))

    @cached_property
    def extras(self) -> dict[str, Any]:
        """What a step by torch may ask for besides its place."""
        found: dict[str, Any] = {}
        if "mass" in self.solver.ARGUMENTS:
            found["mass"] = self.problem.mass()
        if {"rtol", "atol"} & set(self.solver.ARGUMENTS):
            tol, like = Tolerances.of(self.problem), self.problem.x0.detach()[0]
            found |= {k: torch.as_tensor(getattr(tol, k)).to(like).expand_as(like) for k in ("rtol", "atol")}
        return found

    def begin(self, f: VectorField, x: Tensor, t: Floats) -> Carry:
        carry = Carry(fresh=np.zeros(x.shape[0], dtype=bool), f0=None)
        before = f.evaluations
        states = self.solver.initial_states(f, x, clock(t, x), **self.extras)
        carry["began"] = np.full(x.shape[0], f.evaluations - before)
        for name in self.names:
            carry[f"state:{name}"] = states[name]
        for name, depth in self.depths.items():
            value = x if name == "x" else states.get(name, clock(np.full_like(t, np.nan), x))
            for k in range(1, depth + 1):
                carry[f"prev:{name}:{k}"] = clock(t, x) if name == "t" else value
        carry["n"] = np.zeros(x.shape[0], dtype=np.int64)
        carry["last"] = np.full(x.shape[0], np.nan)
        return carry

    def refresh(self, f: VectorField, x: Tensor, t: Floats, carry: Carry, rows: np.ndarray) -> Carry:
        new = self.begin(f, x, t)
        return carry.merge(new, rows)

    def moved(self, f: VectorField, x: Tensor, t: Floats, carry: Carry, rows: np.ndarray) -> Carry:
        """What is carried stays, too, with the derivative that it would have from x on."""
        new, out = self.begin(f, x, t), Carry(carry, fresh=carry["fresh"] & ~rows)
        for name, old in carry.items():
            if name.startswith(("state:", "prev:")) and new[name].requires_grad:
                mask = torch.from_numpy(rows).to(x.device).reshape(-1, *[1] * (old.ndim - 1))
                out[name] = torch.where(mask, old.detach() + (new[name] - new[name].detach()), old)
        return out

    def attempt(
        self, f: VectorField, x: Tensor, t: Time, h: Time, carry: Carry, taped: bool = False
    ) -> Attempt:
        before, jacobians = f.evaluations, f.jacobians
        offered = self._offered(f, x, t, h, carry)
        at, size = offered["t"], offered["h"]
        x1, error, states = call_step(self.solver, offered)
        cost = np.full(x.shape[0], f.evaluations - before, dtype=np.int64) + carry["began"]
        carry["began"] = np.zeros_like(carry["began"])
        new = Carry(fresh=np.zeros(x.shape[0], dtype=bool), f0=None, n=carry["n"] + 1, began=carry["began"])
        new["last"] = host(size.detach()).astype(np.float64)
        for name in self.names:
            new[f"state:{name}"] = states.get(name, carry[f"state:{name}"])
        now = {"x": x, "t": at, "h": size, **{name: carry[f"state:{name}"] for name in self.names}}
        for name, depth in self.depths.items():
            new[f"prev:{name}:1"] = now[name]
            for k in range(2, depth + 1):
                new[f"prev:{name}:{k}"] = self._earlier(carry, name, k - 1, size)
        x1 = x1.expand(x.shape)
        # a method that asks for the Jacobian is meant for stiff equations
        extra = {"states": states, "h": size, "carry": carry, "stiff": f.jacobians > jacobians}
        if self.solver.stiffness is not None:
            extra["at"] = (f, t, h)
        return Attempt(x, x1, error, new, cost, extra=extra)

    def _offered(self, f: VectorField, x: Tensor, t: Time, h: Time, carry: Carry) -> dict[str, Any]:
        """What a step may ask for, by name."""
        at = t if isinstance(t, Tensor) else clock(t, x)
        size = h if isinstance(h, Tensor) else clock(h, x)
        extras = dict(self.extras)
        for name in self.names:
            extras[name] = carry[f"state:{name}"]
        if self.counts:
            extras["n"] = torch.from_numpy(carry["n"]).to(x.device)
        if self.depths:
            extras["prev"] = {
                name: [self._seen(carry, name, k, size) for k in range(1, depth + 1)]
                for name, depth in self.depths.items()
            }
        return {"f": f, "x": x, "t": at, "h": size, **extras}

    def propose(self, f: VectorField, x: Tensor, t: Floats, h: Floats, carry: Carry) -> Floats:
        return host(call_size(self.solver, self._offered(f, x, t, h, carry)))

    def _seen(self, carry: Carry, name: str, k: int, h: Tensor) -> Tensor:
        """`prev(name, k)`: a carried state is assigned in the step, so that one step earlier is what it was
        before."""
        if name not in self.names:
            return self._earlier(carry, name, k, h)
        found: Tensor = carry[f"state:{name}"] if k == 1 else carry[f"prev:{name}:{k - 1}"]
        return found

    @staticmethod
    def _earlier(carry: Carry, name: str, k: int, h: Tensor) -> Tensor:
        value: Tensor = carry[f"prev:{name}:{k}"]
        # before the start, the step was what it is now
        return torch.where(torch.isnan(value), h, value) if name == "h" else value

    def complete(self, f: VectorField, step: Attempt, t: Time, h: Time) -> None:
        if step.stages is not None:
            return
        size = step.extra["h"]
        if self.dense is not None:
            step.stages = step.x1[:0]
            return
        at = t if isinstance(t, Tensor) else clock(t, step.x0)
        carry = step.extra["carry"]
        stiff = step.extra["stiff"]
        known = carry["f0"] is not None and bool(carry["fresh"].all())
        if known and not (stiff and torch.is_grad_enabled()):
            f0 = carry["f0"]
        elif stiff:
            # what the step before had at its end, whether it was completed or not
            last = clock(carry["last"], step.x0)
            f0 = smooth_slopes(f, step.x0, at, torch.where(torch.isnan(last), size, last))
        else:
            f0 = slopes(f, step.x0, at)
        end = at + size
        f1 = smooth_slopes(f, step.x1, end, size) if stiff else slopes(f, step.x1, end)
        step.carry["f0"], step.carry["fresh"] = f1, np.ones(len(step.cost), dtype=bool)
        step.stages = torch.stack([f0 * size[:, None], f1 * size[:, None]])
        if self.short:
            remember(step, f, t, h)

    def interpolate(self, step: Attempt, rows: Ints | None, theta: Any) -> Tensor:
        column = fraction(theta, step.x0)
        x0, x1 = pick(step.x0, rows), pick(step.x1, rows)
        if self.dense is not None:
            states = {k: pick(v, rows) for k, v in step.extra["states"].items()}
            value: Tensor = self.dense(column[:, 0], x0, x1, pick(step.extra["h"], rows), states)
            return value
        K = step.stages
        if self.short and "again" in step.extra:
            at = place(rows, theta, step)
            start, t, h = shorter(step, at, theta)
            f = field_at(step, at)
            clocked = t.detach().cpu().numpy() if isinstance(t, Tensor) else t
            inside = self.attempt(f, start, t, h, self.begin(f, start, clocked)).x1
            return ended(step, at, theta, inside)
        return hermite(x0, x1, pick(K[0], rows), pick(K[1], rows), column)

    def stiffness(self, step: Attempt, h: Time) -> Tensor:
        """What the method says, or ||f1 - f0|| / ||x1 - x0||, with the slopes at both ends of the step."""
        if self.solver.stiffness is not None:
            f, t, h = step.extra["at"]
            return call_stiffness(self.solver, self._offered(f, step.x0, t, h, step.extra["carry"]))
        K, size = step.stages, step.extra["h"].abs()
        return ratio(K[1] - K[0], size[:, None] * (step.x1 - step.x0))

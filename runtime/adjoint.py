"""The continuous adjoint of a run: a' = -J(x(t), t)^T a backwards, gradients of parameters by quadrature.

The state is read from the forward run's continuous output, so that nothing unstable is integrated backwards.
Parameters take no part in error control (P. Kidger, R. T. Q. Chen, T. Lyons, "Hey, that's not an ODE: faster
ODE adjoints via seminorms", ICML 2021): their gradient, the integral of a^T df/dp, is a Gauss–Legendre sum
over the adjoint's accepted steps, taken in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.info import EventInfo, State
from ndl.runtime.members import is_family
from ndl.runtime.methods import VectorField
from ndl.runtime.model import Model
from ndl.runtime.problem import Floats, Ints, Problem, SavePlan, field_of
from ndl.runtime.second_order import SECOND, once
from ndl.runtime.solution import Solution
from ndl.runtime.stepping.choose import stepper_of
from ndl.runtime.stepping.control import clock, host
from ndl.runtime.stepping.finish import solution_of
from ndl.runtime.stepping.loop import Loop, Outcome
from ndl.runtime.stepping.stepper import Stepper
from ndl.runtime.stepping.trail import TrailInterpolant
from torch import Tensor

NODES, WEIGHTS = np.polynomial.legendre.leggauss(4)
CHUNK = 4096
"""Steps whose contributions to the parameters are computed at once."""


def solve_adjoint(problem: Problem, stepper: Stepper) -> Solution:
    """The solution, with the adjoint's gradients at its saved values and its end."""
    model = problem.model
    if model.EVENTS or model.BREAKS or problem.algebraic:
        jumps = any(e.kind == "poisson" for e in model.EVENTS)
        why = (
            "jumps"
            if jumps
            else "events"
            if model.EVENTS
            else "algebraic equations"
            if problem.algebraic
            else "discontinuities"
        )
        raise SettingError(
            f"`gradient = adjoint` is for smooth equations, and `{model.NAME}` has {why}",
            help="use `gradient = discrete` or `checkpoint(n)`",
        )
    with torch.no_grad():
        loop = Loop(problem, stepper, keep=True)
        outcome = loop.run()
        solution = solution_of(problem, stepper, outcome)
    if not outcome.trail.keep:
        raise SettingError(
            "the forward run is too long to be kept for the adjoint", help="use `gradient = checkpoint(n)`"
        )
    weights = differentiable(model)
    path, last = Adjoint.apply(  # type: ignore[no-untyped-call]
        _Run(problem, stepper, outcome, solution.saved.t, solution.saved.valid, weights),
        solution.saved.values["x"],
        outcome.last,
        problem.x0,
        *weights,
    )
    solution.saved.values["x"] = path
    solution.last = {**solution.last, "x": last}
    return solution


def differentiable(model: Model) -> list[Tensor]:
    """Every tensor that the vector field may read and that wants a gradient: weights, bound values,
    constant inputs, and the tensors of paths."""
    found: dict[int, Tensor] = {}

    def visit(value: Any) -> None:
        if isinstance(value, Tensor):
            if value.requires_grad:
                found[id(value)] = value
        elif isinstance(value, torch.nn.Module):
            # a prepared value stands for the weights that it was computed from
            held = {k: v for k, v in value.__dict__.items() if isinstance(v, Tensor)}
            hidden = {f"{kind}_{name}" for name in held for kind in ("raw", "unit")}
            for table in (held, value._parameters, value._buffers, value._modules):
                for name, entry in table.items():
                    if name not in hidden:
                        visit(entry)
            visit(getattr(value, "_given", None))
        elif isinstance(value, Mapping):
            for entry in value.values():
                visit(entry)
        elif isinstance(value, list | tuple):
            for entry in value:
                visit(entry)
        elif hasattr(value, "__dict__") and not isinstance(value, type):
            for entry in vars(value).values():
                if isinstance(entry, Tensor | list | tuple):
                    visit(entry)

    visit(model)
    return list(found.values())


class _Run:
    """What the backward pass needs of the forward one."""

    def __init__(
        self, problem: Problem, stepper: Stepper, outcome: Outcome, t: Floats, valid: np.ndarray,
        weights: list[Tensor],
    ) -> None:  # fmt: skip
        self.problem, self.t, self.valid, self.weights = problem, t, valid, weights
        self.path = TrailInterpolant(outcome.trail, stepper, t[:, 0], outcome.x0)
        self.last_t = outcome.last_t


class Adjoint(torch.autograd.Function):
    """Saved values and ends as functions of the start and of everything else that wants a gradient."""

    @staticmethod
    def forward(ctx: Any, run: _Run, path: Tensor, last: Tensor, x0: Tensor, *weights: Tensor) -> Any:
        ctx.run = run
        ctx.save_for_backward(x0, *weights)
        return path.clone(), last.clone()

    @staticmethod
    def backward(ctx: Any, d_path: Tensor, d_last: Tensor) -> Any:
        with torch.no_grad():
            d_x0, d_weights = backwards(ctx.run, d_path, d_last)
        given = (d_path, d_last, *ctx.saved_tensors)
        made = once("a run with `gradient = adjoint`", SECOND, (d_x0, *d_weights), given)
        return None, None, None, *made


class AdjointModel(Model):
    """a' = -J^T a as a model, whose events add the loss's gradient at saved times."""

    NAME = "adjoint"

    def __init__(self, run: _Run, ids: Ints, times: Floats, jumps: Tensor) -> None:
        super().__init__()
        self.run, self.ids, self.times, self.jumps = run, ids, times, jumps
        self.inner = run.problem.smooth(ids if len(ids) < run.problem.count else None)
        n = run.problem.size
        self.STATES = (State("adjoint", (n,)),)  # type: ignore[misc]
        self.EVENTS = (EventInfo("sample", "saved", ("adjoint",), column="saved"),)  # type: ignore[misc]
        self.to(run.problem.device)

    def state_at(self, t: Floats) -> Tensor:
        """The forward run's; a stage that lies outside of the span finds it along the slope at its end."""
        p = self.run.problem
        low, high = sorted((p.t0, p.t1))
        inside = np.clip(t, low, high)
        x = self.run.path(self.ids, inside)["x"]
        if np.array_equal(inside, t):
            return x
        with torch.no_grad():
            return x + clock(t - inside, x)[:, None] * self.inner.vector_field(clock(inside, x), x)

    def vector_field(self, t: Tensor, a: Tensor) -> Tensor:
        x = self.state_at(host(t)).detach().requires_grad_(True)
        with torch.enable_grad():
            rate = self.inner.vector_field(t, x)
            value = torch.autograd.grad(rate, x, -a, allow_unused=True, create_graph=a.requires_grad)[0]
        return torch.zeros_like(a) if value is None else value

    def jacobian(self, t: Tensor, a: Tensor) -> Tensor:
        return -self.inner.jacobian(t, self.state_at(host(t))).mT

    def sparse(self, t: Tensor, a: Tensor) -> np.ndarray:
        """The same for each row, where the model's is sparse."""
        assert isinstance(self.inner, Model)
        matrices = field_of(self.inner).sparse
        assert matrices is not None
        x = self.state_at(host(t))
        return np.fromiter((-A.T.tocsr() for A in matrices(x, t)), dtype=object, count=len(x))

    def reset(self, k: int, t: Tensor, a: Tensor) -> Tensor:
        place = np.argmin(np.abs(host(t)[:, None] - self.times), axis=1)
        ids = torch.from_numpy(self.ids).to(a.device)
        return a + self.jumps[ids, torch.from_numpy(place).to(a.device)]


class AdjointProblem(Problem):
    """A problem whose members are views of the adjoint model."""

    def members(self, ids: Ints | None, steps: Ints | None = None) -> Model:
        assert steps is None, "the adjoint equation has no draws of steps"
        model = self.model
        assert isinstance(model, AdjointModel)
        return model if ids is None else AdjointModel(model.run, ids, model.times, model.jumps)

    def field(self, ids: Ints | None = None, steps: Ints | None = None) -> VectorField:
        model = self.members(ids, steps)
        assert isinstance(model, AdjointModel)
        field = VectorField(model.vector_field, model.state_jacobian, self._by_time(model), None)
        if model.inner.colours() is not None:
            field.matrices = model.sparse
        return field

    def _by_time(self, model: Model) -> Any:
        """The time derivative of the adjoint field by a central difference, for Rosenbrock methods; it
        enters only as a correction that is small with the step."""
        step = 1e-5 * abs(self.t1 - self.t0)
        low, high = sorted((self.t0, self.t1))

        def derivative(t: Tensor, a: Tensor) -> Tensor:
            after, before = (t + step).clamp(low, high), (t - step).clamp(low, high)
            gap = model.vector_field(after, a) - model.vector_field(before, a)
            return gap / (after - before)[:, None]

        return derivative


def backwards(run: _Run, d_path: Tensor, d_last: Tensor) -> tuple[Tensor, list[Tensor | None]]:
    """The gradients of the start `[B, n]` and of the other tensors."""
    p = run.problem
    times, jumps = jumps_of(run, d_path, d_last)
    model = AdjointModel(run, np.arange(p.count), times, jumps)
    with torch.no_grad():
        zero = torch.zeros_like(p.x0)
        problem = AdjointProblem(
            model=model, method=p.method, t0=p.t1, t1=p.t0, save=SavePlan("end", np.array([p.t0])), x0=zero,
            ensemble=True, dtype=p.dtype, device=p.device, max_steps=p.max_steps, data_times={"saved": times},
        )  # fmt: skip
        stepper = stepper_of(problem)
        outcome = Loop(problem, stepper, keep=True).run()
    a = TrailInterpolant(outcome.trail, stepper, np.full(p.count, p.t1), outcome.x0)
    return outcome.last, parameter_gradients(run, a) if run.weights else []


def jumps_of(run: _Run, d_path: Tensor, d_last: Tensor) -> tuple[Floats, Tensor]:
    """All saved times `[T]` of any member, and what the loss adds there, `[B, T, n]`."""
    p = run.problem
    times = np.unique(np.concatenate([run.t[run.valid], run.last_t]))
    places = np.searchsorted(times, np.where(run.valid, run.t, times[0]))
    jumps = d_path.new_zeros(p.count, len(times), p.size)
    index = torch.from_numpy(places)[:, :, None].to(d_path.device).expand(d_path.shape)
    # padding repeats the last value, so that its gradient belongs to the last time too
    last = np.searchsorted(times, run.t)
    index = torch.from_numpy(np.where(run.valid, places, last))[:, :, None].to(d_path.device)
    jumps.scatter_add_(1, index.expand(d_path.shape), d_path)
    ends = torch.from_numpy(np.searchsorted(times, run.last_t))[:, None, None].to(d_path.device)
    jumps.scatter_add_(1, ends.expand(p.count, 1, p.size), d_last[:, None])
    # the adjoint need not stop where the loss does not look
    felt = (jumps != 0).any(2).any(0).cpu().numpy()
    felt[-1] |= not felt.any()
    return times[felt], jumps[:, torch.from_numpy(felt).to(jumps.device)]


def parameter_gradients(run: _Run, adjoint: TrailInterpolant) -> list[Tensor | None]:
    """integral of a^T df/dp over the span, for each tensor p."""
    p, table = run.problem, adjoint.table
    total: list[Tensor | None] = [None] * len(run.weights)
    many = int(table.many.max(initial=0))
    family = is_family(p.model)
    for first in range(0, many, max(1, CHUNK // p.count)):
        last = min(many, first + max(1, CHUNK // p.count))
        # [K, B]: step k of member b; members with fewer steps have weight 0
        k = np.arange(first, last)[:, None] + 0 * table.starts[:-1]
        there = k < table.many
        entry = table.starts[:-1] + np.minimum(k, np.maximum(table.many - 1, 0))
        t, h = table.t[entry], np.where(there, table.end[entry] - table.t[entry], 0.0)
        at = t + 0.5 * (NODES[:, None, None] + 1) * h  # [Q, K, B]
        weight = -0.5 * WEIGHTS[:, None, None] * h
        ids = np.broadcast_to(np.arange(p.count), at.shape).reshape(-1)
        flat = at.reshape(-1)
        with torch.no_grad():
            x = run.path(ids, flat)["x"]
            a = adjoint(ids, flat)["x"] * clock(weight.reshape(-1), x)[:, None]
        shape = (-1, p.count) if family else (-1,)
        x, a = x.reshape(*shape, p.size), a.reshape(*shape, p.size)
        with torch.enable_grad():
            rate = p.smooth().vector_field(clock(flat, x).reshape(shape), x)
            if not rate.requires_grad:
                return total
            found = torch.autograd.grad(rate, run.weights, a.expand(rate.shape), allow_unused=True)
        total = [g if s is None else s if g is None else s + g for s, g in zip(total, found, strict=True)]
    return total

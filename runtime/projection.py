"""The driver of `projection(…)`: equations with linear constraints as ordinary ones on what those leave."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ndl.runtime.colouring import EVERYWHERE
from ndl.runtime.constraints import Constraint, smoothed
from ndl.runtime.errors import SettingError
from ndl.runtime.flows import Flow, SteppedFlow
from ndl.runtime.methods import Method, StepSolver, VectorField
from ndl.runtime.model import Model
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.solution import Interpolant, Solution
from ndl.runtime.splitting import by_columns, part_field, substeps
from ndl.runtime.stepping.calling import call_step
from ndl.runtime.stepping.choose import stepper_of
from ndl.runtime.stepping.control import clock
from ndl.runtime.stepping.delays import refuse_delays
from ndl.runtime.stepping.explicit import ExplicitRK
from ndl.runtime.stepping.finish import solution_of
from ndl.runtime.stepping.loop import Loop
from ndl.runtime.stepping.split import SplitField, SplitStepper
from ndl.runtime.stepping.stepper import Attempt, Carry, Stepper, Time
from torch import Tensor


class ProjectedModel:
    """What the adjoint equation asks of a model, of the equations that the constraint leaves."""

    def __init__(self, constraint: Constraint, model: Model) -> None:
        self.constraint, self.model = constraint, model

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        return self.constraint.projected(self.model, t, x)[0]

    def jacobian(self, t: Tensor, x: Tensor) -> Tensor:
        return by_columns(self.vector_field, t, x)

    def colours(self) -> None:
        """Its Jacobian is dense."""


class ProjectedField(VectorField):
    """Rates of what moves, for which the constraint goes on to hold; multipliers stay 0."""

    def __init__(self, constraint: Constraint, model: Model) -> None:
        super().__init__(lambda t, x: constraint.projected(model, t, x)[0])
        self.constraint, self.model = constraint, model


class SplitProjectedField(SplitField):
    """The same for methods that are implicit in a term: the constraint is restored after each of its steps,
    and the multipliers make it hold along the rest, which is explicit (Chorin 1968). Where the term does not
    commute with the projection, as diffusion between walls, that is of order 1."""

    def __init__(self, constraint: Constraint, model: Model, problem: Problem, inside: Method) -> None:
        whole = ProjectedField(constraint, model)
        whole.colours = model.colours()
        term = part_field(model, next(iter(inside.parts)))

        def others(t: Tensor, x: Tensor) -> Tensor:
            k = constraint.field_of(model, t, x)[0] - term.function(t, x)
            return constraint.freed(model, t, k)

        rest = VectorField(others)
        flows: list[Flow] = []
        for f, (name, method) in zip((term, rest), inside.parts.items(), strict=True):
            alone = replace(method, options={"h": 1.0, **method.options})
            stepper = stepper_of(problem.on(method=alone))
            flows.append(SteppedFlow(f, stepper, substeps(name, method), problem.taped))
        alone_term = flows[0]

        def restored(x: Tensor, t: Tensor, h: Tensor) -> Tensor:
            return constraint.restored(model, t + h, alone_term(x, t, h))

        super().__init__(whole, [restored, flows[1]])
        self.constraint, self.model = constraint, model


@dataclass(frozen=True)
class ProjectedProblem(Problem):
    """A problem whose method is the one inside, along the projected field."""

    constraint: Constraint | None = None
    parted: bool = False
    """Whether the method inside has parts of its own."""

    @property
    def algebraic(self) -> bool:
        return False

    def mass(self) -> Tensor:
        return torch.ones(self.size, dtype=self.dtype, device=self.device)

    def constrained(self, ids: Ints | None) -> Constraint:
        """The constraint of the members `ids` (None: all)."""
        assert self.constraint is not None
        return self.constraint.of(None if ids is None else torch.from_numpy(ids).to(self.device))

    def smooth(self, ids: Ints | None = None) -> ProjectedModel:
        return ProjectedModel(self.constrained(ids), self.members(ids))

    def field(self, ids: Ints | None = None, steps: Ints | None = None) -> VectorField:
        model, constraint = self.members(ids, steps).prepared(), self.constrained(ids)
        if self.method.kind == "split":
            return SplitProjectedField(constraint, model, self, self.method)
        found = ProjectedField(constraint, model)
        if self.parted:  # of which the methods of the parts ask whether its Jacobian is sparse
            found.colours = model.colours()
        return found


class ProjectedStepper(Stepper):
    """`step(A, P, x, t, h)`: A is an attempt of the method inside, P restores the constraint."""

    def __init__(self, solver: StepSolver, inner: Stepper) -> None:
        self.solver, self.inner = solver, inner
        for name in ("order", "error_order", "adaptive", "grow", "extrapolates", "width", "joins"):
            setattr(self, name, getattr(inner, name))

    def begin(self, f: VectorField, x: Tensor, t: Floats) -> Carry:
        return self.inner.begin(f, x, t)

    def refresh(self, f: VectorField, x: Tensor, t: Floats, carry: Carry, rows: np.ndarray) -> Carry:
        return self.inner.refresh(f, x, t, carry, rows)

    def know(self, carry: Carry, f0: Tensor, rows: np.ndarray) -> None:
        self.inner.know(carry, f0, rows)

    def attempt(
        self, f: VectorField, x: Tensor, t: Time, h: Time, carry: Carry, taped: bool = False
    ) -> Attempt:
        assert isinstance(f, ProjectedField | SplitProjectedField)
        field, made = f, []

        def A(x: Tensor, at: Tensor, size: Tensor) -> Tensor:
            made.append(self.inner.attempt(field, x, t, h, carry, taped))
            return made[-1].x1

        def P(x: Tensor, at: Tensor) -> Tensor:
            return field.constraint.restored(field.model, at, x)

        at = t if isinstance(t, Tensor) else clock(t, x)
        size = h if isinstance(h, Tensor) else clock(h, x)
        x1 = call_step(self.solver, {"A": A, "P": P, "x": x, "t": at, "h": size})[0]
        (step,) = made
        step.x1 = x1
        return step

    def complete(self, f: VectorField, step: Attempt, t: Time, h: Time) -> None:
        self.inner.complete(f, step, t, h)

    def interpolate(self, step: Attempt, rows: Ints | None, theta: Any) -> Tensor:
        return self.inner.interpolate(step, rows, theta)

    def stiffness(self, step: Attempt, h: Time) -> Tensor:
        return self.inner.stiffness(step, h)


def solve_projected(problem: Problem) -> Solution:
    """Solve by the method inside. Raises `SettingError` for equations or methods that do not fit."""
    refuse_delays(problem, "and a projection")
    solver, name = problem.method.solver, problem.method.name
    assert isinstance(solver, StepSolver)
    inside = _inside(problem)
    if problem.model.NOISES:
        raise SettingError(f"`{name}` does not solve equations with noise, which `{problem.model.NAME}` has")
    if problem.gradient == "adjoint" and inside.kind == "split":
        raise SettingError(
            f"the adjoint equation has no terms for `{name}({inside.name}(…))` to be implicit in",
            help=f"use `gradient = discrete` or `checkpoint(n)`, or `{name}(rk4(h=…))`",
        )
    constraint = Constraint(problem)
    with torch.set_grad_enabled(problem.taped):
        first = problem.x0 * constraint.kept
        x0 = constraint.restored(problem.model, constraint.first(first), first)
    parted = inside.kind == "split"
    fields: dict[str, Any] = {n: getattr(problem, n) for n in Problem.__dataclass_fields__}
    made = ProjectedProblem(**{**fields, "method": inside, "x0": x0}, constraint=constraint, parted=parted)
    if parted:
        _check_parts(problem, inside, constraint)
        assert isinstance(inside.solver, StepSolver)
        inner: Stepper = SplitStepper(inside.solver)
    else:
        inner = stepper_of(made)
    stepper = ProjectedStepper(solver, inner)
    if not isinstance(stepper.inner, ExplicitRK | SplitStepper):
        raise SettingError(
            f"`{name}` is around explicit Runge–Kutta methods, and `{inside.name}` is not one",
            help=f"write `{name}(rk4(h=…))` or `{name}(tsit5(rtol=…, atol=…))`",
        )
    if problem.taped:
        from ndl.runtime.gradients import solve_with_gradient

        found = solve_with_gradient(made, stepper)
    else:
        with torch.no_grad():
            outcome = Loop(made, stepper, keep=problem.save.kind != "end").run()
            found = solution_of(made, stepper, outcome)
    with torch.set_grad_enabled(problem.taped):
        return _with_multipliers(found, constraint)


def _inside(problem: Problem) -> Method:
    """The method that the projection is around."""
    found = next(iter(problem.method.parts.values()), None)
    if found is None or found.kind not in ("ode", "split"):
        name = problem.method.name
        raise SettingError(f"`{name}` is around a method", help=f"write `{name}(rk4(h=0.01))`")
    return found


def _check_parts(problem: Problem, inside: Method, constraint: Constraint) -> None:
    """The parts of a method that is implicit in a term. Raises `SettingError`."""
    model, name = problem.model, f"{problem.method.name}({inside.name}(…))"
    known = [t.name for t in model.TERMS]
    implicit = next(iter(inside.parts), "")
    if len(inside.parts) != 2 or any(part is None for part in inside.parts.values()):
        raise SettingError(
            f"`{name}` takes two terms, each with a method",
            help=f"write `{inside.name}(diffusion: implicit_euler, rest: euler, h=0.01)`",
        )
    if not set(inside.parts) <= set(known):
        raise SettingError(
            f"`{model.NAME}` has no such terms", help=f"its terms are {', '.join(known) or 'none'}"
        )
    with torch.no_grad():
        x = problem.x0.detach() * constraint.kept + 0.1 * constraint._random(tuple(problem.x0.shape), 7)
        t, p = constraint.first(x), constraint._random((len(x), len(constraint.places)), 8)
        free = (x * constraint.kept).index_copy(-1, constraint.places, p)
        if bool((model.term(implicit, t, x * constraint.kept) != model.term(implicit, t, free)).any()):
            raise SettingError(f"the term `{implicit}` of `{model.NAME}` holds the multipliers")


class Multipliers:
    """Fills in the multipliers of a state."""

    def __init__(self, constraint: Constraint) -> None:
        self.constraint, self.model = constraint, constraint.model
        self.kinds: list[str] = []
        if len(self.model.GRIDS) == 1:
            (grid,) = self.model.GRIDS
            reach = grid.reach or (EVERYWHERE,) * len(grid.layouts)
            self.kinds = ["series" if r == EVERYWHERE else kind for r, (kind, *_) in zip(reach, grid.layouts)]

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """x `[B, n]` at t `[B]`."""
        _, p = self.constraint.projected(self.model, t, x)
        full = (x * self.constraint.kept).index_copy(-1, self.constraint.places, p)
        for s in self.model.STATES:
            if s.algebraic and self.kinds and len(s.shape) >= len(self.kinds):
                field = full[..., s.places].reshape(*full.shape[:-1], *s.shape)
                tail = len(s.shape) - len(self.kinds)
                moved = field.flatten(-tail).movedim(-1, -len(self.kinds) - 1) if tail else field
                done = smoothed(moved, self.kinds)
                if self.constraint.level:
                    done = done - done.mean(tuple(range(-len(self.kinds), 0)), keepdim=True)
                done = done.movedim(-len(self.kinds) - 1, -1) if tail else done
                places = torch.arange(s.offset, s.offset + s.size, device=x.device)
                full = full.index_copy(-1, places, done.reshape(*full.shape[:-1], s.size))
        return full


class Filled:
    """Continuous output with its multipliers."""

    def __init__(self, inner: Interpolant, fill: Multipliers) -> None:
        self.inner, self.fill = inner, fill

    def __call__(self, ids: Ints, t: Floats) -> dict[str, Tensor]:
        found = self.inner(ids, t)
        x = found["x"]
        count = self.fill.constraint.problem.count
        rows = []
        for k in range(len(x)):  # the fields of families are of all members
            whole = x[k].expand(count, -1)
            rows.append(self.fill(clock(np.full(count, t[k]), x), whole)[ids[k]])
        return {**found, "x": torch.stack(rows) if rows else x}


def _with_multipliers(found: Solution, constraint: Constraint) -> Solution:
    fill = Multipliers(constraint)
    x, t = found.saved.values["x"], found.saved.t
    if x.shape[1]:
        columns = [fill(clock(t[:, j], x), x[:, j]) for j in range(x.shape[1])]
        found.saved.values["x"] = torch.stack(columns, 1)
    found.last = {**found.last, "x": fill(clock(found.last_t, x), found.last["x"])}
    if found.interpolant is not None:
        found.interpolant = Filled(found.interpolant, fill)
    return found


__all__ = ["solve_projected"]

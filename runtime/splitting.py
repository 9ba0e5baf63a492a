"""The driver of splittings: each part of a right-hand side followed by a flow of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from ndl.runtime.banks import banks_of, with_parts
from ndl.runtime.counted import terms_of
from ndl.runtime.errors import SettingError, did_you_mean
from ndl.runtime.flows import (
    ExactFlow,
    Flow,
    FourierFlow,
    HeldFlow,
    SteppedFlow,
    VisitedFlow,
    bipartition,
    check_linear,
)
from ndl.runtime.fourier import fourier_part
from ndl.runtime.methods import Method, StepSolver, Tableau, VectorField
from ndl.runtime.model import Model
from ndl.runtime.past import past_of
from ndl.runtime.problem import Ints, Problem
from ndl.runtime.solution import Solution
from ndl.runtime.stepping.calling import call_step
from ndl.runtime.stepping.choose import stepper_of
from ndl.runtime.stepping.delays import delaying
from ndl.runtime.stepping.drawn import drawing
from ndl.runtime.stepping.finish import solution_of
from ndl.runtime.stepping.loop import Loop
from ndl.runtime.stepping.split import SplitField, SplitStepper
from torch import Tensor

RK4 = Tableau(
    "rk4",
    4,
    None,
    (0.0, 0.5, 0.5, 1.0),
    ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
    (1 / 6, 1 / 3, 1 / 3, 1 / 6),
)
"""How a part is followed that names no method and is not linear."""

COLUMNS = 256
"""How many columns of a term's Jacobian are made at once."""


@dataclass(frozen=True)
class SplitProblem(Problem):
    """A problem whose fields carry the flows of the parts, in order."""

    masks: tuple[Tensor, Tensor] | None = None
    exact: frozenset[str] = field(default_factory=frozenset)

    def field(self, ids: Ints | None = None, steps: Ints | None = None) -> SplitField:
        """The right-hand side of the members `ids` (None: all), with its flows; `steps` as in `members`."""
        model = self.members(ids, steps)
        whole = super().field(ids, steps)
        if self.masks is not None:
            held: list[Flow] = [
                HeldFlow(whole, mask, inside) for mask, inside in zip(self.masks, self.insides, strict=True)
            ]
            return SplitField(whole, held)
        x = self.x0 if ids is None else self.x0[torch.from_numpy(ids).to(self.x0.device)]
        visits: dict[str, int] = {}
        flows = [
            self._visited(model, name, part, x, steps, visits) for name, part in self.method.parts.items()
        ]
        return SplitField(whole, flows, visits)

    @cached_property
    def insides(self) -> tuple[float, float]:
        """The fractions of what positions and momenta are followed at which time stands for them. It is the
        middle where momenta have a clock of their own, as in Strang's splitting; leapfrog and its kin begin
        each part of theirs at the time that the positions have reached."""
        calls: list[tuple[Tensor, Tensor]] = []

        def momenta(x: Tensor, t: Tensor, h: Tensor) -> Tensor:
            calls.append((t, h))
            return x

        zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
        offered = {"A": lambda x, t, h: x, "B": momenta, "x": zero[None, None], "t": zero, "h": one}
        assert isinstance(self.method.solver, StepSolver)
        call_step(self.method.solver, offered)
        own = [sum((h for _, h in calls[:k]), zero) for k in range(len(calls))]
        return 0.5, 0.5 if all(abs(float(t - o)) < 1e-9 for (t, _), o in zip(calls, own)) else 0.0

    def _visited(
        self,
        model: Model,
        name: str,
        part: Method | None,
        x: Tensor,
        steps: Ints | None,
        visits: dict[str, int],
    ) -> Flow:
        """The flow of a part; where nets have weights per use, another one for each visit."""
        banks = banks_of(self.model)
        nets = tuple(a for a, b in banks.items() if b.per == "use" and name in terms_of(self.model, a))
        if not nets:
            return self._flow(model, name, part, x)

        def make(numbers: Mapping[str, int]) -> Flow:
            step = 0 if steps is None else steps
            sets = {net: banks[net].chosen(step * banks[net].visits + k) for net, k in numbers.items()}
            twin = with_parts(model, {net: part.prepared() for net, part in sets.items()})
            return self._flow(twin, name, part, x)

        return VisitedFlow(make, nets, visits)

    def _flow(self, model: Model, name: str, part: Method | None, x: Tensor) -> Flow:
        f = part_field(model, name)
        if name in self.exact:
            part_of_it = fourier_part(model, [i for i in model.FOURIER if i.term == name], model.STATES)
            if part_of_it is not None:
                return FourierFlow(part_of_it)
            return ExactFlow(f, x.new_tensor(self.t0), x.detach(), self.taped)
        chosen = part or Method("rk4", "ode", RK4)
        # nothing controls its error: its stages are solved to nearly full precision
        alone = replace(chosen, options={"h": 1.0, **chosen.options})
        return SteppedFlow(f, stepper_of(self.on(method=alone)), substeps(name, chosen), self.taped)


def solve_split(problem: Problem) -> Solution:
    """Solve by a splitting. Raises `SettingError` for parts that do not make up the right-hand side."""
    solver = problem.method.solver
    assert isinstance(solver, StepSolver)
    plain = SplitStepper(solver)
    split = prepared(delaying(problem, plain))
    stepper = drawing(split, plain)
    if problem.taped:
        from ndl.runtime.gradients import solve_with_gradient

        return solve_with_gradient(split, stepper)
    with torch.no_grad():
        outcome = Loop(split, stepper, keep=problem.save.kind != "end").run()
        return solution_of(split, stepper, outcome)


def prepared(problem: Problem) -> SplitProblem:
    """The problem with its parts checked: named terms, or positions and momenta when no term is named."""
    model, method = problem.model, problem.method
    if model.NOISES:
        raise SettingError(f"`{method.name}` does not solve equations with noise, which `{model.NAME}` has")
    if problem.algebraic:
        raise SettingError(f"`{method.name}` does not keep the algebraic equations of `{model.NAME}`")
    fields: dict[str, Any] = {name: getattr(problem, name) for name in Problem.__dataclass_fields__}
    if not method.parts:
        return SplitProblem(**fields, masks=separated(problem))
    with torch.no_grad():
        check_parts(problem)
        exact = frozenset(
            name for name, part in method.parts.items() if followed_exactly(problem, name, part)
        )
    return SplitProblem(**fields, exact=exact)


def part_field(model: Model, name: str) -> VectorField:
    """A named term as a vector field."""

    def rate(t: Tensor, x: Tensor) -> Tensor:
        return model.term(name, t, x)

    field = VectorField(rate, lambda t, x: by_columns(rate, t, x))
    field.colours = model.colours()
    return field


def by_columns(f: Callable[[Tensor, Tensor], Tensor], t: Tensor, x: Tensor) -> Tensor:
    """df/dx `[..., n, n]` of a function that broadcasts over leading axes, some columns at a time."""
    unit = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    found: list[Tensor] = []
    for some in torch.split(unit, COLUMNS):
        shape = (len(some), *x.shape)
        ways = some.reshape(len(some), *(1,) * (x.ndim - 1), -1).expand(shape).contiguous()
        at, rows = t.expand(shape[:-1]), x.expand(shape).contiguous()
        found.append(torch.func.jvp(lambda y, at=at: f(at, y), (rows,), (ways,))[1])
    return torch.cat(found).movedim(0, -1)


def followed_exactly(problem: Problem, name: str, part: Method | None) -> bool:
    """Whether a part's flow is an exponential: asked for, or linear with no method named."""
    if part is not None and part.name != "exact":
        return False
    past = past_of(problem)
    asked = 0 if past is None else past.asked
    linear = check_linear(part_field(problem.model, name), name, problem.x0.detach(), problem.t0, problem.t1)
    # what reads the past is only constant as long as there is none
    linear = linear and (past is None or past.asked == asked)
    if part is not None and not linear:
        raise SettingError(
            f"`exact` follows linear terms with constant coefficients, and `{name}` is not one",
            help=f"write `{name}: rk4`",
        )
    return linear


def substeps(name: str, part: Method) -> int:
    """How many steps a part takes for one of its flows: its option `steps`, or one."""
    if part.options.get("h") is not None or any(k in part.options for k in ("rtol", "atol")):
        raise SettingError(
            f"a part of a splitting takes the splitting's steps; `{name}: {part.name}(…)` asks for others",
            help=f"write `{name}: {part.name}` or `{name}: {part.name}(steps=4)` for four steps in one",
        )
    count = int(part.options.get("steps") or 1)
    if count < 1:
        raise SettingError(f"`{name}: {part.name}` needs at least one step, not {count}")
    return count


def check_parts(problem: Problem) -> None:
    """The parts must be terms of the model, at least two, and add up to its right-hand side."""
    model, method = problem.model, problem.method
    known = [term.name for term in model.TERMS]
    for name in method.parts:
        if name not in known:
            raise SettingError(
                f"`{model.NAME}` has no term `{name}`",
                help=did_you_mean(name, known) or f"its terms are {', '.join(known) or 'none'}",
            )
    if len(method.parts) < 2:
        raise SettingError(f"`{method.name}` needs two parts or more", help=f"terms: {', '.join(known)}")
    x = problem.x0.detach()
    generator = torch.Generator().manual_seed(1)
    x = x + 0.1 * (1 + x.abs()) * torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x)
    t = x.new_tensor(problem.t0 + 0.31 * (problem.t1 - problem.t0))
    whole, terms = model.vector_field(t, x), [model.term(name, t, x) for name in method.parts]
    size = whole.abs() + sum(term.abs() for term in terms)
    gap = (whole - sum(terms)).abs() > 1e3 * torch.finfo(x.dtype).eps * size
    if bool(gap.any()):
        place = int(gap.reshape(-1, x.shape[-1]).any(0).nonzero()[0])
        raise SettingError(
            f"the parts {', '.join(f'`{name}`' for name in method.parts)} do not add up to the rate of "
            f"`{problem.state_name(place)}`",
            help=f"the terms of `{model.NAME}` are {', '.join(known)}",
        )


def separated(problem: Problem) -> tuple[Tensor, Tensor]:
    """Masks `[n]` of positions and momenta of a model without named parts."""
    model, n = problem.model, problem.size
    depends = np.zeros((n, n), dtype=bool)
    if model.JACOBIAN_SPARSITY is not None:
        for i, j in model.JACOBIAN_SPARSITY:
            depends[i, j] = True
    else:
        f, x = problem.field(), problem.x0.detach()
        generator = torch.Generator().manual_seed(1)
        for _ in range(3):
            y = x + (1 + x.abs()) * torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
            t = x.new_tensor(problem.t0).expand(x.shape[:-1])
            depends |= (f.jacobian(y, t).detach().reshape(-1, n, n) != 0).any(0).cpu().numpy()
    momenta = torch.from_numpy(bipartition(depends, problem.state_name, problem.method.name))
    mask = momenta.to(problem.x0)
    return 1 - mask, mask

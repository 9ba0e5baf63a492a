"""From a run that cannot go on to its `SolveFailure`: the member, the state at fault, the path so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from ndl.runtime.failures import SolveFailure
from ndl.runtime.methods import VectorField
from ndl.runtime.model import Model
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.stepping.control import Tolerances, clock
from ndl.runtime.stepping.stepper import Attempt, pick

if TYPE_CHECKING:
    from ndl.runtime.solution import Solution
    from ndl.runtime.stepping.loop import Loop

ADVICE = {
    "step": "the solution may blow up or jump here; look at the state named above, or end the span earlier",
    "finite": "a smaller `h`, or an adaptive method such as `tsit5(rtol=1e-6)`, may pass this point",
    "newton": "a smaller `h`, or an adaptive method, may let Newton's iteration converge",
    "events": "a reset should take the state away from the event; add a condition that lets it come to rest",
    "delay": "write the delay so that it stays above 0, `max(e, 0.01)`",
    "require": "shorten the span, or loosen the condition if it is the solver's error that breaks it",
}

PILED = 1e-4
"""The part of a run within which its last NEAR events stand when they pile up."""

NEAR = 10
"""So many of the last steps or events say what a run was doing."""


class Standing(Protocol):
    """Where trajectories stand: the members `ids [b]` at `x [b, n]` and `t [b]`."""

    p: Problem
    ids: Ints
    t: Floats
    x: torch.Tensor
    f: VectorField
    model: Model
    tol: Tolerances

    def partial(self) -> Any:
        """The solution up to there, of all members."""
        ...


def failure(
    loop: Standing,
    status: str,
    row: int,
    h: Floats | None = None,
    step: Attempt | None = None,
    detail: str | None = None,
    state: str | None = None,
) -> SolveFailure:
    """The failure of one running member."""
    p, member = loop.p, int(loop.ids[row])
    t, x = float(loop.t[row]), loop.x[row]
    so_far = loop.partial()
    if status == "step" and _piles(so_far, member):
        status, state = "events", None
    if state is None and status in ("step", "finite", "newton", "max_steps"):
        state = _culprit(loop, row, step)
    if status == "max_steps":
        detail = f"{p.max_steps} steps were taken, and t = {p.t1:g} is not reached"
    values = {}
    for s in (s for s in p.model.STATES if not s.source):
        part = x[s.places].reshape(s.shape)
        values[s.name] = part.tolist()
    diagnose: Any = getattr(p.model, "diagnose", None)
    first = None if diagnose is None else diagnose(clock(loop.t[row : row + 1], x), x)
    return SolveFailure(
        status,
        model=p.model.NAME,
        time=t,
        last_step=None if h is None else float(h[row]),
        member=member if p.ensemble else None,
        state=state,
        values=values,
        detail=detail,
        advice=_shorter(loop, row, h) if status == "max_steps" else ADVICE.get(status),
        partial=so_far,
        notes=(str(first),) if first else (),
    )


def _piles(so_far: Any, member: int) -> bool:
    """Whether the events of a member come closer and closer together, as the bounces of a ball that comes to
    rest."""
    if not so_far.problem.model.EVENTS:
        return False
    times = so_far.events.t
    own = times[member] if times.ndim > 1 else times
    last = own[~torch.isnan(own)][-NEAR:].cpu().numpy()
    if len(last) < NEAR:
        return False
    first, latest = last[NEAR // 2] - last[0], last[-1] - last[NEAR // 2]
    whole = so_far.problem.t1 - so_far.problem.t0
    return bool(abs(last[-1] - last[0]) <= PILED * abs(whole) and abs(latest) < abs(first))


def _shorter(loop: Standing, row: int, h: Floats | None) -> str:
    """What may need fewer steps, by a stiff method that the model can have."""
    stiff = _stiff(loop.model)
    if _slides(loop, row, h):
        return (
            "the rates jump back and forth here, and the solution slides along the place where they do: "
            "write a slope instead, `-tanh(x/0.01)` for `if x > 0 then -1 else 1`"
            + (f", and a stiff method such as {stiff[-1]}" if stiff else "")
        )
    loosen = "loosen `rtol` and `atol`"
    return f"if the problem is stiff, use {' or '.join(stiff)}; else {loosen}" if stiff else loosen


def _stiff(model: Model) -> tuple[str, ...]:
    """Methods for stiff equations with error control for such a model; the estimate of the last one sees a
    slope in the place of a jump, which that of `rodas5` may step over."""
    if model.NOISES or any(not d.constant for d in model.DELAYS):
        return ()
    return ("`bdf`", "`rosenbrock23`") if model.DELAYS else ("`rodas5`", "`kvaerno5`")


def _slides(loop: Standing, row: int, h: Floats | None) -> bool:
    """Whether the steps of a member are as short as its distance from a discontinuity of its rates."""
    model = loop.model
    if not model.BREAKS or h is None:
        return False
    size, rate = NEAR * abs(float(h[row])), loop.f(loop.x, clock(loop.t, loop.x))
    before, after = (model.breaks(clock(loop.t + s, loop.x), loop.x + s * rate) for s in (-size, size))
    many = (len(loop.x), model.BREAKS)
    return bool((before.expand(many)[row] * after.expand(many)[row] < 0).any())


def _culprit(loop: Standing, row: int, step: Attempt | None) -> str | None:
    """The state that is not finite, or changes fastest for its size."""
    at = clock(loop.t, loop.x)
    x = loop.x[row]
    rate = loop.f(loop.x, at)[row]
    for values in (x, rate, None if step is None else step.x1[row]):
        if values is None:
            continue
        bad = torch.nonzero(~torch.isfinite(values))
        if len(bad):
            return loop.p.state_name(int(bad[0]))
    scale = loop.tol.scale(x.abs(), x.abs())
    if x.ndim == 0 or not len(x):
        return None
    return loop.p.state_name(int(torch.argmax((rate / scale).abs())))


def partial(loop: Loop) -> Solution:
    """The solution up to here, of all members."""
    from ndl.runtime.stepping.finish import solution_of
    from ndl.runtime.stepping.loop import Outcome

    rows = np.arange(len(loop.ids))
    ids = torch.from_numpy(loop.ids).to(loop.x.device)
    loop.last[ids] = pick(loop.x, rows)
    loop.last_t[loop.ids] = loop.t
    loop.recorder.finish(loop.ids, loop.t, {"x": loop.x})
    outcome = Outcome(
        loop.recorder, loop.trail, loop.watch, loop.last, loop.last_t,
        loop.steps, loop.rejected, loop.evaluations, loop.p.x0.detach(), [], [],
    )  # fmt: skip
    return solution_of(loop.p, loop.stepper, outcome)

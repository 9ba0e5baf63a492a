"""A run that cannot go on: who, when, which state, and what to try, in the words of the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ndl.runtime.errors import RunError

STATUSES = {
    "step": ("NDL650", "the step size fell below what the precision of t can hold"),
    "finite": ("NDL651", "a value is not finite"),
    "max_steps": ("NDL652", "the run needs more steps than allowed"),
    "newton": ("NDL653", "Newton's iteration did not converge"),
    "events": ("NDL654", "events fire again and again without progress in t"),
    "require": ("NDL655", "a requirement does not hold"),
    "delay": ("NDL657", "a delay is not above 0"),
    "unstable": ("NDL658", "steps are too long for the method"),
    "initial": ("NDL656", "the algebraic equations have no solution near the initial values"),
}


@dataclass(frozen=True)
class Failed:
    """A member that did not come to its end: `status` is a key of STATUSES."""

    member: int
    status: str
    time: float
    last_step: float | None


class SolveFailure(RunError):
    """A run's failure and its post-mortem.

    `status` is a key of STATUSES; `member` is None without an ensemble; `time` and `last_step` say where the
    run stood; `state` names the state whose error or size gave way; `values` are the states there; `partial`
    is the solution up to there, when any of it was kept. `failed` lists all members that failed where the
    others went on (runs by kernels).
    """

    default_code = "NDL650"

    def __init__(
        self,
        status: str,
        *,
        model: str,
        time: float,
        last_step: float | None = None,
        member: int | None = None,
        state: str | None = None,
        values: dict[str, Any] | None = None,
        detail: str | None = None,
        advice: str | None = None,
        partial: Any = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        code, sentence = STATUSES[status]
        who = f" (member {member})" if member is not None else ""
        lines = []
        if last_step is not None and not math.isnan(last_step):
            lines.append(f"the last step was h = {last_step:.3g}")
        if state is not None:
            lines.append(f"the state that gave way is `{state}`")
        if values:
            lines.append("there " + ", ".join(f"`{k}` = {_short(v)}" for k, v in values.items()))
        super().__init__(
            f"`{model}` stopped near t = {time:.6g}{who}: {detail or sentence}",
            code=code,
            help=advice,
            notes=(*lines, *notes),
        )
        self.status = status
        self.member = member
        self.time = time
        self.last_step = last_step
        self.state = state
        self.values = values or {}
        self.advice = advice
        self.partial = partial
        self.failed: tuple[Failed, ...] = ()


def _short(value: Any) -> str:
    """A number with six digits; of a long vector its first entries."""
    if isinstance(value, list):
        head = ", ".join(_short(v) for v in value[:4])
        return f"[{head}{', …' if len(value) > 4 else ''}]"
    return f"{value:.6g}"

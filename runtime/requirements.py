"""`require` conditions and bounds of states, checked at the points that a run accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ndl.runtime.problem import Problem
from ndl.runtime.stepping.control import clock

if TYPE_CHECKING:
    from ndl.runtime.stepping.postmortem import Standing


class Requirements:
    """What must hold. A bounded state may leave its bound by 1e-6 of its size: that is the solver's error,
    not the model's."""

    def __init__(self, problem: Problem) -> None:
        self.conditions = problem.model.REQUIRES
        self.bounds = [s for s in problem.model.STATES if s.lower is not None or s.upper is not None]

    def __bool__(self) -> bool:
        return bool(self.conditions or self.bounds)

    def check(self, loop: Standing, rows: np.ndarray) -> None:
        """Raises `SolveFailure` for the first member of `rows` for which something does not hold."""
        from ndl.runtime.stepping.postmortem import failure

        if not self:
            return
        x, b = loop.x, len(loop.ids)
        at = clock(loop.t, x)
        for k, info in enumerate(self.conditions):
            holds = loop.model.require(k, at, x).expand(b).cpu().numpy()
            if (rows & ~holds).any():
                detail = f"`require {info.text}` does not hold" + (f": {info.why}" if info.why else "")
                raise failure(loop, "require", int(np.nonzero(rows & ~holds)[0][0]), detail=detail)
        for s in self.bounds:
            part = x[:, s.places]
            slack = 1e-6 * (part.abs().amax(-1) + 1e-6)
            below = (part.amin(-1) < s.lower - slack) if s.lower is not None else None
            above = (part.amax(-1) > s.upper + slack) if s.upper is not None else None
            for bad, sign, bound in ((below, ">", s.lower), (above, "<", s.upper)):
                if bad is None:
                    continue
                wrong = rows & bad.cpu().numpy()
                if wrong.any():
                    detail = f"`{s.name}` was declared {sign} {bound:g}"
                    raise failure(loop, "require", int(np.nonzero(wrong)[0][0]), detail=detail, state=s.name)

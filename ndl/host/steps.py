"""The steps of a run as values: those that it took, and single ones from a time of its path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ndl.compiler.check.values import Object, Value, WordV
from ndl.compiler.diagnostics import did_you_mean, fail
from ndl.compiler.source import Span
from ndl.host.builder import lift
from ndl.host.sample import Sample, batched, column

ESTIMATES = ("t", "h", "error", "stiffness")


def outside(sample: Sample | None, run: Callable[[], torch.Tensor]) -> torch.Tensor:
    """What `run` returns, computed for the whole batch and not inside of the formula of a sample."""
    if sample is None or not sample.shared():
        return run()
    found: torch.Tensor = sample.outside(run)  # type: ignore[attr-defined]
    return found


class StepsObject(Object):
    """The accepted steps: `s.steps.t`, `.h`, `.error`, `.stiffness`, of a batch those of the sample, as many
    as it took; `s.steps.h(tau)` is that of the step which holds the time tau. `s.steps.at(tau)` is one
    more step, from the state at tau, on which nothing else depends."""

    kind = "record of steps"
    names = ESTIMATES

    def __init__(self, solution: Any, sample: Sample | None) -> None:
        self.solution, self.sample = solution, sample

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        from ndl.host.failures import refuse_estimates

        if name == "at":
            return OneStep(self.solution, self.sample)
        if name not in self.names:
            return ev.error(
                "NDL207", f"the steps have no `{name}`", span, help=did_you_mean(name, (*self.names, "at"))
            )
        if name in ("error", "stiffness") and ev.host.differentiating:
            refuse_estimates(self.solution.problem, name, span)
        values = outside(self.sample, lambda: getattr(self.solution.steps, name))
        if name == "stiffness":
            refuse_unknown(self.solution, values, span)
        return column(values, self.sample, at=lambda t: self._at(values, t))

    def _at(self, values: torch.Tensor, t: Any) -> torch.Tensor:
        """The entry of the step that holds the time t, another one for each sample."""
        rows = values if self.solution.problem.ensemble else values[None]

        def pick(_: Any, at: torch.Tensor) -> tuple[torch.Tensor]:
            where = self.solution.step_at(at)
            return (rows.gather(1, where[:, None].to(rows.device))[:, 0],)

        if batched(t):
            found: torch.Tensor = self.sample.whole(pick, t)[0]  # type: ignore[union-attr]
            return found
        every = pick(None, torch.as_tensor(t, dtype=torch.float64).detach().expand(len(rows)))[0]
        if self.sample is not None:
            return self.sample.of(every)
        return every if self.solution.problem.ensemble else every[0]


def refuse_unknown(solution: Any, stiffness: torch.Tensor, span: Span) -> None:
    """The method does not say how stiff the equation is."""
    if stiffness.numel() and bool(torch.isnan(stiffness.detach()).all()):
        raise fail(
            "NDL545",
            f"`{solution.problem.method.name}` does not estimate the stiffness of its steps",
            span,
            help="use `sosri2`, `sri` or `sra1`, or write `stiffness = [k2 - k1, y2 - y1]` in its `step`",
        )


class OneStep(Object):
    """`s.steps.at(tau)`, `s.steps.at(tau, h=0.1)`, `s.steps.at(tau, h=fresh)`: one step of the run's method
    from its state at tau, the state taken as it is."""

    kind = "step of a run"

    def __init__(self, solution: Any, sample: Sample | None) -> None:
        self.solution, self.sample = solution, sample

    def call(self, ev: Any, args: list[Any], options: dict[str, Any], span: Span) -> Any:
        from ndl.runtime.single import step_of

        if len(args) != 1 or set(options) - {"h"}:
            return ev.error("NDL322", "`steps.at` takes a time and perhaps `h`: `steps.at(tau, h=0.1)`", span)
        host, count = ev.host, self.solution.problem.count
        size = options.get("h")
        fresh = isinstance(size, WordV) and size.name == "fresh"
        numbers = [self._number(host, v, span) for v in (args[0], *([] if fresh or size is None else [size]))]

        def run(*given: torch.Tensor) -> Any:
            t, *h = (v.detach().to(torch.float64).expand(count) for v in given)
            return step_of(self.solution, t, "fresh" if fresh else h[0] if h else None)

        def taken() -> Any:
            if any(batched(v) for v in numbers):
                return self.sample.outside(run, *numbers)  # type: ignore[union-attr]
            return run(*numbers)

        return TakenStep(host.guarded(taken, span), self.sample)

    @staticmethod
    def _number(host: Any, value: Any, span: Span) -> torch.Tensor:
        found = host.number(value)
        if isinstance(found, (int, float, torch.Tensor)) and not isinstance(found, bool):
            return torch.as_tensor(found, dtype=None if isinstance(found, torch.Tensor) else torch.float64)
        raise fail("NDL322", "`steps.at` takes a time: `steps.at(0.5)`", span)


class TakenStep(Object):
    """A single step: `.t`, `.h`, `.error`, `.stiffness`, each a number."""

    kind = "step"

    def __init__(self, solution: Any, sample: Sample | None) -> None:
        self.solution, self.sample = solution, sample

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Value | Any:
        if name not in ESTIMATES:
            return ev.error("NDL207", f"a step has no `{name}`", span, help=did_you_mean(name, ESTIMATES))
        values = outside(self.sample, lambda: getattr(self.solution.steps, name)[..., 0])
        if name == "stiffness":
            refuse_unknown(self.solution, values, span)
        return lift(values if self.sample is None else self.sample.of(values))

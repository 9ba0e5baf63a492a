"""What a training gives to programs: `r.loss`, `r.history.loss`, `r.metrics.accuracy`, `r.model`."""

from __future__ import annotations

from typing import Any

from ndl.compiler.check.values import ListV, Object
from ndl.compiler.diagnostics import did_you_mean
from ndl.compiler.source import Span
from ndl.host.objects import Record, plain


class TrainingObject(Object):
    """A training result: `.loss`, `.history`, `.model`, `.steps`, `.validation`, `.metrics`."""

    kind = "training result"

    def __init__(self, result: Any, model: Any) -> None:
        self.result, self.model = result, model

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        result = self.result
        if name == "model":
            return self.model
        if name == "history":
            return HistoryObject(result.history)
        if name == "metrics" and result.metrics:
            return Measured(result.metrics)
        if name in ("loss", "steps", "stopped", "best_step", "validation"):
            found = getattr(result, name)
            if found is not None:
                return plain(found)
        known = ["loss", "history", "model", "steps", "stopped", "best_step", "validation", "metrics"]
        absent = f"this training result has no `{name}`" if name in known else None
        return ev.error(
            "NDL207",
            absent or f"a training result has no `{name}`",
            span,
            help="write `validate` or `metrics` in the block" if absent else did_you_mean(name, known),
        )


class RepeatedObject(TrainingObject):
    """Several runs of a training: `.runs[k]`, `.mean.accuracy`, `.deviation.accuracy`; else the best one."""

    kind = "training result"

    def __init__(self, result: Any, model: Any, runs: list[TrainingObject]) -> None:
        super().__init__(result, model)
        self.runs = runs

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        table = self.result.repeats
        if name == "runs":
            return ListV(tuple(self.runs))
        if name in ("mean", "deviation"):
            return Measured({n: getattr(table, name)(n) for n in table.names})
        return super().attribute(ev, name, primes, span)


class VariedObject(Object):
    """The trainings of a block with `vary`: `.mean.accuracy`, `.deviation.accuracy`, with an axis for each
    varied name; `.runs`, the trainings in order; `.model`, that of the last one."""

    kind = "set of trainings"

    def __init__(self, result: Any, runs: list[TrainingObject]) -> None:
        self.result, self.runs = result, runs
        self.model = runs[-1].model

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        if name == "runs":
            return ListV(tuple(self.runs))
        if name == "model":
            return self.model
        if name in ("mean", "deviation"):
            return Measured(getattr(self.result, name))
        known = ["mean", "deviation", "runs", "model"]
        return ev.error("NDL207", f"a set of trainings has no `{name}`", span, help=did_you_mean(name, known))


class Measured(Object):
    """Metrics by name: `r.metrics.accuracy`."""

    kind = "set of metrics"

    def __init__(self, values: Any) -> None:
        self.values = values

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        if name in self.values:
            return plain(self.values[name])
        return ev.error("NDL207", f"there is no metric `{name}`", span, help=did_you_mean(name, self.values))


class HistoryObject(Record):
    """`r.history.loss`, `.validation`, `.rate`, `.metrics.accuracy`."""

    def __init__(self, history: Any) -> None:
        super().__init__(
            "history", history, ("loss", "validation", "validation_steps", "rate", "metric_steps")
        )

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        if name == "metrics":
            return Measured(self.target.metrics)
        return super().attribute(ev, name, primes, span)

"""What a training is watched by: the loss and the metrics of samples that it does not learn from, the best
parameters so far, and whether it has stopped getting better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from ndl.runtime.batches import Batch
from ndl.runtime.errors import SettingError, did_you_mean
from ndl.runtime.history import Record
from ndl.runtime.metrics import Metrics
from ndl.runtime.movers import evaluate
from ndl.runtime.train_settings import Loss, ValidatePlan
from torch import Tensor

Indices = Sequence[Tensor | None]


@dataclass
class Watch:
    """`best_value` is the monitored number, its sign turned where more is better, so that less is better."""

    metrics: Metrics | None = None
    best: dict[str, Tensor] = field(default_factory=dict)
    best_value: float = math.inf
    best_step: int = 0
    stopped: bool = False

    def check(self, plan: ValidatePlan) -> None:
        """Refuse to monitor what is not measured, or what has no order."""
        if plan.monitor is None:
            return
        known = {} if self.metrics is None else self.metrics.measures
        if plan.monitor not in known:
            raise SettingError(
                f"`monitor` is `{plan.monitor}`, which is no metric of this training",
                code="NDL530",
                help=did_you_mean(plan.monitor, known)
                or (f"its metrics are {', '.join(known)}" if known else f"add `metrics = {plan.monitor}`"),
            )
        if known[plan.monitor].better == 0:
            raise SettingError(
                f"`{plan.monitor}` is a table, of which none is the best",
                code="NDL530",
                help="monitor a number, such as `accuracy`",
            )

    def judge(
        self,
        plan: ValidatePlan,
        record: Record,
        step: int,
        everything: Callable[[], Mapping[str, Tensor]],
    ) -> None:
        """Keep the parameters if they are the best so far; stop when they have not been for too long."""
        value = record.validation[-1]
        if plan.monitor is not None and self.metrics is not None:
            value = -self.metrics.measures[plan.monitor].better * float(record.metrics[plan.monitor][-1])
        better = value < self.best_value - (plan.least if math.isfinite(self.best_value) else 0.0)
        if better:
            self.best_value, self.best_step = value, step
            if plan.keep_best:
                self.best = {n: p.detach().clone() for n, p in everything().items()}
        if plan.patience is not None:
            self.stopped = sum(s > self.best_step for s in record.validation_steps) >= plan.patience

    def measure(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Each metric of all samples of some batches."""
        assert self.metrics is not None
        found = [self.metrics.gather(b.step, b) for b in batches]
        judged = {}
        for name, measure in self.metrics.measures.items():
            gathered = [torch.cat(column) for column in zip(*(f[name] for f in found))]
            judged[name] = measure.judge(*(g.detach() for g in gathered)).double().cpu()
        return judged


def mean_loss(loss: Loss, batches: Sequence[Batch]) -> float:
    """The mean of a loss over samples, taken in batches; gradients stay on, for a loss may use them."""
    total, weight = 0.0, 0
    for batch in batches:
        n = 1 if batch.index is None else len(batch.index)
        total += n * float(evaluate(loss, batch.step, batch)[0].detach())
        weight += n
    return total / weight

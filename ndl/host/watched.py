"""What a training is watched by: metrics as formulas of the language, validation data, averages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import EveryV, ListV, TupleV, Unknown, WordV, describe, is_number
from ndl.compiler.check.watched import Metric, read_metrics, rhythm_of
from ndl.compiler.diagnostics import fail
from ndl.host.objects import DataObject, SolutionObject
from ndl.runtime.averages import AveragePlan
from ndl.runtime.batches import Batch
from ndl.runtime.metrics import MEASURES, Measure, Metrics, mean
from ndl.runtime.observers import Observer
from ndl.runtime.tensorboard import TensorBoard
from ndl.runtime.train_settings import ValidatePlan


def metrics_of(session: Any, loss: Any) -> Metrics | None:
    """The metrics of a block for the trainer."""
    found = read_metrics(session.host.ev, session.block, session.settings)
    if not found:
        return None
    measures = {m.name: Measure(mean) if m.measure is None else MEASURES[m.measure] for m in found}

    def gather(step: int, batch: Batch) -> dict[str, tuple[torch.Tensor, ...]]:
        def one(scope: Scope) -> tuple[torch.Tensor, ...]:
            return tuple(_gathered(session, m, e, scope) for m in found for e in m.values)

        values = list(loss.compute(one, step, batch))
        if not loss.has_samples(batch):  # one path in time is one sample
            values = [v[None] for v in values]
        return {m.name: tuple(values.pop(0) for _ in m.values) for m in found}

    return Metrics(measures, gather)


def _gathered(session: Any, metric: Metric, expr: Any, scope: Scope) -> torch.Tensor:
    """What a metric takes of one sample; a missing entry is NaN."""
    ev = session.host.ev
    value = ev.value(ev.eval(expr, scope), expr.span)
    if isinstance(value, Unknown):
        raise fail("NDL530", f"the metric `{metric.name}` has no value", expr.span)
    if metric.measure is None and value.type.rank:
        raise fail(
            "NDL530",
            f"the metric `{metric.name}` is a number of each sample, and this is {value.type}",
            expr.span,
            help="write `mean(…)` around it",
        )
    mask = getattr(value, "mask", None)
    x: torch.Tensor = value.ref
    return x if mask is None else torch.where(mask, x, torch.nan)


def measure_every(session: Any) -> int | None:
    """`every n` among the metrics."""
    if "metrics" not in session.settings:
        return None
    rhythm = rhythm_of(session.settings["metrics"][0])
    return None if rhythm is None else int(session.host.number(session.host.ev.eval(rhythm, session.scope)))


def validate_plan(session: Any, folds: tuple[int, ...] | None = None) -> ValidatePlan | None:
    """`validate = 0.2`, `validate = table(…)`, either with `, every 50`; `folds` are samples held out."""
    value = session.value("validate")
    monitor = session.setting_text("monitor")
    watched = {
        "patience": session.whole("patience"),
        "monitor": None if monitor == "loss" else monitor,
        "least": float(session.number("least") or 0.0),
    }
    if folds is None and not session.validation_given():
        given = {"validate": value, **watched}
        name = next((n for n in ("patience", "monitor", "validate") if given[n] is not None), None)
        if name is not None:
            raise fail(
                "NDL532",
                f"`{name}` watches what the training does not learn from, and nothing is held out",
                session.settings[name][1] if name in session.settings else session.block.span,
                help="write `validate = 0.2`, or give data of its own: `validate = table(…)`",
            )
        return None
    every = None
    for item in value.items if isinstance(value, TupleV | ListV) else (value,):
        if isinstance(item, EveryV):
            every = int(session.host.number(item.value))
        elif isinstance(item, DataObject | SolutionObject):
            watched["other"] = session.validation.samples or 0
        elif item is not None:
            share = session.host.number(item)
            if not is_number(share):
                raise fail(
                    "NDL519",
                    f"`validate` is a share of the samples or data, not {describe(item)}",
                    session.settings["validate"][0].span,
                    help="write `validate = 0.2` or `validate = table(…)`",
                )
            watched["fraction"] = float(share)
    if folds is not None:
        watched |= {"held": folds, "fraction": None, "other": None}
    return ValidatePlan(every=every, **watched)


def observers_of(session: Any, folder: Path | None) -> tuple[Observer, ...]:
    """`log = tensorboard`, `log = tensorboard("folder")`; by itself in the run's folder."""
    value = session.value("log")
    if value is None:
        return ()
    where = session.settings["log"][0].span if "log" in session.settings else session.block.span
    if not isinstance(value, WordV) or value.name != "tensorboard" or len(value.args) > 1:
        raise fail("NDL537", f"a training is logged by `tensorboard`, not by {describe(value)}", where,
                   help='write `log = tensorboard` or `log = tensorboard("folder")`')  # fmt: skip
    if value.args:
        place = session.host.policy.write(str(value.args[0]))
        named = None if folder is None or (session.fold is None and not session.copies) else folder.name
        return (TensorBoard(place / named if named else place),)
    if folder is None:
        raise fail("NDL537", "this run has no folder to log to", where,
                   help='name one: `log = tensorboard("folder")`')  # fmt: skip
    return (TensorBoard(folder / "tensorboard"),)


def average_plan(session: Any) -> AveragePlan | None:
    """`average = ema(0.999)`, `average = swa(start=0.75)`."""
    value = session.value("average")
    if value is None:
        return None
    option = {"ema": "decay", "swa": "start"}.get(value.name) if isinstance(value, WordV) else None
    given = {} if option is None else {**dict(zip((option,), value.args)), **value.options}
    if option is None or set(given) - {option} or len(value.args) > 1:
        raise fail(
            "NDL534",
            f"an average of the weights is `ema(decay)` or `swa(start)`, not {describe(value)}",
            session.settings["average"][0].span,
            help="write `average = ema(0.999)` or `average = swa(start=0.75)`",
        )
    return AveragePlan(value.name, **{k: float(session.host.number(v)) for k, v in given.items()})

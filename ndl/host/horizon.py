"""`horizon = ramp(0.5, 4)`: a training that sees the data until a time, which may grow from step to step."""

from __future__ import annotations

from typing import Any

from ndl.compiler.check.values import describe, is_number
from ndl.compiler.diagnostics import fail
from ndl.host.loss_names import annealed
from ndl.runtime.batches import Batch
from ndl.runtime.data import Table


def cut(session: Any, table: Table, horizon: Any, batch: Batch) -> Table:
    """The data until the horizon of a step; at least its first two times, so that something happens."""
    if horizon is None:
        return table
    expr, where = horizon
    if table.time is None or {"span", "save"} & session.settings.keys():
        raise fail(
            "NDL536",
            "`horizon` cuts the times of the data, at which the model is solved",
            where,
            help="give data with times, and leave out `span` and `save`",
        )
    ev = session.host.ev
    names = {"step": batch.step, "epoch": batch.epoch, **annealed(batch)}
    end = session.host.number(ev.eval(expr, session.scope.child(names)))
    end = end.item() if hasattr(end, "item") else end
    if not is_number(end):
        raise fail("NDL536", f"`horizon` is a time, not {describe(end)}", expr.span)
    least = float(table.time[min(1, len(table.time) - 1)])
    return table.between(float(table.time[0]), max(float(end), least))

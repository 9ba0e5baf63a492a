"""What the formulas of a `train` may name: parts of a model, `nll`, `decay`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ndl.compiler.check.values import Object, Value, is_number
from ndl.compiler.syntax import tree
from ndl.host.builder import lift
from ndl.host.objects import Branch
from ndl.runtime.batches import Batch
from ndl.runtime.data import Table
from ndl.runtime.laws import Law
from ndl.runtime.schedules import anneal, ramp


def likelihood(solution: Any, table: Table, sample: int | None) -> Value:
    """`nll`: the negative log-likelihood of the columns that the model measures, missing entries left out."""
    total = torch.zeros(())
    for info in solution.model.OBSERVES:
        if info.name in table:
            column, law = table[info.name], solution.law(info.name)
            if sample is not None:
                law = Law(law.name, tuple(a[sample] for a in law.arguments))
            missing = torch.isnan(column)
            density = law.log_density(torch.where(missing, law.arguments[0].detach(), column))
            total = total - torch.where(missing, torch.zeros_like(density), density).sum()
    return lift(total)


def branches(names: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a model by name: `leg`, of which a loss reads `leg.x`."""
    values = {n: v.ref for n, v in names.items() if isinstance(v, Value)}
    heads = {n.replace("[", ".").partition(".")[0] for n in values if "." in n}
    return {h: b for h in heads if (b := Branch.of(h, values, values.__getitem__)) is not None}


class Annealed(Object):
    """`decay(a, b)`, `ramp(a, b)` in a loss: a in the first step of training, b in the last (or, with
    `until=s`, from the share s of the training on); between by equal ratios or by equal steps."""

    kind = "schedule"

    def __init__(self, name: str, between: Any, step: int, total: int) -> None:
        self.name, self.between, self.step, self.total = name, between, step, total

    def call(self, ev: Any, args: list[Any], options: dict[str, Any], span: Any) -> Any:
        ends = [ev.known(a) for a in args]
        until = ev.known(options.get("until", 1.0))
        if len(ends) != 2 or not all(is_number(v) for v in (*ends, until)) or set(options) - {"until"}:
            shown = f"`{self.name}` takes the first and the last value: `{self.name}(10, 1, until=0.5)`"
            return ev.error("NDL322", shown, span)
        whole = max(1, round(float(until) * self.total))
        return self.between(float(ends[0]), float(ends[1]), min(self.step, whole - 1), whole)


def annealed(batch: Batch) -> dict[str, Annealed]:
    """What goes from one value to another along a training."""
    return {
        "decay": Annealed("decay", anneal, batch.step, batch.total),
        "ramp": Annealed("ramp", ramp, batch.step, batch.total),
    }


def names_of(stmt: tree.Stmt) -> set[str]:
    """What a definition or a draw gives a name."""
    if isinstance(stmt, tree.Draw):
        return {stmt.name}
    targets = stmt.targets if isinstance(stmt, tree.Assign) else ()
    return {t.id for t in targets if isinstance(t, tree.Name)}


def is_panel(table: Table | None) -> bool:
    """Whether the data has an axis of samples."""
    return table is not None and table.samples is not None

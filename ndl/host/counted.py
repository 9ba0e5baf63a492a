"""Weights for each step or visit, before a training: a first run counts them."""

from __future__ import annotations

from typing import Any

import torch

from ndl.compiler.diagnostics import fail
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.runtime.banks import banks_of
from ndl.runtime.batches import Batch


def count_sets(session: Any, loss: Any) -> None:
    """Where nets of the models have weights for each step, evaluate the losses for one sample, so that the
    runs in them make these weights. Raises `NDLError` where none does."""

    def waiting() -> list[Any]:
        return [b for _, m in session.models.values() for b in banks_of(m).values() if not len(b)]

    if not waiting():
        return
    index = None if loss.samples is None else torch.arange(1)
    batch = Batch(0, 1, 0, index, training=False)
    with torch.no_grad():
        for formula in formulas(session, loss):
            loss.evaluate(formula, 0, batch)
    for bank in waiting():
        raise fail(
            "NDL528",
            f"`{bank.path}` has weights for each step, and the loss runs no step of its model",
            session.block.span,
        )


def formulas(session: Any, loss: Any) -> list[tree.Expr]:
    """The losses of a block, its players and its phases."""
    found = [] if loss.expr is None else [loss.expr]
    for stmt in session.others:
        found += [n.value for n in walk(stmt) if isinstance(n, tree.Optimize)]
        if isinstance(stmt, tree.Phase):
            found += [
                s.value
                for s in stmt.settings
                if isinstance(s, tree.Assign) and s.targets[0].span.text == "loss"
            ]
    return found

"""The functions of the language that need a run: of tables, models, numbers."""

from __future__ import annotations

from typing import Any

import torch

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.values import (
    UNKNOWN,
    EveryV,
    ListV,
    RangeV,
    Unknown,
    Value,
)
from ndl.compiler.diagnostics import fail
from ndl.compiler.syntax import tree
from ndl.host.builder import lift
from ndl.host.objects import DataObject
from ndl.host.solving import Solving
from ndl.host.trained import TrainingObject


class Functions(Solving):
    """`call` finds them by name."""

    def _table(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`table("file.csv", time="year", prey="hare")`."""
        from ndl.runtime.data import table

        if len(args) != 1 or not isinstance(args[0], str):
            raise fail("NDL322", "`table` takes the name of a file", e.span)
        columns: dict[str, Any] = {
            k: list(v.items) if isinstance(v, ListV) else v for k, v in options.items()
        }
        numbers = ("drop", "drop_rows", "seed", "standard")
        options = {k: self.number(columns.pop(k)) for k in numbers if k in columns}
        time = self._times(columns.pop("time", None))
        return DataObject(table(args[0], time, policy=self.policy, **options, **columns))

    def _times(self, value: Any) -> Any:
        """`time` of a table: the name of a column, `0..1` or `every 0.1`."""
        if isinstance(value, RangeV):
            return float(self.number(value.lo)), float(self.number(value.hi))
        return float(self.number(value.value)) if isinstance(value, EveryV) else value

    def _train(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`train(Model)` runs its `train` block, `train(name)` a named one; settings may be replaced."""
        from ndl.host.training import block_of, run_train

        if isinstance(args[0], TrainingObject) and not options:
            return args[0]
        named = getattr(args[0], "session", None)
        block = named.block if named is not None else block_of(self, args[0], e.span)
        return run_train(self, block, {k: v for k, v in options.items()})

    def _reduce(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        from ndl.host.reduction import reduce_model

        return reduce_model(self, ev, args, options, e)

    def _truncate(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        from ndl.host.reduction import truncate_model

        return truncate_model(self, ev, args, options, e)

    def _prune(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        from ndl.host.reduction import prune_model

        return prune_model(self, ev, args, options, e)

    def _tensor_function(self, function: Any, ev: Evaluator, args: list[Any], e: tree.Call) -> Any:
        values = [ev.value(a, e.span) for a in args]
        if any(isinstance(v, Unknown) for v in values):
            return UNKNOWN
        return lift(function(*(v.ref for v in values if isinstance(v, Value))))

    def _sort(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(lambda x: torch.sort(x).values, ev, args, e)

    def _cumsum(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(lambda x: torch.cumsum(x, 0), ev, args, e)

    def _median(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(lambda x: torch.quantile(x, 0.5), ev, args, e)

    def _quantile(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(lambda x, q: torch.quantile(x, q.to(x.dtype)), ev, args, e)

    def _rms(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(lambda x: torch.sqrt(torch.mean(x * x)), ev, args, e)

    def _size(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        nodes = getattr(getattr(args[0], "module", None), "nodes", None)
        if nodes is not None:  # of a formula
            return nodes
        v = ev.value(args[0], e.span)
        return UNKNOWN if isinstance(v, Unknown) else int(v.ref.numel())

    def _isnan(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(torch.isnan, ev, args, e)

    def _cross_entropy(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`cross_entropy(logits, label)`, the classes on the last axis; the mean over other axes."""

        def mean(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            chosen = x.gather(-1, y.long()[..., None])[..., 0]
            return (x.logsumexp(-1) - chosen).mean()

        return self._tensor_function(mean, ev, args, e)

    def _accuracy(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`accuracy(logits, label)`: 1 where the largest logit is the label's; the mean over other axes."""
        right = lambda x, y: (x.argmax(-1) == y.long()).to(x.dtype).mean()  # noqa: E731
        return self._tensor_function(right, ev, args, e)

    def _smooth_l1(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(torch.nn.functional.smooth_l1_loss, ev, args, e)

    def _rel_l2(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function(lambda x, y: (x - y).norm() / y.norm(), ev, args, e)

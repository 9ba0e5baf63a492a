"""The functions of the language that need a run: of tables, models, numbers."""

from __future__ import annotations

import math
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.values import (
    UNKNOWN,
    EveryV,
    ListV,
    RangeV,
    Unknown,
)
from ndl.compiler.diagnostics import fail
from ndl.compiler.syntax import tree
from ndl.host.objects import DataObject
from ndl.host.tensor_functions import TensorFunctions
from ndl.host.trained import TrainingObject


class Functions(TensorFunctions):
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

    def _store(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`store("data.zarr", a="a", u="u(1)")`: a data set that stays on disk."""
        from ndl.runtime.stored import store

        if len(args) != 1 or not all(isinstance(v, str) for v in (*args, *options.values())):
            raise fail("NDL322", "`store` takes the name of a data set, and names of its arrays", e.span)
        return DataObject(store(self.policy.read(args[0]), args[0], **options))

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

    def _size(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        nodes = getattr(getattr(args[0], "module", None), "nodes", None)
        if nodes is not None:  # of a formula
            return nodes
        v = ev.value(args[0], e.span)
        return UNKNOWN if isinstance(v, Unknown) else math.prod(d.constant or 0 for d in v.type.shape)

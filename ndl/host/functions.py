"""The functions of the language that need a run: of tables, models, numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ndl.compiler.check.axes import aligned, split
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
from ndl.host.builder import Missing, lift
from ndl.host.losses import GAPPY, PLAIN
from ndl.host.masked import mask_of, refused
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

    def _tensor_function(self, name: str, ev: Evaluator, args: list[Any], e: tree.Call) -> Any:
        """A function of tensors; of values with missing entries, the one that leaves them out."""
        values = [ev.value(a, e.span) for a in args]
        if any(isinstance(v, Unknown) for v in values):
            return UNKNOWN
        known = [v for v in values if isinstance(v, Value)]
        axes = tuple(dict.fromkeys(a for v in known for a in v.axes))
        known = [aligned(ev, v, axes, e.span) for v in known] if axes else known
        refs, masks = [v.ref for v in known], [mask_of(v) for v in known]
        plain = all(m is None for m in masks)
        if not plain and name not in GAPPY:
            raise refused(f"`{name}`", e.span)
        function: Callable[..., Any] = PLAIN[name] if plain else GAPPY[name]
        given = (*refs,) if plain else (masks, *refs)
        for _ in axes:  # of each entry by itself: a bound index is no axis to take a mean over
            where = None if plain else ([None if m is None else 0 for m in masks], *(0 for _ in refs))
            function = torch.vmap(function, in_dims=0 if where is None else where)
        found = lift(function(*given))
        return split(found, axes) if axes else found

    def _sort(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function("sort", ev, args, e)

    def _cumsum(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function("cumsum", ev, args, e)

    def _median(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function("median", ev, args, e)

    def _quantile(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function("quantile", ev, args, e)

    def _rms(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function("rms", ev, args, e)

    def _size(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        nodes = getattr(getattr(args[0], "module", None), "nodes", None)
        if nodes is not None:  # of a formula
            return nodes
        v = ev.value(args[0], e.span)
        return UNKNOWN if isinstance(v, Unknown) else math.prod(d.constant or 0 for d in v.type.shape)

    def _isnan(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """True where a value is missing, or is no number."""
        found = self._tensor_function("isnan", ev, args, e)
        of = getattr(ev.value(args[0], e.span), "origin", None)
        return found if of is None else Missing(found.type, found.ref, found.axes, of=of)

    def _cross_entropy(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`cross_entropy(logits, label)`, the classes on the last axis; the mean over other axes."""
        return self._tensor_function("cross_entropy", ev, args, e)

    def _accuracy(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`accuracy(logits, label)`: 1 where the largest logit is the label's; the mean over other axes."""
        return self._tensor_function("accuracy", ev, args, e)

    def _smooth_l1(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function("smooth_l1", ev, args, e)

    def _rel_l2(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._tensor_function("rel_l2", ev, args, e)

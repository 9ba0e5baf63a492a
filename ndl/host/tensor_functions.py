"""Functions of whole tensors in tests and trainings: how they are called, and what they cannot take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ndl.compiler.check.axes import aligned, split
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.values import UNKNOWN, Unknown, Value
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.host.builder import Missing, lift
from ndl.host.losses import GAPPY, PLAIN
from ndl.host.masked import mask_of, refused
from ndl.host.solving import Solving


def shapes_fit(name: str, values: Sequence[Value]) -> bool:
    """Whether a function of several tensors can take tensors of these shapes."""
    if len(values) < 2:
        return True
    first, second = values[0].type.shape, values[1].type.shape
    if name in ("cross_entropy", "accuracy"):
        return len(first) > 0 and first[:-1] == second
    if name == "cov":
        return first[:1] == second[:1]
    if name == "interpolate":
        return len(first) == 1 and first == second[:1] and (first[0].constant or 2) > 1
    return name == "quantile" or first == second or not (first and second)


WANTED: Mapping[str, str] = {
    "cross_entropy": "`cross_entropy(logits, label)`: the last axis of the logits is of classes",
    "accuracy": "`accuracy(logits, label)`: the last axis of the logits is of classes",
    "cov": "`cov(x, y)`: both with the same number of entries on the first axis",
    "interpolate": "`interpolate(xs, ys, x)`: at least two places, a value for each, and where it is asked",
}


class TensorFunctions(Solving):
    """Of values with missing entries, a function is that of what is there, where it has a twin for them."""

    def _tensor_function(self, name: str, ev: Evaluator, args: list[Any], e: tree.Call) -> Any:
        values = [ev.value(a, e.span) for a in args]
        if any(isinstance(v, Unknown) for v in values):
            return UNKNOWN
        known = [v for v in values if isinstance(v, Value)]
        if not shapes_fit(name, known):
            shown = " and ".join(str(v.type) for v in known)
            help_ = WANTED.get(name, f"`{name}` compares tensors of one shape")
            raise fail("NDL301", f"`{name}` cannot take {shown}", e.span, help=help_)
        axes = tuple(dict.fromkeys(a for v in known for a in v.axes))
        known = [aligned(ev, v, axes, e.span) for v in known] if axes else known
        refs, masks = [v.ref for v in known], [mask_of(v) for v in known]
        plain = all(m is None for m in masks)
        if not plain and name not in GAPPY:
            raise refused(f"`{name}`", e.span)
        self._entries_fit(name, known, e.span)
        function: Callable[..., Any] = PLAIN[name] if plain else GAPPY[name]
        given = (*refs,) if plain else (masks, *refs)
        for _ in axes:  # of each entry by itself: a bound index is no axis to take a mean over
            where = None if plain else ([None if m is None else 0 for m in masks], *(0 for _ in refs))
            function = torch.vmap(function, in_dims=0 if where is None else where)
        found = lift(function(*given))
        return split(found, axes) if axes else found

    def _entries_fit(self, name: str, values: Sequence[Value], span: Span) -> None:
        """Refuse entries for which a function has no meaning."""
        refs = [self.whole(v.ref) for v in values]
        if name == "quantile" and bool(((refs[1] < 0) | (refs[1] > 1)).any()):
            raise _out_of_place("a quantile is asked for at shares from 0 to 1", refs[1], span)
        if name == "interpolate" and not bool((refs[0][..., 1:] > refs[0][..., :-1]).all()):
            raise _out_of_place("the places that `interpolate` is given increase", refs[0], span)
        if name in ("cross_entropy", "accuracy"):
            mask = mask_of(values[1])
            labels = refs[1] if mask is None else refs[1][self.whole(mask)]
            count = values[0].type.shape[-1].constant
            if count is not None and bool(((labels < 0) | (labels >= count)).any()):
                what = f"of {count} classes a label is a number from 0 to {count - 1}"
                raise _out_of_place(what, labels, span)

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

    def _cov(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`cov(x)`, `cov(x, y)`: the covariances of components over the first axis."""
        return self._tensor_function("cov", ev, args, e)

    def _interpolate(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`interpolate(xs, ys, x)`: the values at x on the straight lines between those at xs."""
        return self._tensor_function("interpolate", ev, args, e)

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


def _out_of_place(what: str, given: torch.Tensor, span: Span) -> NDLError:
    entries = ", ".join(f"{float(x):g}" for x in given.detach().reshape(-1)[:6])
    more = ", …" if given.numel() > 6 else ""
    return fail("NDL343", what, span, notes=(f"it is given {entries}{more}",))

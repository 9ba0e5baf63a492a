"""Functions of time as inputs of models: `path`, `spline`, `linear`, `hermite`, …"""

from __future__ import annotations

from typing import Any

import torch

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.values import (
    UNKNOWN,
    Closure,
    FnV,
    Unknown,
    Value,
    describe,
)
from ndl.compiler.diagnostics import fail
from ndl.compiler.syntax import tree
from ndl.host.builder import Masked, lift
from ndl.host.core import Core
from ndl.host.objects import PathObject
from ndl.host.sample import batched


class Paths(Core):
    """The functions of the language that make paths."""

    def _path(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`path(t -> sin(3*t))`: a function of time as an input."""
        from ndl.runtime.paths_in_time import path

        function = args[0]
        if not isinstance(function, (Closure, FnV)):
            return ev.error("NDL354", f"`path` wants a function of t, not {describe(function)}", e.span)

        def one(t: torch.Tensor) -> torch.Tensor:
            v = ev.value(ev.apply(function, [lift(t)], e.span), e.span)
            if not isinstance(v, Value):
                raise fail("NDL354", "this path has no value", e.span)
            x: torch.Tensor = v.ref
            return x if x.dtype.is_floating_point else x.to(torch.float64)

        def many(t: torch.Tensor) -> torch.Tensor:
            if t.ndim == 0:
                return one(t)
            flat = torch.func.vmap(one)(t.reshape(-1))
            return flat.reshape(*t.shape, *flat.shape[1:])

        return PathObject(path(many))

    def _interpolant(self, name: str, ev: Evaluator, args: list[Any], e: tree.Call) -> Any:
        """A path through values at knots, of a batch one for each sample; gaps are filled component by
        component, but for a spline, which would not go through what is known alone."""
        from ndl.runtime import paths_in_time
        from ndl.runtime.series import filled

        ts, xs = (ev.value(a, e.span) for a in args[:2])
        if isinstance(ts, Unknown) or isinstance(xs, Unknown):
            return UNKNOWN
        make = getattr(paths_in_time, name)
        values = torch.where(xs.mask, xs.ref, torch.nan) if isinstance(xs, Masked) else xs.ref

        def known(x: torch.Tensor, components: int) -> torch.Tensor:
            if name == "spline":
                return x
            return filled(ts.ref, x[..., None])[..., 0] if components == 0 else filled(ts.ref, x)

        if batched(values):
            assert self.sample is not None
            run = lambda x: make(ts.ref, known(x, x.ndim - 2), family=True).marked(x)  # noqa: E731
            return PathObject(self.sample.outside(run, values))
        return PathObject(make(ts.ref, known(values, values.ndim - 1)).marked(values))

    def _spline(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._interpolant("spline", ev, args, e)

    def _linear(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._interpolant("linear", ev, args, e)

    def _hermite(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        return self._interpolant("hermite", ev, args, e)

    def _rectilinear(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`rectilinear(xs, time=0)`: the path of a stream, its times a channel."""
        from ndl.runtime.paths_in_time import rectilinear

        xs = ev.value(args[0], e.span)
        if isinstance(xs, Unknown):
            return UNKNOWN
        return PathObject(rectilinear(xs.ref, int(self.number(options.get("time", 0)))))

    def _log_signature(self, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> Any:
        """`log_signature(ts, xs, depth=2, window=10)`: what drives the log-ODE method."""
        from ndl.runtime.paths_in_time import log_signature

        ts, xs = (ev.value(a, e.span) for a in args[:2])
        if isinstance(ts, Unknown) or isinstance(xs, Unknown):
            return UNKNOWN
        depth, window = (int(self.number(options.get(n, v))) for n, v in (("depth", 2), ("window", 1)))
        return PathObject(log_signature(ts.ref, xs.ref, depth, window))

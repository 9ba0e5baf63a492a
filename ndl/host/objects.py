"""What runs give to programs: solutions, data, models with their weights."""

from __future__ import annotations

from typing import Any

import torch

from ndl.compiler.check.axes import aligned, split
from ndl.compiler.check.evaluator import merge_axes
from ndl.compiler.check.values import ListV, Object, Value
from ndl.compiler.diagnostics import did_you_mean
from ndl.compiler.source import Span
from ndl.compiler.types import Dim
from ndl.host.builder import Path, lift, type_of
from ndl.host.masked import nothing_missing
from ndl.host.sample import Sample, batched, column
from ndl.host.steps import StepsObject
from ndl.runtime.banks import banks_of


def plain(x: Any) -> Any:
    """A number of the runtime as a value of the language."""
    if isinstance(x, torch.Tensor):
        return lift(x)
    return x


class Record(Object):
    """Attributes of a runtime object by name."""

    def __init__(self, kind: str, target: Any, names: tuple[str, ...], show: Any = plain) -> None:
        self.kind, self.target, self.names, self.show = kind, target, names, show

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        if name not in self.names:
            return ev.error(
                "NDL207", f"the {self.kind} has no `{name}`", span, help=did_you_mean(name, self.names)
            )
        return self.show(getattr(self.target, name))


class Named(Object):
    """Values by the names of a model: `s.final`."""

    kind = "final state"

    def __init__(self, values: Any, sample: Sample | None = None) -> None:
        self.values, self.sample = values, sample

    def _get(self, name: str) -> torch.Tensor:
        values: torch.Tensor = self.values[name]
        return values if self.sample is None else self.sample.of(values)

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        shown = name + "'" * primes
        if name == "t":
            return plain(self.values.t if self.sample is None else self.sample.of(self.values.t))
        branch = Branch.of(shown, self.values.keys(), self._get)
        if branch is not None:
            return branch
        if shown not in self.values:
            return ev.error(
                "NDL207",
                f"the final state has no `{shown}`",
                span,
                help=did_you_mean(shown, self.values.keys()),
            )
        return lift(self._get(shown))


class Branch(Object):
    """The part of a model's names that begin with a prefix: `s.leg`, then `s.leg.x`; `s.legs[0].x`."""

    kind = "part"

    def __init__(self, prefix: str, names: tuple[str, ...], get: Any) -> None:
        self.prefix, self.names, self.get = prefix, names, get

    @staticmethod
    def of(prefix: str, names: Any, get: Any) -> Branch | None:
        """The branch of a prefix; None when no name begins with it."""
        found = tuple(n for n in names if n.startswith((prefix + ".", prefix + "[")))
        return Branch(prefix, found, get) if found else None

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        shown = f"{self.prefix}.{name}" + "'" * primes
        if shown in self.names:
            found = self.get(shown)
            return found if isinstance(found, (Value, Object, ListV)) else lift(found)
        below = Branch.of(shown, self.names, self.get)
        if below is not None:
            return below
        known = [n[len(self.prefix) + 1 :] for n in self.names]
        return ev.error(
            "NDL207", f"the part `{self.prefix}` has no `{name}`", span, help=did_you_mean(name, known)
        )

    def index(self, ev: Any, items: list[Any], span: Span) -> Any:
        place = ev.known(items[0]) if len(items) == 1 else None
        below = Branch.of(f"{self.prefix}[{place}]", self.names, self.get)
        if below is None:
            return ev.error("NDL332", f"there is no part `{self.prefix}[{place}]`", span)
        return below


class SolutionObject(Object):
    """A solution: `s.t`, `s.x`, `s.final`, `s.stats`, `s.steps`, `s.events`; with a `sample`, that sample's
    member of the run of a batch."""

    kind = "solution"

    def __init__(self, solution: Any, sample: Sample | None = None) -> None:
        self.solution, self.sample = solution, sample

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        s = self.solution
        shown = name + "'" * primes
        if shown == "t":
            return self._plain(s.t) if s.t.ndim > 1 else lift(s.t)
        if name == "final":
            return Named(s.final, self.sample)
        if name == "stats":
            return Record("statistics", s.stats, ("steps", "rejected", "evaluations"), self._plain)
        if name == "steps":
            return StepsObject(s, self.sample)
        if name == "events":
            return Record("events", s.events, ("t", "index"), self._plain)
        if name == "grid":
            return GridObject(s.grid)
        if name == "valid":
            return self._plain(s.valid)
        branch = Branch.of(shown, s.names(), self.path)
        if branch is not None:
            return branch
        if shown not in s:
            return ev.error(
                "NDL207", f"this solution has no `{shown}`", span, help=did_you_mean(shown, s.names())
            )
        return self.path(shown)

    def path(self, name: str) -> Value:
        """A recorded quantity, to be evaluated between its times too."""
        values = self.solution.get(name)
        if self.sample is None:
            return lift(values)
        found = self.sample.of(values.values)
        return Path(type_of(found), found, at=lambda t: self._at(name, t))

    def _at(self, name: str, t: Any) -> torch.Tensor:
        """The value at a time, which may be another one for each sample."""
        sample = self.sample
        assert sample is not None
        if batched(t):
            every: Any = sample
            found: torch.Tensor = every.whole(lambda _, at: (self.solution.each(at).get(name),), t)[0]
            return found
        return sample.of(self.solution(t)[name])

    def _plain(self, values: Any) -> Any:
        tensor = isinstance(values, torch.Tensor)
        return plain(self.sample.of(values) if tensor and self.sample is not None else values)


class GridObject(Object):
    """Where the fields of a run are stored: `s.grid.x`, `s.grid.Rod.x`."""

    kind = "grid"

    def __init__(self, grid: Any) -> None:
        self.grid = grid

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        known = self.grid.keys()
        if name not in known:
            what = f"the grids of this run have no `{name}`"
            return ev.error("NDL207", what, span, help=did_you_mean(name, known))
        found = self.grid[name]
        return lift(found) if isinstance(found, torch.Tensor) else GridObject(found)


class DataObject(Object):
    """Columns of a table, or a sample's; missing entries are masked out of `mean` and `sum`."""

    kind = "data"

    def __init__(self, table: Any, sample: Sample | None = None) -> None:
        self.table, self.sample = table, sample

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        if name == "t" and self.table.time is not None and "t" not in self.table:
            return lift(self.table.time)
        return column(self.table[name + "'" * primes], self.sample)


class Parameters(Object):
    """`model.params`: the weights to differentiate by."""

    kind = "set of parameters"

    def __init__(self, model: Any) -> None:
        self.model = model

    def leaves(self) -> list[torch.Tensor]:
        return [p for p in self.model.parameters() if p.requires_grad]


class ModelObject(Object):
    """A model with its weights: `r.model.alpha`, `solve(r.model, …)`."""

    kind = "model"

    def __init__(self, instance: Any, source: Any = None, drawn: bool = False) -> None:
        self.instance, self.source, self.drawn = instance, source, drawn

    def call(self, ev: Any, args: list[Any], options: dict[str, Any], span: Span) -> Any:
        """The trained model with other initial values, parameters or inputs: `M(u=…)`."""
        if args:
            return ev.error("NDL322", "what a trained model is given has names: `M(u=…)`", span)
        try:
            made = self.instance.bind(**{k: ev.host.given(v, span) for k, v in options.items()})
        except TypeError as unknown:
            return ev.error("NDL208", str(unknown), span)
        return ModelObject(made, self.source, self.drawn)

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        if name == "params":
            return Parameters(self.instance)
        for p in self.instance.PARAMETERS:
            if p.name == name:
                return lift(getattr(self.instance, p.attribute or p.name))
        for s in self.instance.STATES:
            if s.name == name + "'" * primes:
                start = self.instance.initial(s.name)
                return lift(s.value(start if start is not None else self.instance.initial_values()[s.name]))
        nets = net_objects(self.instance)
        if name in nets:
            return nets[name]
        written = self._written(ev)
        if name in written:
            return written[name]
        weights: dict[str, Any] = {p.name: p.attribute or p.name for p in self.instance.PARAMETERS}
        branch = Branch.of(
            name, (*weights, *nets), lambda n: nets[n] if n in nets else getattr(self.instance, weights[n])
        )
        if branch is not None:
            return branch
        if name in banks_of(self.instance):
            return ev.error(
                "NDL528",
                f"`{name}` has weights for each step, and no run of this model has counted its steps",
                span,
                help="solve the model first",
            )
        known = [*weights, *nets, *written] + [s.name for s in self.instance.STATES]
        return ev.error("NDL207", f"the model has no `{name}`", span, help=did_you_mean(name, known))

    def _written(self, ev: Any) -> dict[str, Any]:
        """The nets that the application of the model writes out: `M(readout=y -> y[0])`."""
        from ndl.compiler.check.parts import written_nets
        from ndl.compiler.check.values import ModelV

        return written_nets(ev, self.source) if isinstance(self.source, ModelV) else {}


class NetObject(Object):
    """A net with its weights, applied to values; `kinds` are those of its arguments, R where not known; `net`
    what the file says of it, where that is known."""

    kind = "net"

    def __init__(self, module: Any, kinds: tuple[str, ...] | None = None, net: Any = None) -> None:
        self.module, self.net = module, net
        self.kinds = getattr(module, "KINDS", ()) if kinds is None else kinds

    def call(self, ev: Any, args: list[Any], options: dict[str, Any], span: Span) -> Any:
        values = [ev.value(a, span) for a in args]
        for v in values:
            nothing_missing(v, "a net", span)
        dtype = next((p.dtype for p in self.module.parameters()), torch.float64)
        real = [k == "R" for k in self.kinds] or [True] * len(values)
        axes = merge_axes(values)
        if axes:  # one application for each value of a bound index: leading axes are a batch
            values = [aligned(ev, v, axes, span) for v in values]
        given = [v.ref.to(dtype) if is_real else v.ref for v, is_real in zip(values, real)]
        found = ev.host.guarded(lambda: self._applied(ev, given), span)
        if isinstance(found, tuple):
            from ndl.compiler.check.values import TupleV

            return TupleV(tuple(split(lift(f), axes) for f in found))
        return split(lift(found), axes)

    def _applied(self, ev: Any, given: list[torch.Tensor]) -> Any:
        """The net's value; of a batch, it sees all samples at once."""
        sample = getattr(ev.host, "sample", None)
        if sample is None or not any(batched(x) for x in given):
            return self.module(*given)
        single: list[bool] = []

        def run(_: torch.Tensor, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            made = self.module(*values)
            single.append(not isinstance(made, tuple))
            return (made,) if single[0] else made

        found = sample.whole(run, *given)
        return found[0] if single[0] else found

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        if name == "params":
            return Parameters(self.module)
        return super().attribute(ev, name, primes, span)


def net_objects(instance: Any) -> dict[str, Any]:
    """The nets of a model by name; of one with several sets of weights the list of them."""
    found: dict[str, Any] = {}
    for name, module in instance.nets().items():
        base, several, _ = name.partition("[")
        if several:
            found[base] = ListV(
                (*found[base].items, NetObject(module)) if base in found else (NetObject(module),)
            )
        else:
            found[name] = NetObject(module)
    return found


class PathObject:
    """A path in time as an argument of a model."""

    def __init__(self, path: Any) -> None:
        self.path = path

    @property
    def shape(self) -> tuple[Dim, ...]:
        """The shape of the path's values."""
        with torch.no_grad():
            return tuple(map(Dim.of, self.path(torch.zeros((), dtype=torch.float64)).shape))

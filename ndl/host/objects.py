"""What runs give to programs: solutions, data, models with their weights."""

from __future__ import annotations

from typing import Any

import torch

from ndl.compiler.check.axes import aligned, split
from ndl.compiler.check.evaluator import merge_axes
from ndl.compiler.check.values import Object, Value
from ndl.compiler.diagnostics import did_you_mean
from ndl.compiler.source import Span
from ndl.host.builder import Masked, lift, type_of


def plain(x: Any) -> Any:
    """A number of the runtime as a value of the language."""
    if isinstance(x, torch.Tensor):
        return lift(x)
    return x


class Record(Object):
    """Attributes of a runtime object by name."""

    def __init__(self, kind: str, target: Any, names: tuple[str, ...]) -> None:
        self.kind, self.target, self.names = kind, target, names

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        if name not in self.names:
            return ev.error(
                "NDL207", f"the {self.kind} has no `{name}`", span, help=did_you_mean(name, self.names)
            )
        return plain(getattr(self.target, name))


class Named(Object):
    """Values by the names of a model: `s.final`."""

    kind = "final state"

    def __init__(self, values: Any) -> None:
        self.values = values

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        shown = name + "'" * primes
        if name == "t":
            return plain(self.values.t)
        branch = Branch.of(shown, self.values.keys(), self.values.__getitem__)
        if branch is not None:
            return branch
        if shown not in self.values:
            return ev.error(
                "NDL207",
                f"the final state has no `{shown}`",
                span,
                help=did_you_mean(shown, self.values.keys()),
            )
        return lift(self.values[shown])


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
            return lift(self.get(shown))
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
    """A solution: `s.t`, `s.x`, `s.final`, `s.stats`, `s.steps`, `s.events`."""

    kind = "solution"

    def __init__(self, solution: Any) -> None:
        self.solution = solution

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        s = self.solution
        shown = name + "'" * primes
        if shown == "t":
            return lift(s.t)
        if name == "final":
            return Named(s.final)
        if name == "stats":
            return Record("statistics", s.stats, ("steps", "rejected", "evaluations"))
        if name == "steps":
            return Record("steps", s.steps, ("t", "h", "error", "stiffness"))
        if name == "events":
            return Record("events", s.events, ("t", "index"))
        if name == "valid":
            return lift(s.valid)
        branch = Branch.of(shown, s.names(), s.get)
        if branch is not None:
            return branch
        if shown not in s:
            return ev.error(
                "NDL207", f"this solution has no `{shown}`", span, help=did_you_mean(shown, s.names())
            )
        return lift(s.get(shown))


class DataObject(Object):
    """Columns of a table: missing entries are masked out of `mean` and `sum`."""

    kind = "data"

    def __init__(self, table: Any) -> None:
        self.table = table

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        if name == "t" and self.table.time is not None and "t" not in self.table:
            return lift(self.table.time)
        return masked(self.table[name + "'" * primes])


def masked(column: torch.Tensor) -> Value:
    """A column; where entries are missing they are filled with a harmless value and masked."""
    missing = torch.isnan(column) if column.dtype.is_floating_point else None
    if missing is None or not bool(missing.any()):
        return lift(column)
    rest = column[~missing]
    filler = rest.mean() if rest.numel() else torch.ones((), dtype=column.dtype)
    filled = torch.where(missing, filler, column)
    return Masked(type_of(filled), filled, mask=~missing)


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

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        if name == "params":
            return Parameters(self.instance)
        for p in self.instance.PARAMETERS:
            if p.name == name:
                return lift(getattr(self.instance, p.attribute or p.name))
        for s in self.instance.STATES:
            if s.name == name + "'" * primes:
                start = self.instance.initial(s.name)
                return lift(start if start is not None else self.instance.initial_values()[s.name])
        if name in self.instance._modules:
            return NetObject(self.instance._modules[name])
        weights = {p.name: p.attribute or p.name for p in self.instance.PARAMETERS}
        branch = Branch.of(name, weights, lambda n: getattr(self.instance, weights[n]))
        if branch is not None:
            return branch
        known = [*weights] + [s.name for s in self.instance.STATES]
        return ev.error("NDL207", f"the model has no `{name}`", span, help=did_you_mean(name, known))


class NetObject(Object):
    """A net with its weights, applied to values; `kinds` are those of its arguments, R where not known."""

    kind = "net"

    def __init__(self, module: Any, kinds: tuple[str, ...] | None = None) -> None:
        self.module = module
        self.kinds = getattr(module, "KINDS", ()) if kinds is None else kinds

    def call(self, ev: Any, args: list[Any], options: dict[str, Any], span: Span) -> Any:
        values = [ev.value(a, span) for a in args]
        dtype = next((p.dtype for p in self.module.parameters()), torch.float64)
        real = [k == "R" for k in self.kinds] or [True] * len(values)
        axes = merge_axes(values)
        if axes:  # one application for each value of a bound index: leading axes are a batch
            values = [aligned(ev, v, axes, span) for v in values]
        given = [v.ref.to(dtype) if is_real else v.ref for v, is_real in zip(values, real)]
        found = self.module(*given)
        if isinstance(found, tuple):
            from ndl.compiler.check.values import TupleV

            return TupleV(tuple(split(lift(f), axes) for f in found))
        return split(lift(found), axes)

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        if name == "params":
            return Parameters(self.module)
        return super().attribute(ev, name, primes, span)


class TrainingObject(Object):
    """A training result: `.loss`, `.history`, `.model`, `.steps`."""

    kind = "training result"

    def __init__(self, result: Any, model: Any) -> None:
        self.result, self.model = result, model

    def attribute(self, ev: Any, name: str, primes: int, span: Span) -> Any:
        if name == "model":
            return self.model
        if name == "history":
            return Record("history", self.result.history, ("loss", "validation", "rate"))
        if name in ("loss", "steps"):
            return plain(getattr(self.result, name))
        return ev.error(
            "NDL207",
            f"a training result has no `{name}`",
            span,
            help=did_you_mean(name, ["loss", "history", "model", "steps"]),
        )

"""What a solve gives back: times, paths by name, interpolation, statistics, events, and ways out.

Recorded values have axes member (of an ensemble), time, components. A path is a tensor that can also be
called: `s.x(3.5)`. Derived quantities are computed when asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from ndl.runtime.chance import at_step, draws_by_step
from ndl.runtime.draws import draw
from ndl.runtime.errors import did_you_mean
from ndl.runtime.grids import GridPoints
from ndl.runtime.info import ObserveInfo
from ndl.runtime.laws import Law
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.recorder import Saved
from torch import Tensor


class Interpolant(Protocol):
    """Continuous output: values by name `[P, ...]` (`x` flat, noises) at times `[P]` of members `[P]`."""

    def __call__(self, ids: Ints, t: Floats) -> dict[str, Tensor]: ...


class PathTensor(Tensor):
    """Saved values of one quantity; behaves as a tensor, and `path(t)` interpolates. What is computed
    from it is a plain tensor."""

    _at: Callable[[Any], Tensor]
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def make(values: Tensor, at: Callable[[Any], Tensor]) -> PathTensor:
        path: PathTensor = values.as_subclass(PathTensor)
        path._at = at
        return path

    def __call__(self, t: Any) -> Tensor:
        return self._at(t)

    @property
    def values(self) -> Tensor:  # type: ignore[override]
        """The plain tensor."""
        return self.as_subclass(Tensor)


@dataclass(frozen=True)
class Stats:
    """Counts: integers, or `[B]` tensors with an ensemble."""

    steps: Any
    rejected: Any
    evaluations: Any

    def __repr__(self) -> str:
        return f"steps {self.steps}, rejected {self.rejected}, evaluations {self.evaluations}"


@dataclass(frozen=True)
class Events:
    """Events in the order they fired: times, and which event (its number in the model, its text).

    `[E]` for one member, `[B, E]` padded with nan and -1 with an ensemble."""

    t: Tensor
    index: Tensor
    texts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.t.shape[-1])

    def of(self, k: int) -> Tensor:
        """The times of event k, of a single member."""
        return self.t[self.index == k]


@dataclass(frozen=True)
class Steps:
    """Accepted steps: start `t`, size `h`, scaled error norm, `[K]` or `[B, K]` padded with nan.

    `stiffness`, an estimate of the norm of the Jacobian, is computed when it is read."""

    _times: Callable[[], tuple[Tensor, Tensor]]
    _error: Callable[[], Tensor]
    _stiffness: Callable[[], Tensor] | None = None

    @property
    def t(self) -> Tensor:
        return self._times()[0]

    @property
    def h(self) -> Tensor:
        return self._times()[1]

    @property
    def error(self) -> Tensor:
        return self._error()

    @property
    def stiffness(self) -> Tensor:
        if self._stiffness is None:
            raise AttributeError(
                "the steps of this run were not kept; solve with `save = steps` or `gradient = discrete`"
            )
        return self._stiffness()


class Values:
    """Values by name at one or several times: `v.x`, `v["theta'"]`."""

    def __init__(self, names: Sequence[str], get: Callable[[str], Tensor], t: Tensor) -> None:
        self._names = tuple(names)
        self._get = get
        self.t = t

    def __getitem__(self, name: str) -> Tensor:
        return self._get(name)

    get = __getitem__

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._get(name)
        except KeyError as trouble:
            raise AttributeError(str(trouble)) from None

    def keys(self) -> tuple[str, ...]:
        return self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __repr__(self) -> str:
        return "\n".join(f"{name} = {self._get(name).tolist()}" for name in self._names)


@dataclass
class Solution:
    """A solved run; see the module's docstring."""

    problem: Problem
    saved: Saved
    last: Mapping[str, Tensor]
    last_t: Floats
    stats: Stats
    steps: Steps
    events: Events
    interpolant: Interpolant | None = None
    _cache: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    # ------------------------------------------------------------ names

    @property
    def model(self) -> Any:
        return self.problem.model

    def names(self, derived: bool = True) -> tuple[str, ...]:
        """What can be asked for: states, noises, and derived quantities."""
        found = [s.name for s in self.model.STATES if not s.source] + [
            n.name for n in self.model.NOISES if n.name in self.last
        ]
        if derived:
            found += [d.name for d in self.model.DERIVED] + [o.name for o in self.model.OBSERVES]
        return tuple(found)

    def keys(self) -> tuple[str, ...]:
        return self.names()

    @property
    def grid(self) -> GridPoints:
        """Where fields are stored: `s.grid.x`, an array with an axis for each coordinate."""
        return GridPoints(self.model.GRIDS)

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    @property
    def t(self) -> Tensor:
        """Saved times: `[S]` when all members share them, else `[B, S]` padded by the last."""
        times = self.saved.t
        shared = not self.problem.ensemble or bool((times == times[:1]).all() and self.saved.valid.all())
        return torch.from_numpy(times[0] if shared else times).to(self.problem.dtype)

    @property
    def valid(self) -> Tensor:
        """Which of the saved times a member has, `[B, S]` (`[S]` without an ensemble)."""
        mask = torch.from_numpy(self.saved.valid)
        return mask if self.problem.ensemble else mask[0]

    def get(self, name: str) -> PathTensor:
        """The path of a state, noise or derived quantity."""
        if name not in self._cache:
            values = self._named(name, self.saved.values, torch.from_numpy(self.saved.t))
            self._cache[name] = values if self.problem.ensemble else values[0]
        return PathTensor.make(self._cache[name], lambda t: self(t)[name])

    __getitem__ = get
    path = get

    def __getattr__(self, name: str) -> PathTensor:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self.get(name)
        except KeyError as trouble:
            raise AttributeError(trouble.args[0]) from None

    @property
    def final(self) -> Values:
        """Values at the end of each member's run, without a time axis."""

        def get(name: str) -> Tensor:
            values = self._named(
                name, {k: v[:, None] for k, v in self.last.items()}, torch.from_numpy(self.last_t)[:, None]
            )[:, 0]
            return values if self.problem.ensemble else values[0]

        t = torch.from_numpy(self.last_t).to(self.problem.dtype)
        return Values(self.names(), get, t if self.problem.ensemble else t[0])

    def _inside(self, ids: Ints, t: Floats) -> dict[str, Tensor]:
        """Recorded values of members at times, with gradients if the run has some."""
        if self.interpolant is None:
            raise ValueError("this run kept only its end; `save = steps` or `every h` allows interpolation")
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.problem.taped):
            return self.interpolant(ids, t)

    def __call__(self, t: Any) -> Values:
        """Values at a time, or at a vector of times, by the method's continuous output."""
        times = torch.as_tensor(t, dtype=torch.float64).detach().cpu().numpy()
        flat = np.atleast_1d(times).reshape(-1)
        count, width = self.problem.count, len(flat)
        ids, where = np.repeat(np.arange(count), width), np.tile(flat, count)
        found = self._inside(ids, where)
        values = {k: v.reshape(count, width, *v.shape[1:]) for k, v in found.items()}
        at = torch.from_numpy(np.broadcast_to(flat, (count, width)).copy())

        def get(name: str) -> Tensor:
            result = self._named(name, values, at)
            result = result if times.ndim else result[:, 0]
            return result if self.problem.ensemble else result[0]

        return Values(self.names(), get, torch.as_tensor(times))

    def each(self, t: Tensor) -> Values:
        """Values at a time of each member's own, `t [B]`: without a time axis."""
        where = t.detach().cpu().numpy().astype(np.float64)
        found = self._inside(np.arange(self.problem.count), where)
        values = {k: v[:, None] for k, v in found.items()}
        at = torch.from_numpy(where)[:, None]
        return Values(self.names(), lambda name: self._named(name, values, at)[:, 0], t)

    def step_at(self, t: Tensor) -> Tensor:
        """The number of the accepted step of each member that holds `t [B]`; at its end, the next."""
        p = self.problem
        starts = (p.sign * self.steps.t.detach()).reshape(p.count, -1).double()
        times = (p.sign * t.detach()).reshape(-1, 1).double()
        many = torch.isfinite(starts).sum(1, keepdim=True)
        found = torch.searchsorted(starts.nan_to_num(nan=torch.inf).contiguous(), times, right=True) - 1
        return torch.minimum(found.clamp(min=0), (many - 1).clamp(min=0))[:, 0]

    def _named(self, name: str, values: Mapping[str, Tensor], t: Tensor) -> Tensor:
        """The quantity `name`, `[B, S, ...]`, from flat values `[B, S, n]` at times `[B, S]`."""
        for s in self.model.STATES:
            if s.name == name:
                part = values["x"][..., s.places]
                stored: Tensor = s.value(part.reshape(*part.shape[:-1], *s.shape))
                return stored
        for noise in self.model.NOISES:
            if noise.name == name and name in values:
                return values[name].reshape(*values[name].shape[:2], *noise.shape)
        for d in self.model.DERIVED:
            if d.name == name:
                # members stand last among the leading axes, where the weights of a family have them
                x, at = values["x"].transpose(0, 1), t.transpose(0, 1).to(values["x"])
                noises = {
                    n.name: self._named(n.name, values, t).transpose(0, 1)
                    for n in self.model.NOISES
                    if n.name in values
                }
                out: Tensor = self._model_at(t).derived(name, at, x, noises)
                return out.expand(*x.shape[:2], *d.shape).transpose(0, 1)
        for o in self.model.OBSERVES:
            if o.name == name:
                return self._measured(o, values, t)
        near = did_you_mean(name, self.names())
        message = f"`{self.model.NAME}` recorded nothing called `{name}`"
        raise KeyError(message + (f"; {near}" if near else ""))

    def _model_at(self, t: Tensor) -> Any:
        """The model with the draws of the steps that hold the times `[B, S]`, a step's end being its own."""
        if not draws_by_step(self.model):
            return self.model
        p = self.problem
        starts = (p.sign * self.steps.t.detach()).reshape(p.count, -1).nan_to_num(nan=torch.inf)
        before = torch.searchsorted(starts.contiguous(), (p.sign * t).contiguous())
        steps = (before - 1).clamp(min=0).T.numpy()
        return at_step(self.model, np.tile(np.arange(p.count), (len(steps), 1)), steps)

    def law(self, name: str) -> Law:
        """The law of a measurement at the saved times, its arguments [B, S, ...] ([S, ...] without an
        ensemble)."""
        info = next(o for o in self.model.OBSERVES if o.name == name)
        arguments = self._arguments(info, self.saved.values, torch.from_numpy(self.saved.t))
        return Law(info.law, tuple(a if self.problem.ensemble else a[0] for a in arguments))

    def _arguments(self, o: ObserveInfo, values: Mapping[str, Tensor], t: Tensor) -> tuple[Tensor, ...]:
        x, at = values["x"].transpose(0, 1), t.transpose(0, 1).to(values["x"])
        found = self._model_at(t).observation(o.name, at, x)
        return tuple(a.expand(*x.shape[:2], *o.shape).transpose(0, 1) for a in found)

    def _measured(self, o: ObserveInfo, values: Mapping[str, Tensor], t: Tensor) -> Tensor:
        """A draw for each member and time, a function of the seed, the member and the number of the time."""
        count, width = t.shape
        sample, turn = torch.arange(count)[:, None] + self.problem.first, torch.arange(width)
        stream = int.from_bytes(hashlib.sha256(o.name.encode()).digest()[:4], "big")
        arguments = self._arguments(o, values, t)
        seed = self.problem.seed
        drawn = draw(o.law, o.shape, *arguments, seed=seed, stream=stream, sample=sample, turn=turn)
        return drawn.to(values["x"])

    # ------------------------------------------------------------ ways out

    def to_pandas(self) -> Any:
        """A data frame: t, then a column for each component; `member` first with an ensemble."""
        from ndl.runtime.export import to_pandas

        return to_pandas(self)

    def to_xarray(self) -> Any:
        """A dataset with dimensions member, time and one for each axis of a component."""
        from ndl.runtime.export import to_xarray

        return to_xarray(self)

    def save(self, path: Any) -> None:
        """Write a file, whole or not at all, of the kind that its name ends in: `.csv`, `.nc`, `.zarr`, …"""
        from ndl.runtime.export import save

        save(self, path)

    def plot(self, *names: str, **options: Any) -> Any:
        """A figure of the named quantities (all states)."""
        from ndl.runtime import plots

        return plots.plot(self, *names, **options)

    def __repr__(self) -> str:
        p = self.problem
        who = f", {p.count} members" if p.ensemble else ""
        ends = f"t = {p.t0:g}..{p.t1:g}"
        return (
            f"<solution of {self.model.NAME} by {p.method.name}: {ends}, "
            f"{self.saved.t.shape[1]} times{who}; {self.stats}>"
        )

"""Nets and numbers with a set of weights for each step of a run (`per step`) or visit of a splitting (`per
use`).

A `Bank` holds the sets in order; the first run whose steps are counted decides how many there are. A run sees
a view of its model in which the set of the step (and visit) stands in the net's place; members that are in
different steps see their sets side by side, along the leading axis that members have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.weights import Part, put, view
from torch import Tensor, nn


class Maker(Protocol):
    """A generated operator's class."""

    def __call__(self, *, seed: int, path: str) -> Part: ...


class Bank(nn.Module):
    """The sets of one net. Where no step has been chosen it is its first set."""

    def __init__(self, make: Maker, *, seed: int, path: str, per: str) -> None:
        super().__init__()
        self.make, self.seed, self.path, self.per = make, seed, path, per
        self.visits = 1
        self.first: Any = None
        self.training = False

    @property
    def sets(self) -> list[Part]:
        return [part for part in self._modules.values() if isinstance(part, Part)]

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, number: int) -> Part:
        return self.sets[number]

    def __iter__(self) -> Iterator[Part]:
        return iter(self.sets)

    def grow(self, count: int, visits: int = 1, like: Tensor | None = None) -> None:
        """Make `count` sets, `visits` of them for each step, in the precision and on the device of `like`.
        Each is drawn by its own name, `f[0]`, so that their number changes none. Raises `SettingError`
        where there are others already."""
        if len(self):
            if (len(self), self.visits) != (count, visits):
                raise SettingError(
                    f"this run asks for {count} sets of weights of `{self.path}`, and there are {len(self)}",
                    code="NDL528",
                    help="the steps (and the splitting) of the first run decide; take as many here",
                )
            return
        self.visits = visits
        for k in range(count):
            part = self.make(seed=self.seed, path=f"{self.path}[{k}]")
            if self.first is not None:
                part.define("value", self.first)
            self.add_module(str(k), part if like is None else part.to(like.device, like.dtype))

    def starting(self, value: Any) -> Bank:
        """A view of a `param … per step` whose sets are all to start at `value`."""
        twin = view(self)
        twin._modules = {}
        twin.first = value
        return twin

    def chosen(self, numbers: Any) -> Part:
        """The set number `numbers`, or for an array the sets side by side, weights `[*numbers.shape, …]`."""
        wanted = np.asarray(numbers, dtype=np.int64)
        if not len(self):
            raise SettingError(
                f"`{self.path}` has no weights before a run has counted its steps",
                code="NDL528",
                help=f"solve the model first, or write `model.{self.path}.grow(steps)`",
            )
        if wanted.size == 0 or (wanted == wanted.flat[0]).all():
            return self.sets[int(wanted.flat[0]) if wanted.size else 0]
        different, where = np.unique(wanted, return_inverse=True)
        index = torch.from_numpy(where.reshape(wanted.shape))
        return side_by_side([self.sets[k] for k in different], index)

    def prepared(self) -> Bank:
        """A view whose sets hold the values of constrained weights."""
        twin = view(self)
        for name, part in self._modules.items():
            twin._modules[name] = part.prepared() if isinstance(part, Part) else part
        return twin

    def forward(self, *values: Tensor) -> Any:
        return self.chosen(0)(*values)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or not self._modules:
                raise
            return getattr(self.chosen(0), name)


def side_by_side(parts: list[Part], index: Tensor) -> Part:
    """Equal parts as one, whose weights have the leading axes of `index`: entry i is that of part i."""
    first = parts[0]
    twin = view(first)
    for p in first.PARAMETERS:
        attribute = p.attribute or p.name
        values = torch.stack([getattr(part, attribute) for part in parts])
        picked = values.index_select(0, index.reshape(-1).to(values.device))
        twin.__dict__.pop(attribute, None)
        chosen = picked.reshape(*index.shape, *values.shape[1:])
        if p.constrained:  # as `Part.prepared` does
            twin.__dict__[attribute] = chosen
        else:
            put(twin, attribute, chosen)
    for name, module in first._modules.items():
        below = [part._modules[name] for part in parts]
        if isinstance(module, Part):
            twin._modules[name] = side_by_side([b for b in below if isinstance(b, Part)], index)
    return twin


ModelT = TypeVar("ModelT", bound=nn.Module)


def banks_of(module: nn.Module) -> dict[str, Bank]:
    """The banks of a model by attribute; those inside its nets by dotted attributes."""
    found: dict[str, Bank] = {}
    for name, below in module._modules.items():
        if isinstance(below, Bank):
            found[name] = below
        elif isinstance(below, Part):
            found |= {f"{name}.{path}": bank for path, bank in banks_of(below).items()}
    return found


def with_parts(model: ModelT, parts: Mapping[str, nn.Module]) -> ModelT:
    """A view of the model with other modules at dotted attributes."""
    twin = view(model)
    for path, part in parts.items():
        *outer, last = path.split(".")
        holder: nn.Module = twin
        for name in outer:
            below = holder._modules[name]
            assert below is not None
            holder._modules[name] = below = view(below)
            holder = below
        holder._modules[last] = part
    return twin


def with_sets(model: ModelT, steps: Any) -> ModelT:
    """A view of the model with the sets of the steps number `steps` (an array or a number), of nets `per use`
    those of the first visit."""
    banks = banks_of(model)
    if not banks:
        return model
    return with_parts(model, {p: b.chosen(np.asarray(steps) * b.visits) for p, b in banks.items()})


def grow_banks(model: nn.Module, steps: int, visits: Callable[[str, Bank], int], like: Tensor) -> None:
    """Give every bank of a model its sets for a run of so many steps."""
    for path, bank in banks_of(model).items():
        each = visits(path, bank) if bank.per == "use" else 1
        bank.grow(steps * each, each, like)

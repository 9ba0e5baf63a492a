"""What a solver is given before its options, `dcdm(net; k = 2)`: functions, maps, numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ndl.compiler.check.calls import apply
from ndl.compiler.check.maps import Map, as_map
from ndl.compiler.check.values import Closure, FnV, ListV, NetV, Value, describe, is_number
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.model import StateSpec
from ndl.compiler.source import Span
from ndl.host.builder import lift

FORMS = ("number", "vector", "matrix")


@dataclass(frozen=True)
class Given:
    """`form`: `function`, `map`, `number`, `vector` or `matrix`; `value`: a function of flat states,
    `[..., n]`, or an array."""

    form: str
    value: Any


class OnStates:
    """A function of arrays of the state's shape as one of flat states `[..., n]`."""

    def __init__(
        self,
        function: Callable[[torch.Tensor], torch.Tensor],
        shape: tuple[int, ...],
        transposed: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.function, self.shape, self.back = function, shape, transposed

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._applied(self.function, x)

    def transposed(self, x: torch.Tensor) -> torch.Tensor:
        assert self.back is not None
        return self._applied(self.back, x)

    def _applied(self, function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        made = function(x.reshape(*x.shape[:-1], *self.shape))
        return made.reshape(x.shape).to(x.device, x.dtype)


def state_shape(states: Sequence[StateSpec]) -> tuple[int, ...]:
    """What a solver's functions see: the only state as the model has it, or several as one vector."""
    if len(states) == 1:
        return tuple(states[0].type.extents)
    return (sum(s.size for s in states),)


def given(host: Any, value: Any, shape: tuple[int, ...], span: Span) -> Given:
    """One thing that a solver is given. Raises `NDLError` (NDL568)."""
    module = host.module_of(value, span) if isinstance(value, NetV) else getattr(value, "module", None)
    if isinstance(module, torch.nn.Module):
        return Given("function", OnStates(_net(module), shape))
    if isinstance(value, (FnV, Closure)):
        return Given("function", OnStates(_formula(host, value, span), shape))
    map_ = as_map(value)
    if map_ is not None:
        forward, back = (_map(host, m, span) for m in (map_, Map("T", map_)))
        return Given("map", OnStates(forward, shape, back))
    plain = is_number(value) or isinstance(value, (Value, ListV))
    found = host.ev.value(value, span) if plain else None
    if isinstance(found, Value) and found.type.rank < len(FORMS) and not found.axes:
        return Given(FORMS[found.type.rank], found.ref)
    what = f"a solver is given a net, a function, a linear map or numbers, not {describe(value)}"
    raise fail("NDL568", what, span, help="what a training has found is `name.model`")


def _net(module: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    dtype = next((p.dtype for p in module.parameters()), torch.float64)
    return lambda x: module(x.to(dtype))


def _formula(host: Any, value: Any, span: Span) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function of the file."""

    def one(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = host.ev.value(apply(host.ev, value, [lift(x)], {}, span, None), span).ref
        return found.expand(x.shape)

    return lambda x: torch.stack([one(row) for row in x])


def _map(host: Any, map_: Map, span: Span) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: torch.stack([host.act(map_, lift(row), span).ref for row in x])

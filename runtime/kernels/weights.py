"""The weights and inputs of a model as a kernel's buffers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ndl.runtime.kernels.request import Weight
from ndl.runtime.model import Model
from torch import Tensor


def value_of(model: Model, name: str) -> Tensor:
    """A weight by its dotted name, constraints applied, or an input that is constant in time."""
    if any(i.name == name for i in model.INPUTS):
        return model.input(name)
    path, _, last = name.rpartition(".")
    part = dict(model.parts())[path]
    info = next(p for p in part.PARAMETERS if p.name == last)
    value: Tensor = getattr(part, info.attribute or info.name)
    return value


def own_names(model: Model, weights: Sequence[tuple[str, tuple[int, ...]]]) -> frozenset[str]:
    """Those of which each member has its own."""
    return frozenset(name for name, shape in weights if value_of(model, name).ndim > len(shape))


def packed(
    values: Sequence[Tensor], weights: Sequence[Weight], count: int, like: Tensor
) -> tuple[Tensor, Tensor]:
    """The table `weights [P]` and the member buffer `own [Q, B]`."""
    shared = [v.reshape(-1) for v, w in zip(values, weights) if not w.each]
    each = [v.reshape(count, -1).t() for v, w in zip(values, weights) if w.each]
    empty = like.new_empty(1)
    table = torch.cat(shared).to(like) if shared else empty
    member = torch.cat(each).to(like).contiguous() if each else empty
    return table.contiguous(), member


def unpacked(
    table: Tensor, member: Tensor, values: Sequence[Tensor], weights: Sequence[Weight], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Cotangents `[P, B]` and `[Q, B]` in the shapes of the values; those of shared weights are summed."""
    found: list[Tensor | None] = []
    for value, w, needs in zip(values, weights, wanted):
        if not needs:
            found.append(None)
            continue
        rows = (member if w.each else table)[w.offset : w.offset + w.size]
        flat = rows.t() if w.each else rows.sum(1)
        found.append(flat.reshape(value.shape).to(value))
    return found

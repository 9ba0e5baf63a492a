"""The weights and inputs of a model as a kernel's buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from ndl.runtime.kernels.request import Weight
from ndl.runtime.model import Model
from ndl.runtime.weights import read
from torch import Tensor


def values_of(model: Model, names: Sequence[str]) -> list[Tensor]:
    """Weights by their dotted names, constraints applied, inputs that are constant in time, and draws."""
    given = {*(i.name for i in model.INPUTS), *(d.name for d in model.DRAWS)}
    weights = {name: (part, attribute) for name, part, attribute in model.places()}
    return [model.input(n) if n in given else read(*weights[n]) for n in names]


def own_names(values: Sequence[Tensor], weights: Sequence[tuple[str, tuple[int, ...]]]) -> frozenset[str]:
    """Those of which each member has its own."""
    return frozenset(name for v, (name, shape) in zip(values, weights, strict=True) if v.ndim > len(shape))


def packed(
    values: Sequence[Tensor], weights: Sequence[Weight], count: int, like: Tensor
) -> dict[str, Tensor]:
    """The tables `weights [P]` and `nets [R]`, and the member buffer `own [Q, B]`."""
    shared = [v.reshape(-1) for v, w in zip(values, weights) if not w.each and not w.whole]
    whole = [v.reshape(-1) for v, w in zip(values, weights) if w.whole]
    each = [_spread(v, w, count) for v, w in zip(values, weights) if w.each]
    joined = {"weights": shared, "nets": whole, "own": each}
    none = like.new_empty(count)  # a member's column may be empty, a buffer may not
    return {k: torch.cat(v).to(like).contiguous() if v else none for k, v in joined.items()}


def _spread(value: Tensor, w: Weight, count: int) -> Tensor:
    """`[Q, B]`: a column for each member, all alike where they share the value."""
    family = value.ndim > len(w.shape)
    return value.reshape(count, -1).t() if family else value.reshape(-1, 1).expand(-1, count)


def rows_of(weights: Sequence[Weight]) -> dict[str, int]:
    """How many rows the cotangents take in each buffer."""
    found = {"weights": 0, "nets": 0, "own": 0}
    for w in weights:
        found[_buffer(w)] += w.size
    return found


def _buffer(w: Weight) -> str:
    return "own" if w.each else "nets" if w.whole else "weights"


def unpacked(
    grads: Mapping[str, Tensor], values: Sequence[Tensor], weights: Sequence[Weight], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Cotangents in the shapes of the values, from those by rows: `weights [P, B]` and `own [Q, B]` of each
    trajectory, `nets [R, 1]` summed. What all share is summed here."""
    found: list[Tensor | None] = []
    nets = grads["nets"][:, 0] if any(w.whole for w in weights) else grads["nets"]
    for value, w, needs in zip(values, weights, wanted):
        if not needs:
            found.append(None)
            continue
        if w.whole:
            flat = nets[w.offset : w.offset + w.size]
        else:
            rows = grads[_buffer(w)][w.offset : w.offset + w.size]
            flat = rows.t() if w.each and value.ndim > len(w.shape) else rows.sum(1)
        shaped = flat.reshape(value.shape)
        alike = shaped.dtype == value.dtype and shaped.device == value.device
        found.append(shaped if alike else shaped.to(value))
    return found

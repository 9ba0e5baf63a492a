"""The smaller model's operators: what is affine is multiplied out once, with rows only where they are needed.

A base of the structure is replaced, b ~ E v, by a shorter variable v. An elementwise map g with leaves y_j
and points P is then P^T g(y) = g(P^T y), P^T y_j = sum_v (P^T L_jv E_v) v + P^T c_j, and the rates W^T r =
sum_v (W^T L_v E_v) v + W^T c: every matrix in brackets is a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ndl.compiler.ir.graph import Node
from ndl.compiler.passes.reduction.affine import Affine, flat
from ndl.compiler.passes.reduction.structure import Region, extents, size_of, whole

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Stand:
    """What stands for a base: the variable's name and extents, and E (None: the identity)."""

    name: str
    extents: tuple[int, ...]
    expansion: Tensor | None = None


@dataclass(frozen=True)
class Sum:
    """An affine combination of variables: matrices [rows, size of the variable] by name, and a vector
    [rows]."""

    matrices: dict[str, Tensor]
    offset: Tensor
    number: bool = False


@dataclass(frozen=True)
class Map:
    """An elementwise map of the smaller model: `name` is the value at `rows` places of the region's result;
    the leaves and the fixed operands, by the ids of their nodes, have rows at these places too or are
    numbers."""

    name: str
    region: Region
    rows: Tensor
    leaves: dict[int, Sum]
    fixed: dict[int, Tensor]

    @property
    def number(self) -> bool:
        return not extents(self.region.root)


@dataclass(frozen=True)
class Operators:
    """`rates`: by the names of the smaller model's states."""

    maps: tuple[Map, ...]
    rates: dict[str, Sum]
    stands: Mapping[int, Stand] = field(repr=False)


@dataclass(frozen=True)
class State:
    """A state of the smaller model: its rate is W^T r of the flat rates r, W [n, k]."""

    name: str
    left: Tensor


def project(
    affine: Affine,
    states: list[State],
    stands: Mapping[int, Stand],
    points: Mapping[int, Tensor],
) -> Operators:
    """The operators for given stands of every base (by id) and points of regions (by the id of the root; all
    places where there are none). Places of which nothing depends are left out."""
    import torch

    structure = affine.structure
    outputs = [n for _, n in structure.function.outputs]
    rates = {s.name: _rate(affine, outputs, s.left, stands) for s in states}
    maps: list[Map] = []
    stands = dict(stands)
    readers: list[Sum] = list(rates.values())
    for region in reversed(structure.regions):
        root = region.root
        stand = stands[root.id]
        rows = points.get(root.id, torch.arange(size_of(root)))
        needed = torch.zeros(len(rows), dtype=torch.bool)
        for reader in readers:
            if stand.name in reader.matrices:
                needed |= (reader.matrices[stand.name] != 0).any(0)
        if not bool(needed.any()):
            continue
        if not bool(needed.all()):
            rows = rows[needed]
            for reader in readers:
                if stand.name in reader.matrices:
                    reader.matrices[stand.name] = reader.matrices[stand.name][:, needed]
            stands[root.id] = replace(stand, extents=(len(rows),))
        leaves = {}
        for leaf in region.leaves:
            found = combination(affine, leaf, stands, _picker(leaf, rows))
            leaves[leaf.id] = replace(found, number=not extents(leaf))
        maps.append(Map(stand.name, region, rows, leaves, _fixed(affine, region, rows)))
        readers.extend(leaves.values())
    return Operators(tuple(reversed(maps)), rates, stands)


def _picker(node: Node, rows: Tensor) -> Callable[[Tensor], Tensor]:
    return (lambda m: m[rows]) if extents(node) else (lambda m: m)


def _rate(affine: Affine, outputs: list[Node], left: Tensor, stands: Mapping[int, Stand]) -> Sum:
    """W^T of the joined outputs."""
    import torch

    total: Sum | None = None
    start = 0
    for node in outputs:
        block = left[start : start + size_of(node)]
        start += size_of(node)
        if not bool((block != 0).any()):
            continue
        found = combination(affine, node, stands, lambda m, w=block: w.mT @ m)  # type: ignore[misc]
        total = found if total is None else _added(total, found)
    if total is None:
        total = Sum({}, torch.zeros(left.shape[1], dtype=torch.float64))
    return total


def _added(a: Sum, b: Sum) -> Sum:
    matrices = dict(a.matrices)
    for name, m in b.matrices.items():
        matrices[name] = matrices[name] + m if name in matrices else m
    return Sum(matrices, a.offset + b.offset)


def combination(
    affine: Affine, target: Node, stands: Mapping[int, Stand], left: Callable[[Tensor], Tensor]
) -> Sum:
    """A target, after a linear map of its rows, by the variables that stand for its bases."""
    import torch

    matrices: dict[str, Tensor] = {}
    for base in affine.structure.reads(target):
        stand = stands[base.id]
        e = stand.expansion
        e = torch.eye(size_of(base), dtype=torch.float64) if e is None else e
        m = left(affine.columns(target, base, e))
        matrices[stand.name] = matrices[stand.name] + m if stand.name in matrices else m
    matrices = {k: m for k, m in matrices.items() if bool((m != 0).any())}
    return Sum(matrices, left(affine.offset(target)[:, None])[:, 0])


def _fixed(affine: Affine, region: Region, rows: Tensor) -> dict[int, Tensor]:
    """Operands that nothing changes, at the rows; numbers as numbers."""
    graph, live = affine.structure.graph, affine.structure.live
    found: dict[int, Tensor] = {}
    for i in region.inner:
        for operand in graph.operands(graph[i]):
            node = whole(graph, operand)
            if operand.id not in live and node.id not in found:
                value = affine.fixed(node)
                found[node.id] = value.reshape(-1)[rows] if extents(node) else value
    return found


__all__ = ["Map", "Operators", "Stand", "State", "Sum", "flat", "project"]

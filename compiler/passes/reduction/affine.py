"""The affine maps between the elementwise ones, computed with the weights at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ndl.compiler.ir.graph import Node
from ndl.compiler.ir.interpret import as_tensor
from ndl.compiler.ops.table import lookup
from ndl.compiler.passes.reduction.structure import SOURCES, Structure, extents

if TYPE_CHECKING:
    from torch import Tensor


class Affine:
    """Evaluates a structure's graph with fixed weights, by dotted names.

    A map is not formed as a whole where only its action on some columns is wanted (think of a convolution).
    """

    def __init__(self, structure: Structure, weights: Mapping[str, Any]) -> None:
        self.structure, self.weights = structure, weights

    def fixed(self, node: Node) -> Tensor:
        """The value of a node that nothing changes."""
        return self._run([node], {}, self.weights)[0]

    def offset(self, target: Node) -> Tensor:
        """The value of a target, flat, where all its bases are 0."""
        return flat(self._run([target], self._zeros(target), self.weights)[0])

    def columns(self, target: Node, base: Node, x: Tensor) -> Tensor:
        """What the linear map from a base to a target makes of the columns of x, [size of the base, c]."""
        if target.id == base.id:
            return x
        zeros, start = self._zeros(target), self.offset(target)

        def one(column: Tensor) -> Tensor:
            given = {**zeros, base.id: column.reshape(extents(base))}
            return flat(self._run([target], given, self.weights)[0]) - start

        found: Tensor = many(one, x.mT)
        return found.mT

    def snapshots(
        self, targets: list[Node], sources: Mapping[int, Tensor], weights: Mapping[str, Tensor]
    ) -> list[Tensor]:
        """Values of nodes, [s, size], for s samples of the sources by id; `weights` are those of which each
        sample has its own."""
        keys, names = list(sources), list(weights)

        def one(*values: Tensor) -> tuple[Tensor, ...]:
            given = dict(zip(keys, values[: len(keys)]))
            own = {**self.weights, **dict(zip(names, values[len(keys) :]))}
            return tuple(map(flat, self._run(targets, given, own)))

        return list(many(one, *sources.values(), *weights.values()))

    def _zeros(self, target: Node) -> dict[int, Tensor]:
        import torch

        return {b.id: as_tensor(torch.zeros(extents(b)), b.type) for b in self.structure.reads(target)}

    def _run(
        self, targets: list[Node], given: Mapping[int, Tensor], weights: Mapping[str, Any]
    ) -> list[Tensor]:
        """The values of nodes; the walk to what they depend on stops at nodes that are given."""
        import torch

        graph, values = self.structure.graph, dict(given)
        wanted, stack = set[int](), [t.id for t in targets]
        while stack:
            i = stack.pop()
            if i not in wanted and i not in values:
                wanted.add(i)
                stack.extend(graph[i].inputs)
        for node in (graph[i] for i in sorted(wanted)):
            operands = [values[i] for i in node.inputs]
            attrs = dict(node.attrs)
            if node.op == "const":
                values[node.id] = as_tensor(attrs["value"], node.type)
            elif node.op == "param":
                values[node.id] = as_tensor(weights[attrs["name"]], node.type)
            elif node.op == "training":
                values[node.id] = torch.tensor(False)
            else:
                assert node.op not in SOURCES
                values[node.id] = lookup(node.op).reference(*operands, **attrs)
        return [values[t.id] for t in targets]


def flat(x: Tensor) -> Tensor:
    return x.reshape(-1).double()


def many(one: Callable[..., Any], *batches: Tensor) -> Any:
    """A function of one sample over the first axes of its arguments."""
    import torch

    try:
        return torch.func.vmap(one)(*batches)
    except RuntimeError:  # an op whose reference looks at numbers
        rows = [one(*(b[i] for b in batches)) for i in range(len(batches[0]))]
        if isinstance(rows[0], tuple):
            return tuple(torch.stack(part) for part in zip(*rows))
        return torch.stack(rows)

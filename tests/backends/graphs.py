"""Random well-typed functions of scalars, vectors and matrices, for tests of printers and passes."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from ndl.compiler.ir.graph import Function, Graph, Node, ParamSpec
from ndl.compiler.types import Tensor as TensorType
from ndl.compiler.types import tensor
from torch import Tensor

SHAPES = ((), (2,), (3,), (2, 3), (3, 3))
BOUNDED = ("sin", "cos", "tanh", "sigmoid", "atan", "erf", "silu", "gelu", "softplus", "neg", "abs")


class Maker:
    """Grows a graph at random; every choice comes from one `random.Random`."""

    def __init__(self, seed: int) -> None:
        self.choose = random.Random(seed)
        self.graph = Graph()
        self.inputs = [self.graph.add("input", type=tensor(*s), name=f"x{i}") for i, s in enumerate(SHAPES)]
        self.params = [ParamSpec(f"w{i}", tensor(*s), law=("normal", ())) for i, s in enumerate(SHAPES)]
        weights = [self.graph.add("param", type=p.type, name=p.name) for p in self.params]
        self.pool: list[Node] = [*self.inputs, *weights]

    def pick(self, shape: tuple[int, ...] | None = None) -> Node:
        """A real node, of a shape if one is asked for."""
        fitting = [n for n in self.pool if shape is None or extents(n) == shape]
        return self.choose.choice(fitting[-8:] if self.choose.random() < 0.6 else fitting)

    def step(self) -> None:
        moves: list[Callable[[], Node]] = [
            self.unary,
            self.binary,
            self.binary,
            self.broadcast,
            self.select,
            self.reduce,
            self.matmul,
            self.rearrange,
            self.pieces,
            self.constant,
            self.along,
            self.solve,
        ]
        node = self.choose.choice(moves)()
        # values stay near 1, so that 1e-10 is a fair tolerance after twenty operations
        if self.choose.random() < 0.4 or node.op in ("mul", "matmul", "einsum", "solve"):
            node = self.graph.add("tanh", [node])
        self.pool.append(node)

    def unary(self) -> Node:
        return self.graph.add(self.choose.choice(BOUNDED), [self.pick()])

    def binary(self) -> Node:
        a = self.pick()
        b = self.pick(extents(a))
        op = self.choose.choice(("add", "sub", "mul", "div", "maximum", "atan2", "pow"))
        if op in ("div", "atan2"):
            b = self.graph.add("softplus", [b])
        if op == "pow":
            two = self.spread(
                self.graph.add("const", value=self.choose.choice((2, 3.0, 0.5, -1))), extents(a)
            )
            return self.graph.add("pow", [self.graph.add("softplus", [a]), two])
        return self.graph.add(op, [a, b])

    def spread(self, node: Node, shape: tuple[int, ...]) -> Node:
        return node if not shape else self.graph.add("expand", [node], shape=shape, axes=())

    def broadcast(self) -> Node:
        """A scalar or a vector with something larger."""
        a = self.pick(self.choose.choice(((2, 3), (3, 3), (3,))))
        shape = extents(a)
        if len(shape) == 2 and self.choose.random() < 0.6:
            axis = self.choose.choice((0, 1))
            b = self.graph.add("expand", [self.pick((shape[axis],))], shape=shape, axes=(axis,))
        else:
            b = self.spread(self.pick(()), shape)
        return self.graph.add(self.choose.choice(("mul", "add", "sub")), [a, b])

    def select(self) -> Node:
        a = self.pick()
        b, c, d = (self.pick(extents(a)) for _ in range(3))
        condition = self.graph.add(self.choose.choice(("lt", "ge")), [c, d])
        if self.choose.random() < 0.4:
            other = self.graph.add("gt", [a, d])
            condition = self.graph.add(self.choose.choice(("and", "or")), [condition, other])
        if self.choose.random() < 0.3:
            condition = self.graph.add("not", [condition])
        if self.choose.random() < 0.3:
            b = self.spread(self.graph.add("const", value=0.25), extents(a))
        return self.graph.add("select", [condition, a, b])

    def reduce(self) -> Node:
        a = self.pick(self.choose.choice(SHAPES[1:]))
        axes = self.choose.choice([(0,), tuple(range(len(extents(a))))])
        return self.graph.add(self.choose.choice(("sum", "mean", "amax", "prod")), [a], axes=axes)

    def matmul(self) -> Node:
        a, b = self.choose.choice(
            [((2, 3), (3,)), ((3, 3), (3,)), ((2,), (2, 3)), ((2, 3), (3, 3)), ((3,), (3,))]
        )
        if self.choose.random() < 0.2:
            return self.graph.add("einsum", [self.pick((2, 3)), self.pick((3,))], equation="ij,j->ij")
        return self.graph.add("matmul", [self.pick(a), self.pick(b)])

    def rearrange(self) -> Node:
        matrix = self.pick((3, 3))
        if self.choose.random() < 0.5:
            return self.graph.add("permute", [matrix], axes=(1, 0))
        flat = self.graph.add("reshape", [self.pick((2, 3))], shape=(6,))
        return self.graph.add("slice", [flat], axis=0, start=1, stop=4)

    def pieces(self) -> Node:
        kind = self.choose.randrange(4)
        if kind == 0:
            return self.graph.add("stack", [self.pick(()), self.pick(()), self.pick(())], axis=0)
        if kind == 1:
            return self.graph.add("stack", [self.pick((3,)), self.pick((3,))], axis=0)
        if kind == 2:
            return self.graph.add("index", [self.pick((2, 3))], axis=0, at=self.choose.choice((0, 1, -1)))
        one = self.graph.add("slice", [self.pick((2,))], axis=0, start=0, stop=1)
        return self.graph.add("concat", [self.pick((2,)), one], axis=0)

    def constant(self) -> Node:
        if self.choose.random() < 0.5:
            value = tuple(self.choose.uniform(-1, 1) for _ in range(3))
            return self.graph.add("mul", [self.pick((3,)), self.graph.add("const", value=value)])
        shape = self.choose.choice(SHAPES)
        number = self.spread(self.graph.add("const", value=self.choose.choice((-1.5, 2, 0.5))), shape)
        return self.graph.add(self.choose.choice(("mul", "sub")), [number, self.pick(shape)])

    def along(self) -> Node:
        op = self.choose.choice(("softmax", "cumsum"))
        return self.graph.add(op, [self.pick(self.choose.choice(((3,), (2, 3))))], axis=-1)

    def solve(self) -> Node:
        """With a matrix that is well conditioned, whatever its entries."""
        small = self.graph.add("tanh", [self.pick((3, 3))])
        third = self.spread(self.graph.add("const", value=0.2), (3, 3))
        unit = tuple(tuple(float(i == j) for j in range(3)) for i in range(3))
        small = self.graph.add("mul", [third, small])
        matrix = self.graph.add("add", [self.graph.add("const", value=unit), small])
        return self.graph.add("solve", [matrix, self.pick((3,))])

    def function(self, steps: int) -> Function:
        for _ in range(steps):
            self.step()
        outputs = tuple((f"y{i}", n) for i, n in enumerate(self.pool[-3:]))
        return Function("random", self.graph, tuple(self.inputs), outputs, tuple(self.params))


def extents(node: Node) -> tuple[int, ...]:
    assert isinstance(node.type, TensorType)
    return node.type.extents


def random_function(seed: int, steps: int = 16) -> Function:
    return Maker(seed).function(steps)


def values(function: Function, seed: int, batch: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs with a batch axis, and weights without."""
    g = torch.Generator().manual_seed(seed)
    inputs = {
        n.attr("name"): torch.randn((batch, *extents(n)), generator=g, dtype=torch.float64)
        for n in function.inputs
    }
    weights = {p.name: torch.randn(p.type.extents, generator=g, dtype=torch.float64) for p in function.params}
    return inputs, weights

"""Fields on grids for the tests of kernels: rates as graphs, steps by hand, what is computed outside."""

from fractions import Fraction

import torch
from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.ir.grid import FREE, SLOPE, stencil
from ndl.compiler.ir.interpret import interpret
from ndl.compiler.kernels.grid_steps import GridStep, Rate, Rates, grid_step
from ndl.compiler.types import Dim
from ndl.compiler.types import Tensor as Type
from torch import Tensor

TABLEAUX = {
    "euler": ([0.0], [[]], [1.0]),
    "rk4": ([0, 0.5, 0.5, 1], [[], [0.5], [0, 0.5], [0, 0, 1]], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
    "ssprk3": ([0, 1, 0.5], [[], [1], [0.25, 0.25]], [1 / 6, 1 / 6, 2 / 3]),
}
H, START = 1e-5, 0.3


def difference(
    g: Graph, x: Node, axis: int, n: int, degree: int, order: int, periodic: bool, end: str
) -> Node:
    found = stencil(degree, order, periodic, Fraction(0), end, end)

    def rows(table: tuple[tuple[Fraction, ...], ...]) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(map(float, row)) for row in table)

    step = 1 / (n if periodic else n - 1)
    return g.add(
        "stencil", [x], axis=axis, offset=found.offset, center=tuple(map(float, found.center)),
        low=rows(found.low), high=rows(found.high), scale=step**-degree, periodic=periodic, transposed=False,
    )  # fmt: skip


def rates(shape: tuple[int, ...], periodic: tuple[bool, ...], order: int) -> Function:
    """u' = nu K(x) lap(u) - sin(t) d(u^2)/dx with what is known at the ends left in or taken out."""
    g, kind = Graph(), Type("R", tuple(Dim.of(n) for n in shape))
    u, t = g.add("input", type=kind, name="u"), g.add("input", type=Type("R", ()), name="t")
    nu, coefficient = g.add("param", type=Type("R", ()), name="nu"), g.add("param", type=kind, name="K")
    total = None
    for axis, n in enumerate(shape):
        end = FREE if axis % 2 == 0 else SLOPE
        part = difference(g, u, axis, n, 2, order, periodic[axis], end)
        if not periodic[axis]:
            part = g.add("mask", [part], axis=axis, low=True, high=False)
        total = part if total is None else g.add("add", [total, part])
    assert total is not None
    factor = g.add("mul", [g.add("expand", [nu], shape=shape, axes=()), coefficient])
    last = len(shape) - 1
    flux = difference(g, g.add("mul", [u, u]), last, shape[last], 1, order, periodic[last], FREE)
    wave = g.add("expand", [g.add("sin", [t])], shape=shape, axes=())
    rate = g.add("sub", [g.add("mul", [factor, total]), g.add("mul", [wave, flux])])
    return Function("drift", g, (u, t), (("u", rate),))


def made(function: Function, shape: tuple[int, ...], periodic: tuple[bool, ...], name: str) -> GridStep:
    fields = {("u", ()): 0}
    output = Rate(function.outputs[0][1])
    return grid_step("sweep", Rates(function, fields, [output], shape, periodic), *TABLEAUX[name])


def by_hand(function: Function, u: Tensor, weights: dict[str, Tensor], name: str, steps: int) -> Tensor:
    c, a, b = TABLEAUX[name]
    t = START
    for _ in range(steps):
        ks: list[Tensor] = []
        for i in range(len(c)):
            x = u + H * sum((w * k for w, k in zip(a[i], ks)), torch.zeros_like(u))
            at = torch.tensor(t + c[i] * H, dtype=torch.float64)
            ks.append(interpret(function, {"u": x, "t": at}, weights)["u"])
        u = u + H * sum((w * k for w, k in zip(b, ks)), torch.zeros_like(u))
        t += H
    return u


def whole(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The axes of a grid as three."""
    lead = x.shape[: x.ndim - len(shape)]
    return x.reshape(*lead, *shape[:-1], *[1] * (3 - len(shape)), shape[-1])


def outside(
    function: Function, step: GridStep, weights: dict[str, Tensor]
) -> tuple[list[float], list[Tensor]]:
    def value(node: Node) -> Tensor:
        return interpret(Function("f", function.graph, function.inputs, (("x", node),)), {}, weights)["x"]

    slots = [float(value(step.slots[k])) for k in sorted(step.slots)]
    return slots, [value(step.tables[name][0]) for name in step.sweeps.coefficients()]


def coefficients(step: GridStep, tables: list[Tensor]) -> dict[str, Tensor]:
    """The arrays of a step as its sweeper takes them."""
    shape = step.sweeps.shape
    return {c: whole(t[None], shape) for c, t in zip(step.sweeps.coefficients(), tables)}


def squared_laplacian(shape: tuple[int, ...], periodic: bool, order: int) -> Function:
    g, kind = Graph(), Type("R", tuple(Dim.of(n) for n in shape))
    u, t = g.add("input", type=kind, name="u"), g.add("input", type=Type("R", ()), name="t")

    def lap(x: Node) -> Node:
        parts = [difference(g, x, k, n, 2, order, periodic, FREE) for k, n in enumerate(shape)]
        return g.add("add", parts) if len(parts) > 1 else parts[0]

    return Function("drift", g, (u, t), (("u", g.add("neg", [lap(lap(u))])),))

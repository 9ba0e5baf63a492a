"""The kernels of a model on a grid: its rates as sweeps, each made once a process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ndl.compiler.backends.llvm.lanes import WIDTHS
from ndl.compiler.backends.llvm.sweep_layout import Layout, lag_of, layout_of, ring_slots, rings_of, three
from ndl.compiler.backends.llvm.sweeps import print_sweeps
from ndl.compiler.backends.triton import print_module
from ndl.compiler.ir.autodiff import NotDifferentiable
from ndl.compiler.ir.graph import Function, Graph
from ndl.compiler.ir.interpret import interpret
from ndl.compiler.ir.model import ModelIR, StateSpec
from ndl.compiler.ir.splice import splice
from ndl.compiler.kernels.grid_adjoint import grid_adjoint
from ndl.compiler.kernels.grid_pairs import grid_pair
from ndl.compiler.kernels.grid_points import numbers_of, point_stages
from ndl.compiler.kernels.grid_steps import GridStep, Rate, Rates, Weights, grid_step
from ndl.compiler.kernels.ir import Unsupported
from ndl.compiler.kernels.sweeps import FIRST, Slot, Sweeps
from ndl.runtime.kernels.cpu_engine import Program
from ndl.runtime.kernels.inside import Inside, error_of
from ndl.runtime.kernels.pointwise import PointPlan, Sweep
from ndl.runtime.kernels.sweeping import Back, FieldMade, Plan, Values
from ndl.runtime.methods import Tableau


class FieldKernels:
    """Makes the kernels of one model whose states are fields on one grid, as
    `ndl.runtime.kernels.sweeping.FieldSource`."""

    def __init__(self, ir: ModelIR) -> None:
        self.ir = ir
        self.shape = ir.grids[0].shape
        self.periodic = tuple(a.periodic for a in ir.grids[0].axes)
        self.ranks = {p.name: p.type.rank for p in ir.params}
        self._made: dict[tuple[str, str, str, bool, str], FieldMade | str] = {}

    def make(
        self, tableau: Tableau, precision: str, target: str, gradient: bool = False, kind: str = "step"
    ) -> FieldMade | str:  # fmt: skip
        key = tableau.name, precision, target, gradient, kind
        if key not in self._made:
            try:
                self._made[key] = self._make(tableau, precision, target, gradient, kind)
            except (Unsupported, NotDifferentiable) as reason:
                self._made[key] = str(reason)
        return self._made[key]

    def _make(
        self, tableau: Tableau, precision: str, target: str, gradient: bool, kind: str
    ) -> FieldMade:  # fmt: skip
        drift = self.ir.drift
        if drift is None:
            raise Unsupported("it has no rates")
        if len(self.ir.grids) > 1:
            raise Unsupported("its fields are on several grids")
        if self.ir.grids[0].mesh is not None:
            raise Unsupported("its fields are on a mesh")
        rates = self._rates(drift, precision)
        if target != "cpu" and kind != "step":
            raise Unsupported("steps of fields whose error decides are torch's on a GPU")
        if kind == "pair":
            step = grid_pair("pair", rates, tableau.c, tableau.A, tableau.b, error_of(tableau))
            return FieldMade(
                _plan(step.sweeps, precision, target),
                _outside(rates.function, step),
                reserved=rates.statics.reserved,
            )
        c, a, b = _weighed(tableau, rates, kind)
        step = grid_step(kind, rates, c, a, b)
        reserved = rates.statics.reserved
        if not gradient:
            plan = _plan(step.sweeps, precision, target)
            return FieldMade(plan, _outside(rates.function, step), reserved=reserved)
        if target != "cpu":
            raise Unsupported("gradients of fields on a GPU are torch's")
        own = len(step.slots), tuple(step.tables)
        back = grid_adjoint(f"{kind}_back", rates, c, a, b)
        pads = tuple(max(s.pad(k) for s in (step.sweeps, back.sweeps)) for k in range(len(self.shape)))
        plans = [_plan(replace(s.sweeps, padding=pads), precision, target) for s in (step, back)]
        assert isinstance(plans[1], Plan)
        return FieldMade(plans[0], _outside(rates.function, back), Back(plans[1], *own), reserved)

    def _rates(self, drift: Function, precision: str) -> Rates:
        """The rates of all components, in a graph of their own, which may grow."""
        fields: dict[tuple[str, tuple[int, ...]], int] = {}
        graph = Graph()
        names = [name for name, _ in drift.outputs]
        outputs = dict(zip(names, splice(graph, drift, {})))
        rates: list[Rate] = []
        for state in self.ir.states:
            for component in self._components(state):
                fields[state.name, component] = len(fields)
                rates.append(Rate(outputs[state.name], component))
        function = replace(drift, graph=graph, outputs=tuple(outputs.items()))
        return Rates(function, fields, rates, self.shape, self.periodic, precision)

    def _components(self, state: StateSpec) -> list[tuple[int, ...]]:
        """The indices of a state's components. Raises `Unsupported` for what is no field."""
        from itertools import product

        rank, extents = len(self.shape), state.type.extents
        if extents[:rank] != self.shape or state.algebraic:
            raise Unsupported(f"`{state.name}` is not a field with a rate")
        return list(product(*(range(n) for n in extents[rank:])))


def _weighed(
    tableau: Tableau, rates: Rates, kind: str
) -> tuple[Sequence[float], Sequence[Sequence[float]], Weights]:
    """The tableau of a step, or that of a value inside it, whose weights are read from slots."""
    if kind == "step":
        return tableau.c, tableau.A, tableau.b
    inside = Inside.of(tableau)
    rates.statics.reserved = len(inside.used)
    weights: list[float | Slot] = [0.0] * len(inside.c)
    for place, stage in enumerate(inside.used):
        weights[stage] = Slot(FIRST + place)
    return inside.c, inside.a, weights


def field_choice(ir: ModelIR) -> str:
    """What runs a field model's solves, and why."""
    euler = Tableau("euler", 1.0, None, (0.0,), ((),), (1.0,))
    kernels = FieldKernels(ir)
    found = kernels.make(euler, "f64", "cpu")
    if isinstance(found, str):
        return f"torch, since no sweep over the grid serves it: {found}"
    back = kernels.make(euler, "f64", "cpu", gradient=True)
    less = f"their gradients by torch: {back}" if isinstance(back, str) else "their gradients too"
    return (
        f"sweeps over the grid for explicit tableaux, with fixed steps or by their error, where a run is "
        f"long ({less}); torch for the rest"
    )


def _plan(sweeps: Sweeps, precision: str, target: str) -> Plan | PointPlan:
    """The step printed for a target. Raises `Unsupported`."""
    try:
        return points_of(sweeps) if target == "triton" else plan_of(sweeps, WIDTHS[precision])
    except ValueError as reason:
        raise Unsupported(str(reason)) from None


def _outside(rates: Function, step: GridStep) -> Any:
    """What computes the numbers and arrays that neither fields nor time change, from the weights."""
    numbers = [(f"slot{k}", node) for k, node in sorted(step.slots.items())]
    arrays = [(name, *found) for name, found in step.tables.items()]
    outputs = (*numbers, *((name, node) for name, node, _ in arrays))
    function = replace(rates, name="outside", outputs=tuple(outputs))
    needed = rates.graph.needed([node for _, node in outputs])
    names = tuple(dict.fromkeys(n.attr("name") for n in needed if n.op in ("param", "input")))
    shape = step.sweeps.shape

    def compute(values: Mapping[str, Any]) -> Values:
        found = interpret(function, values, values)
        tables = {name: _whole(found[name], axes, shape) for name, _, axes in arrays}
        return Values([found[name] for name, _ in numbers], tables)

    return names, compute


def _whole(value: Any, axes: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """A table on the whole grid, `[n1, n2, n3]`."""
    placed = [1] * len(shape)
    for axis, n in zip(axes, value.shape):
        placed[axis] = n
    return value.reshape(placed).expand(shape)


def plan_of(sweeps: Sweeps, lanes: int) -> Plan:
    """The printed step, and how its fields stand in memory."""
    layout, whole = layout_of(sweeps, lanes), three(sweeps)
    program = Program(print_sweeps(sweeps, lanes), sweeps.name, (), "cpu", layout.lanes)
    columns, rows = columns_of(layout, whole.periodic[2]), _padded(layout.shape[1], layout.pads[0])
    held = {layout.place(c) for c in range(layout.shape[2])}
    rings = rings_of(sweeps)
    return Plan(
        program,
        layout.shape,
        sweeps.fields,
        columns=columns,
        rows=tuple(_within(r, layout.shape[1], whole.periodic[1]) for r in rows),
        extra=tuple(k for k in range(len(columns)) if k not in held),
        first_row=layout.pads[0],
        slab=layout.slab,
        depth=rings.each,
        more=rings.more,
        slots=ring_slots(sweeps),
        stages=len(sweeps.stages),
        reach=max(lag_of(sweeps), whole.reach(0)[0]),
        coefficients=sweeps.coefficients(),
    )


def points_of(sweeps: Sweeps) -> PointPlan:
    """The step as Triton kernels of a point each."""

    def plain(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(n.replace(".", "_") for n in names)

    found = []
    for stage in point_stages(sweeps):
        kernel = stage.kernel
        names = tuple(b.name for b in kernel.buffers)
        program = Program(print_module(kernel), kernel.name, names, "triton")
        found.append(Sweep(program, plain(stage.reads), plain(stage.writes), stage.node))
    return PointPlan(tuple(found), sweeps.fields, tuple(numbers_of(sweeps).reshape(-1).tolist()))


def columns_of(layout: Layout, periodic: bool) -> tuple[int, ...]:
    """The column that each real of a row holds: where there is none, one that is near."""
    places = _padded(layout.length, layout.pads[1])
    columns = (lane * layout.length + j for j in places for lane in range(layout.lanes))
    return tuple(_within(c, layout.shape[2], periodic) for c in columns)


def _padded(extent: int, pad: int) -> range:
    return range(-pad, extent + pad)


def _within(index: int, extent: int, periodic: bool) -> int:
    return index % extent if periodic else min(max(index, 0), extent - 1)


__all__ = ["FieldKernels", "plan_of"]

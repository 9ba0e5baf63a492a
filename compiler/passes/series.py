"""The Taylor coefficients of a model's solution as a function of its own, for `series(f, x, t, p)` in a step.

The solution through x at t is x_0 + x_1 s + x_2 s^2 + …, and x' = f(x, t) says that (k + 1) x_(k+1) is
coefficient k of the rates, which needs no later coefficients than x_k.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.ir.series import Coefficient, Expansion, NoSeries, Series, Sharing
from ndl.compiler.ops.adjoint import number
from ndl.compiler.passes.dce import eliminate_dead_code
from ndl.compiler.passes.inline import inline
from ndl.compiler.types import Tensor


def series_function(model: ModelIR, order: int) -> Function:
    """(t, states) -> `series` `[order + 1, n]`, row k the flat coefficient k. Raises `NoSeries`."""
    if model.drift is None:
        raise NoSeries("it has no rates")
    if any(s.algebraic for s in model.states):
        raise NoSeries("it has algebraic equations")
    if any(node.op == "path" for node in model.drift.graph):
        raise NoSeries("it follows a path in time")
    drift = inline(model.drift)
    rates = dict(drift.outputs)
    target = Sharing(drift.graph)
    inputs = tuple(target.copy(node) for node in drift.inputs)
    expansion = Expansion(drift.graph, target)
    states: dict[str, Series] = {}
    one = number(target.graph, 1.0)

    def state(name: str, start: Node) -> Series:
        def make(k: int) -> Coefficient:
            if k == 0:
                return start
            found = expansion.scaled(1.0 / k, expansion.of(rates[name])[k - 1])
            return found if found is None else target.graph.rename(found, f"{name}_{k}")

        return Series(make)

    for old, new in zip(drift.inputs, inputs):
        name = old.attr("name")
        if name == "t":
            expansion.leaves[old.id] = Series(lambda k, t=new: t if k == 0 else one if k == 1 else None)  # type: ignore[misc]
        elif name in rates:
            states[name] = expansion.leaves[old.id] = state(name, new)
    starts = {n.attr("name"): n for n in drift.inputs}
    order_of_work = drift.graph.needed(list(rates.values()))
    for k in range(order):
        # in the order of the graph, so that no recursion goes deep
        for node in order_of_work:
            with suppress(NoSeries):
                expansion.of(node)[k]
    rows = []
    for k in range(order + 1):
        rows.append(
            _row(target, model, [expansion.whole(states[s.name][k], starts[s.name]) for s in model.states])
        )
    found = target.add("stack", rows, axis=0)
    assert isinstance(found.type, Tensor)
    doc = f"Coefficients 0, …, {order} of the Taylor series of the solution."
    return eliminate_dead_code(
        Function(f"series {order}", target.graph, inputs, (("series", found),), drift.params, {}, doc)
    )


def _row(target: Sharing, model: ModelIR, values: Sequence[Node]) -> Node:
    """The values of all states side by side, `[n]`."""
    if all(s.type.rank == 0 for s in model.states):
        return target.add("stack", values, axis=0)
    flat = [
        v if s.type.rank == 1 else target.add("reshape", [v], shape=(s.size,))
        for s, v in zip(model.states, values)
    ]
    return flat[0] if len(flat) == 1 else target.add("concat", flat, axis=0)

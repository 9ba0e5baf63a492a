"""Reverse-mode derivatives of straight-line kernel code, by the rules of the op table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Instr, Value
from ndl.compiler.kernels.scalars import Scalars, Unsupported
from ndl.compiler.ops.table import lookup
from ndl.compiler.types import Tensor

FLAT = (
    "const",
    "member",
    "load",
    "store",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
    "and",
    "or",
    "not",
    "isfinite",
)
"""What nothing depends on smoothly."""


def pullback(
    code: Code, body: Sequence[Instr], seeds: Mapping[Value, Value], wrt: Sequence[Value]
) -> list[Value]:
    """The cotangents of `wrt`, in the open block, for cotangents `seeds` of values that `body` computes.

    `body` is code of the open block or of a block that it sees. Values with a rule (`Code.derivative`) go by
    it. Raises `Unsupported` for loops whose results are not taken as constants.
    """
    ends = set(wrt)
    live = set(wrt)
    order = []
    for instr in body:
        # a value that is asked for hides what it was computed from
        if ends.isdisjoint(instr.results) and any(a in live for a in instr.args) and instr.op not in FLAT:
            if instr.regions:
                if code.fixed.issuperset(instr.results):
                    continue
                raise Unsupported("a loop inside a step has no derivative here")
            live |= set(instr.results)
            order.append(instr)
    found = dict(seeds)
    for instr in reversed(order):
        for operand, c in _parts(code, instr, found):
            if operand in live:
                earlier = found.get(operand)
                found[operand] = c if earlier is None else code.op("add", earlier, c)
    zero = code.const(0.0)
    return [found.get(w, zero) for w in wrt]


def _parts(code: Code, instr: Instr, found: dict[Value, Value]) -> Sequence[tuple[Value, Value]]:
    """What an instruction's result adds to the cotangents of operands."""
    rule = code.rules.get(instr.results[0])
    if rule is not None:
        if not any(v in found for v in rule.values):
            return []
        return rule.pull([found.pop(v, code.const(0.0)) for v in rule.values])
    g = found.get(instr.results[0])
    if g is None:
        return []
    pairs = zip(instr.args, _cotangents(code, instr, g))
    return [(operand, c) for operand, c in pairs if c is not None]


def _cotangents(code: Code, instr: Instr, g: Value) -> Sequence[Value | None]:
    if instr.op == "fma":
        return code.op("mul", g, instr.args[1]), code.op("mul", g, instr.args[0]), g
    kinds = tuple("Bool" if a.type == "bool" else "R" for a in instr.args)
    rule = _rule(instr.op, kinds)
    if rule is None:
        raise Unsupported(f"`{instr.op}` has no derivative")
    given = {f"a{i}": np.array(a, dtype=object) for i, a in enumerate(instr.args)}
    results = Scalars(code, _no_weights).call(rule, {**given, "g": np.array(g, dtype=object)})
    found = [results.get(f"c{i}") for i in range(len(instr.args))]
    return [None if c is None else c.item() for c in found]


@cache
def _rule(op: str, kinds: tuple[str, ...]) -> Function | None:
    """The vjp of an op of the op table as a function of its operands and the cotangent."""
    entry = lookup(op)
    if entry.vjp is None:
        return None
    graph = Graph()
    operands = [graph.add("input", type=Tensor(kind), name=f"a{i}") for i, kind in enumerate(kinds)]
    g = graph.add("input", type=Tensor("R"), name="g")
    node = graph.add(op, operands)
    found = entry.vjp(graph, node, operands, g)
    outputs: list[tuple[str, Node]] = [(f"c{i}", c) for i, c in enumerate(found) if c is not None]
    return Function(f"pullback of {op}", graph, (*operands, g), tuple(outputs))


def _no_weights(name: str, shape: tuple[int, ...]) -> Value:
    raise LookupError(name)

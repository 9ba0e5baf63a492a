"""Reverse-mode derivatives of straight-line kernel code, by the rules of the op table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

import numpy as np
from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.kernels import arrays, views
from ndl.compiler.kernels.arrays import close_map, extent
from ndl.compiler.kernels.code import Code, number_of
from ndl.compiler.kernels.ir import Instr, Unsupported, Value, extent_of
from ndl.compiler.kernels.scalars import Scalars
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

WEIGHTED = ("row", "dense", "dense_t")
"""What depends on the weights of nets."""


def pullback(
    code: Code,
    body: Sequence[Instr],
    seeds: Mapping[Value, Value],
    wrt: Sequence[Value],
    sums: str | None = None,
) -> list[Value]:
    """The cotangents of `wrt`, in the open block, for cotangents `seeds` of values that `body` computes.

    `body` is code of the open block or of a block that it sees. Values with a rule (`Code.derivative`) go by
    it. `sums` is where the cotangents of the weights of nets are added up, laid out like the table. Raises
    `Unsupported` for loops whose results are not taken as constants.
    """
    ends = set(wrt)
    live = {w for w in wrt if code.number(w) is None}
    wanted = _wanted(body, seeds, ends)
    order = []
    for instr in body:
        weighted = sums is not None and instr.op in WEIGHTED
        needed = any(a in live for a in instr.args) and instr.op not in FLAT
        # a value that is asked for hides what it was computed from
        if ends.isdisjoint(instr.results) and (weighted or needed):
            if instr.regions and instr.op != "map":
                if code.fixed.issuperset(instr.results) or wanted.isdisjoint(instr.results):
                    continue
                raise Unsupported("a loop inside a step has no derivative here")
            live |= set(instr.results)
            order.append(instr)
    back = _Back(code, live, sums, dict(seeds))
    for instr in reversed(order):
        back.instr(instr)
    zero = code.const(0.0)
    return [back.found.get(w, zero) for w in wrt]


def _wanted(body: Sequence[Instr], seeds: Iterable[Value], ends: set[Value]) -> set[Value]:
    """What the seeds are computed from, the ends apart."""
    found = set(seeds)
    for instr in reversed(body):
        if not found.isdisjoint(instr.results) and ends.isdisjoint(instr.results):
            found.update(instr.args)
            found.update(a for region in instr.regions for i in region.walk() for a in i.args)
            found.update(y for region in instr.regions for y in region.yields)
    return found


class _Back:
    """Goes through code from its end; `found` are the cotangents so far, `pieces` those of elements."""

    def __init__(self, code: Code, live: set[Value], sums: str | None, found: dict[Value, Value]) -> None:
        self.code, self.live, self.sums, self.found = code, live, sums, found
        self.pieces: dict[Value, dict[int, Value]] = {}

    def instr(self, instr: Instr) -> None:
        rule = self.code.rules.get(instr.results[0])
        if rule is not None:
            if any(v in self.found for v in rule.values):
                zero = self.code.const(0.0)
                for operand, part in rule.pull([self.found.pop(v, zero) for v in rule.values]):
                    if operand in self.live:
                        self.give(operand, part)
            return
        gs = [self.cotangent(r) for r in instr.results]
        if all(g is None for g in gs):
            return
        if instr.op == "map":
            found = self.map(instr, gs)
        elif instr.op in ARRAYS:
            assert gs[0] is not None
            found = ARRAYS[instr.op](self, instr, gs[0])
        else:
            assert gs[0] is not None
            found = _cotangents(self.code, instr, gs[0])
        for operand, c in zip(instr.args, found):
            if c is not None and operand in self.live:
                self.give(operand, c)

    def give(self, operand: Value, c: Value) -> None:
        earlier = self.found.get(operand)
        self.found[operand] = c if earlier is None else self.plus(earlier, c)

    def plus(self, a: Value, b: Value) -> Value:
        count = extent_of(a.type)
        return self.code.op("add", a, b) if count is None else arrays.one_op(self.code, "add", [a, b], count)

    def cotangent(self, value: Value) -> Value | None:
        """What has come together for a value."""
        parts = self.pieces.get(value)
        if parts:
            zero = self.code.const(0.0)
            places = [parts.get(i, zero) for i in range(extent(value))]
            self.give(value, arrays.pack(self.code, places))
        return self.found.get(value)

    def spread(self, g: Value, count: int) -> Value:
        """A real in every place."""
        return arrays.mapped(self.code, [g], count, lambda x: [x])[0]

    # ------------------------------------------------------------ arrays

    def pack(self, instr: Instr, g: Value) -> Iterable[Value | None]:
        return [arrays.element(self.code, g, i) if a in self.live else None for i, a in enumerate(instr.args)]

    def element(self, instr: Instr, g: Value) -> Iterable[Value | None]:
        parts, at = self.pieces.setdefault(instr.args[0], {}), instr.attr("at")
        parts[at] = self.code.op("add", parts[at], g) if at in parts else g
        return ()

    def row(self, instr: Instr, g: Value) -> Iterable[Value | None]:
        if self.sums is not None:
            arrays.accumulate(self.code, self.sums, instr.attr("at"), g)
        return ()

    def view(self, instr: Instr, g: Value) -> Iterable[Value | None]:
        return (views.collect(self.code, [g], [instr.attr("view")], extent(instr.args[0])),)

    def collect(self, instr: Instr, g: Value) -> Iterable[Value | None]:
        pairs = zip(instr.args, instr.attr("views"))
        return [views.view(self.code, g, v) if a in self.live else None for a, v in pairs]

    def dense(self, instr: Instr, g: Value) -> Iterable[Value | None]:
        (x,), matrix = instr.args, instr.attr("matrix")
        if self.sums is not None:
            arrays.outer(self.code, matrix.inside(self.sums), g, x)
        return (arrays.dense_t(self.code, matrix, g) if x in self.live else None,)

    def dense_t(self, instr: Instr, g: Value) -> Iterable[Value | None]:
        (x,), matrix = instr.args, instr.attr("matrix")
        if self.sums is not None:
            arrays.outer(self.code, matrix.inside(self.sums), x, g)
        return (arrays.dense(self.code, matrix, g) if x in self.live else None,)

    def map(self, instr: Instr, gs: Sequence[Value | None]) -> Iterable[Value | None]:
        """A map of the derivatives at each place, which knows the results and computes the rest again."""
        code, old, count = self.code, instr.regions[0], extent(instr.results[0])
        wanted = [i for i, a in enumerate(instr.args) if a in self.live]
        given = [(y, g) for y, g in zip(old.yields, gs) if g is not None]
        args = [*instr.args, *instr.results, *(g for _, g in given)]
        with code.closed(["real"] * len(args)) as region:
            n, m = len(instr.args), len(instr.args) + len(instr.results)
            at = dict(zip(old.params, region.params))
            body = _again(code, old.body, at, dict(zip(old.yields, region.params[n:m])))
            seeds: dict[Value, Value] = {}
            for (y, _), g in zip(given, region.params[m:]):
                seeds[at[y]] = code.op("add", seeds[at[y]], g) if at[y] in seeds else g
            cotangents = pullback(code, body, seeds, [region.params[i] for i in wanted])
            some = [(i, c) for i, c in zip(wanted, cotangents) if code.number(c) != 0]
            region.yields = tuple(c for _, c in some)
        found: list[Value | None] = [None] * len(instr.args)
        for (i, _), whole in zip(some, close_map(code, region, args, count)):
            found[i] = arrays.total(code, whole) if extent_of(instr.args[i].type) is None else whole
        return found


def _again(
    code: Code, body: Sequence[Instr], at: dict[Value, Value], ready: Mapping[Value, Value]
) -> list[Instr]:
    """Code of another block as it stands in the open one: what is not `ready` is written anew."""
    found = []
    for instr in body:
        args, (result,) = tuple(at[a] for a in instr.args), instr.results
        if instr.op == "const":
            at[result] = code.const(number_of(instr), result.type)
        elif result in ready:
            at[result] = ready[result]
            code.know(instr.op, args, ready[result])
        else:
            at[result] = code.pure(instr.op, args, result.type, instr.attrs)
        found.append(Instr(instr.op, args, (at[result],), instr.attrs))
    return found


ARRAYS: dict[str, Callable[[_Back, Instr, Value], Iterable[Value | None]]] = {
    "pack": _Back.pack,
    "element": _Back.element,
    "row": _Back.row,
    "total": lambda back, instr, g: (back.spread(g, extent(instr.args[0])),),
    "view": _Back.view,
    "collect": _Back.collect,
    "dense": _Back.dense,
    "dense_t": _Back.dense_t,
}


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
